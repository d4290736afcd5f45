"""What each quant level of a model needs, and how fast it will be: a plan. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from edge.cost import file_bytes, products, used_tensors, weight_bytes
from edge.memory import context_bytes, longest_context
from edge.plan.predict import decode_seconds, first_token_seconds, prefill_seconds
from edge.plan.probe import Rates
from edge.shapes import ModelShape, SizedTensor

QUESTION = 512  # tokens
PROGRAM = 80_000_000  # bytes: Python and its libraries
VOCABULARY_TOKEN = 700  # bytes of a token
RESERVE = 500_000_000  # bytes that should stay free for everything else
CHECKED_TOKENS = 700  # that the gate computes after a conversion
READ_AND_WRITE = 400e6  # bytes/s, assumed of the disk: a modest SSD
CHECKPOINT_WEIGHT = 2  # bytes of a weight of a bf16 checkpoint

Verdict = Literal["fits", "tight", "does not fit"]


@dataclass(frozen=True)
class Room:
    """What the machine has, in bytes: memory in all and free, disk (None where it is unknown); threads that convert."""

    total: int
    available: int
    disk: int | None
    threads: int


@dataclass(frozen=True)
class LevelPlan:
    """Sizes in bytes, rates in tokens/s, times in seconds.

    ``memory`` is what running it takes in all, once the context is full. ``download``: of the checkpoint, 0 where it is
    here; ``disk``: what is still to be written in all; ``convert``: making the file, 0 where it is here.
    """

    level: str
    file: int
    bits_per_weight: float
    weights: int
    cache: int
    compute: int
    program: int
    memory: int
    verdict: Verdict
    decode: float
    prefill: float
    first_token: float
    longest_context: int
    download: int
    disk: int
    disk_is_short: bool
    convert: float
    here: bool = False


def plan_level(
    level: str,
    shape: ModelShape,
    tensors: Sequence[SizedTensor],
    rates: Rates,
    room: Room,
    *,
    ctx: int,
    flash_attn: bool = True,
    download: int = 0,
    file: int | None = None,
) -> LevelPlan:
    """``tensors`` are those of the file at this level; ``ctx`` tokens of context; ``download``: bytes to fetch first;
    ``file``: the size of a file that is here already."""
    here = file is not None
    size = file_bytes(shape, level) if file is None else file
    weights = weight_bytes(used_tensors(tensors, shape))
    cache, compute = context_bytes(shape, ctx, flash_attn=flash_attn)
    program = program_bytes(shape)
    needed = weights + cache + compute + program
    work = products(tensors, shape)
    reading = prefill_seconds(work, shape, rates, QUESTION)
    disk = 0 if here else download + size
    return LevelPlan(
        level=level,
        file=size,
        bits_per_weight=8 * weight_bytes(tensors) / shape.parameters,
        weights=weights,
        cache=cache,
        compute=compute,
        program=program,
        memory=needed,
        verdict=verdict(needed, room),
        decode=1 / decode_seconds(work, shape, rates),
        prefill=QUESTION / reading,
        first_token=first_token_seconds(work, shape, rates, QUESTION),
        longest_context=longest_context(shape, room.available - weights - program, flash_attn=flash_attn),
        download=0 if here else download,
        disk=disk,
        disk_is_short=room.disk is not None and disk > room.disk,
        convert=0.0
        if here
        else convert_seconds(shape, tensors, rates, room.threads) + CHECKED_TOKENS * reading / QUESTION,
        here=here,
    )


def verdict(needed: int, room: Room) -> Verdict:
    """Tight: it runs, but only while other programs take no more than now, or take less."""
    if needed + RESERVE <= room.available:
        return "fits"
    return "tight" if needed + RESERVE <= room.total or needed <= room.available else "does not fit"


def program_bytes(shape: ModelShape) -> int:
    """Python, its libraries, and the vocabulary, which both Python and llama.cpp keep."""
    return PROGRAM + VOCABULARY_TOKEN * shape.vocabulary


def convert_seconds(shape: ModelShape, tensors: Iterable[SizedTensor], rates: Rates, threads: int) -> float:
    """Quantizing on all threads, reading and writing on an assumed disk."""
    tensors = list(tensors)
    quantizing = sum(
        math.prod(tensor.shape) / rates.quantize[tensor.qtype] for tensor in tensors if tensor.qtype in rates.quantize
    )
    moved = CHECKPOINT_WEIGHT * shape.parameters + weight_bytes(tensors)
    return quantizing / threads + moved / READ_AND_WRITE
