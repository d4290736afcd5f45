"""The key that boxes are signed with: Ed25519, kept as PKCS8 PEM that only its owner can read."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from convert.durable import publish
from edge import store
from edge.errors import PackError

NAME = "kiosk-key.pem"
LARGEST = 10_000  # bytes of such a file


def default_path() -> Path:
    """Beside the models folder, not in it: models are shared and carried."""
    return store.models_dir().parent / NAME


def new_key(path: Path) -> str:
    """Make a key at ``path`` and return its fingerprint. Raises PackError; an existing file is never replaced."""
    key = Ed25519PrivateKey.generate()
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            raise PackError(f"there is a key at {path} already", "kiosks trust it; name another file")
        try:
            opened = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(opened, "wb") as file:  # noqa: PTH123 - a descriptor
                file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
                file.flush()
                os.fchmod(opened, 0o600)  # whatever the umask is
                os.fsync(opened)
            publish(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise PackError(f"cannot write {path}: {error.strerror}", "name another file after --new-key") from error
    return fingerprint(public_bytes(key))


def read_key(path: Path) -> Ed25519PrivateKey:
    """Raises PackError."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
        key = load_pem_private_key(data, password=None)
    except FileNotFoundError:
        raise PackError(f"there is no key at {path}", "make one: edge pack --new-key") from None
    except OSError as error:
        raise PackError(f"cannot read {path}: {error.strerror}", "mend its rights") from error
    except TypeError:
        raise PackError(f"the key {path} is locked with a password", "use one without, in a safe place") from None
    except (ValueError, UnsupportedAlgorithm):
        raise PackError(f"{path} is no private key in PEM", "make one: edge pack --new-key") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise PackError(f"the key {path} is not of Ed25519", "make one: edge pack --new-key")
    return key


def public_bytes(key: Ed25519PrivateKey) -> bytes:
    """The 32 bytes of the public key."""
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def fingerprint(public: bytes) -> str:
    """By which a box's maker is told: SHA-256 of the public key, in hex digits."""
    return hashlib.sha256(public).hexdigest()
