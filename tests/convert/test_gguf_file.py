from __future__ import annotations

import random
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convert import gguf_file
from convert.gguf_file import GgufError
from edge.gguf_sane import check_sane
from tests.edge import tiny_gguf


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gguf.write(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def string(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(data)) + data


def header(tensors: int = 0, keys: int = 0, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys)


def tensor(name: str, shape: tuple[int, ...], qtype: int = 0, offset: int = 0) -> bytes:
    return string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, qtype, offset)


def padded(data: bytes, body: int) -> bytes:
    return data + bytes(-len(data) % 32 + body)


def refusal(tmp_path: Path, data: bytes) -> str:
    path = tmp_path / "bad.gguf"
    path.write_bytes(data)
    with pytest.raises(GgufError) as caught:
        gguf_file.read(path)
    assert "\n" not in str(caught.value)
    return caught.value.message


def test_a_sound_file_reads_as_written(tiny: Path) -> None:
    read = gguf_file.read(tiny)
    for key, value in tiny_gguf.metadata().items():
        got = read.metadata[key]
        assert got.tolist() == value if isinstance(got, np.ndarray) else got == pytest.approx(value)
    assert read.metadata["tokenizer.ggml.token_type"].dtype == np.int32
    assert [t.name for t in read.tensors] == list(tiny_gguf.tensors())
    raw = tiny.read_bytes()
    for info, array in zip(read.tensors, tiny_gguf.tensors().values(), strict=True):
        at = read.data_offset + info.offset
        assert info.shape == array.shape[::-1]
        assert raw[at : at + info.nbytes] == array.tobytes()
    assert read.bits_per_weight == 32
    assert read.count_types() == {"F32": len(read.tensors)}
    check_sane(read)


def test_every_scalar_type(tmp_path: Path) -> None:
    path = tmp_path / "scalars.gguf"
    formats = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
    pairs = [string(f"k{id}") + struct.pack("<I", id) + struct.pack(code, 1) for id, code in formats.items()]
    arrays = [
        string(f"a{id}") + struct.pack("<IIQ", 9, id, 2) + struct.pack(code, 0) + struct.pack(code, 1)
        for id, code in formats.items()
    ]
    path.write_bytes(header(keys=len(pairs + arrays)) + b"".join(pairs + arrays))
    metadata = gguf_file.read(path).metadata
    assert metadata["k7"] is True
    for id in formats:
        assert metadata[f"k{id}"] == 1
        assert metadata[f"a{id}"].tolist() == [0, 1]


def test_strings_that_cross_the_read_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf_file, "READ_AHEAD", 7)
    assert (
        gguf_file.read(tiny_gguf.write(tmp_path / "t.gguf")).metadata["tokenizer.ggml.tokens"]
        == (tiny_gguf.vocabulary()[0])
    )


def test_not_a_gguf(tmp_path: Path) -> None:
    assert "not a GGUF" in refusal(tmp_path, b"PK\x03\x04" + bytes(100))
    assert "ends" in refusal(tmp_path, b"GG")
    path = tmp_path / "pointer.gguf"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(GgufError, match="git lfs pull"):
        gguf_file.read(path)
    with pytest.raises(GgufError, match="cannot read"):
        gguf_file.read(tmp_path / "absent.gguf")
    with pytest.raises(GgufError, match="cannot read"):
        gguf_file.read(tmp_path)


def test_versions(tmp_path: Path) -> None:
    path = tmp_path / "v2.gguf"
    path.write_bytes(header(version=2))
    assert gguf_file.read(path).version == 2
    assert "version 1" in refusal(tmp_path, header(version=1))
    assert "version 4" in refusal(tmp_path, header(version=4))
    assert "big-endian" in refusal(tmp_path, header(version=3 << 24))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (header(keys=2**62), "too short"),
        (header(tensors=2**63), "too short"),
        (header(keys=1) + struct.pack("<Q", 2**64 - 1) + bytes(20), "at most"),
        (header(keys=1) + string("") + bytes(20), "empty"),
        (header(keys=1) + string(b"\xff\xfe") + bytes(20), "UTF-8"),
        (header(keys=1) + string("a\0b") + bytes(20), "NUL"),
        (header(keys=2) + 2 * (string("k") + struct.pack("<II", 4, 1)), "twice"),
        (header(keys=1) + string("k") + struct.pack("<I", 13) + bytes(20), "unknown type 13"),
        (header(keys=1) + string("k") + struct.pack("<IIQ", 9, 9, 1) + bytes(20), "array of arrays"),
        (header(keys=1) + string("k") + struct.pack("<IIQ", 9, 77, 1) + bytes(20), "unknown type 77"),
        (header(keys=1) + string("k") + struct.pack("<IIQ", 9, 4, 2**61) + bytes(20), "ends"),
        (header(keys=1) + string("k") + struct.pack("<IIQ", 9, 8, 2**40) + bytes(20), "strings"),
        (header(keys=1) + string("k") + struct.pack("<IIQ", 9, 8, 2) + string("a\0") + string("b"), "NUL"),
        (header(keys=1) + string("k") + struct.pack("<IIQ", 9, 8, 2) + string(b"\xff") + string("b"), "UTF-8"),
        (header(keys=1) + string("general.alignment") + struct.pack("<II", 4, 0), "power of two"),
        (header(keys=1) + string("general.alignment") + struct.pack("<II", 4, 48), "power of two"),
        (header(keys=1) + string("general.alignment") + struct.pack("<II", 4, 1 << 30), "power of two"),
        (header(keys=1) + string("general.alignment") + struct.pack("<IQ", 10, 32), "power of two"),
        (padded(header(tensors=1) + tensor("t" * 64, (1,)), 64), "at most 63"),
        (padded(header(tensors=1) + tensor("t", ()), 64), "0 dimensions"),
        (padded(header(tensors=1) + tensor("t", (1, 1, 1, 1, 1)), 64), "5 dimensions"),
        (padded(header(tensors=1) + tensor("t", (1,), 4), 64), "unknown type 4"),
        (padded(header(tensors=1) + tensor("t", (1,), 2**32 - 1), 64), "unknown type"),
        (padded(header(tensors=1) + tensor("t", (33,), 8), 64), "impossible shape"),
        (padded(header(tensors=1) + tensor("t", (8, 0)), 64), "impossible shape"),
        (padded(header(tensors=1) + tensor("t", (2**62, 2**62)), 64), "ends inside"),
        (padded(header(tensors=1) + tensor("t", (2**64 - 1,)), 64), "ends inside"),
        (padded(header(tensors=1) + tensor("t", (16,)), 63), "ends inside"),
        (padded(header(tensors=1) + tensor("t", (16,), offset=32), 128), "expected at 0"),
        (padded(header(tensors=2) + tensor("a", (16,)) + tensor("b", (16,), offset=32), 512), "expected at 64"),
        (padded(header(tensors=2) + tensor("a", (8,)) + tensor("a", (8,), offset=32), 512), "twice"),
    ],
)
def test_a_lie_is_named(tmp_path: Path, data: bytes, message: str) -> None:
    assert message in refusal(tmp_path, data)


def test_cut_anywhere(tiny: Path, tmp_path: Path) -> None:
    data = tiny.read_bytes()
    for end in [*range(0, 6000, 13), *range(6000, len(data) - 1, 4099), len(data) - 1]:
        refusal(tmp_path, data[:end])


def read_or_refuse(path: Path) -> bool:
    """True if the reader and the checks accept the file; anything but ``GgufError`` fails the test."""
    try:
        check_sane(gguf_file.read(path))
    except GgufError as error:
        assert "\n" not in str(error)
        return False
    return True


def test_thousands_of_mutations_only_ever_raise_gguf_error(tiny: Path, tmp_path: Path) -> None:
    original = tiny.read_bytes()
    size = gguf_file.read(tiny).data_offset
    path = tmp_path / "mutated.gguf"
    rng = random.Random(7)
    refused = 0
    for _ in range(3000):
        data = bytearray(original[: size + 200_000])
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(size)
            match rng.randrange(4):
                case 0:
                    data[at] = rng.randrange(256)
                case 1:
                    data[at : at + 8] = struct.pack("<Q", rng.choice([0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1]))
                case 2:
                    del data[at : at + rng.randint(1, 9)]
                case 3:
                    data[at:at] = rng.randbytes(rng.randint(1, 9))
        path.write_bytes(data)
        refused += not read_or_refuse(path)
    assert refused > 1000


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=200), st.sampled_from([b"", header(0, 1), header(1, 0), header(2, 3), header(0, 1, 2)]))
def test_any_bytes(tmp_path: Path, data: bytes, start: bytes) -> None:
    path = tmp_path / "any.gguf"
    path.write_bytes(start + data)
    read_or_refuse(path)
