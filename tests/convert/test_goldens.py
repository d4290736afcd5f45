"""Our files against the golden lists, which llama.cpp's own converter and quantizer made."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from convert.pipeline import convert
from tests.goldens.cases import CASES
from tests.goldens.files import golden_path, read_golden
from tests.goldens.listing import FLOATS, Listing, Tensor, differences, listing

ON_X86_64 = platform.machine().lower() in ("x86_64", "amd64")


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory):
    """Case name -> level -> listing of our file; each case is converted once, all levels in one run."""
    made: dict[str, dict[str, Listing]] = {}

    def convert_case(name: str) -> dict[str, Listing]:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            outputs = {level: folder / f"{level}.gguf" for level in CASES[name].levels}
            convert(CASES[name].build(folder / name), outputs, threads=2)
            made[name] = {level: listing(file) for level, file in outputs.items()}
        return made[name]

    return convert_case


@pytest.mark.parametrize("name", CASES)
def test_layout_metadata_and_float_tensors_are_the_golden_ones(name, converted):
    """On every machine: metadata, names, types, shapes, order, and the bytes of tensors that stay floats."""
    golden, ours = read_golden(golden_path(name)), converted(name)
    assert set(golden) == set(ours) == set(CASES[name].levels)
    for level, expected in golden.items():
        found = differences(
            expected.without_quantized_bytes(), ours[level].without_quantized_bytes(), CASES[name].corrected
        )
        assert not found, f"{name} {level}\n" + "\n".join(found)


@pytest.mark.skipif(
    not ON_X86_64,
    reason=f"the goldens hold the quantized bytes of x86_64, and {platform.machine()} may round otherwise: "
    "everything but those bytes was compared",
)
@pytest.mark.parametrize("name", CASES)
def test_every_byte_is_the_golden_one(name, converted):
    """On x86_64: quantized tensors too."""
    for level, expected in read_golden(golden_path(name)).items():
        found = differences(expected, converted(name)[level], CASES[name].corrected)
        assert not found, f"{name} {level}\n" + "\n".join(found)


def test_the_goldens_show_every_rule():
    """A golden list that lost a type would let its rule go untested."""
    kinds = {t.qtype for name in CASES for found in read_golden(golden_path(name)).values() for t in found.tensors}
    floats, blocks = {"F32", "F16", "BF16"}, {"Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0", "IQ4_NL"}
    assert kinds == floats | blocks | {"Q6_K", "Q5_K", "Q4_K", "Q3_K", "Q2_K", "IQ4_XS"}


def test_a_difference_is_seen():
    """The comparison itself: a changed value, a lost key, another byte, another order, other padding."""
    one = Listing(("a u32 1", "b u32 2"), (Tensor("x", "F32", (4,), "00"), Tensor("y", "Q8_0", (4,), "11")), 64)
    assert differences(one, one) == []
    for other in (
        Listing(("a u32 1", "b u32 3"), one.tensors, 64),
        Listing(("a u32 1",), one.tensors, 64),
        Listing(("b u32 2", "a u32 1"), one.tensors, 64),
        Listing((*one.metadata, "tokenizer.ggml.bos_token_id u32 1"), one.tensors, 64),
        Listing(one.metadata, (Tensor("x", "F32", (4,), "01"), one.tensors[1]), 64),
        Listing(one.metadata, one.tensors[::-1], 64),
        Listing(one.metadata, one.tensors, 96),
    ):
        assert differences(one, other)
    added = Listing((*one.metadata, "tokenizer.ggml.eom_token_id u32 1"), one.tensors, 64)
    assert differences(one, added) == []
    assert differences(added, Listing(("tokenizer.ggml.eom_token_id u32 2",), (), 64))
    requantized = Listing(one.metadata, (one.tensors[0], Tensor("y", "Q8_0", (4,), "12")), 64)
    assert differences(one, requantized)
    assert differences(one.without_quantized_bytes(), requantized.without_quantized_bytes()) == []


def test_golden_files_and_cases_agree():
    files = {path.stem for path in Path(golden_path("")).parent.glob("*.txt")}
    assert files == set(CASES)
    assert {"F32", "F16", "BF16"} == {kind.name for kind in FLOATS}
