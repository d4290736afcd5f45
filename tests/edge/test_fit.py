"""Whether a context fits into the free memory, and what to do where it does not."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convert import gguf_file
from convert.gguf_file import GgufFile
from convert.pipeline import convert
from edge import machine
from edge.errors import MemoryShort
from edge.fit import check_context_fits
from edge.llama.context import cells_for
from edge.memory import context_bytes
from edge.shapes import from_gguf
from tests.convert.small import build_small
from tests.edge import tiny_gguf

TOKEN = 2 * 2 * 2 * 16 * 2  # bytes: keys and values of two layers, each with two heads of 16 halves


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> GgufFile:
    return gguf_file.read(tiny_gguf.write(tmp_path_factory.mktemp("fit") / "tiny.gguf"))


@pytest.fixture(scope="module")
def hybrid(tmp_path_factory: pytest.TempPathFactory) -> GgufFile:
    """One layer of four keeps keys and values, the others have states."""
    folder = tmp_path_factory.mktemp("fit")
    convert(build_small(folder / "checkpoint", "qwen35"), {"F16": folder / "x.gguf"})
    return gguf_file.read(folder / "x.gguf")


def free(monkeypatch: pytest.MonkeyPatch, nbytes: int) -> None:
    monkeypatch.setattr(machine, "memory", lambda: machine.Memory(1 << 50, nbytes, None))


def check(file: GgufFile, ctx: int, slots: int = 1, kv_type: str = "f16") -> None:
    check_context_fits(file, ctx, slots, kv_type, flash_attn=kv_type == "q8_0")


def needed(file: GgufFile, ctx: int, slots: int = 1, kv_type: str = "f16") -> int:
    return sum(context_bytes(from_gguf(file), ctx, slots=slots, kv_type=kv_type, flash_attn=kv_type == "q8_0"))


def refusal(file: GgufFile, ctx: int, slots: int = 1, kv_type: str = "f16") -> str:
    with pytest.raises(MemoryShort) as caught:
        check(file, ctx, slots, kv_type)
    return str(caught.value)


@pytest.mark.parametrize(("ctx", "slots"), [(8, 1), (256, 1), (300, 3), (2048, 2), (100_000, 4)])
def test_just_the_free_memory(file: GgufFile, ctx: int, slots: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a step needs counts beside the cache: without flash attention that is the larger part of a long context."""
    most = needed(file, ctx, slots)
    assert most > cells_for(ctx) * slots * TOKEN
    free(monkeypatch, most)
    check(file, ctx, slots)
    free(monkeypatch, most - 1)
    assert f"a context of {ctx} tokens needs " in refusal(file, ctx, slots)


def test_the_refusal_says_both_sizes_and_what_would_fit(file: GgufFile, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = from_gguf(file).context_length
    free(monkeypatch, needed(file, trained))
    said = refusal(file, 1_000_000)
    assert re.fullmatch(
        r"a context of 1000000 tokens needs .* of memory, .* are free; (\d+) tokens fit: --ctx \1", said
    )


def test_where_nothing_fits(file: GgufFile, monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 0)
    assert refusal(file, 8).endswith("; close other programs, or use a smaller model")


def test_a_quantized_cache_is_smaller(file: GgufFile, monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, needed(file, 256_000, kv_type="q8_0"))
    refusal(file, 256_000)
    check(file, 256_000, kv_type="q8_0")


def test_states_are_counted_for_each_sequence(hybrid: GgufFile, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = from_gguf(hybrid)
    three = context_bytes(shape, 200, slots=3, flash_attn=False)[0]
    assert three == 3 * context_bytes(shape, 200, flash_attn=False)[0] == 3 * (2 * 256 * 256 + shape.state_bytes)
    free(monkeypatch, needed(hybrid, 200, 3) - 1)
    refusal(hybrid, 200, 3)


@settings(deadline=None)
@given(
    ctx=st.integers(8, 10**7),
    slots=st.integers(1, 16),
    nbytes=st.integers(0, 10**10),
    kv_type=st.sampled_from(["f32", "f16", "q8_0"]),
    is_hybrid=st.booleans(),
)
def test_what_is_advised_does_fit(
    file: GgufFile, hybrid: GgufFile, ctx: int, slots: int, nbytes: int, kv_type: str, is_hybrid: bool
) -> None:
    chosen = hybrid if is_hybrid else file
    with pytest.MonkeyPatch.context() as patch:
        free(patch, nbytes)
        try:
            check(chosen, ctx, slots, kv_type)
        except MemoryShort as error:
            if found := re.search(r"--ctx (\d+)$", str(error)):
                assert int(found[1]) < ctx
                check(chosen, int(found[1]), slots, kv_type)
