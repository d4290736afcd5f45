"""Qwen3.5 and 3.6 with experts (35B-A3B to 397B-A17B) and fine-tunes: ``Qwen3_5MoeForConditionalGeneration``."""

from __future__ import annotations

from dataclasses import replace

from convert.architectures import linear_attention as linear
from convert.architectures.blocks import DENSE, EXPERTS, FUSED_NAMES, ROUTER, SHARED_EXPERT, expert_metadata
from convert.architectures.qwen3_5 import QWEN3_5, metadata
from convert.architectures.rules import EXPERTS_IN_ALL_LAYERS
from convert.hparams import HParams
from convert.metadata import KV


def moe_metadata(hparams: HParams) -> list[KV]:
    return [*expert_metadata("qwen35moe", hparams), *metadata("qwen35moe", hparams)]


QWEN3_5_MOE = replace(
    QWEN3_5,
    hf_names=("Qwen3_5MoeForConditionalGeneration", "Qwen3_5MoeForCausalLM"),
    name="qwen35moe",
    aliases={"num_local_experts": "num_experts"},
    defaults={
        **linear.DEFAULTS,
        "vocab_size": 248320,
        "num_key_value_heads": 2,
        "moe_intermediate_size": 512,
        "shared_expert_intermediate_size": 512,
        "num_experts": 256,
        "num_experts_per_tok": 8,
    },
    sizes=(
        *linear.SIZES,
        "num_experts",
        "num_experts_per_tok",
        "moe_intermediate_size",
        "shared_expert_intermediate_size",
    ),
    renames=(*FUSED_NAMES, *QWEN3_5.renames),
    tensors=(
        *(rule for rule in QWEN3_5.tensors if rule not in DENSE),
        *ROUTER,
        *EXPERTS,
        *SHARED_EXPERT,
    ),
    honoured=(*QWEN3_5.honoured, *EXPERTS_IN_ALL_LAYERS),
    metadata=moe_metadata,
)
