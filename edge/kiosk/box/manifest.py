"""``manifest.json``: what is in a box and what it needs. Read as if somebody hostile had written it."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import BoxError, one_line

FORMAT = 1
MANIFEST, SIGNATURE, KEY = "manifest.json", "manifest.sig", "manifest.key"
MODEL, LAUNCH, BOOTSTRAP, CONFIG = "model/model.gguf", "box/launch.py", "box/bootstrap.py", "kiosk.toml"
COMMON = "common"  # lib/common holds what the libraries of all levels share

MOST_FILES = 100_000
MOST_BYTES = 1 << 44  # of a file, of memory, of an offset
LONGEST_TEXT = 4096  # characters
LONGEST_PATH, LONGEST_NAME = 1024, 255  # bytes

WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
NUMBER = re.compile(r"[0-9]{1,4}\.[0-9]{1,4}")  # 3.11
TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class File:
    """One file of a slot: ``size`` bytes from ``offset`` of the box."""

    path: str
    size: int
    sha256: str
    offset: int
    executable: bool = False


@dataclass(frozen=True)
class Golden:
    """A question whose answer, at temperature 0, must begin with ``prefix``."""

    question: str
    prefix: str


@dataclass(frozen=True)
class Manifest:
    """``cpu``: level of the library -> flags of /proc/cpuinfo that it needs, the best first. ``python``: the minor
    version that compiled packages are for. ``glibc``: the least. ``memory``: bytes, mapped weights included.
    ``serve``: options of ``edge serve``."""

    name: str
    level: str
    version: str
    created: str
    machine: str
    python: str
    glibc: str
    cpu: Mapping[str, tuple[str, ...]]
    files: tuple[File, ...]
    serve: tuple[str, ...]
    memory: int
    golden: Golden
    licences: tuple[str, ...] = ()


def to_bytes(manifest: Manifest) -> bytes:
    """What is signed. Raises BoxError where ``parse`` would."""
    data = json.dumps({"format": FORMAT, **dataclasses.asdict(manifest)}, ensure_ascii=False, indent=1).encode() + b"\n"
    parse(data)
    return data


def parse(data: bytes) -> Manifest:
    """Raises BoxError, which names what is wrong."""
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=without_twins)
    except (ValueError, RecursionError) as error:
        raise BoxError(f"the manifest cannot be read: {error}", "the box is damaged") from error
    fields = Fields(value, "the manifest")
    if fields.whole("format", 1 << 31) != FORMAT:
        raise BoxError("this box has a format that this program does not know", "run the box itself: python3 BOX")
    files = tuple(read_file(entry) for entry in fields.items("files", MOST_FILES))
    cpu = Fields(fields.get("cpu", dict), "cpu")
    manifest = Manifest(
        name=fields.word("name", WORD),
        level=fields.word("level", WORD),
        version=fields.word("version", WORD),
        created=fields.word("created", TIME),
        machine=fields.word("machine", WORD),
        python=fields.word("python", NUMBER),
        glibc=fields.word("glibc", NUMBER),
        cpu={level: cpu.texts(level, 100) for level in cpu.value},
        files=files,
        serve=fields.texts("serve", 200),
        memory=fields.whole("memory", MOST_BYTES),
        golden=read_golden(Fields(fields.get("golden", dict), "golden")),
        licences=fields.texts("licences", 1000),
    )
    check_paths([file.path for file in files])
    check_blobs(files)
    check_levels(manifest)
    return manifest


@dataclass(frozen=True)
class Fields:
    """A JSON object that is read field by field; ``what`` names it in errors."""

    value: Any
    what: str

    def wrong(self, name: str) -> BoxError:
        return BoxError(f"{name} of {self.what} is missing or wrong", "the box is damaged, or made by another program")

    def get(self, name: str, kind: type) -> Any:
        """The field, of exactly this kind: true is no number here."""
        if not isinstance(self.value, dict) or type(self.value.get(name)) is not kind:
            raise self.wrong(name)
        return self.value[name]

    def whole(self, name: str, most: int) -> int:
        number = self.get(name, int)
        if not 0 <= number <= most:
            raise self.wrong(name)
        return number

    def text(self, name: str) -> str:
        text = self.get(name, str)
        if not is_plain(text):
            raise self.wrong(name)
        return text

    def word(self, name: str, pattern: re.Pattern[str]) -> str:
        text = self.text(name)
        if not pattern.fullmatch(text):
            raise self.wrong(name)
        return text

    def items(self, name: str, most: int) -> list[Any]:
        items = self.get(name, list)
        if len(items) > most:
            raise self.wrong(name)
        return items

    def texts(self, name: str, most: int) -> tuple[str, ...]:
        items = self.items(name, most)
        if not all(type(item) is str and is_plain(item) for item in items):
            raise self.wrong(name)
        return tuple(items)


def is_plain(text: str) -> bool:
    """Not too long, and with nothing in it that a file name, a command or UTF-8 cannot hold."""
    return len(text) <= LONGEST_TEXT and not any(c == "\0" or "\ud800" <= c <= "\udfff" for c in text)


def without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; of two fields with the same name different readers would take different ones."""
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a field is in it twice")
    return value


def read_file(entry: Any) -> File:
    fields = Fields(entry, "a file in the manifest")
    path = fields.text("path")
    if not is_inside(path):
        raise BoxError(f"{path[:200]!r} cannot be a file's path in a box", "do not trust this box")
    return File(
        path=path,
        size=fields.whole("size", MOST_BYTES),
        sha256=fields.word("sha256", HASH),
        offset=fields.whole("offset", MOST_BYTES),
        executable=fields.get("executable", bool),
    )


def read_golden(fields: Fields) -> Golden:
    return Golden(fields.text("question"), fields.text("prefix"))


def is_inside(path: str) -> bool:
    """Relative, in the simplest spelling, of characters that can be shown, and no name of ours."""
    parts = path.split("/")
    return (
        path == one_line(path)
        and "\\" not in path
        and len(path.encode()) <= LONGEST_PATH
        and all(part not in ("", ".", "..") and len(part.encode()) <= LONGEST_NAME for part in parts)
        and parts[0] not in (MANIFEST, SIGNATURE, KEY)
    )


def check_paths(paths: Iterable[str]) -> None:
    """Every needed file is there, none is there twice, and none is where another's folder must be."""
    seen, folders = set(), set()
    for path in paths:
        if path in seen:
            raise BoxError(f"{path!r} is in the manifest twice", "do not trust this box")
        seen.add(path)
        parts = path.split("/")
        folders.update("/".join(parts[:n]) for n in range(1, len(parts)))
    if clash := sorted(seen & folders):
        raise BoxError(f"{clash[0]!r} is a file and a folder in the manifest", "do not trust this box")
    if missing := [path for path in (MODEL, LAUNCH, BOOTSTRAP) if path not in seen]:
        raise BoxError(f"{missing[0]} is not in the manifest", "pack the box again")


def check_blobs(files: Iterable[File]) -> None:
    """The same content lies at one place only."""
    places: dict[str, tuple[int, int]] = {}
    for file in files:
        if places.setdefault(file.sha256, (file.offset, file.size)) != (file.offset, file.size):
            raise BoxError(f"{file.path!r} has two places in the box", "do not trust this box")


def check_levels(manifest: Manifest) -> None:
    """Each level has a folder in ``lib``, where the common files find room."""
    by_folder: dict[str, set] = {}
    for file in manifest.files:
        parts = file.path.split("/")
        if parts[0] == "lib" and len(parts) == 3:
            by_folder.setdefault(parts[1], set()).add(parts[2])
    if not manifest.cpu:
        raise BoxError("the manifest names no CPU level", "pack the box again")
    for level in manifest.cpu:
        if not WORD.fullmatch(level) or level == COMMON or level not in by_folder:
            raise BoxError(f"there is no library for the CPU level {level[:100]!r}", "pack the box again")
        if twice := sorted(by_folder[level] & by_folder.get(COMMON, set())):
            raise BoxError(f"lib/{level}/{twice[0]} is in lib/{COMMON} too", "pack the box again")
