"""Qwen-7B, with code in the repository: the names of its last revision, and those of the first."""

from __future__ import annotations

from tests.checkpoints.family import Family, Shapes, Sizes, linear, norms, under

SWITCHES = {
    "auto_map": {
        "AutoConfig": "configuration_qwen.QWenConfig",
        "AutoModelForCausalLM": "modeling_qwen.QWenLMHeadModel",
    },
    "architectures": ["QWenLMHeadModel"],
    "model_type": "qwen",
    "initializer_range": 0.02,
    "no_bias": True,  # but c_attn has one
    "rotary_emb_base": 10000,
    "rotary_pct": 1.0,
    "scale_attn_weights": True,
    "use_cache": True,
    "use_dynamic_ntk": True,
    "use_logn_attn": True,
}


def tensors(s: Sizes) -> Shapes:
    """w1 is the half that is multiplied, w2 the one that goes through silu."""
    layer = (
        norms(s.hidden, "ln_1")
        | linear("attn.c_attn", 3 * s.hidden, s.hidden, bias=True)
        | linear("attn.c_proj", s.hidden, s.hidden)
        | norms(s.hidden, "ln_2")
        | linear("mlp.w1", s.ffn, s.hidden)
        | linear("mlp.w2", s.ffn, s.hidden)
        | linear("mlp.c_proj", s.hidden, s.ffn)
    )
    layers = [under(f"transformer.h.{i}.", layer) for i in range(s.layers)]
    return {
        "transformer.wte.weight": (s.vocab, s.hidden),
        **{name: shape for one in layers for name, shape in one.items()},
        "transformer.ln_f.weight": (s.hidden,),
        "lm_head.weight": (s.vocab, s.hidden),
    }


QWEN = Family(
    tokens="qwen",
    config=SWITCHES
    | {
        "attn_dropout_prob": 0.0,
        "bf16": True,
        "emb_dropout_prob": 0.0,
        "fp16": False,
        "fp32": False,
        "layer_norm_epsilon": 1e-06,
        "max_position_embeddings": 4096,
        "onnx_safe": None,
        "seq_length": 2048,
        "tokenizer_class": "QWenTokenizer",
        "use_flash_attn": "auto",
    },
    size_keys={
        "hidden_size": "hidden",
        "intermediate_size": "both_ffn",
        "kv_channels": "head",
        "num_attention_heads": "heads",
        "num_hidden_layers": "layers",
        "tie_word_embeddings": "tied",
        "vocab_size": "vocab",
    },
    tensors=tensors,
    sizes={"tied": False},
    tokenizer_file="qwen.tiktoken",
    embedding="transformer.wte.weight",
)

QWEN_FIRST = Family(
    tokens="qwen",
    config=SWITCHES
    | {
        "activation": "swiglu",
        "apply_residual_connection_post_layernorm": False,
        "attn_pdrop": 0.0,
        "bias_dropout_fusion": True,
        "bos_token_id": "<|endoftext|>",
        "embd_pdrop": 0.0,
        "eos_token_id": "<|endoftext|>",
        "layer_norm_epsilon": 1e-05,
        "n_positions": 6144,
        "params_dtype": "torch.bfloat16",
        "pos_emb": "rotary",
        "resid_pdrop": 0.1,
        "seq_length": 2048,
        "use_flash_attn": True,
    },
    size_keys={
        "n_embd": "hidden",
        "ffn_hidden_size": "both_ffn",
        "kv_channels": "head",
        "n_head": "heads",
        "n_layer": "layers",
        "padded_vocab_size": "vocab",
        "tie_word_embeddings": "tied",
        "vocab_size": "vocab",
    },
    tensors=tensors,
    sizes={"tied": False},
    tokenizer_file="qwen.tiktoken",
    embedding="transformer.wte.weight",
)
