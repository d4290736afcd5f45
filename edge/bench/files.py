"""Which files ``edge bench`` measures, and with which settings each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from convert import gguf_file
from convert.errors import EdgeError
from convert.levels import LEVELS, parse_level
from edge import machine, reference, tuned
from edge.bench.speed import USUAL_CONTEXT, Options
from edge.gguf_sane import check_sane
from edge.llama.offload import auto_offload
from edge.settings import ROWS, choose

Value = TypeVar("Value")
FTYPE_NAMES = {int(level.ftype): level.name for level in LEVELS.values()}


def files_of(
    models: Sequence[str], levels: Sequence[str], folder: Path, convert: Callable[[str], Path]
) -> tuple[str, dict[str, Path]]:
    """A name for what is measured, and level -> GGUF, the finest first.

    ``models``: one MODEL, or .gguf files of one. ``levels``: only these; those that are missing are made by
    ``convert``, which takes ``MODEL:LEVEL``. Raises EdgeError.
    """
    if len(models) > 1 or models[0].lower().endswith(".gguf"):
        found = {}
        for text in models:
            wanted = reference.parse(text)
            if wanted.gguf is None:
                raise EdgeError(f"{text} is no .gguf file", "several are files of one model, or give one MODEL")
            level = level_of(wanted.gguf)
            found[level if level not in found else wanted.gguf.stem] = wanted.gguf
        return reference.parse(models[0]).name, in_order({k: v for k, v in found.items() if not levels or k in levels})
    wanted = reference.parse(models[0])
    if wanted.level is not None:
        levels = [wanted.level]
    stored = {model.level: model.path for model in reference.stored_levels(wanted, folder)}
    name = models[0].removesuffix(f":{wanted.level}") if wanted.level else models[0]
    if not levels and not stored:
        path = convert(name)
        return wanted.name, {level_of(path): path}
    return wanted.name, in_order({level: stored.get(level) or convert(f"{name}:{level}") for level in levels or stored})


def level_of(path: Path) -> str:
    """What the file says that it is; its name where it says nothing. Raises GgufError."""
    file = gguf_file.read(path)
    check_sane(file)
    return FTYPE_NAMES.get(file.metadata.get("general.file_type", -1), path.stem)


def in_order(files: Mapping[str, Value]) -> dict[str, Value]:
    """The finest first; what is no level's name, last."""
    order = list(LEVELS)
    return dict(sorted(files.items(), key=lambda item: order.index(item[0]) if item[0] in order else len(order)))


def options_for(path: Path, folder: Path, given: Mapping[str, Any], **wanted: Any) -> Options:
    """How one file is measured: as whoever loads it would run it, but for what is ``given``."""
    kv_type, layers = given.get("kv_type") or "f16", given.get("gpu_layers")
    if layers in (None, "auto"):
        layers = auto_offload(path, USUAL_CONTEXT, kv_type)[0]
    kept = tuned.load(folder, gguf_file.read(path))
    settings = choose(
        kept,
        threads=given.get("threads"),
        threads_batch=given.get("threads_batch"),
        flash_attn=given.get("flash_attn"),
        gpu_layers=layers,
        kv_type=kv_type,
    )
    threads = settings.threads or machine.usable_cores()
    return Options(
        threads=threads,
        threads_batch=settings.threads_batch or threads,
        flash_attn=settings.flash_attn,
        rows=settings.rows or ROWS,
        kv_type=kv_type,
        gpu_layers=layers,
        tuned=kept is not None,
        **wanted,
    )


def parse_levels(text: str | None) -> list[str]:
    """``Q8_0,q4_k_m`` as names. Raises EdgeError."""
    return [parse_level(part).name for part in text.split(",")] if text else []
