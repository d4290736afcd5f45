"""A plan from a name: levels, settings, room, and what was measured before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from convert import gguf_file
from convert.errors import EdgeError
from convert.levels import LEVELS
from edge import machine, measured, tuned
from edge.cost import products
from edge.llama.kernels import Shape
from edge.plan.levels import QUESTION, Room, plan_level
from edge.plan.make import USUAL, expected_rates, make_plan, matrices, tensors_at, wanted_levels
from edge.plan.predict import decode_seconds, prefill_seconds
from edge.plan.source import Source, find_source
from edge.shapes import file_tensors, from_gguf, level_tensors
from edge.tuned import Tuned
from tests.edge import tiny_gguf
from tests.edge.plan.conftest import Asked, stored
from tests.edge.plan.sample import GB, RATES, locked_shape

MEMORY = machine.Memory(16 * GB, 12 * GB, None)


@pytest.fixture(autouse=True)
def a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six cores, of which four are quick and the quota leaves five."""
    monkeypatch.setattr(machine, "memory", lambda: MEMORY)
    monkeypatch.setattr(machine, "disk_free", lambda path: 50 * GB)
    monkeypatch.setattr(machine, "usable_cores", lambda: 4)
    monkeypatch.setattr(machine, "cores", lambda: machine.Cores(6, 12, 5, 5.0))


# --- without a file


@pytest.mark.parametrize("name", ["qwen2.5-7b", "qwen3.5-0.8b", "glm-4.7-flash"])
def test_a_model_of_the_lock(name: str, models: Path, asked: Asked) -> None:
    """No file, no network; at the usual five levels, each as ``plan_level`` has it."""
    made, shape = make_plan(name, models), locked_shape(name)
    room = Room(16 * GB, 12 * GB, 50 * GB, 5)
    download = find_source(name, models).download or 0
    assert made.levels == [
        plan_level(level, shape, level_tensors(shape, level), RATES, room, ctx=4096, download=download)
        for level in USUAL
    ]
    assert (made.name, made.room, made.rates, made.ctx) == (name, room, RATES, 4096)
    assert made.can_convert and made.measured == {}
    ((found, threads, threads_batch),) = asked
    assert (threads, threads_batch) == (4, 4) and found == matrices(
        [level_tensors(shape, level) for level in USUAL], shape
    )
    assert not models.exists()


def test_a_model_that_was_trained_for_less_than_the_usual_context(models: Path, asked: Asked) -> None:
    assert make_plan("tiny-qwen", models).ctx == 2048
    assert make_plan("tiny-qwen", models, ctx=100).ctx == 100
    assert make_plan("tiny-qwen", models, ctx=2048).ctx == 2048
    with pytest.raises(EdgeError, match="tiny-qwen was trained for 2048 tokens, not 2049; give a smaller --ctx"):
        make_plan("tiny-qwen", models, ctx=2049)


def test_progress_and_threads(models: Path, asked: Asked) -> None:
    told: list[tuple[str, int, int]] = []
    make_plan("tiny-qwen", models, threads=3, on_progress=lambda *one: told.append(one))
    assert told == [("trying this machine's kernels", 0, 1)]
    assert asked[0][1:] == (3, 3)


def test_a_longer_context_needs_more(models: Path, asked: Asked) -> None:
    short, long = (make_plan("qwen2.5-7b", models, levels=["Q4_0"], ctx=ctx).levels[0] for ctx in (512, 32768))
    assert long.memory > short.memory + GB and long.longest_context == short.longest_context


# --- with files


def test_a_file_is_planned_as_it_is(models: Path, asked: Asked, tmp_path: Path) -> None:
    path = tiny_gguf.write(tmp_path / "mine.gguf")
    made = make_plan(str(path), models)
    file = gguf_file.read(path)
    shape, tensors = from_gguf(file), file_tensors(file)
    room = Room(16 * GB, 12 * GB, 50 * GB, 5)
    assert made.levels == [plan_level("mine", shape, tensors, RATES, room, ctx=512, file=file.size)]
    assert made.levels[0].here and not made.can_convert
    assert {shape.qtype for shape, _ in asked[0][0]} == {"F32", "F16"}, "and the cache"


def test_files_that_are_here_stand_among_the_usual_levels(models: Path, asked: Asked) -> None:
    path = stored(models, "qwen2.5-7b", "Q4_1")
    made = make_plan("qwen2.5-7b", models)
    assert [plan.level for plan in made.levels] == ["Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_1", "Q4_0"]
    here = {plan.level: plan for plan in made.levels}["Q4_1"]
    assert here.here and here.file == path.stat().st_size
    assert {plan.level: plan.here for plan in made.levels if plan.here} == {"Q4_1": True}
    assert made.measured == {}


def test_tuned_settings_are_planned_with(models: Path, asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads, and no flash attention, which takes memory; but for what the caller chose, or was tuned on a GPU."""
    file = gguf_file.read(stored(models, "qwen2.5-7b", "Q4_0"))
    flash = make_plan("qwen2.5-7b", models)
    tuned.save(models, file, Tuned(2, 3, False, 256, 4))
    plain = make_plan("qwen2.5-7b", models)
    make_plan("qwen2.5-7b", models, threads=7)
    tuned.save(models, file, Tuned(2, 3, False, 256, 4, gpu_layers=5))
    on_gpu = make_plan("qwen2.5-7b", models)
    assert [one[1:] for one in asked] == [(4, 4), (2, 3), (7, 7), (4, 4)]
    assert all(one.compute < other.compute for one, other in zip(flash.levels, plain.levels, strict=True))
    assert on_gpu.levels == flash.levels


def test_what_was_measured_before_is_told_by_level(models: Path, asked: Asked) -> None:
    stored(models, "mine", "Q4_0")
    file = gguf_file.read(stored(models, "mine", "Q8_0"))
    found = {"pp512": 100.0, "tg128": 10.0, "threads": RATES.threads, "threads_batch": RATES.threads_batch}
    measured.save(models, file, found)
    assert make_plan("mine", models).measured["Q8_0"] == found


def test_what_was_measured_with_other_threads_says_nothing(models: Path, asked: Asked) -> None:
    """Regression: `edge bench -t 1` made `edge plan` say that it was 300 % off."""
    file = gguf_file.read(stored(models, "mine", "Q8_0"))
    measured.save(models, file, {"tg128": 10.0, "threads": RATES.threads + 1, "threads_batch": RATES.threads_batch})
    assert make_plan("mine", models).measured == {}


# --- levels


SOURCE = Source("m", locked_shape("qwen2.5-7b"), {}, 0)


def with_files(path: Path, *levels: str, download: int | None, level: str | None = None) -> Source:
    file = gguf_file.read(tiny_gguf.write(path / "x.gguf"))
    return replace(SOURCE, files=dict.fromkeys(levels, file), download=download, level=level)


def test_which_levels(tmp_path: Path) -> None:
    assert wanted_levels(SOURCE, []) == list(USUAL)
    assert wanted_levels(SOURCE, ["Q4_0", "F16", "Q8_0", "Q4_0"]) == ["F16", "Q8_0", "Q4_0"]
    assert wanted_levels(replace(SOURCE, level="Q2_K"), []) == ["Q2_K"]
    assert wanted_levels(replace(SOURCE, level="Q2_K"), ["Q8_0"]) == ["Q8_0"]
    here = with_files(tmp_path, "Q4_0", "BF16", download=7)
    assert wanted_levels(here, []) == ["BF16", *USUAL]
    alone = with_files(tmp_path, "Q4_0", "mine", download=None)
    assert wanted_levels(alone, []) == ["Q4_0", "mine"]
    assert wanted_levels(alone, ["mine"]) == ["mine"]


@pytest.mark.parametrize(("levels", "level"), [(["Q4_0", "Q8_0"], None), ([], "Q8_0")])
def test_a_level_that_cannot_be_made(levels: list[str], level: str | None, tmp_path: Path) -> None:
    alone = with_files(tmp_path, "Q4_0", "mine", download=None, level=level)
    with pytest.raises(EdgeError, match=r"m is not here at Q8_0; there is Q4_0, mine"):
        wanted_levels(alone, levels)


def test_tensors_are_the_files_or_those_of_a_conversion(tmp_path: Path) -> None:
    source = with_files(tmp_path, "Q4_0", download=7)
    assert tensors_at("Q4_0", source) == file_tensors(source.files["Q4_0"])
    assert tensors_at("Q8_0", source) == level_tensors(source.shape, "Q8_0")


# --- what is to be measured


def test_matrices_of_all_levels_and_the_cache() -> None:
    shape = locked_shape("qwen2.5-7b")
    found = matrices([level_tensors(shape, "Q4_0"), level_tensors(shape, "Q8_0")], shape)
    assert {one.qtype for one, _ in found} == {"Q4_0", "Q8_0", "Q6_K", "F16"}
    assert (Shape("Q4_0", 3584, 18944), 2 * 28) in found and (Shape("Q6_K", 3584, 152064), 1) in found
    assert [one for one in found if one[0].qtype == "F16"] == [(Shape("F16", 128, 4096), 64)]
    floats = matrices([level_tensors(shape, "F16")], shape)
    assert (Shape("F16", 128, 4096), 64) not in floats


def test_experts_are_counted_beside_a_shared_one_of_their_shape() -> None:
    """The shared expert's count took the place of the experts', so that another matrix stood for the type."""
    shape = locked_shape("glm-4.5-air")
    tensors = level_tensors(shape, "Q8_0")
    width = next(one.shape for one in tensors if one.name.endswith("_down_exps.weight"))
    counts = [count for one, count in matrices([tensors], shape) if (one.rows, one.columns) == width[1:]]
    assert max(counts) == 45 * 128


@pytest.mark.parametrize("level", LEVELS)
def test_every_type_that_a_plan_asks_for_is_measured(level: str) -> None:
    """And F16, for attention and the cache."""
    for name in ("qwen3-30b-a3b", "glm-4.7-flash", "qwen3.5-0.8b"):
        shape = locked_shape(name)
        tensors = level_tensors(shape, level)
        kinds = {one.qtype for one, _ in matrices([tensors], shape)}
        assert {one.qtype for one in products(tensors, shape)} | {"F16"} <= kinds


# --- for a measurement


def test_what_a_benchmark_is_told_to_expect(asked: Asked, tmp_path: Path) -> None:
    one, other = (tiny_gguf.write(tmp_path / f"{name}.gguf") for name in ("one", "other"))
    found = expected_rates({"Q8_0": one, "Q4_0": other}, 2, 3)
    file = gguf_file.read(one)
    shape = from_gguf(file)
    work = products(file_tensors(file), shape)
    reading, writing = prefill_seconds(work, shape, RATES, QUESTION), decode_seconds(work, shape, RATES)
    assert found == {level: {"pp512": QUESTION / reading, "tg128": 1 / writing} for level in ("Q8_0", "Q4_0")}
    assert [call[1:] for call in asked] == [(2, 3)], "once for all"


def test_a_benchmark_of_a_damaged_file(asked: Asked, tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    with pytest.raises(EdgeError, match=r"x.gguf: the file ends after 4 bytes"):
        expected_rates({"Q8_0": tmp_path / "x.gguf"}, 1, 1)
    assert asked == []


# --- measured


def test_a_plan_of_this_machine(models: Path) -> None:
    """Nothing made up: rates are positive, sizes as they always are."""
    made = make_plan("tiny-glm", models, levels=["Q4_0"], threads=1)
    (plan,) = made.levels
    assert plan.decode > 0 < plan.prefill and 0 < plan.first_token < float("inf")
    assert made.rates.threads == made.rates.threads_batch == 1
    assert plan.convert > 0 and plan.longest_context > 0
