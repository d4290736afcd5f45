"""The units' texts: whole ones to read, beside this file, and what changes in them. ``make kiosk-test`` runs them."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path

import pytest

from edge.kiosk.box.errors import BoxError
from edge.kiosk.box.manifest import MODEL, File, Golden, Manifest
from edge.kiosk.box.units import HIDDEN, NOTIFY, SERVICE, SOCKET, quote, units

ROOT = "/opt/edge-kiosk"
MANIFEST = Manifest(
    name="qwen2.5-0.5b",
    level="Q4_K_M",
    version="0.1.0",
    created="2026-11-30T12:00:00Z",
    machine="x86_64",
    python="3.11",
    glibc="2.28",
    cpu={"avx2": ("avx2", "fma")},
    files=(File(MODEL, 400_000_000, "0" * 64, 4096), File("box/launch.py", 3000, "1" * 64, 400_004_096)),
    serve=("--ctx", "4096"),
    memory=900_000_000,
    golden=Golden("What is the capital of France?", "The capital"),
)


def lines(text: str, key: str) -> list[str]:
    """The values of a key."""
    return [line.partition("=")[2] for line in text.splitlines() if line.startswith(f"{key}=")]


@pytest.mark.parametrize("name", [SERVICE, SOCKET])
def test_whole_units(name: str) -> None:
    """Whoever changes them on purpose writes the new text into the file beside this one."""
    wanted = Path(__file__).with_name(name).read_text(encoding="utf-8")
    assert units(ROOT, MANIFEST)[name] == wanted


def test_memory_and_time_follow_the_model() -> None:
    large = dataclasses.replace(
        MANIFEST, memory=8_000_000_000, files=(File(MODEL, 6_000_000_000, "0" * 64, 0), *MANIFEST.files[1:])
    )
    small, big = (units(ROOT, one)[SERVICE] for one in (MANIFEST, large))
    assert int(lines(small, "MemoryMax")[0]) > MANIFEST.memory
    assert int(lines(big, "MemoryMax")[0]) - int(lines(small, "MemoryMax")[0]) > 7_100_000_000
    assert lines(small, "TimeoutStartSec") == ["140"] and lines(big, "TimeoutStartSec") == ["420"]


@pytest.mark.parametrize(
    "root", ["/opt/a b", '/opt/say "hi"', "/opt/50%h", "/opt/$HOME/{}", "/opt/back\\slash", "/opt/箱"]
)
def test_odd_roots_are_one_word(root: str) -> None:
    """As systemd reads them: quotes, backslashes, specifiers and, in commands, variables."""
    service = units(root, MANIFEST, python="/opt/my python/$bin/python3")[SERVICE]
    (command,), (mounts,) = lines(service, "ExecStart"), lines(service, "RequiresMountsFor")
    words = [word.replace("%%", "%").replace("$$", "$") for word in shlex.split(command)]
    assert words == ["/opt/my python/$bin/python3", f"{root}/current/box/launch.py", "serve"]
    assert [word.replace("%%", "%") for word in shlex.split(mounts)] == [root]


def test_what_quoting_does() -> None:
    assert quote('a b"c\\d%e$f') == '"a b\\"c\\\\d%%e$f"'
    assert quote("$f", command=True) == '"$$f"'


@pytest.mark.parametrize("root", ["opt/x", "", "/opt/a\nExecStart=/bin/sh", "/opt/\x1b[0m", "/opt/\udc80"])
def test_what_no_line_can_hold(root: str) -> None:
    with pytest.raises(BoxError, match="cannot be in a unit"):
        units(root, MANIFEST)
    with pytest.raises(BoxError, match="cannot be in a unit"):
        units(ROOT, MANIFEST, python=root)


@pytest.mark.parametrize("folder", HIDDEN)
def test_a_root_in_a_hidden_folder_is_shown(folder: str) -> None:
    service = units(f"{folder}/kiosk:1", MANIFEST)[SERVICE]
    assert lines(service, "BindReadOnlyPaths") == [NOTIFY, f'"{folder}/kiosk:1"']
    assert lines(service, "ProtectHome") == ["tmpfs"]
    assert lines(units(f"{folder}s/kiosk", MANIFEST)[SERVICE], "ProtectHome") == ["yes"]


def test_a_unix_socket() -> None:
    text = units(ROOT, MANIFEST, "/run/edge 1/kiosk.sock")[SOCKET]
    assert lines(text, "ListenStream") == ["/run/edge 1/kiosk.sock"] and lines(text, "SocketMode") == ["0660"]
    assert not lines(text, "IPAddressAllow")


@pytest.mark.parametrize("listen", ["127.0.0.1:8080", "127.8.0.1:1", "[::1]:65535"])
def test_loopback_alone_may_ask(listen: str) -> None:
    text = units(ROOT, MANIFEST, listen)[SOCKET]
    assert lines(text, "ListenStream") == [listen] and lines(text, "IPAddressAllow") == ["localhost"]


@pytest.mark.parametrize("listen", ["0.0.0.0:8080", "192.168.0.7:80", "[::]:8080"])
def test_others_may_ask_where_that_was_meant(listen: str) -> None:
    with pytest.raises(BoxError, match="no key is asked for"):
        units(ROOT, MANIFEST, listen)
    for option in ("--without-key", "--api-key-file", "--api-key-file=/etc/keys"):
        text = units(ROOT, dataclasses.replace(MANIFEST, serve=(option,)), listen)[SOCKET]
        assert lines(text, "ListenStream") == [listen] and not lines(text, "IPAddressAllow")


@pytest.mark.parametrize(
    "listen",
    ["8080", "localhost:8080", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", "1.2.3:80", "[::1]", "a\nb:1", ""],
)
def test_what_is_no_address(listen: str) -> None:
    with pytest.raises(BoxError, match="no address"):
        units(ROOT, MANIFEST, listen)


@pytest.mark.parametrize("python", ["/root/.pyenv/bin/python3", "/home/a/venv/bin/python"])
def test_a_python_that_the_service_does_not_see(python: str) -> None:
    with pytest.raises(BoxError, match="does not see"):
        units(ROOT, MANIFEST, python=python)


def test_keys_are_handed_on() -> None:
    """Readable for root alone, they reach the service by systemd; others may then ask from elsewhere."""
    made = units("/opt/50% kiosk", MANIFEST, "192.0.2.7:8080", keys=["operator-keys", "api-keys"])
    assert lines(made[SERVICE], "LoadCredential") == [
        "api-keys:/opt/50%% kiosk/keys/api-keys",
        "operator-keys:/opt/50%% kiosk/keys/operator-keys",
    ]
    with pytest.raises(BoxError, match="no key is asked for"):
        units("/opt/kiosk", MANIFEST, "192.0.2.7:8080", keys=["operator-keys"])
