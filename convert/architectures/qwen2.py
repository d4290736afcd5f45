"""Qwen1.5, Qwen2, Qwen2.5, QwQ, R1-Distill-Qwen and fine-tunes: ``Qwen2ForCausalLM``."""

from __future__ import annotations

from convert.architecture import Architecture, always
from convert.architectures.blocks import ATTENTION, DENSE, ENDS, QKV_BIAS, QWEN_END, TWO_NORMS, dims, when
from convert.architectures.rules import FULL_HEADS, NEVER_SLIDES, WINDOW_DEFAULTS

QWEN2 = Architecture(
    hf_names=("Qwen2ForCausalLM",),
    name="qwen2",
    defaults={
        **WINDOW_DEFAULTS,
        "vocab_size": 151936,
        "num_key_value_heads": 32,
        "hidden_act": "silu",
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
    },
    dims=dims,
    special_tokens=QWEN_END,
    tensors=(*ENDS, *TWO_NORMS, *ATTENTION, *when(always, *QKV_BIAS), *DENSE),
    honoured=(
        NEVER_SLIDES,
        *FULL_HEADS,
    ),
)
