"""Quality of a level: the figures against slow ones in float64, and files that cannot be compared."""

from __future__ import annotations

import errno
import math
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from importlib.resources import files
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert.errors import EdgeError, OutputError
from convert.pipeline import convert
from edge import machine
from edge.bench import quality
from edge.bench.quality import DISK_LEFT, QUALITY_TOKENS, measure_quality, reference_level, tokens_that_fit
from edge.bench.quality_child import append, divergence, row_of
from edge.gate_checks import bundled_text, check_perplexity
from edge.llama.batch import Batch
from edge.llama.context import Context
from edge.llama.model import Model
from edge.reference import EMBEDDED
from tests.edge import tiny_gguf

LEVELS = ("BF16", "Q8_0", "Q4_0", "Q2_K")
Made = Mapping[str, Mapping[str, Path]]
Progress = list[tuple[str, int, int]]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The embedded models: name -> level -> file."""
    folder = tmp_path_factory.mktemp("quality")
    found = {name: {level: folder / f"{name}-{level}.gguf" for level in LEVELS} for name in EMBEDDED}
    for name, paths in found.items():
        convert(Path(str(files("edge.models") / name)), paths)
    return found


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def measured(made: Made, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[dict[str, Any], Progress]]:
    """Both models at every level, each measured once."""
    return {name: measure(made[name], "BF16", tmp_path_factory.mktemp("scratch")) for name in EMBEDDED}


def measure(paths: Mapping[str, Path], reference: str, scratch: Path) -> tuple[dict[str, Any], Progress]:
    """The result and what was told of the progress. Checks that nothing is left in ``scratch``."""
    told: Progress = []
    try:
        found = measure_quality(
            paths, reference, scratch, threads=1, flash_attn=False, on_progress=lambda *step: told.append(step)
        )
    finally:
        assert list(scratch.iterdir()) == []
    return found, told


def refusal(paths: Mapping[str, Path], scratch: Path) -> EdgeError:
    with pytest.raises(EdgeError) as caught:
        measure(paths, next(iter(paths)), scratch)
    assert caught.value.message and "\n" not in str(caught.value) and "Traceback" not in str(caught.value)
    return caught.value


# --- the figures


@pytest.mark.parametrize("name", EMBEDDED)
def test_coarser_levels_are_further_from_the_reference(name: str, measured: dict[str, Any]) -> None:
    found = measured[name][0]
    assert list(found) == list(LEVELS)
    for key in ("kl", "kl_en", "kl_zh"):
        assert 0 < found["Q8_0"][key] < found["Q4_0"][key] < found["Q2_K"][key]
    assert 1 > found["Q8_0"]["top1"] > found["Q4_0"]["top1"] > found["Q2_K"]["top1"] > 0.1
    for level in LEVELS[1:]:
        one = found[level]
        assert 0 < one["kl_error"] < one["kl"] and 0 < one["top1_error"] < 0.05
        assert min(one["kl_en"], one["kl_zh"]) < one["kl"] < max(one["kl_en"], one["kl_zh"])
        assert one["reference"] == "BF16" and one["tokens"] == found["BF16"]["tokens"]


@pytest.mark.parametrize("name", EMBEDDED)
def test_the_reference_is_compared_with_itself(name: str, measured: dict[str, Any]) -> None:
    own = measured[name][0]["BF16"]
    assert (own["kl"], own["kl_en"], own["kl_zh"], own["kl_error"]) == (0, 0, 0, 0)
    assert (own["top1"], own["top1_error"], own["reference"]) == (1, 0, "BF16")


def test_a_file_against_itself_is_exactly_zero(made: Made, scratch: Path) -> None:
    path = made["tiny-qwen"]["Q4_0"]
    found, _ = measure({"Q8_0": path, "Q4_0": path}, "Q8_0", scratch)
    assert found["Q4_0"] == found["Q8_0"]
    assert (found["Q4_0"]["kl"], found["Q4_0"]["kl_error"], found["Q4_0"]["top1"]) == (0, 0, 1)


@pytest.mark.parametrize("name", EMBEDDED)
@pytest.mark.parametrize("level", ["BF16", "Q2_K"])
def test_perplexity_is_the_gates(name: str, level: str, made: Made, measured: dict[str, Any]) -> None:
    with (
        Model(made[name][level]) as model,
        Context(model, QUALITY_TOKENS, n_outputs_max=QUALITY_TOKENS, threads=1, flash_attn=False) as context,
    ):
        for language in ("en", "zh"):
            want = check_perplexity(model, context, language, QUALITY_TOKENS)
            assert measured[name][0][level][f"perplexity_{language}"] == pytest.approx(want, rel=1e-3)


def slow_rows(path: Path) -> tuple[np.ndarray, list[int]]:
    """Log-probabilities of every row of both texts, in float64 and one token a step, and the texts' lengths."""
    rows, lengths = [], []
    with (
        Model(path) as model,
        Context(model, QUALITY_TOKENS, threads=1, flash_attn=False) as context,
        Batch(1) as batch,
    ):
        for language in ("en", "zh"):
            tokens = model.tokenize(bundled_text(language))[:QUALITY_TOKENS]
            lengths.append(len(tokens))
            context.memory_clear()
            for position, token in enumerate(tokens[:-1]):
                batch.clear()
                batch.add(token, position, want_logits=True)
                context.decode(batch)
                rows.append(slow_log_softmax(context.logits(0)))
    return np.array(rows), lengths


def slow_log_softmax(logits: np.ndarray) -> np.ndarray:
    wide = logits.astype(np.float64)
    return wide - wide.max() - math.log(np.exp(wide - wide.max()).sum())


def test_figures_are_those_of_float64(made: Made, measured: dict[str, Any]) -> None:
    """The formulas as they are written, from a pass of their own. One token a step rounds otherwise than 64 do."""
    (want, lengths), (got, _) = (slow_rows(made["tiny-qwen"][level]) for level in ("BF16", "Q2_K"))
    kl = (np.exp(want) * (want - got)).sum(axis=1)
    same = want.argmax(axis=1) == got.argmax(axis=1)
    n, found = len(kl), measured["tiny-qwen"][0]["Q2_K"]
    assert n == found["tokens"] == sum(lengths) - 2
    assert found["kl"] == pytest.approx(kl.mean(), rel=0.01)
    assert found["kl_en"] == pytest.approx(kl[: lengths[0] - 1].mean(), rel=0.01)
    assert found["kl_zh"] == pytest.approx(kl[lengths[0] - 1 :].mean(), rel=0.01)
    assert found["kl_error"] == pytest.approx(math.sqrt(((kl - kl.mean()) ** 2).sum() / (n - 1) / n), rel=0.02)
    assert found["top1"] == pytest.approx(same.mean(), abs=0.005)
    assert found["top1_error"] == pytest.approx(math.sqrt(same.mean() * (1 - same.mean()) / (n - 1)), rel=0.02)


@pytest.mark.parametrize("size", [300, 151_936])
@pytest.mark.parametrize("spread", [0.1, 1, 8])
def test_a_row_is_as_exact_as_promised(size: int, spread: float) -> None:
    """Log-probabilities rounded to float32 were all off by the same, and the divergence with them by 8e-7."""
    rng = np.random.default_rng(0)
    for _ in range(5):
        one = (10 + spread * rng.standard_normal(size)).astype(np.float32)
        other = one + (3 + 0.1 * rng.standard_normal(size)).astype(np.float32)
        wide, wide_other = slow_log_softmax(one), slow_log_softmax(other)
        want = (np.exp(wide) * (wide - wide_other)).sum()
        assert want > 1e-4 and abs(divergence(row_of(one), row_of(other)) - want) < 1e-7
        assert divergence(row_of(one), row_of(one.copy())) == 0
        assert row_of(one).loss(7) == pytest.approx(-wide[7], abs=1e-7)
        assert row_of(one).best == one.argmax()


def test_rounding_below_zero_is_zero_and_more_is_not_hidden() -> None:
    assert [quality.without_rounding(kl) for kl in (-1e-10, -1e-6, 0.0, 1e-10)] == [0, -1e-6, 0, 1e-10]


def test_the_reference_level_is_the_finest(scratch: Path) -> None:
    assert reference_level(["Q4_0", "Q8_0", "Q4_K_M"]) == "Q8_0"
    assert reference_level(["mine", "Q2_K"]) == "Q2_K"
    with pytest.raises(ValueError, match="F16 is not among Q8_0"):
        measure({"Q8_0": Path("x.gguf")}, "F16", scratch)


# --- on the way


def test_progress_of_each_level(measured: dict[str, Any]) -> None:
    """The reference first; rows from none to all, often enough to tell a rate."""
    found, told = measured["tiny-qwen"]
    assert [level for level, done, _ in told if done == 0] == ["BF16", *LEVELS[1:]]
    for level in LEVELS:
        done = [step[1] for step in told if step[0] == level]
        assert done == sorted(done) and done[-1] == found[level]["tokens"] and len(done) > 10
    assert {of for _, _, of in told} == {found["BF16"]["tokens"]}


def test_a_small_disk_means_fewer_tokens() -> None:
    each = 2 * 4 * 151_936  # bytes of a token of both texts
    assert tokens_that_fit(None, 151_936) == tokens_that_fit(10**12, 151_936) == QUALITY_TOKENS
    assert tokens_that_fit(DISK_LEFT + 100 * each, 151_936) == 100
    assert tokens_that_fit(DISK_LEFT + 64 * each, 151_936) == 64
    with pytest.raises(EdgeError, match=r"needs 0\.6 GB of free disk, there are 0\.6 GB"):
        tokens_that_fit(DISK_LEFT + 64 * each - 1, 151_936)


def test_the_free_disk_is_asked_for(tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tiny_gguf.write(tmp_path / "tiny.gguf")
    monkeypatch.setattr(machine, "disk_free", lambda _: DISK_LEFT + 100 * 2 * 4 * tiny_gguf.N_VOCAB)
    found, _ = measure({"Q8_0": path}, "Q8_0", scratch)
    assert found["Q8_0"]["tokens"] == 2 * 99
    monkeypatch.setattr(machine, "disk_free", lambda _: DISK_LEFT)
    assert "tiny.gguf: comparing levels needs" in refusal({"Q8_0": path}, scratch).message


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux's way to have a full disk")
def test_a_disk_that_fills_up_meanwhile() -> None:
    """The file was buffered: closing it tried again, and that error, not this one, came out of the ``with``."""
    with (
        pytest.raises(OutputError, match=os.strerror(errno.ENOSPC)),
        Path("/dev/full").open("wb", buffering=0) as file,
    ):
        append(file, np.zeros(5, np.float32))


def test_what_is_written_in_parts_is_whole(tmp_path: Path) -> None:
    class Slow(FileIO):
        def write(self, data: Any, /) -> int:
            return super().write(data[:7])

    row = np.arange(5, dtype=np.float32)
    with Slow(tmp_path / "rows", "w") as file:
        append(file, row)
        append(file, row)
    assert np.fromfile(tmp_path / "rows", np.float32).tolist() == [*row, *row]


# --- files that cannot be compared


def test_a_damaged_file(made: Made, tmp_path: Path, scratch: Path) -> None:
    good, cut = made["tiny-qwen"]["Q8_0"], tmp_path / "cut.gguf"
    cut.write_bytes(good.read_bytes()[:-5000])
    for paths in ({"Q8_0": cut}, {"Q8_0": good, "Q4_0": cut}):
        error = refusal(paths, scratch)
        assert error.message.startswith("cut.gguf: the file ends inside the data of tensor") and error.hint


def test_another_vocabulary(made: Made, tmp_path: Path, scratch: Path) -> None:
    other = tiny_gguf.write(tmp_path / "other.gguf")
    error = refusal({"Q8_0": made["tiny-qwen"]["Q8_0"], "Q4_0": other}, scratch)
    assert error.message.startswith("other.gguf has 300 tokens, its reference ")
    assert error.hint == "compare files that were made from one checkpoint"


def test_a_vocabulary_of_the_same_size(tmp_path: Path, scratch: Path) -> None:
    one = tiny_gguf.write(tmp_path / "one.gguf")
    other = tiny_gguf.write(tmp_path / "other.gguf", {"tokenizer.ggml.merges": tiny_gguf.MERGES[:1]})
    assert "other.gguf cuts the en text into other tokens" in refusal({"F32": one, "Q8_0": other}, scratch).message


def test_logits_that_are_no_numbers(tmp_path: Path, scratch: Path) -> None:
    """The embedding of a token that only the Chinese text has is infinite. All rows of its batch feel it, for the mask
    of attention multiplies with zero; those before do not."""
    one = tiny_gguf.write(tmp_path / "one.gguf")
    with Model(one, vocab_only=True) as model:
        english, chinese = (model.tokenize(bundled_text(language))[:QUALITY_TOKENS] for language in ("en", "zh"))
    token = next(token for token in chinese[70:] if token not in english and token not in chinese[:64])
    weights = tiny_gguf.tensors()
    weights["output.weight"] = weights["token_embd.weight"].copy()
    weights["token_embd.weight"][token] = np.inf
    spoilt = tiny_gguf.write(tmp_path / "spoilt.gguf", weights=weights)
    error = refusal({"F32": one, "Q8_0": spoilt}, scratch)
    told = re.fullmatch(r"spoilt\.gguf: logits after token (\d+) of the zh text are not finite", error.message)
    place = chinese.index(token)
    assert told and place - 63 <= int(told[1]) <= place


# --- children that end badly, and parents


def script(folder: Path, monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    """Put a shell script in the child's place."""
    path = folder / "child.sh"
    path.write_text("\n".join(("#!/bin/sh", *lines, "")))
    path.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(path))


@pytest.mark.skipif(os.name == "nt", reason="no signals there")
def test_a_crash_is_an_error_of_one_line(tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path, monkeypatch, "echo '{\"progress\": [64, 128]}'", "kill -SEGV $$")
    message = refusal({"Q8_0": Path("x.gguf")}, scratch).message
    assert message == "x.gguf: measuring its quality ended badly: llama.cpp crashed (SIGSEGV)"


@pytest.mark.skipif(os.name == "nt", reason="no shell there")
def test_a_child_that_says_nothing_or_too_much(tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More on stderr than a pipe holds must not stop it."""
    script(tmp_path, monkeypatch, "head -c 300000 /dev/zero | tr '\\0' 'x' >&2", "echo >&2", "echo why >&2", "exit 1")
    message = refusal({"Q8_0": Path("x.gguf")}, scratch).message
    assert message == "x.gguf: measuring its quality ended badly: exit code 1 why"


@pytest.mark.skipif(os.name == "nt", reason="no signals there")
def test_an_interrupt_ends_the_child(tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path, monkeypatch, "echo '{\"progress\": [0, 128]}'", "exec sleep 600")
    children: list[subprocess.Popen[bytes]] = []

    class Recorded(subprocess.Popen):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            children.append(self)

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", Recorded)
    with pytest.raises(KeyboardInterrupt):
        measure_quality({"Q8_0": Path("x.gguf")}, "Q8_0", scratch, threads=1, flash_attn=False, on_progress=interrupt)
    assert [child.returncode for child in children] == [-signal.SIGKILL]
    assert list(scratch.iterdir()) == []
