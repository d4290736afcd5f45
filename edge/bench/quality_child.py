"""Reads the bundled texts with one model file, in a process of its own.

``python -m edge.bench.quality_child reference GGUF FOLDER SETTINGS`` keeps the logits in FOLDER;
``python -m edge.bench.quality_child level GGUF FOLDER SETTINGS`` compares with what was kept there. Prints JSON lines:
``{"progress": [rows, of]}``, and last ``{"found": {...}}`` or ``{"failed": why, "hint": what to do}``.

A row of the vocabulary at a time: its 600 kB stay in the processor's cache, where the same work on a whole batch
takes almost twice as long.

Precision: logits are kept as llama.cpp gives them, in float32, and never rounded again. Log-probabilities in float32
would be: logits lie on a grid, so that all of a row would be off by the same, and the divergence of the row by up to
1e-6. Exponentials and products are float32, sums and normalizers float64; a row's divergence is right to 1e-7.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from convert.errors import EdgeError, OutputError
from edge.bench.quality import LANGUAGES, summary, tokens_that_fit
from edge.gate_checks import bundled_text, say
from edge.llama.batch import Batch
from edge.llama.context import Context
from edge.llama.model import Model

ROWS = 64  # of a batch
ONE_CHECKPOINT = "compare files that were made from one checkpoint"


@dataclass(frozen=True)
class Kept:
    """What the reference leaves in FOLDER: this, and beside it the logits of all rows, float32 [rows, n_vocab]."""

    n_vocab: int
    tokens: dict[str, list[int]]  # by language

    @property
    def rows(self) -> int:
        return sum(len(tokens) - 1 for tokens in self.tokens.values())


def tokens_path(folder: Path) -> Path:
    return folder / "tokens.json"


def logits_path(folder: Path) -> Path:
    return folder / "logits.f32"


# --- one row


@dataclass(frozen=True)
class Row:
    """Logits of one position, float32 [n_vocab], and their softmax: ``weights`` = exp(logits - the largest of them),
    float32 [n_vocab], divided by ``total``. ``normalizer`` = log of the sum of exp(logits)."""

    logits: np.ndarray
    best: int
    weights: np.ndarray
    total: float
    normalizer: float

    def loss(self, token: int) -> float:
        """Negative log-likelihood of ``token``, in nats."""
        return self.normalizer - float(self.logits[token])


def row_of(logits: np.ndarray) -> Row:
    best = int(logits.argmax())
    weights = np.exp(logits - logits[best])
    total = float(weights.sum(dtype=np.float64))
    return Row(logits, best, weights, total, float(logits[best]) + math.log(total))


def divergence(reference: Row, level: Row) -> float:
    """KL(reference || level) = sum of p_ref (log p_ref - log p_level), in nats."""
    terms = reference.logits - level.logits
    terms *= reference.weights
    return float(terms.sum(dtype=np.float64)) / reference.total - (reference.normalizer - level.normalizer)


def text_rows(context: Context, language: str, tokens: list[int]) -> Iterator[Row]:
    """The row after each of ``tokens`` but the last; its logits are valid until the next is asked for.

    Raises EdgeError.
    """
    context.memory_clear()
    last = len(tokens) - 1
    with Batch(ROWS) as batch:
        for start in range(0, last, ROWS):
            batch.clear()
            for position in range(start, min(start + ROWS, last)):
                batch.add(tokens[position], position, want_logits=True)
            context.decode(batch)
            for row in range(len(batch)):
                logits = context.logits(row)
                if not np.isfinite(logits).all():
                    raise EdgeError(
                        f"{context.model.path.name}: logits after token {start + row} of the {language} text "
                        "are not finite",
                        "convert the model again",
                    )
                yield row_of(logits)


# --- one file


def read_texts(context: Context, kept: Kept, compare: Callable[[int, Row], tuple[float, bool]]) -> dict[str, float]:
    """Run both texts. ``compare`` gets each row with its number, and tells its divergence from the reference and
    whether its best token is the same."""
    losses: dict[str, list[float]] = {language: [] for language in kept.tokens}
    divergences: dict[str, list[float]] = {language: [] for language in kept.tokens}
    same: list[bool] = []
    say({"progress": [0, kept.rows]})
    for language, tokens in kept.tokens.items():
        for target, row in zip(tokens[1:], text_rows(context, language, tokens), strict=True):
            kl, is_same = compare(len(same), row)
            losses[language].append(row.loss(target))
            divergences[language].append(kl)
            same.append(is_same)
            if len(same) % ROWS == 0 or len(same) == kept.rows:
                say({"progress": [len(same), kept.rows]})
    return summary(losses, divergences, same)


def measure_reference(model: Model, folder: Path, settings: dict[str, Any]) -> dict[str, float]:
    """Keeps every row in ``folder``. Raises EdgeError."""
    most = tokens_that_fit(settings["free"], model.n_vocab)
    kept = Kept(model.n_vocab, {language: model.tokenize(bundled_text(language))[:most] for language in LANGUAGES})
    tokens_path(folder).write_text(json.dumps([kept.n_vocab, kept.tokens]), encoding="utf-8")
    with new_context(model, kept, settings) as context, logits_path(folder).open("wb", buffering=0) as file:

        def keep(_: int, row: Row) -> tuple[float, bool]:
            append(file, row.logits)
            return 0.0, True

        return read_texts(context, kept, keep)


def append(file: FileIO, logits: np.ndarray) -> None:
    """Written, not mapped: a full disk is an error here, and would end a process that has mapped the file."""
    left = logits.data.cast("B")
    try:
        while left:
            left = left[file.write(left) :]
    except OSError as error:
        raise OutputError(f"cannot write {file.name}: {error.strerror or error}", "free some disk space") from error


def measure_level(model: Model, folder: Path, settings: dict[str, Any]) -> dict[str, float]:
    """Compares every row with the one kept in ``folder``. Raises EdgeError."""
    kept = Kept(*json.loads(tokens_path(folder).read_text(encoding="utf-8")))
    check_same_tokens(model, kept)
    logits = np.memmap(logits_path(folder), np.float32, "r", shape=(kept.rows, kept.n_vocab))

    def compare(number: int, row: Row) -> tuple[float, bool]:
        reference = row_of(logits[number])
        return divergence(reference, row), reference.best == row.best

    with new_context(model, kept, settings) as context:
        return read_texts(context, kept, compare)


def check_same_tokens(model: Model, kept: Kept) -> None:
    """Raises EdgeError where rows of the two files would not be about the same tokens."""
    name = model.path.name
    if model.n_vocab != kept.n_vocab:
        raise EdgeError(f"{name} has {model.n_vocab} tokens, its reference {kept.n_vocab}", ONE_CHECKPOINT)
    for language, tokens in kept.tokens.items():
        if model.tokenize(bundled_text(language))[: len(tokens)] != tokens:
            raise EdgeError(f"{name} cuts the {language} text into other tokens than its reference", ONE_CHECKPOINT)


def new_context(model: Model, kept: Kept, settings: dict[str, Any]) -> Context:
    return Context(
        model,
        max(map(len, kept.tokens.values())),
        n_batch=ROWS,
        n_ubatch=ROWS,
        n_outputs_max=ROWS,
        threads=settings["threads"],
        threads_batch=settings["threads"],
        flash_attn=settings["flash_attn"],
        kv_type=settings["kv_type"],
    )


def main() -> int:
    mode, path, folder, settings = sys.argv[1:]
    measure = {"reference": measure_reference, "level": measure_level}[mode]
    try:
        chosen = json.loads(settings)
        with Model(path, gpu_layers=chosen["gpu_layers"]) as model:
            found = measure(model, Path(folder), chosen)
    except EdgeError as error:
        say({"failed": error.message, "hint": error.hint})
        return 1
    say({"found": found})
    return 0


if __name__ == "__main__":
    sys.exit(main())
