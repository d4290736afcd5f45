from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from edge.errors import PackError
from edge.kiosk import keys


def test_a_new_key_signs_and_is_named_by_its_fingerprint(tmp_path: Path) -> None:
    path = tmp_path / "new" / "key.pem"
    fingerprint = keys.new_key(path)
    key = keys.read_key(path)
    assert keys.fingerprint(keys.public_bytes(key)) == fingerprint
    key.public_key().verify(key.sign(b"manifest"), b"manifest")
    assert len(fingerprint) == 64 and len(keys.public_bytes(key)) == 32


@pytest.mark.parametrize("umask", (0o000, 0o077, 0o777))
def test_only_its_owner_can_read_it(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        keys.new_key(tmp_path / "key.pem")
    finally:
        os.umask(before)
    assert (tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["key.pem"]


def test_a_key_is_never_replaced(tmp_path: Path) -> None:
    """Every kiosk that trusts it would be cut off from updates."""
    path = tmp_path / "key.pem"
    keys.new_key(path)
    before = path.read_bytes()
    with pytest.raises(PackError, match="already"):
        keys.new_key(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "content, reason",
    (
        (None, "no key at"),
        (b"", "no private key"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "no private key"),
        (b"x" * 1_000_000, "no private key"),
        (
            generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            "not of Ed25519",
        ),
        (
            Ed25519PrivateKey.generate().private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
            ),
            "password",
        ),
    ),
    ids=("missing", "empty", "cut", "huge", "other kind", "locked"),
)
def test_what_is_no_key_is_refused_in_words(content: bytes | None, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PackError, match=reason):
        keys.read_key(path)
