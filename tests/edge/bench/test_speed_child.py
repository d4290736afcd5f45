"""What one file's measurement finds, on the embedded tiny model and on small hybrids. Rates are only checked to be
possible and to agree with one another: how fast this machine is just now is no test's business."""

from __future__ import annotations

import json
import math
import sys
import threading
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest

from convert import gguf_file
from convert.errors import EdgeError
from edge.bench import speed_child
from edge.bench.speed import PROMPT, Options, knee, longest
from edge.bench.speed_child import Bench, alone, measure, widths_that_fit
from edge.cost import kv_bytes_per_token
from edge.engine.types import Timings
from edge.llama.context import Context, cells_for
from edge.report.metrics import parse_name
from edge.shapes import from_gguf
from tests.edge import tiny_gguf
from tests.edge.bench.conftest import Hybrid

RATES = ("pp512", "tg128", "decode", "ttft")
Messages = list[dict[str, Any]]


def options(**more: Any) -> Options:
    return replace(Options(1, 1, False, depths=(0, 64), widths=(1, 2)), **more)


@pytest.fixture(scope="module")
def measured(tiny: Mapping[str, Path]) -> tuple[dict[str, Any], Messages]:
    """What was found, and what was said on the way, as it was at that time."""
    said: Messages = []
    found = measure(tiny["Q4_0"], options(repeats=2), lambda message: said.append(json.loads(json.dumps(message))))
    return found, said


def check_figures(found: dict[str, Any], depths: tuple[int, ...], widths: tuple[int, ...]) -> None:
    names = [f"{name}@{depth}" if depth else name for name in RATES for depth in depths]
    for name in (*names, "load", "peak_memory"):
        assert math.isfinite(found[name]) and found[name] > 0, name
    assert set(found["spread"]) == set(names)
    assert all(low <= found[name] <= high for name, (low, high) in found["spread"].items())
    assert list(found["widths"]) == [str(depth) for depth in depths]
    for depth in depths:
        rates = found["widths"][str(depth)]
        assert list(rates) == [str(width) for width in widths]
        assert all(math.isfinite(rate) and rate > 0 for rate in rates.values())
        if len(widths) > 1:
            assert found[f"knee@{depth}" if depth else "knee"] == knee({int(k): rate for k, rate in rates.items()})
    known = {*names, "load", "peak_memory", "spread", "widths", *(name for name in found if name.startswith("knee"))}
    assert set(found) == known, "nothing but what was asked for"
    assert all(parse_name(name) for name in set(found) - {"spread", "widths"})


def test_everything_that_was_asked_for(measured: tuple[dict[str, Any], Messages]) -> None:
    found, _ = measured
    check_figures(found, (0, 64), (1, 2))
    for name, (low, high) in found["spread"].items():
        assert found[name] == pytest.approx(median([low, high])), "of two, the median is the middle"
    assert found["peak_memory"] > 1_000_000


def test_what_is_known_comes_early_and_nothing_is_lost(measured: tuple[dict[str, Any], Messages]) -> None:
    found, said = measured
    known = [message["so_far"] for message in said if "so_far" in message]
    assert set(known[0]) == {"load", "peak_memory", "spread", "widths"}
    for before, after in pairwise(known):
        assert set(before) <= set(after)
    assert known[-1] == json.loads(json.dumps(found))
    assert any("pp512" in one and "pp512@64" not in one for one in known)


def test_progress_reaches_its_end(measured: tuple[dict[str, Any], Messages]) -> None:
    _, said = measured
    steps = [message["progress"] for message in said if "progress" in message]
    done, of = [step[0] for step in steps], {step[1] for step in steps}
    assert done == sorted(done) and len(set(done)) > 8
    assert of == {done[-1]}
    assert all(set(message) in ({"progress"}, {"so_far"}) for message in said)


@pytest.mark.parametrize("kind", ["plain", "qwen35", "qwen3next"])
def test_only_what_comes_behind_the_prefix_is_computed(
    kind: str, tiny: Mapping[str, Path], hybrid: Hybrid, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hybrid's cache cannot be cut back to the prefix: it is put back."""
    seen: list[Timings] = []
    answer = Bench.answer

    def spied(self: Bench, *arguments: Any, **more: Any) -> Timings:
        seen.append(answer(self, *arguments, **more))
        return seen[-1]

    monkeypatch.setattr(Bench, "answer", spied)
    path = tiny["Q8_0"] if kind == "plain" else hybrid(kind)
    found = measure(path, options(depths=(0, 70), repeats=1), lambda _: None)
    check_figures(found, (0, 70), (1, 2))
    got = [(one.prompt_tokens, one.cached_tokens, one.generated_tokens) for one in seen]
    assert got == [(512, 0, 4), (512, 0, 1), (1, 0, 129), (582, 70, 4), (582, 70, 1), (71, 70, 129)]
    assert [found["ttft"], found["ttft@70"]] == [seen[1].first_token, seen[4].first_token]
    assert [found["decode"], found["decode@70"]] == [seen[2].decode_rate, seen[5].decode_rate]


def test_more_sequences_than_rows(tiny: Mapping[str, Path]) -> None:
    """edge tune may find 64 rows a batch the quickest; a step of more sequences was refused then."""
    found = measure(tiny["Q4_0"], options(depths=(0,), widths=(1, 33), repeats=1, rows=32), lambda _: None)
    check_figures(found, (0,), (1, 33))


def test_one_sequence_has_no_knee(tiny: Mapping[str, Path]) -> None:
    found = measure(tiny["Q4_0"], options(depths=(0,), widths=(1,), repeats=1), lambda _: None)
    check_figures(found, (0,), (1,))
    assert "knee" not in found


def test_settings_reach_the_context(tiny: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, Any]] = []

    class Spy(Context):
        def __init__(self, model: Any, n_ctx: int, **settings: Any) -> None:
            made.append({"n_ctx": n_ctx, **settings})
            super().__init__(model, n_ctx, **settings)

    monkeypatch.setattr(speed_child, "Context", Spy)
    monkeypatch.setattr(Bench, "raw", lambda *_: None)
    monkeypatch.setattr(Bench, "through_engine", lambda *_: None)
    chosen = options(
        threads=2, threads_batch=1, flash_attn=True, rows=128, kv_type="q8_0", depths=(0, 64), widths=(1, 3), repeats=1
    )
    measure(tiny["Q4_0"], chosen, lambda _: None)
    first, *others = made
    same = {"n_batch": 128, "n_ubatch": 128, "threads": 2, "threads_batch": 1, "flash_attn": True, "kv_type": "q8_0"}
    assert first == {"n_ctx": cells_for(4096), "n_seq_max": 1} | same
    assert others == [{"n_ctx": 3 * cells_for(longest(depth)), "n_seq_max": 3} | same for depth in (0, 64)]


def test_a_sustained_run(tiny: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed_child, "SLICE", 0.02)
    monkeypatch.setattr(speed_child.gauges, "clock", lambda: 2.5e9)
    monkeypatch.setattr(speed_child.gauges, "temperature", lambda: None)
    said: Messages = []
    minutes = 0.1 / 60
    found = measure(tiny["Q4_0"], options(depths=(0,), widths=(1,), repeats=1, minutes=minutes), said.append)
    points = found["sustained"]
    seconds = [point["seconds"] for point in points]
    assert 1 <= len(points) <= 6 and seconds == sorted(seconds) and seconds[-1] >= 0.1
    assert all(point["tg"] > 0 and (point["clock"], point["temperature"]) == (2.5e9, None) for point in points)
    assert found["sustained"] == said[-1]["so_far"]["sustained"]


# --- what fits


@pytest.mark.parametrize("kind", ["plain", "qwen35"])
def test_widths_that_there_is_memory_for(kind: str, tiny: Mapping[str, Path], hybrid: Hybrid) -> None:
    """Each sequence of a hybrid has a state of its own beside its cells."""
    shape = from_gguf(gguf_file.read(tiny["Q8_0"] if kind == "plain" else hybrid(kind)))
    assert (shape.state_bytes > 0) == (kind == "qwen35")
    chosen = options(widths=(1, 2, 4, 8))
    each = cells_for(longest(64)) * kv_bytes_per_token(shape) + shape.state_bytes
    for room, widths in (
        (8 * each, [1, 2, 4, 8]),
        (8 * each - 1, [1, 2, 4]),
        (4 * each, [1, 2, 4]),
        (2 * each, [1, 2]),
        (2 * each - 1, [1]),
        (0, [1]),
    ):
        assert widths_that_fit(shape, chosen, 64, room) == widths
    assert widths_that_fit(shape, chosen, 0, 8 * each) == [1, 2, 4, 8]
    assert widths_that_fit(shape, chosen, 4096, 8 * each) == [1]
    smaller = options(widths=(1, 8), kv_type="q4_0")
    assert widths_that_fit(shape, smaller, 64, 5 * each) == [1, 8]


def test_what_does_not_fit_is_left_out_of_the_progress(
    tiny: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ended at a third where memory was short."""
    monkeypatch.setattr(speed_child, "KV_SHARE", 0.0)
    said: Messages = []
    found = measure(tiny["Q4_0"], options(widths=(1, 2, 4), depths=(0,), repeats=1), said.append)
    check_figures(found, (0,), (1,))
    last = [message["progress"] for message in said if "progress" in message][-1]
    assert last[0] == last[1] > PROMPT


# --- threads, and the process


def test_work_is_done_in_a_thread_that_ends() -> None:
    before = threading.active_count()
    assert alone(threading.get_ident) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        alone(lambda: 1 / 0)
    assert threading.active_count() == before


def said_by_main(
    path: Path, chosen: Options, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, dict[str, Any]]:
    monkeypatch.setattr(sys, "argv", ["speed_child", str(path), json.dumps(chosen.to_json())])
    code = speed_child.main()
    return code, json.loads(capsys.readouterr().out.splitlines()[-1])


def test_the_last_line_is_what_was_found(
    tiny: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = options(depths=(0,), widths=(1,), repeats=1)
    code, last = said_by_main(tiny["Q4_0"], chosen, monkeypatch, capsys)
    assert code == 0 and list(last) == ["found"]
    check_figures(last["found"], (0,), (1,))


@pytest.mark.parametrize("damage", ["cut", "not numbers", "no context"])
def test_a_failure_is_told(
    damage: str,
    tiny: Mapping[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, kv_type = tmp_path / "x.gguf", "f16"
    if damage == "cut":
        path.write_bytes(tiny["Q4_0"].read_bytes()[:-5000])
        says = "x.gguf: the file ends inside"
    elif damage == "not numbers":
        weights = tiny_gguf.tensors()
        weights["output_norm.weight"][:] = np.nan
        tiny_gguf.write(path, weights=weights)
        says = "x.gguf is broken: it computes values that are not numbers"
    else:
        tiny_gguf.write(path)
        kv_type = "q8_0"  # whose blocks of 32 do not fit heads of 16
        says = "llama.cpp cannot make a context of"
    chosen = options(depths=(0,), widths=(1,), repeats=1, kv_type=kv_type, flash_attn=None)
    code, last = said_by_main(path, chosen, monkeypatch, capsys)
    assert code == 1 and set(last) == {"failed", "hint"}
    assert last["failed"].startswith(says) and last["hint"]


def test_other_exceptions_are_not_hidden(tiny: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The parent shows their last line."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Bench, "at_depth", fail)
    with pytest.raises(ZeroDivisionError):
        measure(tiny["Q4_0"], options(), lambda _: None)
    assert not issubclass(ZeroDivisionError, EdgeError)
