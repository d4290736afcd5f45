"""The page for auditors, and what makes a proof fail."""

from __future__ import annotations

import dataclasses

import pytest

from convert.errors import EdgeError
from edge.kiosk.proof import faults
from edge.kiosk.proof.look import Process, Socket
from edge.kiosk.proof.question import Answer
from edge.kiosk.proof.report import cell, report
from edge.kiosk.proof.sandbox import CODE, TALK, Sandbox, Served, changes, renamed, with_talk
from edge.kiosk.proof.tries import REFUSED, THROUGH, Try
from edge.kiosk.prove import Proof, Row
from tests.edge.kiosk.box.test_units import MANIFEST, ROOT, SERVICE, SOCKET, lines, units

SPACES = dict.fromkeys(("net", "mnt", "user", "pid", "ipc", "uts", "cgroup"), "x:[2]")
RIGHTS = {"Uid": "1 1 1 1", "NoNewPrivs": "1", "Seccomp": "2", "CapEff": "0" * 16, "CapBnd": "0" * 16}
PASSED = Socket("7", "tcp", "127.0.0.1:4000", True, True)
INSIDE = Process(7, "python3 launch.py serve", SPACES, ("lo", "sit0"), (), RIGHTS, (PASSED,), 0)
OUTSIDE = dataclasses.replace(INSIDE, spaces=dict.fromkeys(SPACES, "x:[1]"), interfaces=("eth0", "lo"))
BOX = Sandbox("systemd", 7, 8, ("127.0.0.1", 4000), "/run/talk")
ROWS = (
    Row("TCP", "1.1.1.1:80", "", "Network is unreachable (ENETUNREACH)", "not supported (EAFNOSUPPORT)", REFUSED),
    Row("UDP", "a|b", "was answered", "", "refused", REFUSED),
)
PROOF = Proof(
    began="2026-11-30T12:00:00Z",
    ended="2026-11-30T12:00:09Z",
    way="systemd",
    facts={"served": "tiny", "signed by": "0" * 64},
    changed="[Service]\nExecStart=\n",
    properties={"PrivateNetwork": "yes"},
    service=INSIDE,
    outside=OUTSIDE,
    rows=ROWS,
    answer=Answer("Where?", "Here | there", 3, 0.5),
    faults=(),
)
DNS = Try("DNS", "own", {"kind": "dns", "address": "127.0.0.1", "port": 1}, "outside", True)
PATH = Try("Unix", "own", {"kind": "unix", "path": "/run/x"}, "outside", True)


def test_a_proof() -> None:
    text = report(PROOF)
    assert text.startswith("# The service reaches no network\n")
    assert "2 attempts were made from inside the service's sandbox: 2 refused." in text
    assert "| 1.1.1.1:80 |  | Network is unreachable (ENETUNREACH) | not supported (EAFNOSUPPORT) | refused |" in text
    assert "PrivateNetwork=yes" in text and "- routes of the service, but for its loopback: none" in text
    assert "sit0: given to every network by the kernel, down" in text
    assert "not that of systemd" not in text


def test_a_proof_that_fails_says_so_first() -> None:
    row = dataclasses.replace(ROWS[0], verdict=THROUGH)
    text = report(dataclasses.replace(PROOF, rows=(row,), faults=("TCP: 1.1.1.1:80: got through",), answer=None))
    assert text.startswith("# Not proven") and "- **TCP: 1.1.1.1:80: got through**" in text
    assert "| GOT THROUGH |" in text and "None came." in text


def test_a_sandbox_of_our_own_is_not_called_systemds() -> None:
    assert "The sandbox was not that of systemd." in report(dataclasses.replace(PROOF, way="namespaces"))


def test_what_a_cell_cannot_hold() -> None:
    """Names of sockets and answers of models are anybody's words."""
    assert cell("a|b\n# c <b>`\x1b[0m") == "a\\|b \\# c \\<b\\>\\` \\[0m"
    assert "| a\\|b |" in report(PROOF) and "| Here \\| there |" in report(PROOF)


# --- what is wrong


def test_nothing_is_wrong() -> None:
    assert list(faults.of_the_sandbox(INSIDE, INSIDE, OUTSIDE)) == []
    assert list(faults.of_sockets(INSIDE, BOX)) == []
    went = {"reached": True, "errno": None, "said": ""}
    assert list(faults.of_controls([DNS, PATH], {0: went, 1: went})) == []


@pytest.mark.parametrize(
    "change, says",
    (
        ({"spaces": {**SPACES, "net": "x:[1]"}}, "is in the net namespace of the machine"),
        ({"spaces": {**SPACES, "mnt": "x:[1]"}}, "is in the mnt namespace of the machine"),
        ({"interfaces": ("eth0", "lo")}, "has network interfaces: eth0"),
        ({"routes": ("eth0 0 0",)}, "has routes"),
        ({"rights": {**RIGHTS, "Seccomp": "0"}}, "rights are not as they must be: Seccomp"),
        ({"rights": {**RIGHTS, "CapEff": "0000000000001000"}}, "rights are not as they must be: CapEff"),
    ),
)
def test_a_wall_that_is_missing(change: dict[str, object], says: str) -> None:
    found = dataclasses.replace(INSIDE, **change)  # pyright: ignore[reportArgumentType]
    assert any(says in one for one in faults.of_the_sandbox(found, found, OUTSIDE))


def test_attempts_made_elsewhere_prove_nothing() -> None:
    for change in ({"spaces": {**SPACES, "mnt": "x:[3]"}}, {"rights": {**RIGHTS, "Uid": "0 0 0 0"}}):
        elsewhere = dataclasses.replace(INSIDE, **change)
        (fault,) = faults.of_the_sandbox(INSIDE, elsewhere, OUTSIDE)
        assert "not made under what binds the service" in fault


@pytest.mark.parametrize(
    "one",
    (
        Socket("8", "tcp", "127.0.0.1:4000", False, False),
        Socket("8", "tcp", "192.0.2.7:4001", False, True),
        Socket("8", "udp", "0.0.0.0:53", False, True),
        Socket("8", "packet", "", False, False),
    ),
)
def test_a_socket_that_it_must_not_hold(one: Socket) -> None:
    held = dataclasses.replace(INSIDE, sockets=(PASSED, one))
    assert len(list(faults.of_sockets(held, BOX))) == 1
    assert list(faults.of_sockets(dataclasses.replace(INSIDE, unknown=1), BOX))


def test_a_control_that_fails_proves_nothing() -> None:
    failed = {"reached": False, "errno": None, "said": "no loopback"}
    went = {"reached": True, "errno": None, "said": ""}
    assert "proves nothing" in next(faults.of_controls([DNS, PATH], {0: failed, 1: went}))
    assert any("no Unix socket" in one for one in faults.of_controls([DNS], {0: went}))
    assert "in the network of the service alone" in next(faults.of_its_network([DNS], {0: went}))


def test_answers() -> None:
    served = Served(("x",), (), {}, manifest=MANIFEST)
    right = Answer("?", f"{MANIFEST.golden.prefix} is Paris", 3, 0.1)
    assert list(faults.of_the_answer(right, served)) == []
    assert list(faults.of_the_answer(dataclasses.replace(right, text="Rome"), served))
    assert list(faults.of_the_answer(dataclasses.replace(right, text="", tokens=0), Served(("x",), (), {})))
    assert list(faults.of_the_answer(EdgeError("it is gone"), served)) == ["it is gone"]


# --- the unit of the proof


def test_the_unit_is_changed_where_it_must_be() -> None:
    """Every line stands as it was but for the two that name the socket; the rest is a drop-in that is shown."""
    texts = units(ROOT, MANIFEST)
    old, new = texts[SERVICE].splitlines(), renamed(texts[SERVICE]).splitlines()
    assert [one for one in new if one not in old] == [
        "Requires=edge-kiosk-proof.socket",
        "After=edge-kiosk-proof.socket",
    ]
    changed = changes(texts[SERVICE], CODE)
    (start,) = [line for line in lines(changed, "ExecStart") if line]
    assert start.endswith(" " + lines(texts[SERVICE], "ExecStart")[0]) and "beside.py" in start
    assert lines(changed, "StateDirectory") == ["", "edge-kiosk-proof"]
    assert {line.partition("=")[0] for line in changed.splitlines()} == {
        *("[Service]", "ExecStart", "Restart", "StateDirectory", "CacheDirectory", "Environment", "SyslogIdentifier")
    }
    assert lines(with_talk(texts[SOCKET]), "ListenStream") == ["127.0.0.1:8080", TALK]
