"""The synthetic checkpoints are what transformers takes them for, and every one of their weights has a say.

Where a weight had none, a converter could lose or shuffle it without any logits telling.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from tests import vocabulary
from tests.checkpoints import FAMILIES, build, read_json, splitmix64
from tests.oracle import reference_layers
from tests.oracle.logits import REFERENCES, mean_kl

POSITIONS = 64
REMOTE = {"qwen", "qwen-first", "chatglm3", "chatglm4"}
VARIANTS: dict[str, dict[str, Any]] = {name: {"family": name} for name in FAMILIES} | {
    "qwen3-tied-new": {"family": "qwen3", "tied": False, "rope": "new"},
    "qwen3moe-new": {"family": "qwen3moe", "rope": "new", "moe_ffn": 96, "experts_layout": "fused"},
    "qwen3next-as-many": {"family": "qwen3next", "linear_key_heads": 4, "nextn": 0},
    "qwen3next-four-to-one": {"family": "qwen3next", "linear_key_heads": 1},
    "qwen35-as-many": {"family": "qwen35", "linear_key_heads": 4, "tied": False},
    "qwen35-four-to-one": {"family": "qwen35", "linear_key_heads": 1, "nextn": 0},
    "qwen35moe-one-by-one": {"family": "qwen35moe", "experts_layout": "each"},
    "qwen35moe-prediction-one-by-one": {"family": "qwen35moe", "mtp_layout": "each", "moe_ffn": 96},
    "glm-edge-new": {"family": "glm-edge", "rope": "new"},
    "glm4moe-large": {"family": "glm4moe", "qk_norm": True, "dense_layers": 2, "rope": "new", "shards": 3},
    "glm4moe-bare": {"family": "glm4moe", "attention_bias": False, "nextn": 0, "dtype": "f16"},
    "glm4moelite-old": {"family": "glm4moelite", "rope": "old", "nextn": 0, "shared_ffn": 512, "dtype": "f32"},
}


def load(checkpoint: Path) -> tuple[Any, dict[str, Any]]:
    """The model, and what transformers says about the names of tensors."""
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        checkpoint, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    return loaded


def tokens(family: str) -> list[int]:
    return [int(token) for token in splitmix64(7, POSITIONS) % np.uint64(vocabulary.size(FAMILIES[family].tokens))]


def is_prediction(name: str, layers: int) -> bool:
    """Whether the tensor belongs to multi-token prediction, which transformers leaves out."""
    parts = name.split(".")
    return parts[0] == "mtp" or (parts[:2] == ["model", "layers"] and int(parts[2]) >= layers)


@pytest.mark.parametrize("name", [name for name in VARIANTS if name not in REMOTE])
def test_transformers_takes_every_tensor(name: str, tmp_path: Path):
    checkpoint = build(tmp_path / name, **VARIANTS[name])
    config = read_json(checkpoint / "config.json")
    model, found = load(checkpoint)
    assert type(model).__name__ == config["architectures"][0].replace("ConditionalGeneration", "CausalLM")
    unexpected = [key for key in found["unexpected_keys"] if not is_prediction(key, model.config.num_hidden_layers)]
    assert not found["missing_keys"] and not found["mismatched_keys"] and not found["error_msgs"] and not unexpected


@pytest.mark.parametrize("name", VARIANTS)
def test_every_weight_matters(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Each tensor in turn has its elements moved by one place: the logits must change by far more than rounding."""
    checkpoint = build(tmp_path / name, **VARIANTS[name])
    compute, weights = runnable(checkpoint, tokens(VARIANTS[name]["family"]), monkeypatch)
    right = compute()
    assert np.isfinite(right).all()
    changes: dict[str, float] = {}
    for key, tensor in weights.items():
        kept = tensor.clone()
        tensor.copy_(torch.roll(kept, 1))
        changes[key] = mean_kl(right, compute())
        tensor.copy_(kept)
    assert not {key: change for key, change in changes.items() if change < 1e-7}
    assert mean_kl(right, compute()) == 0


def runnable(
    checkpoint: Path, ids: list[int], monkeypatch: pytest.MonkeyPatch
) -> tuple[Callable[[], np.ndarray], dict[str, Tensor]]:
    """A model that computes logits, and its tensors, to be changed in place."""
    torch.set_num_threads(1)  # for so small a model more are slower
    architecture = read_json(checkpoint / "config.json")["architectures"][0]
    if reference := REFERENCES.get(architecture):
        weights = reference_layers.tensors(checkpoint)
        weights.pop("transformer.rotary_pos_emb.inv_freq", None)
        monkeypatch.setattr(reference_layers, "tensors", lambda _: weights)
        return lambda: reference(checkpoint, ids), weights
    model, _ = load(checkpoint)

    def compute() -> np.ndarray:
        with torch.inference_mode():
            return model(torch.tensor([ids])).logits[0].numpy().copy()

    return compute, model.state_dict()


def test_stacked_experts_are_the_same_experts(tmp_path: Path):
    """So that a converter must make the same file of both layouts."""
    each, stacked = (
        load_file(build(tmp_path / layout, family="qwen35moe-text", experts_layout=layout) / "model.safetensors")
        for layout in ("each", "fused")
    )
    for i in range(6):
        prefix = "model.layers.2.mlp.experts."
        gate, up = stacked[f"{prefix}gate_up_proj"][i].chunk(2)
        assert torch.equal(gate, each[f"{prefix}{i}.gate_proj.weight"])
        assert torch.equal(up, each[f"{prefix}{i}.up_proj.weight"])
        assert torch.equal(stacked[f"{prefix}down_proj"][i], each[f"{prefix}{i}.down_proj.weight"])
