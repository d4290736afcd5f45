"""Multi-head latent attention: keys and values are expanded from one small vector.

llama.cpp keeps the two expansions apart, the keys' transposed, and attends in the small space with a single key-value
head.
"""

from __future__ import annotations

from convert.architecture import TensorRule
from convert.architectures import blocks
from convert.architectures.blocks import BLOCK, LAYER, layer
from convert.architectures.rules import WHOLE_HEADS
from convert.errors import UnsupportedError
from convert.honoured import Honoured, is_true
from convert.hparams import HParams, common_metadata
from convert.metadata import KV
from convert.ops import key_part, value_part
from convert.rope import rope_parameters

DEFAULTS = {
    "q_lora_rank": 768,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 192,
    "qk_rope_head_dim": 64,
    "head_dim": 64,
    "v_head_dim": 256,
    "rope_interleave": True,
}
WORDS = {"qk_rope_head_dim": "head_dim"}  # the part of a head that is rotated
SIZES = ("q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
RULES = (
    WHOLE_HEADS,
    # llama.cpp uses it for the latent vectors' norms too, where transformers has 1e-6
    Honoured("rms_norm_eps", lambda v, _: v <= 1e-5, "llama.cpp would blur the latent attention"),
    Honoured("rope_interleave", is_true, "llama.cpp rotates interleaved pairs"),
)


def dims(hparams: HParams) -> dict[str, int]:
    heads, nope, rope = (hparams[key] for key in ("num_attention_heads", "qk_nope_head_dim", "qk_rope_head_dim"))
    v_head, kv_rank = hparams["v_head_dim"], hparams["kv_lora_rank"]
    return blocks.dims(hparams) | {
        "heads": heads,
        "nope": nope,
        "v_head": v_head,
        "q_rank": hparams["q_lora_rank"],
        "kv_rank": kv_rank,
        "kv_rank_and_rope": kv_rank + rope,
        "q": heads * (nope + rope),
        "kv_b": heads * (nope + v_head),
        "values": heads * v_head,
    }


def common(arch: str, hparams: HParams) -> list[KV]:
    """Without lengths of keys and values: those of this attention follow.

    Raises UnsupportedError where rotation is scaled: llama.cpp would scale this attention by it as well.
    """
    if (kind := rope_parameters(hparams)["rope_type"]) != "default":
        raise UnsupportedError(f"config.json has rope_type = {str(kind)[:40]!r}; llama.cpp computes only default")
    return common_metadata(arch, {**hparams, "head_dim": None})


def metadata(arch: str, hparams: HParams) -> list[KV]:
    kv_rank, rope = hparams["kv_lora_rank"], hparams["qk_rope_head_dim"]
    return [
        KV(f"{arch}.attention.q_lora_rank", "u32", hparams["q_lora_rank"]),
        KV(f"{arch}.attention.kv_lora_rank", "u32", kv_rank),
        KV(f"{arch}.attention.key_length", "u32", kv_rank + rope),
        KV(f"{arch}.attention.value_length", "u32", kv_rank),
        KV(f"{arch}.attention.key_length_mla", "u32", hparams["qk_nope_head_dim"] + rope),
        KV(f"{arch}.attention.value_length_mla", "u32", hparams["v_head_dim"]),
    ]


KV_B = LAYER + "self_attn.kv_b_proj.weight"
ATTENTION = (
    *layer(
        ("self_attn.q_a_proj.weight", "attn_q_a.weight", "q_rank hidden"),
        ("self_attn.q_a_layernorm.weight", "attn_q_a_norm.weight", "q_rank"),
        ("self_attn.q_b_proj.weight", "attn_q_b.weight", "q q_rank"),
        ("self_attn.kv_a_proj_with_mqa.weight", "attn_kv_a_mqa.weight", "kv_rank_and_rope hidden"),
        ("self_attn.kv_a_layernorm.weight", "attn_kv_a_norm.weight", "kv_rank"),
        ("self_attn.o_proj.weight", "attn_output.weight", "hidden values"),
    ),
    TensorRule(
        KV_B, BLOCK + "attn_k_b.weight", "kv_b kv_rank", out="heads kv_rank nope", pick=key_part, transposed=True
    ),
    TensorRule(KV_B, BLOCK + "attn_v_b.weight", "kv_b kv_rank", out="heads v_head kv_rank", pick=value_part),
)
