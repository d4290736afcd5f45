"""``edge show``: what a model file is, read from the file itself without loading it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click

from convert import gguf_file
from convert.errors import one_line
from convert.ggml import block_size
from convert.levels import LEVELS, wanted_types
from edge import reference, store, tuned
from edge.cli.common import command_options, json_option, models_dir_option, print_json
from edge.conversion import gate_text
from edge.model_file import level_of, read_sane
from edge.shapes import Named, model_facts
from edge.text import size_text
from edge.tuned_text import explain

IMATRIX_KEY = "quantize.imatrix.entries_count"


@click.command("show")
@click.argument("model")
@json_option
@models_dir_option
@command_options
def show_command(model: str, as_json: bool, models_dir: Path | None) -> None:
    """Show what MODEL is: architecture, level, real bits per weight, and what the gate found."""
    models = store.models_dir(models_dir)
    path = reference.gguf_path(reference.parse(model), models)
    facts = describe(path)
    settings = tuned.load(models, gguf_file.read(path))
    if as_json:
        print_json(facts | {"tuned": dataclasses.asdict(settings) if settings else None})
        return
    gate = facts["report"].get("gate") or {}
    rows = [
        ("file", facts["path"]),
        ("name", facts["name"]),
        ("architecture", facts["architecture"]),
        ("level", facts["level"]),
        ("size", size_text(facts["bytes"])),
        ("weights", f"{facts['weights'] / 1e6:.1f} M, {facts['bits_per_weight']:.2f} bits each"),
        ("types", ", ".join(f"{n} {name}" for name, n in facts["types"].items())),
        ("fell back", describe_fallbacks(facts["fallbacks"])),
        *([("imatrix", facts["imatrix"])] if facts["imatrix"] else []),
        ("context", f"{facts['context_length']} tokens"),
        ("vocabulary", f"{facts['vocabulary']} tokens, pre-tokenizer {facts['pre_tokenizer']}"),
        ("chat template", "yes" if facts["chat_template"] else "no"),
        ("gate", gate_text(facts["report"]) + gate_details(gate)),
        ("sha256", facts["report"].get("sha256", "unknown")),
    ]
    for label, text in rows:
        click.echo(f"{label:<14}{one_line(str(text))}")
    if settings is None:
        click.echo(f"{'settings':<14}defaults; edge tune {model} finds what this machine likes")
        return
    click.echo(f"{'settings':<14}measured by edge tune on this machine, {one_line(settings.made)}:")
    for line in explain(settings):
        click.echo(f"{'':<14}{one_line(line)}")


def describe(path: Path) -> dict[str, Any]:
    """The file's facts; raises GgufError where it is damaged."""
    file = read_sane(path)
    metadata = file.metadata
    arch = metadata["general.architecture"]
    ftype = whole(metadata, "general.file_type")
    level = level_of(file)
    return {
        "path": str(path),
        "name": metadata.get("general.name", ""),
        "architecture": arch,
        "level": level or f"file type {'unknown' if ftype is None else ftype}",
        "bytes": file.size,
        "weights": file.n_params,
        "bits_per_weight": round(file.bits_per_weight, 4),
        "types": dict(file.count_types().most_common()),
        "fallbacks": fallbacks(file, level),
        "imatrix": metadata.get("quantize.imatrix.file"),
        "context_length": whole(metadata, f"{arch}.context_length") or 0,
        "vocabulary": len(metadata.get("tokenizer.ggml.tokens", ())),
        "pre_tokenizer": metadata.get("tokenizer.ggml.pre", "unknown"),
        "chat_template": "tokenizer.chat_template" in metadata,
        "report": store.read_report(path),
    }


def whole(metadata: dict[str, Any], key: str) -> int | None:
    """The whole number under ``key``, which no check has seen; None where there is none."""
    value = metadata.get(key)
    return value if type(value) is int else None


def fallbacks(file: gguf_file.GgufFile, level: str | None) -> dict[str, list[str]]:
    """Type -> tensors that have it because their rows are no multiple of the block of what ``level`` wants there."""
    found: dict[str, list[str]] = {}
    if level is None or LEVELS[level].is_float:
        return found
    tensors = [Named(tensor.name, tensor.shape[::-1]) for tensor in file.tensors]
    wanted = wanted_types(LEVELS[level], tensors, model_facts(file.metadata), IMATRIX_KEY in file.metadata)
    for tensor in file.tensors:
        if tensor.name in wanted and tensor.shape[0] % block_size(wanted[tensor.name]) and tensor.type != "F32":
            found.setdefault(tensor.type, []).append(tensor.name)
    return found


def describe_fallbacks(found: dict[str, list[str]]) -> str:
    if not found:
        return "no tensor"
    parts = [f"{len(names)} to {kind} (as {names[0]})" for kind, names in found.items()]
    return "; ".join(parts) + ": rows are no multiple of the wanted block"


def gate_details(gate: dict[str, Any]) -> str:
    if not gate.get("passed"):
        return ""
    return (
        f": {gate['texts_compared']} texts with the reference's token ids, perplexity"
        f" {gate['perplexity_en']} en, {gate['perplexity_zh']} zh; template {gate['chat_template']}"
    )
