"""ChatGLM3-6B and glm-4-9b-chat, with code in the repository."""

from __future__ import annotations

from dataclasses import replace

from tests.checkpoints.family import Family, Shapes, Sizes, linear, norms, under


def tensors(s: Sizes) -> Shapes:
    """Query, key and value in one matrix, gate and up in another; the frequencies are a buffer of the first layer's."""
    layer = (
        norms(s.hidden, "input_layernorm")
        | linear("self_attention.query_key_value", (s.heads + 2 * s.kv_heads) * s.head, s.hidden, bias=True)
        | linear("self_attention.dense", s.hidden, s.heads * s.head)
        | norms(s.hidden, "post_attention_layernorm")
        | linear("mlp.dense_h_to_4h", 2 * s.ffn, s.hidden)
        | linear("mlp.dense_4h_to_h", s.hidden, s.ffn)
    )
    layers = [under(f"encoder.layers.{i}.", layer) for i in range(s.layers)]
    return under(
        "transformer.",
        {
            "embedding.word_embeddings.weight": (s.vocab, s.hidden),
            "rotary_pos_emb.inv_freq": (s.head // 4,),
            **{name: shape for one in layers for name, shape in one.items()},
            "encoder.final_layernorm.weight": (s.hidden,),
            "output_layer.weight": (s.vocab, s.hidden),
        },
    )


def auto_map() -> dict[str, str]:
    model = "modeling_chatglm.ChatGLMForConditionalGeneration"
    names = ("AutoModel", "AutoModelForCausalLM", "AutoModelForSeq2SeqLM")
    return {"AutoConfig": "configuration_chatglm.ChatGLMConfig", **dict.fromkeys(names, model)}


CHATGLM3 = Family(
    tokens="chatglm3",
    config={
        "_name_or_path": "THUDM/chatglm3-6b",
        "model_type": "chatglm",
        "architectures": ["ChatGLMModel"],
        "auto_map": auto_map(),
        "add_bias_linear": False,
        "add_qkv_bias": True,
        "apply_query_key_layer_scaling": True,
        "apply_residual_connection_post_layernorm": False,
        "attention_dropout": 0.0,
        "attention_softmax_in_fp32": True,
        "bias_dropout_fusion": True,
        "fp32_residual_connection": False,
        "hidden_dropout": 0.0,
        "layernorm_epsilon": 1e-05,
        "multi_query_attention": True,
        "original_rope": True,
        "post_layer_norm": True,
        "rmsnorm": True,
        "seq_length": 8192,
        "use_cache": True,
        "eos_token_id": 2,
        "pad_token_id": 0,
    },
    size_keys={
        "ffn_hidden_size": "ffn",
        "hidden_size": "hidden",
        "kv_channels": "head",
        "multi_query_group_num": "kv_heads",
        "num_attention_heads": "heads",
        "num_layers": "layers",
        "padded_vocab_size": "vocab",
        "tie_word_embeddings": "tied",
    },
    tensors=tensors,
    sizes={"tied": False},
    tokenizer_file=None,
    embedding="transformer.embedding.word_embeddings.weight",
    head="transformer.output_layer.weight",
)

CHATGLM4 = replace(
    CHATGLM3,
    tokens="chatglm4",
    config=CHATGLM3.config
    | {
        "_name_or_path": "THUDM/glm-4-9b-chat",
        "layernorm_epsilon": 1.5625e-07,
        "rope_ratio": 500,
        "seq_length": 131072,
        "eos_token_id": ["<|endoftext|>", "<|user|>", "<|observation|>"],
        "pad_token_id": "<|endoftext|>",
    },
    size_keys={**CHATGLM3.size_keys, "num_hidden_layers": "layers", "vocab_size": "vocab"},
    tokenizer_file="tokenizer.model",
)
