"""A manifest is read as if somebody hostile had written it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from edge.kiosk.box.errors import BoxError
from edge.kiosk.box.manifest import Manifest, parse, to_bytes

HASHES = [f"{n:064x}" for n in range(10)]


def entry(path: str, number: int, **changes: Any) -> dict[str, Any]:
    return {"path": path, "size": 1, "sha256": HASHES[number], "offset": 23 + number, "executable": False, **changes}


def value(**changes: Any) -> dict[str, Any]:
    paths = ("model/model.gguf", "box/launch.py", "box/bootstrap.py", "lib/avx2/x.so", "lib/common/y.so")
    return {
        "format": 1,
        "name": "tiny",
        "level": "Q4_K_M",
        "version": "0.1.0",
        "created": "2026-11-30T12:00:00Z",
        "machine": "x86_64",
        "python": "3.11",
        "glibc": "2.28",
        "cpu": {"avx2": ["avx2", "fma"]},
        "files": [entry(path, number) for number, path in enumerate(paths)],
        "serve": ["--ctx", "256"],
        "memory": 1000,
        "golden": {"question": "?", "prefix": "!"},
        "licences": ["Apache-2.0"],
        **changes,
    }


def read(value: Any) -> Manifest:
    return parse(json.dumps(value).encode())


def with_file(path: str = "extra", number: int = 7, **changes: Any) -> dict[str, Any]:
    made = value()
    made["files"].append(entry(path, number, **changes))
    return made


def test_what_is_written_is_read() -> None:
    read_one = read(with_file("site/ein übler Name.py"))
    assert read_one.files[-1].path == "site/ein übler Name.py"
    assert list(read_one.cpu) == ["avx2"]
    assert parse(to_bytes(read_one)) == read_one


def test_levels_keep_their_order() -> None:
    made = with_file("lib/sse42/x.so") | {"cpu": {"avx2": ["avx2"], "sse42": []}}
    assert list(parse(to_bytes(read(made))).cpu) == ["avx2", "sse42"]


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "../x",
        "a/../../x",
        "a/./b",
        "a//b",
        "a/",
        ".",
        "a\0b",
        "a\nb",
        "a\\b",
        "\ud800",
        "x" * 256,
        "/".join(["x" * 200] * 6),
        "manifest.json",
        "manifest.sig/x",
        "manifest.key",
    ],
)
def test_paths_that_lead_elsewhere(path: str) -> None:
    with pytest.raises(BoxError):
        read(with_file(path))


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (with_file("model/model.gguf"), "twice"),
        (with_file("model/model.gguf/x"), "a file and a folder"),
        (with_file("model"), "a file and a folder"),
        (with_file("lib/avx2/y.so"), "lib/common too"),
        (with_file("x", 0, offset=99), "two places"),
        (with_file("x", 0, size=2), "two places"),
        (value(files=value()["files"][1:]), "model/model.gguf is not in the manifest"),
        (value(cpu={}), "no CPU level"),
        (value(cpu={"common": []}), "no library for the CPU level"),
        (value(cpu={"avx512": []}), "no library for the CPU level"),
        (value(cpu={"../x": []}), "no library for the CPU level"),
        (value(format=2), "format"),
    ],
)
def test_what_cannot_be_true_of_a_box(made: dict[str, Any], words: str) -> None:
    with pytest.raises(BoxError, match=words):
        read(made)


@pytest.mark.parametrize("number", [-1, 2**44 + 1, 2**64, 10**400, 1.0, True, "1", None, [], float("nan")])
@pytest.mark.parametrize("name", ["size", "offset"])
def test_sizes_and_offsets_are_whole_numbers_within_bounds(name: str, number: Any) -> None:
    with pytest.raises(BoxError, match=name):
        read(with_file(**{name: number}))


@pytest.mark.parametrize("name", [name for name in value() if name != "format"])
@pytest.mark.parametrize("wrong", [None, 5.5, -1, {"a": 1}, [1], "\ud800", "x" * 5000])
def test_every_field_is_checked(name: str, wrong: Any) -> None:
    with pytest.raises(BoxError):
        read(value(**{name: wrong}))
    without = value()
    del without[name]
    with pytest.raises(BoxError, match=name):
        read(without)


@pytest.mark.parametrize("name", ["sha256", "executable"])
@pytest.mark.parametrize("wrong", [None, 1, "A" * 64, "0" * 63, "0" * 65, ["0" * 64]])
def test_every_field_of_a_file_is_checked(name: str, wrong: Any) -> None:
    with pytest.raises(BoxError, match=name):
        read(with_file(**{name: wrong}))


def test_too_many_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.kiosk.box.manifest.MOST_FILES", 4)
    with pytest.raises(BoxError, match="files"):
        read(value())


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"format": 1' + b"0" * 5000 + b"}"],
)
def test_what_is_no_manifest(data: bytes) -> None:
    with pytest.raises(BoxError):
        parse(data)


def test_a_field_that_is_there_twice() -> None:
    """Two readers may take different ones of them."""
    data = json.dumps(value()).encode()
    with pytest.raises(BoxError, match="twice"):
        parse(data[:-1] + b', "name": "other"}')


def test_a_wrong_manifest_is_not_written() -> None:
    with pytest.raises(BoxError, match="memory"):
        to_bytes(replace(read(value()), memory=-1))
