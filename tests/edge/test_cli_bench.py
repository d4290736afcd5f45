"""``edge bench`` as a person types it: what it measures, shows, writes and refuses.

Where a test is not about measuring, figures come from a stand-in at once.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import click
import psutil
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

import edge.plan.make
from convert import gguf_file
from convert.errors import EdgeError
from convert.pipeline import convert
from edge import measured, store
from edge.bench import gauges, run
from edge.bench.limits import MachineLimits
from edge.bench.speed import Options, from_json
from edge.cli import bench_view
from edge.cli.bench import WIDEST
from edge.cli.bench_view import Live, has_figures
from edge.cli.main import cli
from edge.cli.model_options import Numbers
from edge.llama.context import MAX_SEQUENCES
from tests.edge import tiny_gguf
from tests.edge.report.sample import just_begun, one_level, sample

LEVELS = ("Q8_0", "Q4_0")
QUICK = ("-r", "1", "-t", "1", "-d", "0", "--widths", "1", "--no-quality")
ESCAPE = "\x1b"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """tiny-qwen: level -> file."""
    folder = tmp_path_factory.mktemp("tiny")
    paths = {level: folder / f"tiny-qwen-{level}.gguf" for level in LEVELS}
    convert(Path(str(files("edge.models") / "tiny-qwen")), paths)
    return paths


@pytest.fixture(autouse=True)
def quiet_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models have a folder of their own, nobody else is at work, and the machine's limits are known."""
    monkeypatch.setenv("EDGE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(gauges, "busy_note", lambda: "")
    monkeypatch.setattr(run, "machine_limits", lambda threads: MachineLimits(threads, 10e9, 100e9))
    monkeypatch.setattr(edge.plan.make, "expected_rates", lambda files, *_: {level: {"tg128": 30.0} for level in files})


class StandIn:
    """In place of the child that measures: file name -> with which options it was asked for. ``fails``: what it raises
    half way through a file."""

    def __init__(self) -> None:
        self.asked: dict[str, Options] = {}
        self.fails: dict[str, BaseException] = {}

    def __call__(
        self, module: str, arguments: list[str], doing: str, on_message: Callable[[dict[str, Any]], None]
    ) -> dict[str, Any]:
        assert module == "edge.bench.speed_child", "no quality without asking"
        name, options = Path(arguments[0]).name, from_json(json.loads(arguments[1]))
        self.asked[name] = options
        figures: dict[str, Any] = {"load": 0.5, "peak_memory": 10**8, "spread": {}, "widths": {}}
        on_message({"so_far": dict(figures)})
        on_message({"progress": [1, 2]})
        if name in self.fails:
            raise self.fails[name]
        for depth in options.depths:
            behind = f"@{depth}" if depth else ""
            figures |= {f"pp512{behind}": 100.0, f"tg128{behind}": 20.0, f"decode{behind}": 19.0, f"ttft{behind}": 5.5}
            figures["widths"][str(depth)] = {str(width): 20.0 * width for width in options.widths}
        return figures


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in = StandIn()
    monkeypatch.setattr(run, "run_child", stand_in)
    return stand_in


def bench(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["bench", *map(str, arguments)])


def error_of(asked: Result, code: int = 1) -> str:
    """The one line that a person sees."""
    assert asked.exit_code == code and isinstance(asked.exception, SystemExit), asked.exception
    assert asked.stderr.startswith("error: ") and asked.stderr.count("\n") == 1
    return asked.stderr.removeprefix("error: ").rstrip()


def usage_of(asked: Result) -> str:
    assert asked.exit_code == 2 and asked.stdout == ""
    return asked.stderr.splitlines()[-1]


# --- real measurements


def test_a_whole_run(tiny: Mapping[str, Path], tmp_path: Path) -> None:
    asked = bench(*tiny.values(), "-r", 1, "-t", 1, "-d", "0,64", "--widths", "1,2", "--json")
    assert asked.exit_code == 0 and asked.stderr == "" and asked.stdout.count("\n") == 1
    result = json.loads(asked.stdout)
    assert {"machine", "model", "levels", "settings", "clocks", "made", "edge"} == result.keys()
    assert result["model"] == "tiny-qwen" and result["settings"]["depths"] == [0, 64]
    assert [level["level"] for level in result["levels"]] == list(LEVELS)
    for level in result["levels"]:
        for name in ("pp512", "tg128", "decode", "ttft", "pp512@64", "tg128@64", "decode@64", "ttft@64", "load"):
            assert math.isfinite(level[name]) and level[name] > 0, name
        assert all(set(rates) == {"1", "2"} for rates in level["widths"].values())
        assert {level["knee"], level["knee@64"]} <= {1, 2}
        assert level["bandwidth_share"] > 0 and level["flops_share"] > 0 and level["threads"] == 1
        assert 1 < level["perplexity_en"] < 1000 and 1 < level["perplexity_zh"] < 1000
        assert level["reference"] == "Q8_0" and level["expected"] == {"tg128": 30.0}
    fine, coarse = result["levels"]
    assert (fine["kl"], fine["top1"]) == (0, 1) and coarse["kl"] > 0 and 0.5 < coarse["top1"] < 1
    assert fine["bytes"] > coarse["bytes"] and fine["bits_per_weight"] > coarse["bits_per_weight"]
    kept = measured.load(store.models_dir(), gguf_file.read(tiny["Q4_0"]))
    assert kept["tg128"] == coarse["tg128"] and kept["load"] == coarse["load"]


SOON = """
import edge.plan.make
from edge.bench import gauges, limits, run
from edge.cli.main import main
gauges.busy_note = lambda: ""
run.machine_limits = lambda threads: limits.MachineLimits(threads, 10e9, 100e9)
edge.plan.make.expected_rates = lambda *_: {}
main()
"""  # the command, but for what ``quiet_machine`` spares the other tests


def started(*arguments: object, home: Path) -> subprocess.Popen[str]:
    """The command in a process of its own, and a group of its own."""
    environment = {**os.environ, "PYTHONUTF8": "1", "EDGE_HOME": str(home)}
    return subprocess.Popen(
        [sys.executable, "-c", SOON, "bench", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env=environment,
        start_new_session=True,
    )


def child_of(process: subprocess.Popen[str], module: str) -> psutil.Process:
    """Its child that runs ``module``, as soon as that has loaded llama.cpp."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        for child in psutil.Process(process.pid).children():
            try:
                if module in child.cmdline() and any("llama" in one.path for one in child.memory_maps()):
                    return child
            except psutil.Error:
                continue
        time.sleep(0.02)
    raise AssertionError((process.poll(), process.communicate()))


@pytest.mark.skipif(sys.platform != "linux", reason="signals, and what a process has mapped")
def test_an_interrupt(tiny: Mapping[str, Path], tmp_path: Path) -> None:
    """While the second file is measured: the first one's figures are seen, and nobody goes on measuring."""
    path, endless = tmp_path / "first.gguf", tmp_path / "second.gguf"
    shutil.copy(tiny["Q4_0"], path)
    shutil.copy(tiny["Q4_0"], endless)
    with started(path, endless, *QUICK, "--minutes", "0.01", "--json", home=tmp_path) as process:
        first = child_of(process, "edge.bench.speed_child")
        psutil.wait_procs([first], timeout=60)
        second = child_of(process, "edge.bench.speed_child")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and err.splitlines()[-1] == "interrupted" and "Traceback" not in err
    levels = json.loads(out.splitlines()[-1])["levels"]
    assert [level["level"] for level in levels] == ["Q4_0", "second"]
    assert levels[0]["tg128"] > 0 and levels[0]["sustained"] and "sustained" not in levels[1]
    assert not second.is_running()


@pytest.mark.skipif(sys.platform != "linux", reason="signals, and what a process has mapped")
def test_an_interrupt_from_a_terminal(tiny: Mapping[str, Path], tmp_path: Path) -> None:
    """Which goes to the child as well."""
    with started(tiny["Q4_0"], *QUICK, "--minutes", "5", home=tmp_path) as process:
        child = child_of(process, "edge.bench.speed_child")
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and err.splitlines()[-1] == "interrupted" and "Traceback" not in err
    assert ESCAPE not in out + err and not child.is_running()


@pytest.mark.skipif(sys.platform != "linux", reason="signals, and what a process has mapped")
def test_a_child_that_the_system_kills(tiny: Mapping[str, Path], tmp_path: Path) -> None:
    with started(tiny["Q4_0"], *QUICK, "--minutes", "5", home=tmp_path) as process:
        child_of(process, "edge.bench.speed_child").kill()
        out, err = process.communicate(timeout=60)
    assert process.returncode == 1 and ESCAPE not in out + err
    assert err.splitlines()[-1] == (
        "error: tiny-qwen-Q4_0.gguf: measuring its speed ended badly: llama.cpp crashed (SIGKILL); "
        "check the file with `edge show`; is there enough memory?"
    )


# --- which models and levels


def test_levels_that_are_missing_are_converted(stand_in: StandIn, tmp_path: Path) -> None:
    asked = bench("tiny-qwen", *QUICK, "--levels", "q4_0,Q8_0")
    assert asked.exit_code == 0
    assert asked.stderr.splitlines() == ["converting tiny-qwen to Q4_0 first", "converting tiny-qwen to Q8_0 first"]
    assert list(stand_in.asked) == ["tiny-qwen-Q8_0.gguf", "tiny-qwen-Q4_0.gguf"]
    again = bench("tiny-qwen", *QUICK, "--json")
    assert again.exit_code == 0 and again.stderr == ""
    assert [level["level"] for level in json.loads(again.stdout)["levels"]] == ["Q8_0", "Q4_0"]
    one = bench("tiny-qwen:Q8_0", *QUICK, "--json")
    assert [level["level"] for level in json.loads(one.stdout)["levels"]] == ["Q8_0"]


def test_levels_of_a_checkpoint_folder(stand_in: StandIn, tmp_path: Path) -> None:
    """FOLDER:LEVEL was taken for a folder's name."""
    folder = shutil.copytree(str(files("edge.models") / "tiny-qwen"), tmp_path / "mine")
    for levels, names in (("Q4_0", ["Q4_0"]), ("F16,Q4_0", ["F16", "Q4_0"])):
        asked = bench(folder, *QUICK, "--levels", levels, "--json")
        assert asked.exit_code == 0 and asked.stderr == ""
        assert [level["level"] for level in json.loads(asked.stdout)["levels"]] == names
    assert set(stand_in.asked) == {"mine-Q4_0.gguf", "mine-F16.gguf"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nothing"], "there is no model called nothing; there is tiny-glm, tiny-qwen"),
        (["tiny-qwem"], "did you mean tiny-qwen?"),
        (["qwen2.5-7b"], "qwen2.5-7b is not here yet; run: edge convert qwen2.5-7b"),
        (["qwen2.5-7b", "--levels", "Q8_0"], "run: edge convert qwen2.5-7b:Q8_0"),
        (["org/repo"], "org/repo is not here yet; run: edge convert org/repo"),
        (["tiny-qwen", "--levels", "Q9"], "there is no quant level 'Q9'; one of F32"),
        (["tiny-qwen:Q9"], "there is no quant level 'Q9'; one of F32"),
        (["tiny-qwen:Q8_0", "--levels", "Q4_0"], "leave out one or the other"),
        (["tiny-qwen", "tiny-glm"], "tiny-qwen is no .gguf file; several are files of one model, or give one MODEL"),
        ([""], "MODEL is empty; give"),
        (["nowhere.gguf"], "there is no file nowhere.gguf; `edge list`"),
        (["./nowhere"], "./nowhere does not exist; give"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_models_that_are_not_there(stand_in: StandIn, arguments: list[str], says: str) -> None:
    asked = bench(*arguments)
    assert says in error_of(asked) and asked.stdout == "" and not stand_in.asked


def test_what_is_no_model(stand_in: StandIn, tiny: Mapping[str, Path], tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(tiny["Q8_0"].read_bytes()[: tiny["Q8_0"].stat().st_size // 2])
    (tmp_path / "folder.gguf").mkdir()
    (tmp_path / "empty.gguf").touch()
    for arguments, says in (
        ((tmp_path,), "is not a checkpoint: it has no config.json; give"),
        ((tmp_path / "folder.gguf",), "there is no file"),
        ((cut,), "cut.gguf: the file ends inside"),
        ((tiny["Q8_0"], cut), "cut.gguf: the file ends inside"),
        ((tmp_path / "empty.gguf",), "empty.gguf: "),
        (
            (tiny["Q8_0"], tiny_gguf.write(tmp_path / "other.gguf")),
            "other.gguf is of another model than tiny-qwen-Q8_0",
        ),
    ):
        asked = bench(*arguments)
        assert says in error_of(asked) and asked.stdout == ""
    assert not stand_in.asked


# --- numbers


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("4", (1, 4)), ("1", (1,)), ("8,2,8", (1, 2, 8)), (" 2 , 3", (1, 2, 3)), ("256", (1, 256))],
)
def test_a_list_of_numbers(text: str, numbers: tuple[int, ...]) -> None:
    """What others are compared with is always measured; its figures were missed in a traceback."""
    assert Numbers(1, 256).convert(text, None, None) == numbers
    assert Numbers(1, 256).convert(numbers, None, None) == numbers
    assert Numbers(0, 10).convert("4", None, None) == (0, 4)


@pytest.mark.parametrize("text", ["", ",", "1,", "0", "257", "-1", "1.5", "x", "²", "1e2", "1" * 5000, "1;2"])
def test_what_is_no_list_of_numbers(text: str) -> None:
    with pytest.raises(click.UsageError, match="is no list of whole numbers from 1 to 256"):
        Numbers(1, 256).convert(text, None, None)


def test_no_more_sequences_than_llama_cpp_takes() -> None:
    assert WIDEST == MAX_SEQUENCES


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--threads", "0"], "'-t' / '--threads': 0 is not in the range 1<=x<=512"),
        (["--threads", "513"], "513 is not in the range"),
        (["--widths", "257"], "'--widths': '257' is no list of whole numbers from 1 to 256"),
        (["--widths", "0"], "'--widths'"),
        (["--depths", "-1"], "'--depths': '-1' is no list"),
        (["--depths", "10000000000"], "'--depths'"),
        (["-r", "0"], "'--repeats'"),
        (["--minutes", "-1"], "'--minutes'"),
        (["--minutes", "nan"], "'--minutes'"),
        (["-o", "report.pdf"], "'report.pdf' does not end in .html, .json, .csv, .svg"),
        (["--kv-type", "q5_k"], "'--kv-type'"),
        (["-ngl", "x"], "'-ngl'"),
        (["--assert", "tg128"], "'tg128' is no assertion"),
        (["--assert", "speed>3"], "nothing that is measured is called 'speed'"),
    ],
    ids=" ".join,
)
def test_wrong_usage(stand_in: StandIn, tiny: Mapping[str, Path], arguments: list[str], says: str) -> None:
    assert says in usage_of(bench(tiny["Q8_0"], *arguments)) and not stand_in.asked


def test_no_model_is_wrong_usage() -> None:
    assert "Missing argument" in usage_of(bench())


def test_a_cache_that_plain_attention_cannot_read(stand_in: StandIn, tiny: Mapping[str, Path]) -> None:
    says = error_of(bench(tiny["Q8_0"], "-fa", "off", "--kv-type", "q8_0"))
    assert says == "a KV cache of q8_0 needs flash attention; leave --flash-attn off out" and not stand_in.asked


def test_settings_reach_the_measurement(stand_in: StandIn, tiny: Mapping[str, Path]) -> None:
    arguments = ("-t", 3, "-tb", 2, "-fa", "on", "--kv-type", "q8_0", "-d", 64, "--widths", "2,8", "-r", 7)
    asked = bench(tiny["Q8_0"], *arguments, "--minutes", 0.5, "--no-quality", "--json")
    assert asked.exit_code == 0
    assert stand_in.asked == {
        tiny["Q8_0"].name: Options(3, 2, True, 512, "q8_0", 0, (0, 64), (1, 2, 8), 7, 0.5, tuned=False)
    }


def test_the_plan_is_of_cpus(stand_in: StandIn, tiny: Mapping[str, Path]) -> None:
    """What was expected of the CPU was shown beside what a GPU did."""
    for layers, expected in ((0, True), (3, False)):
        asked = bench(tiny["Q8_0"], *QUICK, "-ngl", layers, "--json")
        (level,) = json.loads(asked.stdout)["levels"]
        assert ("expected" in level) == expected and stand_in.asked[tiny["Q8_0"].name].gpu_layers == layers


# --- depths


def test_usual_depths_that_a_model_was_not_trained_for(stand_in: StandIn, tiny: Mapping[str, Path]) -> None:
    asked = bench(tiny["Q8_0"], "--no-quality", "--json")
    assert asked.exit_code == 0 and json.loads(asked.stdout)["settings"]["depths"] == [0]
    assert asked.stderr == (
        "note: not measured behind 4096 tokens: tiny-qwen-Q8_0.gguf was trained for 2048 tokens, "
        "fewer than 4096 and a prompt of 512\n"
    )


@pytest.mark.parametrize("depth", [1537, 4096, 100_000_000])
def test_a_depth_that_was_asked_for(stand_in: StandIn, tiny: Mapping[str, Path], depth: int) -> None:
    says = error_of(bench(tiny["Q8_0"], "--depths", f"0,{depth}"))
    assert says.startswith("tiny-qwen-Q8_0.gguf was trained for 2048 tokens") and not stand_in.asked
    assert says.endswith("; use --depths up to 1536")


def test_a_context_larger_than_memory(stand_in: StandIn, tmp_path: Path) -> None:
    path = tiny_gguf.write(tmp_path / "long.gguf", {"qwen2.context_length": 1 << 30})
    says = error_of(bench(path, "--depths", 900_000_000, "--kv-type", "f16"))
    assert says.startswith("long.gguf needs ") and "for a cache of 900000704 tokens" in says
    assert says.endswith("of memory are free; use smaller --depths, or close other programs") and not stand_in.asked


# --- what is shown


def test_tables_that_are_no_terminal(stand_in: StandIn, tiny: Mapping[str, Path]) -> None:
    asked = bench(*tiny.values(), *QUICK)
    assert asked.exit_code == 0 and asked.stderr == "" and ESCAPE not in asked.stdout
    lines = asked.stdout.splitlines()
    assert max(map(len, lines)) <= 80 and len(lines) == 2 * (2 + len(LEVELS))
    assert "PP512" in lines[0] and lines[2].startswith("Q8_0 ") and lines[3].startswith("Q4_0 ")
    assert "SIZE" in lines[4] and lines[6].startswith("Q8_0 ")


def test_quiet(stand_in: StandIn, tiny: Mapping[str, Path]) -> None:
    asked = bench(tiny["Q8_0"], *QUICK, "-q")
    assert (asked.exit_code, asked.stdout, asked.stderr) == (0, "", "")


def test_a_note_when_others_are_at_work(
    stand_in: StandIn, tiny: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gauges, "busy_note", lambda: "note: other programs use 2.0 CPUs just now")
    assert bench(tiny["Q8_0"], *QUICK).stderr == "note: other programs use 2.0 CPUs just now\n"


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], io.StringIO]]:
    """Makes standard error a terminal of so many columns, and returns what appears there."""

    def make(columns: int) -> io.StringIO:
        out = io.StringIO()

        def console(**options: Any) -> Console:
            if options.get("stderr"):
                return Console(file=out, force_terminal=True, width=columns, height=60, legacy_windows=False)
            return Console(file=io.StringIO(), width=columns)

        monkeypatch.setattr(bench_view, "Console", console)
        return out

    yield make


@pytest.mark.parametrize("what", ["Q8_0", "memory and arithmetic of this machine", "quality of Q5_K_M", "x" * 300])
@pytest.mark.parametrize("of", [0, 200])
def test_a_terminal_of_80_columns(terminal: Callable[[int], io.StringIO], what: str, of: int) -> None:
    """The bar and its ETA above both tables; a long name of a file took their place, and nothing wraps."""
    out = terminal(80)
    with Live(silent=False) as live:
        live.update(sample(), what, 0, of)
        live.update(sample(), what, 20, of)
        live._live.refresh()
        shown = Console(file=io.StringIO(), width=80, record=True)
        shown.print(live._live.renderable)
    lines = shown.export_text().rstrip("\n").splitlines()
    assert max(map(len, lines)) <= 80 and len(lines) == 1 + (2 + 8) + (2 + 4)
    assert what[:30] in lines[0] and " ETA " in lines[0] and "━" in lines[0]
    assert "…" not in "".join(lines[1:]) and lines[1].split()[:2] == ["LEVEL", "LOAD"]
    assert ESCAPE in out.getvalue() and "TG128" in out.getvalue()


def test_names_are_no_markup(terminal: Callable[[int], io.StringIO]) -> None:
    """A name with brackets, which rich takes for a style, ended the run."""
    terminal(100)
    with Live(silent=False) as live:
        live.update(sample(), "mine[/red]\x1b[31m", 0, 2)
        assert live._bar.tasks[0].description == "mine[/red] [31m"
        live._live.refresh()


def test_progress_of_each_piece_of_work(terminal: Callable[[int], io.StringIO]) -> None:
    terminal(80)
    with Live(silent=False) as live:
        for what, done, of in (("Q8_0", 1, 9), ("Q8_0", 8, 9), ("Q4_0", 0, 7), ("Q4_0", 2, 7)):
            live.update(sample(), what, done, of)
            (task,) = live._bar.tasks
            assert (task.description, task.completed, task.total) == (what, done, of)


@pytest.mark.parametrize("silent", [False, True])
def test_without_a_terminal_there_is_no_progress(silent: bool, capsys: pytest.CaptureFixture[str]) -> None:
    with Live(silent) as live:
        live.update(one_level(), "Q4_0", 1, 2)
    shown = capsys.readouterr()
    assert shown.err == "" and bool(shown.out) != silent and ESCAPE not in shown.out


def test_nothing_is_shown_before_anything_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    with Live(silent=False) as live:
        live.update(just_begun(), "Q8_0", 0, 0)
    assert capsys.readouterr().out == "" and not has_figures(just_begun()) and not has_figures({})
    assert has_figures(sample()) and live.result == just_begun()


# --- what comes too early


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (EdgeError("x.gguf ended badly", "mend it"), 1, "error: x.gguf ended badly; mend it\n"),
        (ZeroDivisionError("oh"), 1, "error: unexpected ZeroDivisionError: oh; run again with --debug and report"),
    ],
)
def test_what_was_measured_so_far_is_seen(
    stand_in: StandIn, tiny: Mapping[str, Path], error: BaseException, code: int, says: str, as_json: bool
) -> None:
    stand_in.fails = {tiny["Q4_0"].name: error}
    asked = bench(*tiny.values(), *QUICK, *(["--json"] if as_json else []))
    assert asked.exit_code == code and asked.stderr.startswith(says) and asked.stderr.count("\n") == 1
    if as_json:
        fine, coarse = json.loads(asked.stdout.splitlines()[-1])["levels"]
        assert fine["tg128"] == 20.0 and coarse["load"] == 0.5 and "tg128" not in coarse
    else:
        assert "100.0" in asked.stdout and asked.stdout.splitlines()[3].split() == ["Q4_0", "0.50"]
    assert not measured.load(store.models_dir(), gguf_file.read(tiny["Q8_0"])), "figures of whole runs only"


@pytest.mark.parametrize("as_json", [False, True])
def test_an_interrupt_before_anything_is_measured(
    stand_in: StandIn, tiny: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch, as_json: bool
) -> None:
    def interrupt(_: int) -> MachineLimits:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "machine_limits", interrupt)
    asked = bench(tiny["Q8_0"], *QUICK, *(["--json"] if as_json else []))
    assert (asked.exit_code, asked.stdout, asked.stderr) == (130, "", "interrupted\n")


# --- what is kept and written


def test_figures_are_kept_for_the_plan(stand_in: StandIn, tiny: Mapping[str, Path], tmp_path: Path) -> None:
    assert bench(tiny["Q8_0"], *QUICK, "--models-dir", tmp_path / "here").exit_code == 0
    assert measured.load(tmp_path / "here", gguf_file.read(tiny["Q8_0"]))["ttft"] == 5.5


def test_a_models_folder_that_cannot_be_written_to(stand_in: StandIn, tiny: Mapping[str, Path], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    asked = bench(*tiny.values(), *QUICK, "--models-dir", tmp_path / "file" / "models", "--json")
    assert asked.exit_code == 0 and len(json.loads(asked.stdout)["levels"]) == 2
    assert asked.stderr.startswith("note: cannot make ") and asked.stderr.count("\n") == 1
    assert asked.stderr.rstrip().endswith("; edge plan will not know these figures")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_models_folder_that_is_read_only(stand_in: StandIn, tiny: Mapping[str, Path], tmp_path: Path) -> None:
    (tmp_path / "models").mkdir(mode=0o555)
    asked = bench(tiny["Q8_0"], *QUICK, "--models-dir", tmp_path / "models")
    assert asked.exit_code == 0 and asked.stderr.startswith("note: ") and asked.stderr.count("\n") == 1


def test_files_are_written(
    stand_in: StandIn, tiny: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = {suffix: tmp_path / f"图.{suffix}" for suffix in ("html", "json", "csv", "svg")}
    outputs = [argument for path in paths.values() for argument in ("-o", path)]
    kl = {"Q8_0": {"reference": "Q8_0", "kl": 0.0}, "Q4_0": {"reference": "Q8_0", "kl": 0.1}}
    monkeypatch.setattr(run, "measure_quality", lambda *_, **__: kl)
    asked = bench(*tiny.values(), *QUICK[:-1], *outputs, "--json")
    assert asked.exit_code == 0, asked.stderr
    assert json.loads(paths["json"].read_text("utf-8")) == json.loads(asked.stdout)
    assert paths["html"].read_text("utf-8").startswith("<!") and "tiny-qwen" in paths["html"].read_text("utf-8")
    rows = list(csv.DictReader(io.StringIO(paths["csv"].read_bytes().decode("utf-8"))))
    assert [(row["level"], row["tg128"]) for row in rows] == [("Q8_0", "20"), ("Q4_0", "20")]
    assert b"\r\n" in paths["csv"].read_bytes() and b"\r\r" not in paths["csv"].read_bytes()
    assert "<svg" in paths["svg"].read_text("utf-8")


def test_an_output_that_cannot_be(stand_in: StandIn, tiny: Mapping[str, Path], tmp_path: Path) -> None:
    """It is refused before anything is measured."""
    (tmp_path / "folder.json").mkdir()
    for path, says in (
        (tmp_path / "nowhere" / "x.json", "its folder does not exist; make it first"),
        (tmp_path / "folder.json", "it is a folder; choose another name"),
    ):
        asked = bench(tiny["Q8_0"], "-o", path)
        assert error_of(asked) == f"cannot write {path}: {says}" and not stand_in.asked


def test_a_chart_that_would_be_empty(stand_in: StandIn, tiny: Mapping[str, Path], tmp_path: Path) -> None:
    """An empty file was written."""
    path = tmp_path / "x.svg"
    assert error_of(bench(tiny["Q8_0"], "-o", path)).endswith("; name several --levels, or write .html")
    assert error_of(bench(*tiny.values(), "--no-quality", "-o", path)).endswith("; leave --no-quality out")
    assert not stand_in.asked and not path.exists()


def test_a_file_that_cannot_be_written_after_all(
    stand_in: StandIn, tiny: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Minutes of measuring were lost: the result was printed after the files, and so not at all."""
    monkeypatch.setattr(bench_view, "csv_text", lambda _: "x" * 10)
    monkeypatch.setattr(Path, "write_text", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space left")))
    asked = bench(tiny["Q8_0"], *QUICK, "--json", "-o", tmp_path / "x.csv")
    assert error_of(asked) == f"cannot write {tmp_path / 'x.csv'}: No space left; choose another place"
    assert json.loads(asked.stdout)["levels"][0]["tg128"] == 20.0


# --- comparing and asserting


def test_against_an_older_result(stand_in: StandIn, tiny: Mapping[str, Path], tmp_path: Path) -> None:
    old = json.loads(bench(tiny["Q8_0"], *QUICK, "--json").stdout)
    old["levels"][0]["tg128"] = 10.0
    (tmp_path / "old.json").write_text(json.dumps(old))
    shown = bench(tiny["Q8_0"], *QUICK, "--against", tmp_path / "old.json")
    assert shown.exit_code == 0 and "better" in shown.stdout and ESCAPE not in shown.stdout
    as_json = bench(tiny["Q8_0"], *QUICK, "--against", tmp_path / "old.json", "--json")
    found = json.loads(as_json.stdout)
    assert len(as_json.stdout.splitlines()) == 1 and found["levels"] and found["remarks"] == []
    assert next(one for one in found["against"] if one["name"] == "tg128")["mark"] == "better"


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_against_a_damaged_file(
    stand_in: StandIn, tiny: Mapping[str, Path], tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "old.json").write_bytes(content)
    asked = bench(tiny["Q8_0"], "--against", tmp_path / "old.json")
    assert "old.json" in error_of(asked) and asked.stdout == "" and not stand_in.asked


@pytest.mark.parametrize("as_json", [False, True])
def test_assertions(stand_in: StandIn, tiny: Mapping[str, Path], as_json: bool) -> None:
    more = ["--json"] if as_json else []
    assert bench(*tiny.values(), *QUICK, *more, "--assert", "tg128>=20, ttft<6").exit_code == 0
    broken = bench(*tiny.values(), *QUICK, *more, "--assert", "tg128>=20,ttft<3,pp512@64>1")
    assert broken.exit_code == 1 and broken.stderr.splitlines() == [
        "Q8_0: ttft is 5.5, not < 3",
        "Q8_0: pp512@64 was not measured; it should be > 1",
        "Q4_0: ttft is 5.5, not < 3",
        "Q4_0: pp512@64 was not measured; it should be > 1",
    ]
    assert "Q4_0" in broken.stdout, "the figures are there all the same"
    assert not as_json or json.loads(broken.stdout)["levels"]
