"""Parts that families share: sizes, whole groups of tensors, selections of layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from convert.architecture import Needed, TensorRule
from convert.hparams import HParams, head_dim, kv_heads
from convert.metadata import KV
from convert.ops import gate_halves, up_halves

# Where no file names an end: a model that was trained to chat has the first of these.
QWEN_END = {"eos": ("<|im_end|>", "<|endoftext|>")}
LAYER, BLOCK = "model.layers.{i}.", "blk.{i}."


def dims(hparams: HParams) -> dict[str, int]:
    """Sizes of embedding, attention and a dense feed-forward; experts where there are some."""
    sizes = {
        "vocab": hparams["vocab_size"],
        "hidden": hparams["hidden_size"],
        "head": head_dim(hparams),
        "q": hparams["num_attention_heads"] * head_dim(hparams),
        "kv": kv_heads(hparams) * head_dim(hparams),
        "one": 1,
        "two_hidden": 2 * hparams["hidden_size"],
    }
    if ff := hparams.get("intermediate_size"):
        sizes |= {"ff": ff, "gate_up": 2 * ff}
    if experts := hparams.get("num_experts"):
        moe = hparams["moe_intermediate_size"]
        sizes |= {"experts": experts, "moe": moe, "gate_up_moe": 2 * moe}
    if shared := hparams.get("shared_expert_intermediate_size"):
        sizes["shared"] = shared
    return sizes


def next_layers(hparams: HParams) -> range:
    """The layers that predict further tokens."""
    return range(hparams["num_hidden_layers"], hparams["block_count"])


def head_needed(hparams: HParams) -> bool | None:
    """A tied model needs no output matrix; one that is there all the same is the one transformers uses."""
    return None if hparams["tie_word_embeddings"] else True


def bias_needed(hparams: HParams) -> bool:
    return bool(hparams["attention_bias"])


def may_be_there(hparams: HParams) -> None:
    return None


def moe_layers(hparams: HParams) -> Sequence[int]:
    """The layers with experts: all, or those that the family's ``derived`` lists."""
    return hparams.get("moe_layers", range(hparams["block_count"]))


def single_layers(hparams: HParams) -> list[int]:
    return [i for i in moe_layers(hparams) if i not in hparams.get("fused_layers", ())]


def fused_layers(hparams: HParams) -> list[int]:
    return [i for i in moe_layers(hparams) if i in hparams["fused_layers"]]


def find_fused(hparams: HParams, names: frozenset[str]) -> HParams:
    """Which layers store all their experts in one tensor."""
    stored = "model.layers.{i}.mlp.experts.gate_up_proj"
    return {"fused_layers": [i for i in range(hparams["block_count"]) if stored.format(i=i) in names]}


def layer(*rows: tuple[str, str, str], prefix: str = LAYER) -> tuple[TensorRule, ...]:
    """Rules of one layer from (stored name, name in the GGUF, shape)."""
    return tuple(TensorRule(prefix + source, BLOCK + target, shape) for source, target, shape in rows)


def expert_metadata(arch: str, hparams: HParams) -> list[KV]:
    shared = hparams.get("shared_expert_intermediate_size")
    return [
        KV(f"{arch}.expert_feed_forward_length", "u32", hparams["moe_intermediate_size"]),
        *([KV(f"{arch}.expert_shared_feed_forward_length", "u32", shared)] if shared else []),
    ]


def nextn_metadata(arch: str, hparams: HParams) -> list[KV]:
    count = len(next_layers(hparams))
    return [KV(f"{arch}.nextn_predict_layers", "u32", count)] if count else []


ENDS = (
    TensorRule("model.embed_tokens.weight", "token_embd.weight", "vocab hidden"),
    TensorRule("model.norm.weight", "output_norm.weight", "hidden"),
    TensorRule("lm_head.weight", "output.weight", "vocab hidden", head_needed),
)
TWO_NORMS = layer(
    ("input_layernorm.weight", "attn_norm.weight", "hidden"),
    ("post_attention_layernorm.weight", "ffn_norm.weight", "hidden"),
)
ATTENTION = layer(
    ("self_attn.q_proj.weight", "attn_q.weight", "q hidden"),
    ("self_attn.k_proj.weight", "attn_k.weight", "kv hidden"),
    ("self_attn.v_proj.weight", "attn_v.weight", "kv hidden"),
    ("self_attn.o_proj.weight", "attn_output.weight", "hidden q"),
)
QKV_BIAS = tuple(
    TensorRule(f"{LAYER}self_attn.{x}_proj.bias", f"{BLOCK}attn_{x}.bias", shape, bias_needed)
    for x, shape in (("q", "q"), ("k", "kv"), ("v", "kv"))
)
QK_NORM = layer(
    ("self_attn.q_norm.weight", "attn_q_norm.weight", "head"),
    ("self_attn.k_norm.weight", "attn_k_norm.weight", "head"),
)
DENSE = layer(
    ("mlp.gate_proj.weight", "ffn_gate.weight", "ff hidden"),
    ("mlp.up_proj.weight", "ffn_up.weight", "ff hidden"),
    ("mlp.down_proj.weight", "ffn_down.weight", "hidden ff"),
)
GATE_UP = layer(
    ("mlp.gate_up_proj.weight", "ffn_up.weight", "gate_up hidden"),
    ("mlp.down_proj.weight", "ffn_down.weight", "hidden ff"),
)


def at(layers: Callable[[HParams], Iterable[int]], *rules: TensorRule) -> tuple[TensorRule, ...]:
    """The same rules for some layers only."""
    return tuple(replace(rule, layers=layers) for rule in rules)


def when(needed: Needed, *rules: TensorRule) -> tuple[TensorRule, ...]:
    """The same rules for some configs only."""
    return tuple(replace(rule, needed=needed) for rule in rules)


# Experts are written in this order, whatever the order in the checkpoint.
SINGLE_EXPERTS = layer(
    ("mlp.experts.{e}.down_proj.weight", "ffn_down_exps.weight", "hidden moe"),
    ("mlp.experts.{e}.gate_proj.weight", "ffn_gate_exps.weight", "moe hidden"),
    ("mlp.experts.{e}.up_proj.weight", "ffn_up_exps.weight", "moe hidden"),
)
FUSED_EXPERTS = (
    TensorRule(
        LAYER + "mlp.experts.gate_up_proj",
        BLOCK + "ffn_gate_exps.weight",
        "experts gate_up_moe hidden",
        out="experts moe hidden",
        pick=gate_halves,
    ),
    TensorRule(
        LAYER + "mlp.experts.gate_up_proj",
        BLOCK + "ffn_up_exps.weight",
        "experts gate_up_moe hidden",
        out="experts moe hidden",
        pick=up_halves,
    ),
    TensorRule(LAYER + "mlp.experts.down_proj", BLOCK + "ffn_down_exps.weight", "experts hidden moe"),
)
EXPERTS = (*at(single_layers, *SINGLE_EXPERTS), *at(fused_layers, *FUSED_EXPERTS))
# Some checkpoints end the names of fused experts with ".weight".
FUSED_NAMES = ((r"(\.mlp\.experts\.(gate_up|down)_proj)\.weight$", r"\1"),)
ROUTER = at(moe_layers, *layer(("mlp.gate.weight", "ffn_gate_inp.weight", "experts hidden")))
SHARED_EXPERT = layer(
    ("mlp.shared_expert.gate_proj.weight", "ffn_gate_shexp.weight", "shared hidden"),
    ("mlp.shared_expert.up_proj.weight", "ffn_up_shexp.weight", "shared hidden"),
    ("mlp.shared_expert.down_proj.weight", "ffn_down_shexp.weight", "hidden shared"),
    ("mlp.shared_expert_gate.weight", "ffn_gate_inp_shexp.weight", "one hidden"),
)

NEXTN_MARK = LAYER + "eh_proj.weight"
NEXTN = at(
    next_layers,
    *layer(
        ("eh_proj.weight", "nextn.eh_proj.weight", "hidden two_hidden"),
        ("enorm.weight", "nextn.enorm.weight", "hidden"),
        ("hnorm.weight", "nextn.hnorm.weight", "hidden"),
    ),
    *when(
        may_be_there,
        *layer(
            ("embed_tokens.weight", "nextn.embed_tokens.weight", "vocab hidden"),
            ("shared_head.head.weight", "nextn.shared_head_head.weight", "vocab hidden"),
            ("shared_head.norm.weight", "nextn.shared_head_norm.weight", "hidden"),
        ),
    ),
)
