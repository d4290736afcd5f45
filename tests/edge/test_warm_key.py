"""The key of a kept prefix changes with all that its state depends on, and with nothing else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from convert import gguf_file
from edge.llama import library
from edge.llama.context import Context
from edge.llama.model import Model
from edge.llama.yarn import RopeChange
from edge.warm_key import library_digest, model_digest, prefix_key
from tests.edge import tiny_gguf

TOKENS = list(range(20))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    with Model(tiny_gguf.write(tmp_path_factory.mktemp("warm") / "tiny.gguf")) as one:
        yield one


def key_of(model: Model, tokens: list[int] = TOKENS, n_ctx: int = 512, **settings: Any) -> bytes:
    with Context(model, n_ctx, **{"threads": 1, **settings}) as context:
        return prefix_key(context, tokens)


def test_every_setting_counts_but_threads(model: Model) -> None:
    keys = [
        key_of(model),
        key_of(model, TOKENS[:-1]),
        key_of(model, [*TOKENS[:-1], 99]),
        key_of(model, n_ctx=1024),
        key_of(model, n_ctx=1024, n_seq_max=2),
        key_of(model, n_batch=256, n_ubatch=256),
        key_of(model, n_ubatch=256),
        key_of(model, kv_type="f32"),
        key_of(model, flash_attn=True),
        key_of(model, flash_attn=False),
        key_of(model, rope=RopeChange(512, 2.0)),
        key_of(model, rope=RopeChange(512, 4.0)),
    ]
    assert len(set(keys)) == len(keys) and {len(key) for key in keys} == {32}
    assert key_of(model) == key_of(model, threads=2) == keys[0]


def digest_of(path: Path) -> str:
    return model_digest(gguf_file.read(path))


@contextmanager
def same_time(path: Path) -> Iterator[None]:
    before = path.stat().st_mtime_ns
    yield
    os.utime(path, ns=(before, before))


def test_every_tensor_counts(tmp_path: Path) -> None:
    """Also where somebody gave the new file the size and the time of the old one."""
    path = tiny_gguf.write(tmp_path / "tiny.gguf")
    file, before, seen = gguf_file.read(path), path.read_bytes(), {digest_of(path)}
    for tensor in file.tensors:
        start = file.data_offset + tensor.offset
        changed = bytearray(before)
        changed[start : start + tensor.nbytes] = bytes(byte ^ 1 for byte in before[start : start + tensor.nbytes])
        with same_time(path):
            path.write_bytes(changed)
        seen.add(digest_of(path))
    with same_time(path):
        path.write_bytes(before.replace(b"qwen2.rope.freq_base", b"qwen2.rope.freq_bass"))
    seen.add(digest_of(path))
    assert len(seen) == 1 + len(file.tensors) + 1
    with same_time(path):
        path.write_bytes(before)
    assert digest_of(path) in seen, "the same file again"
    os.utime(path, ns=(1, 1))
    assert digest_of(path) not in seen


def test_the_build_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_CPP_LIB_PATH", str(tmp_path))
    monkeypatch.setattr(library, "version", lambda: "1.0")
    seen = [library_digest()]
    path, size = tmp_path / "libllama.so", 1 << 20
    for content in (bytes(size), bytes(size + 1), bytes(size // 2) + b"1" + bytes(size // 2 - 1)):
        path.write_bytes(content)
        os.utime(path, ns=(1, 1))
        seen.append(library_digest())
    os.utime(path, ns=(2, 2))
    seen.append(library_digest())
    (tmp_path / "libggml.so.0").write_bytes(b"one more")
    seen.append(library_digest())
    monkeypatch.setattr(library, "version", lambda: "1.1")
    seen.append(library_digest())
    assert len(set(seen)) == len(seen)
    (tmp_path / "notes.txt").write_bytes(b"no library")
    assert library_digest() == seen[-1]
