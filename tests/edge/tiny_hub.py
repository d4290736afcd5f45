"""A small model as a hub has it, with all that must not be fetched; and what a double was asked for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from edge.lock import LockedModel, Source
from tests.checkpoints import splitmix64
from tests.hub.content import Repository, repository
from tests.hub.double import Double

TINY = Path(str(files("edge.models") / "tiny-qwen"))
REPO, NAME, WEIGHTS = "Qwen/Tiny-1B", "tiny-1b", "model.safetensors"
SMALL = {path.name: path.read_bytes() for path in sorted(TINY.glob("*.json"))}
NEEDED = {**SMALL, WEIGHTS: splitmix64(3, 5_000).tobytes()}
UNWANTED: dict[str, bytes] = {
    "README.md": b"# Tiny",
    "modeling_tiny.py": b"raise SystemExit",
    "pytorch_model.bin": b"pickle",
    "model.pt": b"pickle",
    "onnx/model.safetensors": b"other",
    "merges.txt": b"a b",
}
MODEL = LockedModel(NAME, sources=(Source("huggingface", REPO), Source("modelscope", REPO)))


def tiny(changed: Mapping[str, bytes] = {}, *, without: str = "", gated: bool = False) -> Repository:
    """The whole repository, with some files changed or added."""
    content = {**NEEDED, **UNWANTED, **changed}
    content.pop(without, None)
    return repository(REPO, content, gated=gated)


def config(**changed: object) -> bytes:
    return json.dumps({**json.loads(SMALL["config.json"]), **changed}).encode()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def asked(hub: Double) -> list[str]:
    """The files whose bytes the hub was asked for, in this order."""
    names: list[str] = []
    for request in hub.requests:
        match request.segments:
            case [_, _, "resolve", _, *path]:
                names.append("/".join(path))
            case ["api", "v1", "models", _, _, "repo"]:
                names.append(request.query["FilePath"])
    return list(dict.fromkeys(names))


def content_of(folder: Path) -> dict[str, bytes]:
    """What a person sees there: not the program's own files, whose names begin with a dot."""
    paths = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
