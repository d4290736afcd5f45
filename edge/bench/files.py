"""Which files ``edge bench`` measures, with which settings each, and at which depths all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from convert import gguf_file
from convert.errors import EdgeError
from convert.gguf_file import GgufFile
from edge import machine, reference, tuned
from edge.bench.speed import PROMPT, USUAL_CONTEXT, Options, longest
from edge.cost import kv_bytes
from edge.errors import MemoryShort
from edge.llama.context import cells_for
from edge.llama.offload import auto_offload
from edge.model_file import in_order, level_of, read_sane
from edge.settings import ROWS, choose
from edge.shapes import ModelShape, from_gguf
from edge.text import size_text

Convert = Callable[[str, str | None], Path]
USUAL_DEPTHS = (0, 4096)  # tokens


# --- which files


def files_of(
    models: Sequence[str], levels: Sequence[str], folder: Path, convert: Convert
) -> tuple[str, dict[str, Path]]:
    """A name for what is measured, and level -> GGUF, the finest first.

    ``models``: one MODEL, or .gguf files of one. ``levels``: only these. ``convert(MODEL, level)`` gives a model's
    file, and makes it if need be; level None is the usual one. Raises EdgeError.
    """
    if len(models) > 1 or models[0].lower().endswith(".gguf"):
        return given_files(models, levels)
    wanted = reference.parse(models[0])
    if wanted.level is not None:
        if levels and list(levels) != [wanted.level]:
            raise EdgeError(
                f"{models[0]} is {wanted.level} alone, not {', '.join(levels)}", "leave out one or the other"
            )
        levels = [wanted.level]
    name = reference.split_level(models[0])[0] if wanted.level else models[0]
    stored = [model.level for model in reference.stored_levels(wanted, folder)]
    # Without those made from a checkpoint that has changed since.
    here = [level for level in stored if reference.find(replace(wanted, level=level), folder)]
    if not levels and not here:
        path = convert(name, None)
        return wanted.name, {level_in(read_sane(path)): path}
    return wanted.name, in_order({level: convert(name, level) for level in levels or here})


def given_files(paths: Sequence[str], levels: Sequence[str]) -> tuple[str, dict[str, Path]]:
    """``files_of`` for .gguf files; one of a level that is there already goes by its own name."""
    found: dict[Path, str] = {}
    shapes: list[ModelShape] = []
    for text in paths:
        path = reference.parse(text).gguf
        if path is None:
            raise EdgeError(f"{text} is no .gguf file", "several are files of one model, or give one MODEL")
        if any(path.samefile(other) for other in found):
            continue
        file = read_sane(path)
        shapes.append(from_gguf(file))
        found[path] = level_in(file)
        check_same_model(next(iter(found)).name, shapes[0], path.name, shapes[-1])
    if missing := [level for level in levels if level not in found.values()]:
        raise EdgeError(
            f"none of the files is {missing[0]}", f"there is {', '.join(in_order(dict.fromkeys(found.values())))}"
        )
    named: dict[str, Path] = {}
    for path, level in found.items():
        if not levels or level in levels:
            named[free_name(level, path.stem, named)] = path
    first, level = next(iter(found.items()))
    return first.stem.removesuffix(f"-{level}") or first.stem, in_order(named)


def free_name(level: str, stem: str, taken: Mapping[str, Any]) -> str:
    """What a file is called in the result."""
    names = [level, stem, *(f"{stem} ({number})" for number in range(2, len(taken) + 3))]
    return next(name for name in names if name not in taken)


def check_same_model(name: str, shape: ModelShape, other_name: str, other: ModelShape) -> None:
    """Raises EdgeError. By shape alone: a fine-tuned model may well be compared with what it was made from."""
    for what, one, another in (
        ("architecture", shape.architecture, other.architecture),
        ("number of layers", shape.layers, other.layers),
        ("width", shape.hidden, other.hidden),
        ("vocabulary", shape.vocabulary, other.vocabulary),
    ):
        if one != another:
            raise EdgeError(
                f"{other_name} is of another model than {name}: their {what} is {another} and {one}",
                "measure each alone, the second with --against the first one's .json",
            )


def level_in(file: GgufFile) -> str:
    """The level, or the file's name where it says none."""
    return level_of(file) or file.path.stem


# --- with which settings


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
        tuned=kept is not None and kept.gpu_layers == layers,
        **wanted,
    )


# --- at which depths


def depths_for(
    files: Mapping[str, Path], options: Mapping[str, Options], asked: Sequence[int] | None
) -> tuple[tuple[int, ...], list[str]]:
    """The depths at which all ``files`` can be measured, and a note for each that is left out.

    ``asked``: by a person, who gets exactly these or an error; None for the usual ones, of which those that a model
    was not trained for, or that there is no memory for, are left out. Raises EdgeError.
    """
    shapes = {level: from_gguf(read_sane(path)) for level, path in files.items()}
    kept, notes = [], []
    for depth in USUAL_DEPTHS if asked is None else asked:
        try:
            for level, path in files.items():
                check_depth(path.name, shapes[level], options[level], depth)
        except EdgeError as error:
            if asked is not None or depth == 0:
                raise
            notes.append(f"note: not measured behind {depth} tokens: {error.message}")
        else:
            kept.append(depth)
    return tuple(kept), notes


def check_depth(name: str, shape: ModelShape, options: Options, depth: int) -> None:
    """Raises EdgeError where a file cannot be measured behind so many tokens. Behind none, any can: a prompt longer
    than what it was trained for takes as long."""
    trained, tokens = shape.context_length, max(longest(depth), USUAL_CONTEXT)
    if depth and trained and depth + PROMPT > trained:
        raise EdgeError(
            f"{name} was trained for {trained} tokens, fewer than {depth} and a prompt of {PROMPT}",
            f"use --depths up to {max(0, trained - PROMPT)}",
        )
    needed, free = kv_bytes(shape, cells_for(tokens), options.kv_type), machine.memory().available
    if options.gpu_layers == 0 and needed > free:
        raise MemoryShort(
            f"{name} needs {size_text(needed)} for a cache of {tokens} tokens, {size_text(free)} of memory are free",
            "use smaller --depths, or close other programs",
        )
