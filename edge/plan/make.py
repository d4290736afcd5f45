"""Make a plan: what is known of the model, what this machine's kernels reach, what fits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from convert.errors import EdgeError
from edge import machine, measured, tuned
from edge.cost import products
from edge.llama.kernels import Shape
from edge.model_file import in_order, read_sane
from edge.plan.levels import QUESTION, LevelPlan, Room, plan_level
from edge.plan.predict import decode_seconds, prefill_seconds
from edge.plan.probe import Rates, measure_rates
from edge.plan.source import Source, find_source
from edge.settings import choose
from edge.shapes import ModelShape, SizedTensor, file_tensors, from_gguf, level_tensors

USUAL = ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0")
USUAL_CONTEXT = 4096  # tokens


@dataclass(frozen=True)
class MadePlan:
    """``levels``: the finest first. ``measured``: what ``edge bench`` found before, by level."""

    name: str
    levels: Sequence[LevelPlan]
    room: Room
    rates: Rates
    ctx: int
    can_convert: bool
    measured: Mapping[str, Mapping[str, float]]


def make_plan(
    model: str,
    models: Path,
    *,
    levels: Sequence[str] = (),
    ctx: int | None = None,
    threads: int | None = None,
    on_progress: Callable[[str, int, int], None] = lambda what, done, of: None,
) -> MadePlan:
    """Plan MODEL at ``levels``, by default the usual ones and those that are here. Takes a few seconds of measuring.

    Raises EdgeError.
    """
    source = find_source(model, models)
    shape = source.shape
    wanted = wanted_levels(source, levels)
    if ctx is not None and ctx > shape.context_length:
        raise EdgeError(
            f"{source.name} was trained for {shape.context_length} tokens, not {ctx}", "give a smaller --ctx"
        )
    ctx = ctx or min(USUAL_CONTEXT, shape.context_length or USUAL_CONTEXT)
    tensors = {level: tensors_at(level, source) for level in wanted}
    kept = next((found for file in source.files.values() if (found := tuned.load(models, file))), None)
    settings = choose(kept, threads=threads)
    default = machine.usable_cores()
    rates = measure_rates(
        matrices(tensors.values(), shape),
        settings.threads or default,
        settings.threads_batch or settings.threads or default,
        lambda done, of: on_progress("trying this machine's kernels", done, of),
    )
    memory = machine.memory()
    room = Room(memory.total, memory.available, machine.disk_free(models), machine.cores().usable)
    plans = [
        plan_level(
            level,
            shape,
            tensors[level],
            rates,
            room,
            ctx=ctx,
            flash_attn=settings.flash_attn is not False,
            download=source.download or 0,
            file=source.files[level].size if level in source.files else None,
        )
        for level in wanted
    ]
    known = {level: measured.load(models, file) for level, file in source.files.items()}
    known = {level: found for level, found in known.items() if same_threads(found, rates)}
    return MadePlan(source.name, plans, room, rates, ctx, source.download is not None, known)


def expected_rates(files: Mapping[str, Path], threads: int, threads_batch: int) -> dict[str, dict[str, float]]:
    """``pp512`` and ``tg128`` of each level's file, before they are measured. Raises EdgeError."""
    read = {level: read_sane(path) for level, path in files.items()}
    shape = from_gguf(next(iter(read.values())))
    tensors = {level: file_tensors(file) for level, file in read.items()}
    rates = measure_rates(matrices(tensors.values(), shape), threads, threads_batch)
    work = {level: products(found, shape) for level, found in tensors.items()}
    return {
        level: {
            "pp512": QUESTION / prefill_seconds(found, shape, rates, QUESTION),
            "tg128": 1 / decode_seconds(found, shape, rates),
        }
        for level, found in work.items()
    }


def same_threads(found: Mapping[str, float], rates: Rates) -> bool:
    """Whether figures were measured with the threads that a plan is about."""
    return (found.get("threads"), found.get("threads_batch")) == (rates.threads, rates.threads_batch)


def wanted_levels(source: Source, levels: Sequence[str]) -> list[str]:
    """The finest first. Raises EdgeError for one that neither is here nor can be made."""
    can_convert = source.download is not None
    chosen = list(levels) or ([source.level] if source.level else [*(USUAL if can_convert else ()), *source.files])
    if not can_convert and (missing := [level for level in chosen if level not in source.files]):
        raise EdgeError(f"{source.name} is not here at {missing[0]}", f"there is {', '.join(source.files)}")
    return list(in_order(dict.fromkeys(chosen)))


def tensors_at(level: str, source: Source) -> list[SizedTensor]:
    """Those of the file that is here, else those that a conversion will write."""
    file = source.files.get(level)
    return file_tensors(file) if file is not None else level_tensors(source.shape, level)


def matrices(files: Iterable[Sequence[SizedTensor]], shape: ModelShape) -> list[tuple[Shape, int]]:
    """All shapes of matrices that any of the ``files`` is made of, with their counts, and one for the cache."""
    found = [
        (Shape(one.qtype, one.columns, one.rows), one.count) for tensors in files for one in products(tensors, shape)
    ]
    cache = Shape("F16", 128, 4096)
    return [*found, *([] if any(one.qtype == "F16" for one, _ in found) else [(cache, 64)])]
