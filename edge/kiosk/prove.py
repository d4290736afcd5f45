"""Proof that the service reaches no network: it runs in its sandbox, and from inside everything is tried."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import edge
from convert.errors import EdgeError
from edge.kiosk.box import slot, trust
from edge.kiosk.box.layout import Layout, current_slot
from edge.kiosk.box.manifest import KEY, LAUNCH, MANIFEST, SIGNATURE
from edge.kiosk.box.service import Systemd
from edge.kiosk.box.units import HIDDEN
from edge.kiosk.proof import controls, faults, look, machine, sandbox, tries
from edge.kiosk.proof.question import Answer, ask
from edge.kiosk.proof.sandbox import Sandbox, Served
from edge.kiosk.proof.tries import Try
from edge.machine import cpu
from edge.server.config import read_keys

QUESTION = "What is the capital of France?"
LOOKS, PAUSE = 10, 0.3  # a connection that is just being closed is in no table; seconds between two looks
Outcome = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """One attempt. ``outside``, ``alone`` (in the service's network, without its other walls) and ``inside`` are in
    words; empty where it was not made there."""

    group: str
    what: str
    outside: str
    alone: str
    inside: str
    verdict: str


@dataclass(frozen=True)
class Proof:
    """``faults``: a line for each thing that is not as it must be; none, and it is proven. ``began``, ``ended``: UTC.
    ``facts``: what ran where, word by word."""

    began: str
    ended: str
    way: str
    facts: dict[str, str]
    changed: str
    properties: dict[str, str]
    service: look.Process
    outside: look.Process
    rows: tuple[Row, ...]
    answer: Answer | None
    faults: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return {"proven": not self.faults, **asdict(self)}


# --- what is served


def installed(layout: Layout) -> Served:
    """The current slot. Raises EdgeError, BoxError."""
    name = current_slot(layout)
    if name is None:
        raise EdgeError(f"nothing is installed in {layout.root}", "name another --root, or a MODEL")
    signed, signature, key = (slot.read_part(layout.slot(name), part) for part in (MANIFEST, SIGNATURE, KEY))
    trust.check_signed(signed, signature, key, trust.pinned(layout))
    return Served(
        command=(sys.executable, str(layout.current / LAUNCH), "serve"),
        keep=(str(layout.root), *python_folders()),
        environment={},
        root=layout.root,
        manifest=slot.read_manifest(layout.slot(name)),
        key=client_key(layout.keys / "api-keys"),
    )


def client_key(path: Path) -> str:
    """One of those that the service asks for; empty where it asks for none. Raises EdgeError."""
    try:
        return read_keys(path)[0] if path.is_file() else ""
    except OSError as error:  # the folder is for root alone
        raise EdgeError(f"cannot read {path}: {error.strerror}", "run this as root") from error


def model(path: Path, name: str) -> Served:
    """A GGUF, by ``edge serve`` of this very installation."""
    kept = ("PYTHONPATH", "LLAMA_CPP_LIB_PATH")
    environment = {variable: os.environ[variable] for variable in kept if variable in os.environ}
    folders = [part for value in environment.values() for part in value.split(os.pathsep) if part]
    return Served(
        command=(sys.executable, "-m", "edge", "serve", str(path.absolute()), "--alias", name),
        keep=(str(path.absolute()), *python_folders(), *folders),
        environment=environment,
    )


def python_folders() -> list[str]:
    return [sys.prefix, sys.base_prefix, *(str(Path(package).parent) for package in edge.__path__)]


# --- the proof


def prove(served: Served, systemd: Systemd | None, tell: Callable[[str], None]) -> Proof:
    """By ``systemd`` where it is given and ``served`` is installed, else by namespaces. Raises EdgeError, BoxError."""
    began = now()
    here = machine.read_machine(os.environ)
    with tempfile.TemporaryDirectory(prefix="edge-proof-") as name, opened_controls() as own:
        wanted = tries.tries(here, own)
        tell(f"trying {sum(bool(one.control) for one in wanted)} controls outside of the sandbox")
        outside = controlled(wanted)
        tell("starting the service in its sandbox")
        with enter(served, systemd, Path(name)) as box:
            tell(f"trying {len(wanted)} ways out, and asking a question meanwhile")
            answer, inside = ask_and_try(box, served, [one.arguments for one in wanted])
            alone = in_its_network(box, wanted)
            process, attempts = quiet_look(box), look.read_process(box.attempts)
    rows = tuple(row(one, outside.get(i), alone.get(i), inside[i]) for i, one in enumerate(wanted))
    host = look.read_process("self")
    found = [
        *faults.of_controls(wanted, outside),
        *(f"{one.group}: {one.what}: {one.verdict}" for one in rows if one.verdict in (tries.THROUGH, tries.UNCLEAR)),
        *faults.of_its_network(wanted, alone),
        *faults.of_the_sandbox(process, attempts, host),
        *faults.of_sockets(process, box),
        *faults.of_the_answer(answer, served),
    ]
    return Proof(
        began=began,
        ended=now(),
        way=box.way,
        facts=facts(served, box),
        changed=box.changed,
        properties=dict(box.properties or {}),
        service=process,
        outside=host,
        rows=rows,
        answer=answer if isinstance(answer, Answer) else None,
        faults=tuple(found),
    )


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def opened_controls() -> AbstractContextManager[controls.Controls]:
    """Raises EdgeError."""
    try:
        return controls.listening([*HIDDEN, f"/run/user/{os.getuid()}", str(Path.home())])
    except OSError as error:
        raise EdgeError(f"nothing can be listened on here: {error.strerror}") from error


def enter(served: Served, systemd: Systemd | None, folder: Path) -> AbstractContextManager[Sandbox]:
    if systemd is not None and served.root is not None:
        return sandbox.by_systemd(served, systemd)
    return sandbox.by_namespaces(served, folder)


def controlled(wanted: Sequence[Try]) -> dict[int, Outcome]:
    """Outcomes of the controls, by their place in ``wanted``. Raises EdgeError."""
    found: dict[int, Outcome] = {}
    for place, space in ((tries.HOST, {}), (tries.BARE, {"bare": True})):
        here = [i for i, one in enumerate(wanted) if one.control == place]
        try:
            found |= zip(here, sandbox.run_attempts([wanted[i].arguments for i in here], **space), strict=True)
        except EdgeError as error:
            if place == tries.HOST:
                raise
            found |= {i: {"reached": False, "errno": None, "said": error.message} for i in here}
    return found


def in_its_network(box: Sandbox, wanted: Sequence[Try]) -> dict[int, Outcome]:
    """The network of the service must hold by itself, too: tried in it with no other wall. Raises EdgeError."""
    here = [i for i, one in enumerate(wanted) if one.by_network]
    return dict(zip(here, sandbox.run_attempts([wanted[i].arguments for i in here], join=box.pid), strict=True))


def ask_and_try(
    box: Sandbox, served: Served, wanted: Sequence[dict[str, Any]]
) -> tuple[Answer | EdgeError, list[dict[str, Any]]]:
    """Both at once: the service answers while it cannot reach anything. Raises EdgeError of the attempts."""
    answers: list[Answer | EdgeError] = []

    def question() -> None:
        try:
            answers.append(
                ask(box.address, served.manifest.golden.question if served.manifest else QUESTION, served.key)
            )
        except EdgeError as error:
            answers.append(error)

    asking = threading.Thread(target=question)
    asking.start()
    try:
        inside = sandbox.tell(box.talk, wanted)
    finally:
        asking.join()
    return answers[0], inside


def quiet_look(box: Sandbox) -> look.Process:
    """Raises EdgeError."""
    found = look.read_process(box.pid)
    for _ in range(LOOKS):
        if found.unknown:
            time.sleep(PAUSE)
            found = look.read_process(box.pid)
    return found


def row(one: Try, outside: Outcome | None, alone: Outcome | None, inside: Outcome) -> Row:
    if outside is not None:
        where = "" if one.control == tries.HOST else f"{one.control}: "
        stands = f"{where}{tries.outcome_text(outside)}"
    else:
        stands = one.there
    return Row(
        group=one.group,
        what=one.what,
        outside=stands,
        alone="" if alone is None else tries.outcome_text(alone),
        inside=tries.outcome_text(inside),
        verdict=tries.verdict(one, inside),
    )


# --- what ran where


def facts(served: Served, box: Sandbox) -> dict[str, str]:
    system = platform.freedesktop_os_release() if Path("/etc/os-release").exists() else {}
    return {
        "machine": f"{platform.node()}, {cpu().name or platform.machine()}",
        "system": f"{system.get('PRETTY_NAME', 'Linux')}, kernel {platform.release()}",
        "proven by": f"edge {edge.__version__}, Python {platform.python_version()}, as user {os.geteuid()}",
        **(installed_facts(served) if served.root else {"served": "a model alone, by this installation of edge"}),
        "command": shlex.join(served.command),
        "sandbox": WAYS[box.way],
        **({"systemd": systemd_version()} if box.way == "systemd" else {}),
        "asked at": address_text(box.address),
    }


WAYS = {
    "systemd": "the service's own unit, run by systemd under another name",
    "namespaces": "namespaces made by this program in the likeness of the unit; systemd was NOT used",
}


def installed_facts(served: Served) -> dict[str, str]:
    """Raises BoxError."""
    assert served.root is not None and served.manifest is not None
    layout, manifest = Layout(served.root), served.manifest
    name = current_slot(layout) or ""
    signed, key = (slot.read_part(layout.slot(name), part) for part in (MANIFEST, KEY))
    return {
        "served": f"{manifest.name} {manifest.level}, edge {manifest.version}, packed {manifest.created}",
        "from": f"{served.root}, slot {name}",
        "manifest": f"SHA-256 {hashlib.sha256(signed).hexdigest()}; its signature is valid",
        "signed by": trust.fingerprint(key),
    }


def address_text(address: object) -> str:
    return f"http://{address[0]}:{address[1]}" if isinstance(address, tuple) else f"unix:{address}"


def systemd_version() -> str:
    done = subprocess.run(["systemctl", "--version"], capture_output=True, text=True, check=False)
    return done.stdout.partition("\n")[0]
