"""Small boxes for tests: the real code, a fake runtime, a model of a few bytes."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import edge.kiosk.box
from edge.kiosk.box import container, manifest
from edge.kiosk.box.container import Blob
from edge.kiosk.box.layout import Layout, current_slot, previous_slot
from edge.kiosk.box.manifest import File, Golden, Manifest
from edge.kiosk.box.slot import faults, read_manifest

CODE = Path(edge.kiosk.box.__path__[0])
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
WELL = {"answer": "Paris is the capital.", "speed": 50.0, "planned": 50.0}
SHARED = b"common weights " * 5000


def public(key: Ed25519PrivateKey = KEY) -> bytes:
    return key.public_key().public_bytes_raw()


def fingerprint(key: Ed25519PrivateKey = KEY) -> str:
    return hashlib.sha256(public(key)).hexdigest()


MARK = fingerprint()


@dataclass
class Maker:
    """Makes boxes in ``folder``."""

    folder: Path
    count: int = 0

    def __call__(
        self,
        version: str = "1",
        *,
        behaviour: Mapping[str, Any] = {},
        extra: Mapping[str, bytes] = {},
        key: Ed25519PrivateKey = KEY,
        bare: bool = False,
        **changes: Any,
    ) -> Path:
        """``extra``: further files. ``bare``: with next to no code, to be handled quickly; it does not run.
        ``changes``: to the manifest."""
        self.count += 1
        ran = code(bare)
        files = {**contents(version, {**WELL, **behaviour}), **ran, **extra}
        blobs = {path: self.blob(f"{self.count}-{number}", files[path]) for number, path in enumerate(files)}
        made = replace(described(version, blobs), **changes)
        return self.pack(f"box{self.count}.edge", list(blobs.values()), manifest.to_bytes(made), key, ran)

    def blob(self, name: str, data: bytes) -> Blob:
        (source := self.folder / name).write_bytes(data)
        return Blob(source, len(data), hashlib.sha256(data).hexdigest())

    def pack(
        self, name: str, blobs: list[Blob], signed: bytes, key: Ed25519PrivateKey = KEY, ran: Mapping[str, bytes] = {}
    ) -> Path:
        files = {manifest.MANIFEST: signed, manifest.SIGNATURE: key.sign(signed), manifest.KEY: public(key)}
        container.write_box(self.folder / name, blobs, {**files, **(ran or code())})
        return self.folder / name


def code(bare: bool = False) -> dict[str, bytes]:
    """What runs before anything is installed: all real but the launcher."""
    names = sorted(CODE.glob("bootstrap.py" if bare else "*.py"))
    found = {f"box/{path.name}": path.read_bytes() for path in names}
    return {**found, manifest.LAUNCH: Path(__file__).with_name("fake_launch.py").read_bytes()}


def contents(version: str, behaviour: Mapping[str, Any]) -> dict[str, bytes]:
    return {
        "model/model.gguf": SHARED,
        "behaviour.json": json.dumps(dict(behaviour)).encode(),
        "site/edge/__init__.py": f"__version__ = {version!r}\n".encode(),
        "site/empty.py": b"",
        "lib/common/libllama.so": b"llama",
        "lib/plain/libggml-cpu.so": b"plain",
        "lib/never/libggml-cpu.so": b"never",
        "bin/tool": b"#!/bin/sh\n",
    }


def described(version: str, blobs: Mapping[str, Blob]) -> Manifest:
    places = container.offsets(blobs.values())
    return Manifest(
        name="tiny",
        level="Q4_K_M",
        version=version,
        created="2026-11-30T12:00:00Z",
        machine=platform.machine(),
        python="{}.{}".format(*sys.version_info[:2]),
        glibc="2.17",
        cpu={"never": ("no_such_flag",), "plain": ()},
        files=tuple(
            File(path, blob.size, blob.sha256, places[blob.sha256], path.startswith("bin/"))
            for path, blob in blobs.items()
        ),
        serve=("--ctx", "256"),
        memory=1 << 20,
        golden=Golden("What is the capital of France?", "Paris"),
        licences=("Apache-2.0",),
    )


def nothing(what: str, done: int, of: int) -> None:
    """Progress that nobody looks at."""


def version_of(layout: Layout, which: str = "current") -> str | None:
    """Of the current or the previous slot, whose every file must be sound."""
    name = current_slot(layout) if which == "current" else previous_slot(layout)
    if name is None:
        return None
    found = read_manifest(layout.slot(name))
    assert faults(layout.slot(name), found, nothing) == []
    return found.version
