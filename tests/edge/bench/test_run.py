"""How a result is put together. What is measured, and by whom, is replaced: speed, quality and the machine's limits."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import edge
from convert import gguf_file
from convert.errors import EdgeError
from convert.gguf_file import GgufError
from edge.bench import run
from edge.bench.limits import MachineLimits
from edge.bench.run import bench, listener
from edge.bench.speed import Options, from_json
from edge.cost import prompt_flops_per_token, read_per_token
from edge.report.html import html_report
from edge.report.metrics import depths, levels
from edge.report.tables import csv_text, speed_grid
from edge.shapes import file_tensors, from_gguf

FIGURES = {"pp512": 100.0, "tg128": 20.0, "load": 0.5, "peak_memory": 10**8, "spread": {}, "widths": {"0": {"1": 20.0}}}
Progress = list[tuple[dict[str, Any], str, int, int]]


class Fake:
    """In place of everything that takes time. ``asked``: the options each level was measured with."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: dict[str, Options] = {}
        self.limits: list[int] = []
        self.quality: list[tuple[Any, ...]] = []
        self.told: Progress = []
        self.fails_at: str | None = None
        monkeypatch.setattr(run, "run_child", self.run_child)
        monkeypatch.setattr(run, "machine_limits", self.machine_limits)
        monkeypatch.setattr(run, "measure_quality", self.measure_quality)

    def machine_limits(self, threads: int) -> MachineLimits:
        self.limits.append(threads)
        return MachineLimits(threads, 10e9, 100e9)

    def run_child(
        self, module: str, arguments: list[str], doing: str, on_message: Callable[[dict[str, Any]], None]
    ) -> dict[str, Any]:
        path = Path(arguments[0])
        assert module == "edge.bench.speed_child" and doing == f"{path.name}: measuring its speed"
        self.asked[path.name] = from_json(json.loads(arguments[1]))
        for message in ({"so_far": {"load": 0.5}}, {"progress": [1, 2]}, {"so_far": {"pp512": 99.0}}):
            on_message(message)
        if path.name == self.fails_at:
            raise EdgeError(f"{doing} ended badly", "try again")
        on_message({"progress": [2, 2]})
        on_message({"found": FIGURES})
        return dict(FIGURES)

    def measure_quality(
        self, files: Mapping[str, Path], reference: str, scratch: Path, *, on_progress: Any, **settings: Any
    ) -> dict[str, Any]:
        self.quality.append((dict(files), reference, scratch, settings))
        on_progress("Q4_0", 64, 128)
        return {level: {"reference": reference, "kl": 0.0 if level == reference else 0.1} for level in files}

    def on_progress(self, result: dict[str, Any], what: str, done: int, of: int) -> None:
        self.told.append((json.loads(json.dumps(result)), what, done, of))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    return Fake(monkeypatch)


OPTIONS = {
    "Q8_0": Options(1, 2, False, 512, "q8_0", depths=(0, 64), widths=(1, 2), repeats=1, tuned=True),
    "Q4_0": Options(3, 1, None, 256, "q8_0", depths=(0, 64), widths=(1, 2), repeats=1),
}


def test_a_result(fake: Fake, tiny: Mapping[str, Path], tmp_path: Path) -> None:
    expected = {"Q4_0": {"pp512": 90.0}}
    result = bench("tiny", tiny, OPTIONS, scratch=tmp_path, expected=expected, on_progress=fake.on_progress)
    assert (result["edge"], result["model"]) == (edge.__version__, "tiny")
    assert result["settings"] == {
        "kv_type": "q8_0",
        "repeats": 1,
        "depths": (0, 64),
        "widths": (1, 2),
        "gpu_layers": 0,
        "tuned": False,
    }
    assert result["machine"]["bandwidth"] == 10e9 and result["machine"]["flops"] == 100e9
    assert {"cpu", "arch", "os", "physical", "logical", "usable", "memory", "library"} <= result["machine"].keys()
    assert [level["level"] for level in result["levels"]] == ["Q8_0", "Q4_0"]
    fine, coarse = result["levels"]
    for level, path in zip(result["levels"], tiny.values(), strict=True):
        file = gguf_file.read(path)
        assert (level["file"], level["bytes"]) == (path.name, path.stat().st_size)
        assert level["weights"] == file.n_params
        assert level["bits_per_weight"] == pytest.approx(file.bits_per_weight, abs=1e-4)
        assert FIGURES.items() <= level.items() and level["reference"] == "Q8_0"
        shape, tensors = from_gguf(file), file_tensors(file)
        assert level["bandwidth_share"] == pytest.approx(20.0 * sum(read_per_token(tensors, shape).values()) / 10e9)
        assert level["flops_share"] == pytest.approx(100.0 * prompt_flops_per_token(tensors, shape) / 100e9)
    assert [fine[key] for key in run.OWN_SETTINGS] == [1, 2, False, 512, True]
    assert [coarse[key] for key in run.OWN_SETTINGS] == [3, 1, None, 256, False]
    assert "expected" not in fine and coarse["expected"] == {"pp512": 90.0}
    assert fake.asked == {path.name: OPTIONS[level] for level, path in tiny.items()}
    assert fake.limits == [3], "as many threads as any level has"
    ((files, reference, scratch, settings),) = fake.quality
    assert (files, reference, scratch) == (dict(tiny), "Q8_0", tmp_path)
    assert settings["threads"] == 2 and settings["flash_attn"] is False


def test_who_reads_a_result_understands_it(fake: Fake, tiny: Mapping[str, Path], tmp_path: Path) -> None:
    result = bench("tiny", tiny, OPTIONS, scratch=tmp_path)
    assert json.loads(json.dumps(result)).keys() == result.keys()
    assert depths(result) == [0, 64] and len(levels(result)) == 2
    assert len(speed_grid(result).rows) == 4
    assert "tiny" in html_report(result, "en") and csv_text(result).count("\r\n") == 3


def test_progress_goes_on_while_figures_come_in(fake: Fake, tiny: Mapping[str, Path], tmp_path: Path) -> None:
    """Each figure put the bar back to its beginning, and its ETA with it."""
    bench("tiny", tiny, OPTIONS, scratch=tmp_path, on_progress=fake.on_progress)
    for level in tiny:
        assert [step[2:] for step in fake.told if step[1] == level] == [(0, 0), (1, 2), (1, 2), (2, 2), (2, 2)]
    assert fake.told[0][1:] == ("memory and arithmetic of this machine", 0, 1)
    assert fake.told[-1][1:] == ("quality of Q4_0", 64, 128)
    first = next(step for step in fake.told if step[1] == "Q8_0")
    assert first[0]["levels"][0]["load"] == 0.5 and "load" not in first[0]["levels"][1]


def test_messages_of_a_child() -> None:
    found: dict[str, Any] = {"level": "Q8_0"}
    told: list[tuple[int, int]] = []
    tell = listener(found, lambda done, of: told.append((done, of)))
    for message in ({"so_far": {"load": 1.0}}, {"progress": [3, 9]}, {"so_far": {"load": 2.0}}, {"other": 1}):
        tell(message)
    assert found == {"level": "Q8_0", "load": 2.0} and told == [(0, 0), (3, 9), (3, 9), (3, 9)]


def test_without_quality(fake: Fake, tiny: Mapping[str, Path]) -> None:
    result = bench("tiny", tiny, OPTIONS, quality=False)
    assert not fake.quality and not any("reference" in level for level in result["levels"])


def test_what_was_found_before_a_failure_is_known(fake: Fake, tiny: Mapping[str, Path]) -> None:
    fake.fails_at = tiny["Q4_0"].name
    with pytest.raises(EdgeError, match="ended badly"):
        bench("tiny", tiny, OPTIONS, on_progress=fake.on_progress)
    last = fake.told[-1][0]
    assert last["levels"][0]["tg128"] == 20.0 and last["levels"][1]["pp512"] == 99.0
    assert not fake.quality


def test_a_damaged_file_is_refused_before_anything_is_measured(
    fake: Fake, tiny: Mapping[str, Path], tmp_path: Path
) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(tiny["Q4_0"].read_bytes()[:-5000])
    with pytest.raises(GgufError, match=r"^cut\.gguf"):
        bench("tiny", {**tiny, "Q4_0": cut}, OPTIONS, on_progress=fake.on_progress)
    assert not fake.told and not fake.limits and not fake.asked
