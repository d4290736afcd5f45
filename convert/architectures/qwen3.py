"""Qwen3 (0.6B to 32B), its 2507 releases, and fine-tunes: ``Qwen3ForCausalLM``."""

from __future__ import annotations

from convert.architecture import Architecture
from convert.architectures.blocks import ATTENTION, DENSE, ENDS, QK_NORM, QWEN_END, TWO_NORMS, dims
from convert.architectures.rules import NEVER_SLIDES, NO_BIAS, WHOLE_HEADS, WINDOW_DEFAULTS

QWEN3 = Architecture(
    hf_names=("Qwen3ForCausalLM",),
    name="qwen3",
    defaults={
        **WINDOW_DEFAULTS,
        "vocab_size": 151936,
        "num_key_value_heads": 32,
        "head_dim": 128,
        "hidden_act": "silu",
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
    },
    dims=dims,
    special_tokens=QWEN_END,
    sizes=("head_dim",),
    tensors=(*ENDS, *TWO_NORMS, *ATTENTION, *QK_NORM, *DENSE),
    honoured=(
        NEVER_SLIDES,
        NO_BIAS,
        WHOLE_HEADS,
    ),
)
