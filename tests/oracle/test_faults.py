"""Where llama.cpp's converter is wrong: its file against the model, and ours. README lists these differences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from convert.errors import UnsupportedError
from convert.pipeline import convert
from tests import vocabulary
from tests.checkpoints import FAMILIES, build
from tests.oracle.logits import llama_logits, mean_kl, reference_logits
from tests.oracle.step1 import UNMENDED
from tests.oracle.test_logits import tokens
from tests.oracle.two_steps import convert_hf

SAME = 1e-9  # mean KL in nats, above what rounding gives


def theirs_and_ours(options: dict[str, Any], folder: Path) -> tuple[float, float]:
    """Mean KL of llama.cpp's own F32 file, and of ours, from the reference."""
    checkpoint = build(folder / "checkpoint", **options)
    convert_hf(checkpoint, {"F32": folder / "theirs.gguf"}, (UNMENDED,))
    convert(checkpoint, {"F32": folder / "ours.gguf"}, threads=2)
    ids = tokens(vocabulary.size(FAMILIES[options["family"]].tokens))
    reference = reference_logits(checkpoint, ids)
    theirs, ours = (mean_kl(reference, llama_logits(folder / f"{who}.gguf", ids)) for who in ("theirs", "ours"))
    print(f"\n{options['family']}: mean KL of llama.cpp's file {theirs:.1e}, of ours {ours:.1e}")
    return theirs, ours


def test_glm_keeps_its_epsilon(tmp_path: Path) -> None:
    """1e-5 was written whatever the config said: the key looked for is ChatGLM's layernorm_epsilon."""
    theirs, ours = theirs_and_ours({"family": "glm"}, tmp_path)
    assert theirs > 1e-7 and ours < SAME


def test_glm_keeps_its_base_frequency(tmp_path: Path) -> None:
    """10000 was written whatever rope_theta said: the key looked for is ChatGLM's rope_ratio."""
    theirs, ours = theirs_and_ours({"family": "glm-edge", "config": {"rope_theta": 5e6}}, tmp_path)
    assert theirs > 1e-4 and ours < SAME


def test_glm_flash_scores_experts_by_a_sigmoid(tmp_path: Path) -> None:
    """Without a gating function in the file llama.cpp takes softmax, unless the model has 47 layers."""
    theirs, ours = theirs_and_ours({"family": "glm4moelite"}, tmp_path)
    assert theirs > 1e-4 and ours < SAME


def test_the_first_qwen_loads(tmp_path: Path) -> None:
    """The epsilon was written under a key that llama.cpp's own loader does not look for."""
    checkpoint = build(tmp_path / "checkpoint", family="qwen")
    convert_hf(checkpoint, {"F32": tmp_path / "theirs.gguf"}, (UNMENDED,))
    with pytest.raises(RuntimeError, match="does not load"):
        llama_logits(tmp_path / "theirs.gguf", [1])
    convert(checkpoint, {"F32": tmp_path / "ours.gguf"}, threads=2)
    ids = tokens(vocabulary.size("qwen"))
    assert mean_kl(reference_logits(checkpoint, ids), llama_logits(tmp_path / "ours.gguf", ids)) < SAME


@pytest.mark.parametrize("family", ["qwen3next", "qwen35", "glm4moe", "glm4moelite"])
def test_a_config_that_promises_a_layer_which_is_not_there(family: str, tmp_path: Path) -> None:
    """Fine-tunes saved by transformers keep the config's count of further predicted tokens and lose their tensors."""
    checkpoint = build(tmp_path / "checkpoint", family=family, nextn=0)
    convert(checkpoint, {"F32": tmp_path / "ours.gguf"}, threads=2)
    ids = tokens(vocabulary.size(FAMILIES[family].tokens))
    assert mean_kl(reference_logits(checkpoint, ids), llama_logits(tmp_path / "ours.gguf", ids)) < SAME


REFUSED = {
    "qwen3moe": {"family": "qwen3moe", "config": {"norm_topk_prob": False}},
    "qwen2moe": {"family": "qwen2moe", "config": {"norm_topk_prob": True}},
    "qwen3next": {"family": "qwen3next", "config": {"norm_topk_prob": False}},
    "qwen3": {
        "family": "qwen3",
        "config": {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 0},
    },
    "glm4moelite": {"family": "glm4moelite", "config": {"rope_interleave": False}},
    "glm4moe": {"family": "glm4moe", "config": {"routed_scaling_factor": 0.0}},
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_value_that_would_make_another_model_is_refused(name: str, tmp_path: Path) -> None:
    """llama.cpp's converter takes each of these without a word; the file then is another model."""
    options = REFUSED[name]
    checkpoint = build(tmp_path / "checkpoint", **options)
    with pytest.raises(UnsupportedError, match=next(iter(options["config"]))):
        convert(checkpoint, {"F32": tmp_path / "ours.gguf"})
    convert_hf(checkpoint, {"F32": tmp_path / "theirs.gguf"}, (UNMENDED,))
    ids = tokens(vocabulary.size(FAMILIES[options["family"]].tokens))
    kl = mean_kl(reference_logits(checkpoint, ids), llama_logits(tmp_path / "theirs.gguf", ids))
    print(f"\n{name} with {options['config']}: mean KL {kl:.1e}")
    assert kl > 1e-4
