"""``edge bench`` as a function: speed of each level, one after another, then quality of all."""

from __future__ import annotations

import json
import platform
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import edge
from convert import gguf_file
from edge import machine
from edge.bench.child import run_child
from edge.bench.limits import MachineLimits, machine_limits
from edge.bench.quality import measure_quality, reference_level
from edge.bench.speed import CLOCKS, Options
from edge.cost import prompt_flops_per_token, read_per_token
from edge.llama import library
from edge.model_file import read_sane
from edge.shapes import file_tensors, from_gguf

OWN_SETTINGS = ("threads", "threads_batch", "flash_attn", "rows", "tuned")  # of each level

OnProgress = Callable[[dict[str, Any], str, int, int], None]  # the result so far; what is done, how much, of how much


def bench(
    model: str,
    files: Mapping[str, Path],
    options: Mapping[str, Options],
    *,
    quality: bool = True,
    scratch: Path | None = None,
    expected: Mapping[str, Mapping[str, float]] | None = None,
    on_progress: OnProgress = lambda result, what, done, of: None,
) -> dict[str, Any]:
    """Measure the ``files``, level -> GGUF, each with its own ``options``. Returns the result as JSON has it.

    ``quality``: compare with the finest of them, too; half a gigabyte lies in ``scratch`` meanwhile, a folder on a disk
    (default: the system's for temporary files). ``expected``: what a plan predicted for each level. Raises
    EdgeError; what was found by then is in what ``on_progress`` got last.
    """
    first = next(iter(options.values()))
    levels = {level: facts(level, path) for level, path in files.items()}
    result: dict[str, Any] = {
        "edge": edge.__version__,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine_facts(),
        "model": model,
        "settings": {
            **{key: getattr(first, key) for key in ("kv_type", "repeats", "depths", "widths", "gpu_layers")},
            "tuned": all(one.tuned for one in options.values()),
        },
        "clocks": dict(CLOCKS),
        "levels": list(levels.values()),
    }
    on_progress(result, "memory and arithmetic of this machine", 0, 1)
    limits = machine_limits(max(max(one.threads, one.threads_batch) for one in options.values()))
    result["machine"] |= {"bandwidth": limits.bandwidth, "flops": limits.flops}
    for level, path in files.items():
        levels[level] |= {key: value for key, value in asdict(options[level]).items() if key in OWN_SETTINGS}
        if expected and level in expected:
            levels[level]["expected"] = dict(expected[level])
        arguments = [str(path), json.dumps(asdict(options[level]))]
        tell = listener(levels[level], partial(on_progress, result, level))
        levels[level] |= run_child("edge.bench.speed_child", arguments, f"{path.name}: measuring its speed", tell)
        if options[level].gpu_layers == 0:
            levels[level] |= shares(path, levels[level], limits)
    if quality:
        measured = measure_quality(
            files,
            reference_level(files),
            scratch or Path(tempfile.gettempdir()),
            threads=first.threads_batch,
            flash_attn=first.flash_attn,
            kv_type=first.kv_type,
            gpu_layers=first.gpu_layers,
            on_progress=lambda level, done, of: on_progress(result, f"quality of {level}", done, of),
        )
        for level, found in measured.items():
            levels[level] |= found
    return result


def listener(found: dict[str, Any], on_progress: Callable[[int, int], None]) -> Callable[[dict[str, Any]], None]:
    """What a child's messages are handed to: figures go into ``found``; each of them tells how far it is."""
    progress = [0, 0]

    def tell(message: dict[str, Any]) -> None:
        found.update(message.get("so_far", {}))
        progress[:] = message.get("progress", progress)
        on_progress(*progress)

    return tell


def facts(level: str, path: Path) -> dict[str, Any]:
    """What the file says of itself. Raises GgufError, so that a damaged one is refused before anything is measured."""
    file = read_sane(path)
    return {
        "level": level,
        "file": path.name,
        "bytes": file.size,
        "weights": file.n_params,
        "bits_per_weight": round(file.bits_per_weight, 4),
    }


def machine_facts() -> dict[str, Any]:
    cpu, cores = machine.cpu(), machine.cores()
    sets = ", ".join(sorted(library.built_for() or ())) or "unknown instruction sets"
    return {
        "cpu": cpu.name or cpu.arch,
        "arch": cpu.arch,
        "os": platform.system(),
        "physical": cores.physical,
        "logical": cores.logical,
        "usable": cores.usable,
        "memory": machine.memory().total,
        "library": f"{library.PACKAGE} {library.version()} ({sets})",
    }


def shares(path: Path, found: Mapping[str, Any], limits: MachineLimits) -> dict[str, float]:
    """Which part of the machine's bandwidth decoding uses, and of its arithmetic a prompt."""
    file = gguf_file.read(path)
    shape, tensors = from_gguf(file), file_tensors(file)
    return {
        "bandwidth_share": found["tg128"] * sum(read_per_token(tensors, shape).values()) / limits.bandwidth,
        "flops_share": found["pp512"] * prompt_flops_per_token(tensors, shape) / limits.flops,
    }
