"""Both forms of the importance matrix: right numbers from sound files, one line for every damaged one."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from convert.errors import EdgeError
from convert.ggml import QType, quantize_rows, row_size
from convert.imatrix import Imatrix, imatrix_metadata, read_imatrix
from convert.metadata import KV

DOWN = "blk.0.ffn_down_exps.weight"
Tensors = dict[str, np.ndarray]


def float32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def gguf_tensors() -> Tensors:
    """Two tensors: one of a single matrix, one of three experts of rows of two."""
    return {
        "output.weight.in_sum2": float32(3, 6, 9, 0)[None],
        "output.weight.counts": float32(3)[None],
        f"{DOWN}.in_sum2": float32(1, 2, 3, 4, 5, 6).reshape(3, 2),
        f"{DOWN}.counts": float32(3, 0, 2.5)[:, None],
    }


def write_gguf(path: Path, tensors: Tensors | None = None, **metadata: Any) -> Path:
    writer = gguf.GGUFWriter(path, "imatrix")
    found = {"datasets": ["a.txt", "b.txt"], "chunk_count": 12, "chunk_size": 512} | metadata
    for key, value in found.items():
        if isinstance(value, list):
            writer.add_array(f"imatrix.{key}", value)
        elif value is not None:
            writer.add_uint32(f"imatrix.{key}", value)
    for name, data in (gguf_tensors() if tensors is None else tensors).items():
        writer.add_tensor(name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def entry(name: bytes, calls: int, values: np.ndarray) -> bytes:
    data = values.astype("<f4").tobytes()
    return struct.pack("<i", len(name)) + name + struct.pack("<ii", calls, values.size) + data


ENTRIES = (entry(b"output.weight", 7, float32(1, 2, 3)), entry(b"blk.0.attn_q.weight", 0, float32(4)))
TAIL = struct.pack("<ii", 33, 9) + b"calib.txt"


def dat(*entries: bytes, tail: bytes = b"") -> bytes:
    return struct.pack("<i", len(entries)) + b"".join(entries) + tail


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(EdgeError) as caught:
        read_imatrix(path)
    assert "\n" not in str(caught.value) and path.name in str(caught.value)
    return str(caught.value)


def test_gguf_divides_by_the_rounded_count_and_fills_an_unreached_expert_with_ones(tmp_path: Path) -> None:
    found = read_imatrix(write_gguf(tmp_path / "i.gguf"))
    assert found.datasets == ("a.txt", "b.txt") and found.chunks == 12
    np.testing.assert_array_equal(found.weights["output.weight"], float32(1, 2, 3, 0))
    third = np.float32(1) / np.float32(3)
    expected = float32(third, np.float32(2) / np.float32(3), 1, 1, np.float32(5) / np.float32(3), 2)
    np.testing.assert_array_equal(found.weights[DOWN], expected)
    assert found.weights[DOWN].dtype == np.float32


def test_dat_divides_by_the_calls_if_there_were_any(tmp_path: Path) -> None:
    found = read_imatrix(write(tmp_path / "i.dat", dat(*ENTRIES, tail=TAIL)))
    np.testing.assert_array_equal(found.weights["output.weight"], float32(1, 2, 3) / np.float32(7))
    np.testing.assert_array_equal(found.weights["blk.0.attn_q.weight"], float32(4))
    assert found.chunks == 33 and found.datasets == ("calib.txt",)


def test_dat_without_chunk_count(tmp_path: Path) -> None:
    found = read_imatrix(write(tmp_path / "i.dat", dat(*ENTRIES)))
    assert found.chunks == 0 and found.datasets == () and len(found.weights) == 2


def test_weights_for_a_tensor(tmp_path: Path) -> None:
    found = read_imatrix(write_gguf(tmp_path / "i.gguf"))
    weights = found.weights_for(DOWN, (3, 10, 2))
    assert weights is not None and weights.shape == (3, 2) and weights[1].tolist() == [1, 1]
    assert found.weights_for("blk.0.ffn_up.weight", (10, 2)) is None
    with pytest.raises(EdgeError, match=r"i\.gguf: 6 values for blk\.0\.ffn_down_exps\.weight, which has 2"):
        found.weights_for(DOWN, (10, 2))


def test_an_embedding_of_another_size_is_left_unweighted() -> None:
    found = Imatrix("i.gguf", {"token_embd.weight": np.ones(5, np.float32)}, (), 0)
    assert found.weights_for("token_embd.weight", (10, 8)) is None


def test_metadata_is_what_llama_quantize_adds() -> None:
    weights = {"output.weight": np.ones(4, np.float32)}
    assert imatrix_metadata(Imatrix("./i.gguf", weights, ("a.txt", "b.txt"), 12)) == [
        KV("quantize.imatrix.file", "str", "./i.gguf"),
        KV("quantize.imatrix.dataset", "str", "a.txt"),
        KV("quantize.imatrix.entries_count", "u32", 1),
        KV("quantize.imatrix.chunks_count", "u32", 12),
    ]
    assert [kv.key for kv in imatrix_metadata(Imatrix("i.gguf", weights, (), 0))] == [
        "quantize.imatrix.file",
        "quantize.imatrix.entries_count",
    ]


def test_long_texts_are_cut_at_127_bytes_between_characters() -> None:
    metadata = imatrix_metadata(Imatrix("a" * 126 + "é", {}, ("b" * 300,), 0))
    assert [len(kv.value) for kv in metadata[:2]] == [126, 127]


def test_the_path_stays_as_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_gguf(tmp_path / "i.gguf")
    monkeypatch.chdir(tmp_path)
    assert read_imatrix("./i.gguf").file == "./i.gguf"


def changed(name: str, value: np.ndarray | None) -> Tensors:
    tensors = {key: data for key, data in gguf_tensors().items() if key != name}
    return tensors if value is None else tensors | {name: value}


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        (changed("output.weight.counts", None), "sums without counts"),
        (changed("output.weight.in_sum2", None), "counts without sums"),
        (changed("output.weight.counts", float32(1, 1, 1)), "4 sums for output.weight cannot belong to 3 experts"),
        (changed("output.weight.in_sum2", float32(1, 2, 3, np.nan)), "negative, infinite or NaN"),
        (changed("output.weight.in_sum2", float32(1, 2, 3, np.inf)), "negative, infinite or NaN"),
        (changed("output.weight.in_sum2", float32(1, 2, 3, -1)), "negative, infinite or NaN"),
        (changed("output.weight.counts", float32(np.nan)), "count is NaN"),
        (changed("output.weight.counts", np.ones(1, np.float16)), "is F16, not F32"),
        ({"output.weight": float32(1, 2)}, "no importance matrix"),
        ({}, "no importance matrix"),
    ],
)
def test_damaged_gguf(tensors: Tensors, says: str, tmp_path: Path) -> None:
    assert says in refusal(write_gguf(tmp_path / "bad.gguf", tensors))


@pytest.mark.parametrize("key", ["datasets", "chunk_count", "chunk_size"])
def test_a_gguf_that_is_no_imatrix(key: str, tmp_path: Path) -> None:
    assert "not an importance matrix" in refusal(write_gguf(tmp_path / "bad.gguf", **{key: None}))


def test_a_chunk_count_that_cannot_be(tmp_path: Path) -> None:
    assert "chunk_count is 4294967295" in refusal(write_gguf(tmp_path / "bad.gguf", chunk_count=2**32 - 1))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "ends too early"),
        (b"# a text file\n" * 9, "not an importance matrix"),
        (dat(), "not an importance matrix"),
        (struct.pack("<i", -1) + ENTRIES[0], "not an importance matrix"),
        (dat(ENTRIES[0], ENTRIES[0]), "output.weight occurs twice"),
        (dat(entry(b"", 1, float32(1))), "a tensor name of 0 bytes"),
        (dat(struct.pack("<i", -5) + bytes(40)), "a tensor name of -5 bytes"),
        (dat(struct.pack("<i", 1 << 30) + bytes(40)), "a tensor name of 1073741824 bytes"),
        (dat(entry(b"\xff\xfe", 1, float32(1, 2))), "a tensor name is"),
        (dat(entry(b"x", 1, float32(1, 2, np.nan))), "negative, infinite or NaN"),
        (dat(struct.pack("<i", 1) + b"x" + struct.pack("<iif", 1, 0, 0)), "0 values for x"),
        (dat(struct.pack("<i", 1) + b"x" + struct.pack("<iif", 1, 2**31 - 1, 0)), "2147483647 values for x"),
        (dat(*ENTRIES, tail=TAIL[:2]), "ends too early"),
    ],
)
def test_damaged_dat(data: bytes, says: str, tmp_path: Path) -> None:
    assert says in refusal(write(tmp_path / "bad.dat", data))


@pytest.mark.parametrize(("make", "padding"), [(write_gguf, 31), (lambda path: write(path, dat(*ENTRIES)), 0)])
def test_a_truncated_or_altered_file_never_ends_in_anything_but_an_answer(
    make: Callable[[Path], Path], padding: int, tmp_path: Path
) -> None:
    whole = make(tmp_path / "whole").read_bytes()
    rng = random.Random(1)
    path = tmp_path / "bad"
    for length in range(0, len(whole) - padding, 5):
        refusal(write(path, whole[:length]))
    for _ in range(300):
        data = bytearray(whole)
        data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data)
        try:
            read_imatrix(path)
        except EdgeError as error:
            assert "\n" not in str(error)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert "cannot read" in refusal(tmp_path / "none.gguf")


def test_an_imatrix_changes_the_bytes_and_must_fit_the_row() -> None:
    source = np.random.default_rng(1).normal(0, 1, (2, 256)).astype(np.float32)
    results = []
    for imatrix in (None, np.ones(256, np.float32), np.linspace(1, 9, 256, dtype=np.float32)):
        out = np.empty(2 * row_size(QType.Q4_0, 256), np.uint8)
        quantize_rows(source, QType.Q4_0, out, imatrix)
        results.append(out.tobytes())
    assert len(set(results)) == 3
    with pytest.raises(ValueError, match="rows of 256"):
        quantize_rows(source, QType.Q4_0, out, np.ones(255, np.float32))


def test_what_overflows_the_type_is_refused() -> None:
    """Regression: a weight whose scale is beyond 16-bit floats became an infinity in the file."""
    for qtype in (QType.F16, QType.Q8_0, QType.Q4_K):
        out = np.empty(row_size(qtype, 256), np.uint8)
        with pytest.raises(EdgeError, match=f"weights too large for {qtype.name}"):
            quantize_rows(np.full((1, 256), 1e9, np.float32), qtype, out)
        with pytest.raises(EdgeError, match="weights or imatrix too large"):
            quantize_rows(np.full((1, 256), 1e9, np.float32), qtype, out, np.ones(256, np.float32))
