"""The conversion as a whole: nothing half done, bounded memory, the same bytes each time."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from convert import pipeline, slabs, writer
from convert.checkpoint import Checkpoint
from convert.errors import CheckpointError, EdgeError, OutputError
from convert.pipeline import convert
from tests.checkpoints import build, split_safetensors

LEVELS = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_K_M", "Q2_K")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("pipeline") / "checkpoint", layers=2, shards=2)


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_same_bytes_whatever_the_threads_and_the_company(checkpoint: Path, tmp_path: Path) -> None:
    """Each level alone on one thread, and all levels in one run on three, give the same files."""
    together = convert(checkpoint, {level: tmp_path / f"{level}.gguf" for level in LEVELS}, threads=3)
    for output in together.outputs:
        alone = convert(checkpoint, {output.level: tmp_path / "alone.gguf"}, threads=1)
        assert alone.outputs[0].sha256 == output.sha256
        assert (tmp_path / "alone.gguf").read_bytes() == output.path.read_bytes()


def test_slabs_smaller_than_a_tensor_change_nothing(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = convert(checkpoint, {"Q4_K_M": tmp_path / "whole.gguf"})
    monkeypatch.setattr(slabs, "SLAB_ELEMENTS", 700)
    cut = convert(checkpoint, {"Q4_K_M": tmp_path / "cut.gguf"})
    assert cut.outputs[0].sha256 == whole.outputs[0].sha256


def test_several_levels_read_the_checkpoint_once(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = 0
    real = Checkpoint.read_into

    def counting(self: Any, tensor: Any, first_byte: int, buffer: memoryview) -> None:
        nonlocal read
        read += buffer.nbytes
        real(self, tensor, first_byte, buffer)

    monkeypatch.setattr(Checkpoint, "read_into", counting)
    convert(checkpoint, {level: tmp_path / f"{level}.gguf" for level in LEVELS})
    header, data = split_safetensors(checkpoint)
    assert read == data and header


def test_file_is_readable_by_the_gguf_package(checkpoint: Path, tmp_path: Path) -> None:
    convert(checkpoint, {"Q4_0": tmp_path / "x.gguf"})
    reader = gguf.GGUFReader(tmp_path / "x.gguf")
    assert reader.fields["general.architecture"].contents() == "qwen2"
    assert (tmp_path / "x.gguf").stat().st_size % 32 == 0


def test_refused_by_the_gate_leaves_the_old_file(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.gguf"
    out.write_text("old")

    def refuse(gguf_path: Path, source: Path) -> dict:
        assert gguf_path.stat().st_size > 1000 and source == checkpoint
        raise EdgeError("wrong")

    with pytest.raises(EdgeError, match="wrong"):
        convert(checkpoint, {"Q8_0": out}, gate=refuse)
    assert out.read_text() == "old" and files_in(tmp_path) == {"x.gguf"}


def test_levels_passed_before_a_refused_one_stay(checkpoint: Path, tmp_path: Path) -> None:
    def refuse_second(gguf_path: Path, _: Path) -> dict:
        if "Q4_0" in gguf_path.name:
            raise EdgeError("wrong")
        return {"passed": True}

    seen = []
    with pytest.raises(EdgeError):
        convert(
            checkpoint,
            {level: tmp_path / f"{level}.gguf" for level in ("Q8_0", "Q4_0")},
            gate=refuse_second,
            published=seen.append,
        )
    assert files_in(tmp_path) == {"Q8_0.gguf"} and [output.level for output in seen] == ["Q8_0"]


@pytest.mark.parametrize("call", ["pwrite", "fsync", "truncate"])
def test_disk_full_leaves_no_rubbish(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """The space check cannot see what other programs write meanwhile."""

    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OutputError, match=r"No space left on device; choose another place with more room"):
        convert(checkpoint, {"Q8_0": tmp_path / "x.gguf"})
    assert files_in(tmp_path) == set()


def test_space_is_checked_for_all_files_together(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two files that fit one by one must be refused where both together do not."""
    size = convert(checkpoint, {"BF16": tmp_path / "a.gguf"}).outputs[0].nbytes
    usage = type("Usage", (), {"free": int(1.5 * size)})
    monkeypatch.setattr(pipeline.shutil, "disk_usage", lambda _: usage)
    convert(checkpoint, {"BF16": tmp_path / "a.gguf"})
    with pytest.raises(OutputError, match="GB free, the result needs"):
        convert(checkpoint, {"BF16": tmp_path / "a.gguf", "F16": tmp_path / "b.gguf"})


def test_output_folder_missing_or_a_folder(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is not a folder"):
        convert(checkpoint, {"Q8_0": tmp_path / "no" / "x.gguf"})
    with pytest.raises(OutputError, match="is a folder"):
        convert(checkpoint, {"Q8_0": tmp_path})


def test_no_permission_or_read_only_disk(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(EdgeError, match="Read-only file system"):
        convert(checkpoint, {"Q8_0": tmp_path / "x.gguf"})


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_named(tmp_path: Path, value: float) -> None:
    """NaN quantizes without an error and gives a file that answers nothing."""
    folder = build(tmp_path / "checkpoint", layers=1, dtype="f32", norm_dtype="f32")
    path = folder / "model.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-4:] = np.float32(value).tobytes()
    path.write_bytes(raw)
    with pytest.raises(CheckpointError, match="holds NaN or infinity"):
        convert(folder, {"Q8_0": tmp_path / "x.gguf"})
    assert files_in(tmp_path) == {"checkpoint"}


CHILD = """
import sys
from pathlib import Path
from convert.pipeline import convert
print("ready", flush=True)
convert(Path(sys.argv[1]), {"Q4_K_M": Path(sys.argv[2])}, threads=2)
"""


def start_child(checkpoint: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", CHILD, str(checkpoint), str(out)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_killed_at_any_moment_the_name_holds_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    checkpoint = build(tmp_path / "checkpoint", layers=9)
    out = tmp_path / "x.gguf"
    started = time.monotonic()
    convert(checkpoint, {"Q4_K_M": out}, threads=2)
    took, new = time.monotonic() - started, out.read_bytes()
    rng, seen = random.Random(3), set()
    for _ in range(8):
        out.write_bytes(b"old")
        child = start_child(checkpoint, out)
        assert child.stdout and child.stdout.readline() == b"ready\n"
        time.sleep(rng.uniform(0, took))
        child.kill()
        child.wait()
        assert out.read_bytes() in (b"old", new)
        seen.add(out.read_bytes() == new)
        assert files_in(tmp_path) <= {"checkpoint", "x.gguf", "x.gguf.partial"}
    assert False in seen, "no kill came before the end"
    convert(checkpoint, {"Q4_K_M": out}, threads=2)
    assert out.read_bytes() == new and files_in(tmp_path) == {"checkpoint", "x.gguf"}


@pytest.mark.skipif(os.name == "nt", reason="Windows refuses to open the file instead; there is no lock to test")
def test_two_processes_do_not_write_one_file(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.gguf"
    said: list[bytes] = []

    def gate(partial: Path, _: Path) -> dict:
        child = start_child(checkpoint, out)
        said.append(child.communicate(timeout=60)[1])
        assert child.returncode == 1 and partial.stat().st_size > 1000
        return {}

    convert(checkpoint, {"Q4_K_M": out}, gate=gate)
    assert b"another process is writing" in said[0] and b"EBADF" not in said[0] and out.is_file()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such lock")
def test_a_lock_got_on_a_file_that_was_published_meanwhile_is_none(tmp_path: Path) -> None:
    """Opened before the other process renamed it, locked after: the finished file would have been emptied."""
    partial = tmp_path / "x.gguf.partial"
    handle = os.open(partial, os.O_RDWR | os.O_CREAT)
    partial.replace(tmp_path / "x.gguf")
    assert not writer.is_ours(handle, partial)
    os.close(handle)


def test_interrupt_removes_what_is_unfinished(checkpoint: Path, tmp_path: Path) -> None:
    def interrupt(done: int, _: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(checkpoint, {"Q8_0": tmp_path / "x.gguf"}, progress=interrupt)
    assert files_in(tmp_path) == set()


def test_sigint_while_workers_run(tmp_path: Path) -> None:
    """Ctrl-C reached only the main thread: workers went on to the end before the program did."""
    checkpoint = build(tmp_path / "checkpoint", layers=12, ffn=2048)
    child = start_child(checkpoint, tmp_path / "x.gguf")
    assert child.stdout and child.stdout.readline() == b"ready\n"
    deadline = time.monotonic() + 30
    while not (tmp_path / "x.gguf.partial").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    child.wait(timeout=20)
    assert child.returncode != 0
    assert files_in(tmp_path) == {"checkpoint"}
