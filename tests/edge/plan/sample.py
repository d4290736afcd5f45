"""Made-up machines and plans: rates without measuring, levels of a model without a model."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

from gguf.constants import GGMLQuantizationType

from edge.lock_file import read_lock, shipped_path
from edge.plan.levels import LevelPlan, Room
from edge.plan.probe import Rates
from edge.shapes import ModelShape, from_config

GB = 1_000_000_000
LOCK = read_lock(shipped_path())
KNOWN = sorted(name for name, model in LOCK.items() if model.context_length)
KINDS = ("qwen2.5-7b", "qwen3-0.6b", "qwen3-30b-a3b", "qwen3.5-0.8b", "glm-4-9b", "glm-4.7-flash")  # the most different
TYPES = [one.name for one in GGMLQuantizationType]

# Every type is as quick: a plan then goes by bytes and operations alone.
RATES = Rates(
    threads=4,
    threads_batch=8,
    read=dict.fromkeys(TYPES, 20e9),
    multiply=dict.fromkeys(TYPES, 400e9),
    quantize=dict.fromkeys(TYPES, 50e6),
    small_op=2e-6,
    small_product=4e-6,
    value=1e-10,
)
ROOM = Room(total=16 * GB, available=12 * GB, disk=100 * GB, threads=4)

LEVEL = LevelPlan(
    level="Q4_K_M",
    file=4 * GB,
    bits_per_weight=4.8,
    weights=4 * GB,
    cache=GB // 4,
    compute=GB // 4,
    program=GB // 2,
    memory=5 * GB,
    verdict="fits",
    decode=10.0,
    prefill=100.0,
    first_token=5.2,
    longest_context=32768,
    download=15 * GB,
    disk=19 * GB,
    disk_is_short=False,
    convert=300.0,
)


def level_plan(level: str, **changed: Any) -> LevelPlan:
    return replace(LEVEL, level=level, **changed)


@cache
def locked_shape(name: str) -> ModelShape:
    model = LOCK[name]
    assert model.architecture and model.context_length
    return from_config(model.architecture, model.config, model.context_length)
