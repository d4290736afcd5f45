"""Checkpoints of every family and layout, as small as they can be: for tests that plan but do not convert much."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from convert.checkpoint import Checkpoint, StoredTensor
from tests.checkpoints import FAMILIES, build
from tests.goldens.cases import SENTENCEPIECE

SIZES: dict[str, Any] = {
    "layers": 3,
    "hidden": 64,
    "ffn": 64,
    "experts": 2,
    "moe_ffn": 32,
    "shared_ffn": 64,
    "linear_head_dim": 8,
    "q_rank": 32,
    "kv_rank": 32,
    "nope_dim": 8,
    "rope_dim": 16,
    "value_dim": 24,
}
# name -> options of `build`
CASES: dict[str, dict[str, Any]] = {
    **{family: {"family": family} for family in FAMILIES},
    "chatglm3": {"family": "chatglm3", **SENTENCEPIECE},
    "qwen2-head": {"family": "qwen2", "lm_head": "other"},
    "qwen2moe-fused": {"family": "qwen2moe", "experts_layout": "fused"},
    "qwen3moe-fused": {"family": "qwen3moe", "experts_layout": "fused"},
    "qwen3next-fused": {"family": "qwen3next", "experts_layout": "fused", "linear_value_heads": 6},
    "qwen3next-no-mtp": {"family": "qwen3next", "nextn": 0, "linear_value_heads": 2},
    "qwen35-no-mtp": {"family": "qwen35", "nextn": 0},
    "qwen35moe-each": {"family": "qwen35moe", "experts_layout": "each", "linear_value_heads": 6},
    "qwen35moe-mtp-each": {"family": "qwen35moe", "mtp_layout": "each", "shards": 2},
    "glm-no-bias": {"family": "glm", "attention_bias": False},
    "glm4-no-bias": {"family": "glm4", "attention_bias": False, "tied": False},
    "glm4moe-qk-norm": {"family": "glm4moe", "qk_norm": True, "attention_bias": False, "nextn": 2},
    "glm4moe-no-mtp": {"family": "glm4moe", "nextn": 0, "dense_layers": 0},
    "glm4moelite-no-mtp": {"family": "glm4moelite", "nextn": 0, "dense_layers": 2},
    "glm4moelite-old-rope": {"family": "glm4moelite", "rope": "old", "nextn": 2},
}


class Unreadable(Checkpoint):
    """A checkpoint for tests of what is decided before any weight is read."""

    def read_into(self, tensor: StoredTensor, first_byte: int, buffer: memoryview) -> None:
        raise AssertionError(f"{tensor.name} was read")


Small = Callable[[str], Unreadable]


def build_small(folder: Path, name: str, **options: Any) -> Path:
    case = CASES[name]
    layers = {"layers": 4} if case["family"].startswith(("qwen3next", "qwen35")) else {}  # the fourth is another kind
    return build(folder, **{**SIZES, **layers, **case, **options})


def is_nested(config: dict[str, Any]) -> bool:
    return isinstance(config.get("text_config"), dict)


def changed(checkpoint: Checkpoint, changes: dict[str, Any]) -> Checkpoint:
    """The same tensors with other config values, in the text part if there is one. "a/b" is key b of object a."""
    config = checkpoint.config
    for key, value in changes.items():
        path = tuple(key.split("/"))
        config = with_value(config, ("text_config", *path) if is_nested(config) else path, value)
    return replace(checkpoint, config=config)


def with_value(config: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    if len(path) == 1:
        return {**config, path[0]: value}
    inner = config.get(path[0])
    return {**config, path[0]: with_value(inner if isinstance(inner, dict) else {}, path[1:], value)}


def all_paths(config: dict[str, Any], before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every key, and those inside objects."""
    for key, value in config.items():
        yield (*before, key)
        if isinstance(value, dict):
            yield from all_paths(value, (*before, key))
