"""The checkpoint reader: what it accepts, and that every kind of damage is a named error."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convert.checkpoint import Checkpoint, open_checkpoint
from convert.errors import CheckpointError, EdgeError, UnsupportedError
from tests.checkpoints import build, edit_json, read_json, write_json

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return build(tmp_path / "checkpoint", layers=1)


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    return build(tmp_path / "sharded", layers=2, shards=3)


def split_header(path: Path) -> tuple[dict[str, Any], bytes]:
    raw = path.read_bytes()
    end = 8 + int.from_bytes(raw[:8], "little")
    return json.loads(raw[8:end]), raw[end:]


def write_raw(path: Path, header: bytes, data: bytes) -> None:
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)


def edit_header(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    header, data = split_header(folder / WEIGHTS)
    change(header)
    write_raw(folder / WEIGHTS, json.dumps(header).encode(), data)


def read_rows(checkpoint: Checkpoint, name: str) -> bytes:
    tensor = checkpoint.tensors[name]
    out = bytearray(tensor.nbytes)
    checkpoint.read_into(tensor, 0, memoryview(out))
    return bytes(out)


def test_reads_names_shapes_and_bytes(folder: Path) -> None:
    header, data = split_header(folder / WEIGHTS)
    header.pop("__metadata__")
    with open_checkpoint(folder) as checkpoint:
        assert list(checkpoint.tensors) == sorted(header)
        for name, entry in header.items():
            assert checkpoint.tensors[name].shape == tuple(entry["shape"])
            begin, end = entry["data_offsets"]
            assert read_rows(checkpoint, name) == data[begin:end]


def test_reads_a_part_of_a_tensor(folder: Path) -> None:
    with open_checkpoint(folder) as checkpoint:
        tensor = checkpoint.tensors["model.embed_tokens.weight"]
        whole = read_rows(checkpoint, tensor.name)
        part = np.empty(2 * tensor.row_bytes, np.uint8)
        checkpoint.read_into(tensor, 3 * tensor.row_bytes, part.data)
    assert part.tobytes() == whole[3 * tensor.row_bytes : 5 * tensor.row_bytes]


def test_shards_without_an_index_are_accepted_when_complete(sharded: Path) -> None:
    with open_checkpoint(sharded) as checkpoint:
        names = list(checkpoint.tensors)
    (sharded / INDEX).unlink()
    with open_checkpoint(sharded) as checkpoint:
        assert list(checkpoint.tensors) == names


def damage_lying_length(folder: Path) -> None:
    raw = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes((2**62).to_bytes(8, "little") + raw[8:])


def damage_length_past_end(folder: Path) -> None:
    raw = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(len(raw).to_bytes(8, "little") + raw[8:])


def damage_truncated(folder: Path) -> None:
    raw = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(raw[:-1])


def damage_trailing(folder: Path) -> None:
    with (folder / WEIGHTS).open("ab") as file:
        file.write(b"\0" * 64)


def damage_duplicate_key(folder: Path) -> None:
    header, data = split_header(folder / WEIGHTS)
    name = next(name for name in header if name != "__metadata__")
    text = json.dumps(header)
    write_raw(folder / WEIGHTS, (text[:-1] + f", {json.dumps(name)}: {json.dumps(header[name])}}}").encode(), data)


def damage_lfs(folder: Path) -> None:
    (folder / WEIGHTS).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")


def damage_lfs_config(folder: Path) -> None:
    (folder / "config.json").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")


def damage_config_nan(folder: Path) -> None:
    (folder / "config.json").write_text('{"rms_norm_eps": NaN}')


def damage_config_array(folder: Path) -> None:
    (folder / "config.json").write_text("[]")


def damage_config_depth(folder: Path) -> None:
    (folder / "config.json").write_text("[" * 200_000)


def damage_pickle(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "pytorch_model.bin")


def damage_adapter(folder: Path) -> None:
    write_json(folder / "adapter_config.json", {})


def first_entry(header: dict[str, Any]) -> dict[str, Any]:
    return header["model.norm.weight"]


def entry_damage(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: edit_header(folder, lambda header: first_entry(header).update(changes))


def config_damage(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: edit_json(folder / "config.json", **changes)


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "header longer than any": (damage_lying_length, "claims a header"),
    "header past the end": (damage_length_past_end, "truncated"),
    "last byte missing": (damage_truncated, "truncated"),
    "bytes after the end": (damage_trailing, "belong to no tensor"),
    "the same tensor twice in one header": (damage_duplicate_key, "is there twice"),
    "empty file": (lambda folder: (folder / WEIGHTS).write_bytes(b""), "too short"),
    "header is a list": (lambda folder: write_raw(folder / WEIGHTS, b"[1]", b""), "not a JSON object"),
    "header is not UTF-8": (lambda folder: write_raw(folder / WEIGHTS, b'{"\xff": 1}', b""), "not valid"),
    "no tensors": (lambda folder: write_raw(folder / WEIGHTS, b"{}", b""), "no tensors"),
    "git-lfs pointer for weights": (damage_lfs, "git-lfs pointer"),
    "git-lfs pointer for config": (damage_lfs_config, "git-lfs pointer"),
    "NaN in config": (damage_config_nan, "not valid JSON"),
    "config is a list": (damage_config_array, "does not hold a JSON object"),
    "config nested without end": (damage_config_depth, "not valid JSON"),
    "only pickled weights": (damage_pickle, "pickle"),
    "LoRA adapter": (damage_adapter, "adapter"),
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), "no model*.safetensors"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "no config.json"),
    "overlap": (entry_damage(data_offsets=[0, 512]), "overlaps"),
    "offsets outside": (entry_damage(data_offsets=[2**50, 2**50 + 512]), "gap"),
    "offsets backwards": (entry_damage(data_offsets=[512, 0]), "does not take"),
    "negative offset": (entry_damage(data_offsets=[-512, 0]), "not two positions"),
    "boolean offset": (entry_damage(data_offsets=[False, True]), "not two positions"),
    "huge shape": (entry_damage(shape=[2**40, 2**40]), "does not take"),
    "negative shape": (entry_damage(shape=[-256]), "not a list of at most eight sizes"),
    "fractional shape": (entry_damage(shape=[256.0]), "not a list of at most eight sizes"),
    "unknown dtype": (entry_damage(dtype="BF17"), "unknown dtype"),
    "no dtype": (entry_damage(dtype=None), "no dtype"),
    "FP8 weights": (entry_damage(dtype="F8_E4M3"), "only BF16, F16 and F32"),
    "integer weights (GPTQ)": (entry_damage(dtype="I32"), "only BF16, F16 and F32"),
    "AWQ config": (config_damage(quantization_config={"quant_method": "awq"}), "already quantized (awq)"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_a_named_error_in_one_line(folder: Path, damage: str) -> None:
    apply, expected = DAMAGES[damage]
    apply(folder)
    with pytest.raises(EdgeError) as caught:
        open_checkpoint(folder)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_shard_is_named(sharded: Path) -> None:
    (sharded / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"missing model-00002-of-00003\.safetensors"):
        open_checkpoint(sharded)
    (sharded / INDEX).unlink()
    with pytest.raises(CheckpointError, match=r"missing model-00002-of-00003\.safetensors"):
        open_checkpoint(sharded)


def test_extra_shard_is_named(sharded: Path) -> None:
    (sharded / "model-00004-of-00004.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"model-00004-of-00004\.safetensors is in the folder but not in"):
        open_checkpoint(sharded)


def test_the_same_tensor_in_two_shards_is_an_error(sharded: Path) -> None:
    first, second = (sharded / f"model-0000{i}-of-00003.safetensors" for i in (1, 2))
    second.write_bytes(first.read_bytes())
    with pytest.raises(CheckpointError, match="is in both"):
        open_checkpoint(sharded)


@pytest.mark.parametrize("shard", ["../outside.safetensors", "/etc/passwd", "a/b.safetensors", "..", "", 3, "a\\b"])
def test_index_cannot_lead_outside_the_folder(sharded: Path, shard: Any) -> None:
    """A shard name with .. or a separator would make the converter read files elsewhere."""
    listed = read_json(sharded / INDEX)
    listed["weight_map"]["model.norm.weight"] = shard
    write_json(sharded / INDEX, listed)
    with pytest.raises(CheckpointError, match="outside the folder"):
        open_checkpoint(sharded)


def test_tensor_promised_by_the_index_but_absent(sharded: Path) -> None:
    listed = read_json(sharded / INDEX)
    listed["weight_map"]["model.extra.weight"] = "model-00001-of-00003.safetensors"
    write_json(sharded / INDEX, listed)
    with pytest.raises(CheckpointError, match=r"model\.extra\.weight should be in"):
        open_checkpoint(sharded)


def test_file_cut_after_opening(folder: Path) -> None:
    """A file truncated while it is converted gave the buffer's earlier bytes as weights."""
    with open_checkpoint(folder) as checkpoint:
        (folder / WEIGHTS).write_bytes(b"")
        with pytest.raises(CheckpointError, match="ends in the middle"):
            read_rows(checkpoint, "model.norm.weight")


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        open_checkpoint(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="not a folder"):
        open_checkpoint(tmp_path / "file")


def opens_or_refuses(folder: Path) -> bool:
    """True when opened; an EdgeError of one line is the only other way out."""
    try:
        open_checkpoint(folder).close()
    except EdgeError as error:
        assert "\n" not in str(error)
        return False
    return True


def test_thousands_of_mutated_headers(folder: Path) -> None:
    """Random bytes, cuts and copies in the header: opened or refused, never another exception."""
    raw = (folder / WEIGHTS).read_bytes()
    length = 8 + int.from_bytes(raw[:8], "little")
    rng, outcomes = random.Random(7), {True: 0, False: 0}
    for _ in range(3000):
        head = bytearray(raw[:length])
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(head))
            kind = rng.randrange(3)
            if kind == 0:
                head[at] = rng.randrange(256)
            elif kind == 1:
                del head[at : at + rng.randint(1, 40)]
            else:
                head[at:at] = head[max(0, at - rng.randint(1, 40)) : at]
        (folder / WEIGHTS).write_bytes(bytes(head) + raw[length : length + 4096])
        outcomes[opens_or_refuses(folder)] += 1
    assert outcomes[False] > 2900


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=8),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=8), children, max_size=4),
    max_leaves=8,
)
entries = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["BF16", "F32", "F8_E5M2", "I8", ""]) | json_values,
        "shape": st.lists(st.integers(-1, 2**64), max_size=5) | json_values,
        "data_offsets": st.lists(st.integers(-1, 2**64), min_size=2, max_size=2) | json_values,
    }
)


@settings(max_examples=300, deadline=None)
@given(header=st.dictionaries(st.text(max_size=10), entries | json_values, max_size=4) | json_values, tail=st.binary())
def test_any_json_header_is_opened_or_refused(
    tmp_path_factory: pytest.TempPathFactory, header: Any, tail: bytes
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    write_json(folder / "config.json", {})
    write_raw(folder / WEIGHTS, json.dumps(header).encode(), tail)
    opens_or_refuses(folder)


def test_wrong_class_for_unreadable_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file without read permission raised PermissionError with a traceback."""

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied", str(folder / WEIGHTS))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(CheckpointError, match="Permission denied"):
        open_checkpoint(folder)


def test_quantized_is_unsupported_not_damaged(folder: Path) -> None:
    edit_json(folder / "config.json", quantization_config={"quant_method": "fp8"})
    with pytest.raises(UnsupportedError, match="fp8"):
        open_checkpoint(folder)
