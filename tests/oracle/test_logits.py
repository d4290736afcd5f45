"""Same model: logits of our F32 file in llama.cpp against transformers in float32, on the checkpoint itself.

llama.cpp runs with an F32 KV cache and without flash attention. Its default, an F16 cache, is what limits it
otherwise: on the real 0.5B, whose key biases are large, it alone gives a mean KL near 1e-3. Run with -s to see
the figures.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edge
from convert.pipeline import convert
from tests import vocabulary
from tests.checkpoints import FAMILIES, build, splitmix64
from tests.goldens.cases import SENTENCEPIECE, YARN
from tests.oracle.logits import llama_logits, mean_kl, reference_logits

POSITIONS = 160
LONG_YARN = {**YARN, "original_max_position_embeddings": 64}  # so that the positions here are beyond it
EMBEDDED = Path(edge.__file__).parent / "models"

# Weights and biases of these are random and not zero, norms are not 1. Every config value here is one that
# conversion accepts; the others are refused.
ACCEPTED: dict[str, dict[str, Any]] = {
    "qwen2": {},
    "qwen2-untied": {"tied": False, "ffn": 288, "layers": 9, "rope": "new", "shards": 3},
    "qwen2-own-head": {"lm_head": "other"},
    "qwen2-f16": {"dtype": "f16"},
    "qwen2-f32": {"dtype": "f32"},
    "qwen2-full-heads": {"heads": 8, "kv_heads": 8},
    "qwen2-kv-heads-null": {"kv_heads": 4, "config": {"num_key_value_heads": None}},
    "qwen2-swish": {"config": {"hidden_act": "swish"}},
    "qwen2-linear": {"scaling": {"rope_type": "linear", "factor": 4.0}},
    "qwen2-yarn": {"scaling": LONG_YARN},
    "qwen2-yarn-new": {"scaling": {**LONG_YARN, "rope_type": "yarn"}, "rope": "new"},
    "qwen2-yarn-whole-length": {"scaling": {"type": "yarn", "factor": 4.0}},
    # transformers computes with the length outside, llama.cpp's converter writes the nested one: ours is the model's
    "qwen2-yarn-length-outside": {"scaling": LONG_YARN, "config": {"original_max_position_embeddings": 128}},
    "qwen2-scaling-over-parameters": {
        "rope": "new",
        "config": {"rope_scaling": {"rope_type": "linear", "factor": 4.0}, "rope_theta": 500.0},
    },
    "qwen2-window-after-last-layer": {
        "config": {"use_sliding_window": True, "sliding_window": 32, "max_window_layers": 4}
    },
    "qwen2-defaults": {"tied": False, "without": ("rope_theta", "rms_norm_eps", "tie_word_embeddings")},
    "glm4": {"family": "glm4", "tied": False},
    "glm4-tied": {"family": "glm4"},
    "glm4-nine-layers": {"family": "glm4", "tied": False, "layers": 9, "ffn": 288, "head_dim": 96},
    "glm4-no-bias": {"family": "glm4", "tied": False, "attention_bias": False, "rope": "new"},
    "glm4-rotates-whole-heads": {"family": "glm4", "config": {"partial_rotary_factor": 1.0}},
    "glm4-rotates-a-quarter": {"family": "glm4", "rope": "new", "scaling": {"partial_rotary_factor": 0.25}},
    "glm4-yarn": {"family": "glm4", "scaling": LONG_YARN},
    "glm4-linear": {"family": "glm4", "scaling": {"type": "linear", "factor": 4.0}},
    "glm4-defaults": {
        "family": "glm4",
        "tied": False,
        "without": ("rope_theta", "rms_norm_eps", "partial_rotary_factor"),
    },
}


# Every family as it is published, then the shapes and config values that make a difference.
GROUPS = {"experts": 8, "experts_used": 3, "config": {"n_group": 4, "topk_group": 2}}
ACCEPTED |= {family: {"family": family} for family in FAMILIES if family not in ACCEPTED}
ACCEPTED["chatglm3"] |= SENTENCEPIECE
ACCEPTED |= {
    "qwen3-wide-heads": {"family": "qwen3", "head_dim": 128, "tied": False, "scaling": LONG_YARN},
    "qwen3-window-after-last-layer": {
        "family": "qwen3",
        "config": {"use_sliding_window": True, "sliding_window": 32, "max_window_layers": 4},
    },
    "qwen3moe-all-experts": {"family": "qwen3moe", "experts_used": 6, "tied": True},
    "qwen3moe-fused": {"family": "qwen3moe", "experts_layout": "fused"},
    "qwen3next-equal-heads": {"family": "qwen3next", "linear_value_heads": 2, "nextn": 0},
    "qwen3next-every-other-layer": {
        "family": "qwen3next",
        "interval": 2,
        "config": {"full_attention_interval": 2},
    },
    "qwen35-equal-heads": {"family": "qwen35", "linear_value_heads": 2, "linear_head_dim": 32},
    "qwen35-four-to-one": {"family": "qwen35", "linear_value_heads": 8, "dtype": "f32"},
    "qwen35-f16": {"family": "qwen35", "dtype": "f16"},
    "qwen35-seven-layers": {"family": "qwen35-text", "layers": 7, "conv_kernel": 2},
    "qwen35moe-each": {"family": "qwen35moe-text", "experts_layout": "each", "linear_value_heads": 8},
    "glm-theta": {"family": "glm", "config": {"rope_theta": 5e6}},
    "glm-linear": {"family": "glm", "scaling": {"type": "linear", "factor": 4.0}},
    "glm4moe-no-norm-no-bias": {"family": "glm4moe", "qk_norm": False, "attention_bias": False, "dense_layers": 2},
    "glm4moe-groups": {"family": "glm4moe", "nextn": 0, **GROUPS},
    "glm4moe-scaled": {
        "family": "glm4moe",
        "shared_ffn": 512,
        "config": {"routed_scaling_factor": 2.5, "norm_topk_prob": False},
    },
    "glm4moelite-groups": {"family": "glm4moelite", "nextn": 0, **GROUPS},
    "glm4moelite-two-dense": {
        "family": "glm4moelite",
        "dense_layers": 2,
        "value_dim": 64,
        "config": {"mlp_layer_types": ["dense", "dense", "sparse", "sparse"]},
        "without": ("first_k_dense_replace",),
    },
}


def tokens(vocab: int) -> list[int]:
    """The same random tokens each time."""
    return [int(token) for token in splitmix64(7, POSITIONS) % np.uint64(vocab)]


def vocabulary_size(checkpoint: Path) -> int:
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    config |= config.get("text_config", {})
    return config.get("padded_vocab_size") or config["vocab_size"]


def measure(checkpoint: Path, folder: Path, vocab: int) -> float:
    gguf = folder / "F32.gguf"
    convert(checkpoint, {"F32": gguf}, threads=2)
    reference = reference_logits(checkpoint, tokens(vocab))
    kl = mean_kl(reference, llama_logits(gguf, tokens(vocab)))
    print(f"\n{checkpoint.name}: mean KL {kl:.1e}, logits within {np.abs(reference).max():.1f}")
    return kl


@pytest.mark.parametrize("name", ACCEPTED)
def test_synthetic(name: str, tmp_path: Path):
    checkpoint = build(tmp_path / name, **ACCEPTED[name])
    assert measure(checkpoint, tmp_path, vocabulary_size(checkpoint)) < 1e-9


@pytest.mark.parametrize("name", ["tiny-qwen", "tiny-glm"])
def test_embedded(name: str, tmp_path: Path):
    assert measure(EMBEDDED / name, tmp_path, vocabulary_size(EMBEDDED / name)) < 1e-9


def test_real(real_checkpoint: Path, tmp_path: Path):
    assert measure(real_checkpoint, tmp_path, 151643) < 1e-4


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {"scaling": {"rope_type": "linear", "factor": 4.0}}),
        ({}, {"scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}}),
        ({}, {"config": {"rope_theta": 10000.0}}),
        ({}, {"config": {"rms_norm_eps": 1e-2}}),
        ({"family": "glm4"}, {"family": "glm4", "config": {"partial_rotary_factor": 1.0}}),
    ],
    ids=["linear", "yarn", "theta", "eps", "partial"],
)
def test_the_measure_sees_a_wrong_key(one: dict[str, Any], other: dict[str, Any], tmp_path: Path):
    """One wrong hyperparameter in the file, the weights being the same, must not pass for the same model."""
    family = one.get("family", "qwen2")
    convert(build(tmp_path / "one", **one), {"F32": tmp_path / "one.gguf"}, threads=2)
    ids = tokens(vocabulary.size(family))
    reference = reference_logits(build(tmp_path / "other", **other), ids)
    assert mean_kl(reference, llama_logits(tmp_path / "one.gguf", ids)) > 1e-6
