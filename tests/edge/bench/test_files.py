"""Which files are measured, under which names, with which settings and at which depths."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from convert import gguf_file
from convert.errors import EdgeError
from convert.gguf_file import GgufError
from convert.levels import LEVELS
from edge import machine, store, tuned
from edge.bench.files import (
    USUAL_DEPTHS,
    check_depth,
    depths_for,
    files_of,
    level_in,
    options_for,
)
from edge.bench.speed import PROMPT, Options, longest
from edge.cost import kv_bytes
from edge.errors import MemoryShort, ModelNotFound
from edge.llama.context import cells_for
from edge.model_file import in_order, parse_levels, read_sane
from edge.shapes import from_gguf
from edge.tuned import Tuned
from tests.edge import tiny_gguf
from tests.edge.bench.conftest import Hybrid
from tests.edge.reports import write_report


class Converter:
    """In place of a conversion: ``asked`` for what, and which file it gives for a level."""

    def __init__(self, made: Mapping[str | None, Path]) -> None:
        self.asked: list[tuple[str, str | None]] = []
        self.made = made

    def __call__(self, model: str, level: str | None) -> Path:
        self.asked.append((model, level))
        return self.made[level]


def no_conversion(model: str, level: str | None) -> Path:
    raise AssertionError(f"{model} was to be made at {level}")


def given(*paths: Path | str, levels: str | None = None) -> tuple[str, dict[str, Path]]:
    return files_of([str(path) for path in paths], parse_levels(levels), Path("nowhere"), no_conversion)


def refusal(*paths: Path | str, levels: str | None = None) -> EdgeError:
    with pytest.raises(EdgeError) as caught:
        given(*paths, levels=levels)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.fixture
def stored(tiny: Mapping[str, Path], tmp_path: Path) -> Path:
    """A models folder with both levels of tiny-qwen, made from the checkpoint as it is."""
    checkpoint = Path(str(files("edge.models") / "tiny-qwen"))
    for level, path in tiny.items():
        there = store.file_path(tmp_path / "models", "tiny-qwen", level)
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, there)
        report = {"fingerprint": store.fingerprint(checkpoint), "bytes": path.stat().st_size}
        write_report(there, report)
    return tmp_path / "models"


# --- files


def test_the_finest_comes_first(tiny: Mapping[str, Path]) -> None:
    name, found = given(tiny["Q4_0"], tiny["Q8_0"])
    assert (name, list(found.items())) == ("tiny-qwen", list(tiny.items()))


def test_one_file(tiny: Mapping[str, Path], tmp_path: Path) -> None:
    assert given(tiny["Q4_0"]) == ("tiny-qwen", {"Q4_0": tiny["Q4_0"]})
    loud = tmp_path / "-Q4_0.GGUF"
    shutil.copy(tiny["Q4_0"], loud)
    assert given(loud) == ("-Q4_0", {"Q4_0": loud}), "a model has a name"


def test_a_level_twice(tiny: Mapping[str, Path], tmp_path: Path) -> None:
    """The third of one name took the place of the second."""
    copies = []
    for folder in "abc":
        (tmp_path / folder).mkdir()
        copies.append(Path(shutil.copy(tiny["Q8_0"], tmp_path / folder / "mine.gguf")))
    name, found = given(*copies, tiny["Q4_0"])
    assert name == "mine"
    assert found == {"Q8_0": copies[0], "Q4_0": tiny["Q4_0"], "mine": copies[1], "mine (2)": copies[2]}
    assert list(found)[:2] == ["Q8_0", "Q4_0"]


def test_a_file_twice_is_measured_once(tiny: Mapping[str, Path]) -> None:
    path = tiny["Q8_0"]
    assert given(path, path, f"{path.parent}/./{path.name}")[1] == {"Q8_0": path}


@pytest.mark.parametrize("ftype", [None, 9999, "Q8_0", [2, 7], True])
def test_a_file_that_does_not_say_its_level(tmp_path: Path, ftype: Any) -> None:
    """One whose file type is a list could not be looked up."""
    path = tiny_gguf.write(tmp_path / "mine.gguf", {"general.file_type": ftype})
    assert level_in(read_sane(path)) == "mine" and given(path) == ("mine", {"mine": path})


def test_names_that_no_level_has_come_last(tiny: Mapping[str, Path], tmp_path: Path) -> None:
    order = list(LEVELS)
    assert list(in_order(dict.fromkeys(["mine", *reversed(order), "A"]))) == [*order, "mine", "A"]


def test_some_of_the_files(tiny: Mapping[str, Path], tmp_path: Path) -> None:
    """A second file of a level was left out, and a level that is not there ended in a traceback."""
    other = Path(shutil.copy(tiny["Q8_0"], tmp_path / "other.gguf"))
    assert given(*tiny.values(), other, levels="q8_0")[1] == {"Q8_0": tiny["Q8_0"], "other": other}
    assert given(*tiny.values(), levels="Q4_0,Q8_0")[1] == dict(tiny)
    error = refusal(*tiny.values(), levels="Q8_0,Q2_K")
    assert (error.message, error.hint) == ("none of the files is Q2_K", "there is Q8_0, Q4_0")


def test_files_of_several_models(tiny: Mapping[str, Path], tiny_glm: Path, tmp_path: Path) -> None:
    error = refusal(tiny["Q8_0"], tiny_glm)
    assert error.message.startswith("tiny-glm-Q8_0.gguf is of another model than tiny-qwen-Q8_0.gguf: their arch")
    assert "--against" in error.hint
    one = tiny_gguf.write(tmp_path / "one.gguf")
    weights = tiny_gguf.tensors()
    fewer = {name: data for name, data in weights.items() if not name.startswith("blk.1.")}
    other = tiny_gguf.write(tmp_path / "other.gguf", {"qwen2.block_count": 1}, fewer)
    error = refusal(one, other)
    assert error.message == "other.gguf is of another model than one.gguf: their number of layers is 1 and 2"
    finetuned = tiny_gguf.write(tmp_path / "finetuned.gguf", weights=tiny_gguf.tensors(seed=2))
    assert list(given(one, finetuned)[1].values()) == [one, finetuned]


def test_what_is_no_file_of_a_model(tiny: Mapping[str, Path], tmp_path: Path) -> None:
    good, cut = tiny["Q8_0"], tmp_path / "cut.gguf"
    cut.write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    for paths in ((cut,), (good, cut), (cut, good)):
        error = refusal(*paths)
        assert isinstance(error, GgufError) and error.message.startswith("cut.gguf: ") and error.hint
    for paths in ((good, "tiny-qwen"), ("tiny-qwen", good)):
        assert refusal(*paths).message == "tiny-qwen is no .gguf file"
    (tmp_path / "folder.gguf").mkdir()
    assert "there is no file" in refusal(tmp_path / "folder.gguf").message
    assert "has no config.json" in refusal(tmp_path).message
    (tmp_path / "text.gguf").write_text("hello")
    assert refusal(tmp_path / "text.gguf").message.startswith("text.gguf: ")


# --- models


def test_all_levels_that_are_here(stored: Path) -> None:
    convert = Converter({level: store.file_path(stored, "tiny-qwen", level) for level in ("Q8_0", "Q4_0")})
    assert files_of(["tiny-qwen"], [], stored, convert) == ("tiny-qwen", convert.made)
    assert convert.asked == [("tiny-qwen", "Q8_0"), ("tiny-qwen", "Q4_0")]


def test_the_usual_level_where_none_is_here(tiny: Mapping[str, Path], tmp_path: Path) -> None:
    convert = Converter({None: tiny["Q4_0"]})
    assert files_of(["tiny-qwen"], [], tmp_path, convert) == ("tiny-qwen", {"Q4_0": tiny["Q4_0"]})
    assert convert.asked == [("tiny-qwen", None)]


def test_levels_that_were_made_from_another_checkpoint_do_not_count(tiny: Mapping[str, Path], stored: Path) -> None:
    """A model that had been changed since was measured as it had been."""
    for level in tiny:
        path = store.file_path(stored, "tiny-qwen", level)
        write_report(path, {"fingerprint": "old", "bytes": path.stat().st_size})
    convert = Converter({None: tiny["Q4_0"]})
    files_of(["tiny-qwen"], [], stored, convert)
    assert convert.asked == [("tiny-qwen", None)]


def test_of_the_levels_that_are_here_those_that_are_up_to_date(tiny: Mapping[str, Path], stored: Path) -> None:
    path = store.file_path(stored, "tiny-qwen", "Q4_0")
    write_report(path, {"fingerprint": "old", "bytes": path.stat().st_size})
    convert = Converter(dict(tiny))
    assert list(files_of(["tiny-qwen"], [], stored, convert)[1]) == ["Q8_0"]


def test_levels_are_made_where_they_are_asked_for(tiny: Mapping[str, Path], stored: Path) -> None:
    convert = Converter({**tiny, "Q2_K": Path("made.gguf")})
    assert list(files_of(["tiny-qwen"], ["Q2_K", "Q8_0"], stored, convert)[1]) == ["Q8_0", "Q2_K"]
    assert convert.asked == [("tiny-qwen", "Q2_K"), ("tiny-qwen", "Q8_0")]


@pytest.mark.parametrize(
    ("text", "name", "asked"),
    [
        ("tiny-qwen:q8_0", "tiny-qwen", ("tiny-qwen", "Q8_0")),
        ("qwen2.5:7b", "qwen2.5-7b", ("qwen2.5:7b", None)),
        ("qwen2.5:7b:Q8_0", "qwen2.5-7b", ("qwen2.5:7b", "Q8_0")),
        ("Qwen/Qwen2.5-7B-Instruct:Q8_0", "qwen2.5-7b", ("Qwen/Qwen2.5-7B-Instruct", "Q8_0")),
    ],
)
def test_a_name_with_a_level(
    tiny: Mapping[str, Path], tmp_path: Path, text: str, name: str, asked: tuple[str, str | None]
) -> None:
    convert = Converter({None: tiny["Q8_0"], "Q8_0": tiny["Q8_0"]})
    found, levels = files_of([text], [], tmp_path, convert)
    assert convert.asked == [asked] and (found, levels) == (name, {"Q8_0": tiny["Q8_0"]})


def test_one_level_and_others(tiny: Mapping[str, Path], tmp_path: Path) -> None:
    """The others were left out without a word."""
    with pytest.raises(EdgeError, match=r"tiny-qwen:Q8_0 is Q8_0 alone, not Q4_0; leave out"):
        files_of(["tiny-qwen:Q8_0"], ["Q4_0"], tmp_path, no_conversion)
    convert = Converter(dict(tiny))
    assert list(files_of(["tiny-qwen:Q8_0"], ["Q8_0"], tmp_path, convert)[1]) == ["Q8_0"]


def test_a_model_that_is_nowhere(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        files_of([""], [], tmp_path, no_conversion)
    with pytest.raises(EdgeError, match="there is no quant level 'Q9_0'"):
        files_of(["tiny-qwen:Q9_0"], [], tmp_path, no_conversion)


def test_a_list_of_levels() -> None:
    assert parse_levels("q8_0, Q4_K_M,,Q8_0") == ["Q8_0", "Q4_K_M"]
    assert parse_levels(None) == parse_levels("") == parse_levels(",") == []
    with pytest.raises(EdgeError, match="there is no quant level 'Q9'"):
        parse_levels("Q8_0,Q9")


# --- settings


def test_settings_are_those_of_whoever_loads_it(tiny: Mapping[str, Path], tmp_path: Path) -> None:
    path, cores = tiny["Q4_0"], machine.usable_cores()
    plain = options_for(path, tmp_path, {}, repeats=7, widths=(1,))
    assert plain == Options(cores, cores, None, 512, "f16", 0, widths=(1,), repeats=7)
    tuned.save(tmp_path, gguf_file.read(path), Tuned(3, 5, True, 128, 4))
    known = options_for(path, tmp_path, {"threads": None, "flash_attn": None})
    assert (known.threads, known.threads_batch, known.flash_attn, known.rows) == (3, 5, True, 128) and known.tuned
    chosen = options_for(path, tmp_path, {"threads": 2, "flash_attn": False, "kv_type": "f16", "gpu_layers": 0})
    assert (chosen.threads, chosen.threads_batch, chosen.flash_attn, chosen.rows) == (2, 2, False, 128)
    assert options_for(path, tmp_path, {"threads_batch": 6}).threads_batch == 6
    quantized = options_for(path, tmp_path / "other", {"kv_type": "q8_0"})
    assert (quantized.kv_type, quantized.flash_attn) == ("q8_0", None)


def test_what_was_tuned_with_other_layers_on_gpus_is_not_used(tiny: Mapping[str, Path], tmp_path: Path) -> None:
    """The result said that it was."""
    tuned.save(tmp_path, gguf_file.read(tiny["Q4_0"]), Tuned(3, 5, True, 128, 4, gpu_layers=9))
    found = options_for(tiny["Q4_0"], tmp_path, {})
    assert not found.tuned and found.rows == 512
    assert options_for(tiny["Q4_0"], tmp_path, {"gpu_layers": 9}).tuned


# --- depths


def depths(path: Path, asked: tuple[int, ...] | None) -> tuple[tuple[int, ...], list[str]]:
    return depths_for({"Q8_0": path}, {"Q8_0": Options(1, 1, False)}, asked)


def free_memory(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(machine, "memory", lambda: machine.Memory(10**12, free, None))


def long_model(folder: Path, context: int | None = 1 << 30) -> Path:
    return tiny_gguf.write(folder / "long.gguf", {"qwen2.context_length": context})


def test_depths_that_a_model_was_trained_for(tiny: Mapping[str, Path], tmp_path: Path) -> None:
    path = tiny["Q8_0"]
    trained = from_gguf(gguf_file.read(path)).context_length
    assert trained == 2048
    assert depths(path, (0, 64, trained - PROMPT)) == ((0, 64, trained - PROMPT), [])
    for depth in (trained - PROMPT + 1, 4096, 100_000_000):
        with pytest.raises(EdgeError) as caught:
            depths(path, (0, depth))
        assert caught.value.message == (
            f"tiny-qwen-Q8_0.gguf was trained for 2048 tokens, fewer than {depth} and a prompt of 512"
        )
        assert caught.value.hint == "use --depths up to 1536"


def test_of_the_usual_depths_those_that_can_be(tiny: Mapping[str, Path], tmp_path: Path) -> None:
    kept, notes = depths(tiny["Q8_0"], None)
    assert kept == (0,)
    assert notes == [
        "note: not measured behind 4096 tokens: tiny-qwen-Q8_0.gguf was trained for 2048 tokens, "
        "fewer than 4096 and a prompt of 512"
    ]
    assert depths(long_model(tmp_path), None) == (USUAL_DEPTHS, [])


def test_a_depth_must_suit_all_files(tiny: Mapping[str, Path], tmp_path: Path) -> None:
    paths = {"Q8_0": long_model(tmp_path), "Q4_0": tiny["Q4_0"]}
    options = dict.fromkeys(paths, Options(1, 1, False))
    assert depths_for(paths, options, None)[0] == (0,)
    with pytest.raises(EdgeError, match=r"tiny-qwen-Q4_0\.gguf was trained"):
        depths_for(paths, options, (0, 4096))


def test_a_model_trained_for_less_than_a_prompt(tmp_path: Path) -> None:
    path = long_model(tmp_path, 300)
    assert depths(path, (0,)) == ((0,), [])
    with pytest.raises(EdgeError, match="use --depths up to 0"):
        depths(path, (0, 1))


def test_a_file_that_does_not_say_what_it_was_trained_for(tmp_path: Path) -> None:
    assert depths(long_model(tmp_path, 0), (0, 9000)) == ((0, 9000), [])
    assert depths(long_model(tmp_path, None), (0, 9000)) == ((0, 9000), [])


@pytest.mark.parametrize("kind", ["plain", "qwen35"])
def test_a_depth_that_there_is_no_memory_for(
    kind: str, tmp_path: Path, hybrid: Hybrid, monkeypatch: pytest.MonkeyPatch
) -> None:
    """llama.cpp took gigabytes for the numbers of its cells alone before it said no."""
    path = long_model(tmp_path) if kind == "plain" else hybrid(kind)
    shape = replace(from_gguf(gguf_file.read(path)), context_length=1 << 30)
    options = Options(1, 1, False)
    needed = kv_bytes(shape, cells_for(longest(100_000_000)))
    free_memory(monkeypatch, needed)
    check_depth("x.gguf", shape, options, 100_000_000)
    free_memory(monkeypatch, needed - 1)
    with pytest.raises(MemoryShort, match=r"x\.gguf needs .*B for a cache of 100000704 tokens, .*B of memory are free"):
        check_depth("x.gguf", shape, options, 100_000_000)
    check_depth("x.gguf", shape, replace(options, kv_type="q8_0"), 100_000_000)
    check_depth("x.gguf", shape, replace(options, gpu_layers=-1), 100_000_000)


def test_short_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Less depth is measured then; where not even the usual context has room, nothing."""
    path = long_model(tmp_path)
    shape = from_gguf(gguf_file.read(path))
    free_memory(monkeypatch, kv_bytes(shape, cells_for(4096)))
    kept, notes = depths(path, None)
    assert kept == (0,) and len(notes) == 1 and "of memory are free" in notes[0]
    with pytest.raises(MemoryShort):
        depths(path, (0, 4096))
    free_memory(monkeypatch, kv_bytes(shape, cells_for(4096)) - 1)
    with pytest.raises(MemoryShort, match="a cache of 4096 tokens"):
        depths(path, None)
