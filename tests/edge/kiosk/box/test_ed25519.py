"""Signatures against RFC 8032's own vectors, OpenSSL's answers, and the known ways to cheat."""

from __future__ import annotations

import random

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from edge.kiosk.box.ed25519 import ORDER, P, decode, verify

# RFC 8032, section 7.1: public key, message, signature.
VECTORS = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
    (
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
    ),
]
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()
MESSAGE = b"what is signed"
SIGNATURE = KEY.sign(MESSAGE)


@pytest.mark.parametrize(("key", "message", "signature"), VECTORS)
def test_the_vectors_of_rfc_8032(key: str, message: str, signature: str) -> None:
    public, signed, proof = (bytes.fromhex(text) for text in (key, message, signature))
    assert verify(public, signed, proof)
    assert not verify(public, signed + b"\0", proof)


def openssl(key: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def test_openssl_says_the_same() -> None:
    draw = random.Random(8032)
    for _ in range(30):
        key = Ed25519PrivateKey.from_private_bytes(draw.randbytes(32))
        message = draw.randbytes(draw.randrange(200))
        case = [key.public_key().public_bytes_raw(), message, key.sign(message)]
        assert verify(*case)
        which = draw.choice([index for index, part in enumerate(case) if part])
        place = draw.randrange(len(case[which]))
        case[which] = bytes(
            byte ^ (1 << draw.randrange(8)) if n == place else byte for n, byte in enumerate(case[which])
        )
        assert verify(*case) is openssl(*case) is False


def test_another_spelling_of_s_is_refused() -> None:
    """S and S + ORDER would both fit: whoever sees one signature could make a second."""
    s = int.from_bytes(SIGNATURE[32:], "little") + ORDER
    assert not verify(PUBLIC, MESSAGE, SIGNATURE[:32] + s.to_bytes(32, "little"))


def test_keys_of_small_order_are_refused() -> None:
    """With the neutral point as key, R = S*B fits every message."""
    neutral, order_two = (1).to_bytes(32, "little"), (P - 1).to_bytes(32, "little")
    for key in (neutral, order_two, bytes(32)):
        assert decode(key) is not None
        assert not verify(key, MESSAGE, neutral + bytes(32))


@pytest.mark.parametrize("number", [P, P + 1, 2**255 - 1, 1 | 1 << 255, 2])
def test_points_have_one_spelling_and_lie_on_the_curve(number: int) -> None:
    data = number.to_bytes(32, "little")
    assert decode(data) is None
    assert not verify(data, MESSAGE, SIGNATURE)
    assert not verify(PUBLIC, MESSAGE, data + SIGNATURE[32:])


def test_wrong_lengths() -> None:
    assert verify(PUBLIC, MESSAGE, SIGNATURE)
    for key, signature in (
        (PUBLIC[:31], SIGNATURE),
        (PUBLIC + b"\0", SIGNATURE),
        (PUBLIC, SIGNATURE + b"\0"),
        (b"", b""),
    ):
        assert not verify(key, MESSAGE, signature)
