"""The service in its sandbox, with the attempts beside it: by systemd itself, or by namespaces of our own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convert.errors import EdgeError
from edge.kiosk.box import install, service, trial, units
from edge.kiosk.box.errors import BoxError
from edge.kiosk.box.layout import Layout
from edge.kiosk.box.manifest import Manifest
from edge.kiosk.box.service import Systemd
from edge.kiosk.proof import look
from edge.kiosk.proof.controls import LOOPBACK
from edge.kiosk.proof.namespaces import is_below
from edge.kiosk.proof.question import Address, is_ready

CODE = Path(__file__).parent  # the programs that run in there
HIDDEN = (*units.HIDDEN, "/dev")
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
TRY_SECONDS = 120.0  # for all attempts
PAUSE = 0.1  # seconds between looks
PROOF = "edge-kiosk-proof"
VOLATILE = Path("/run/systemd/system")  # unit files that a restart of the machine forgets
WRITTEN = (Path("/var/lib"), Path("/var/cache"))  # what its units write lies below; systemctl clean needs a D-Bus
TALK = f"/run/{PROOF}.socket"
PROPERTIES = (
    *("PrivateNetwork", "RestrictAddressFamilies", "IPAddressDeny", "TemporaryFileSystem", "BindReadOnlyPaths"),
    *("DynamicUser", "ProtectSystem", "ProtectHome", "ReadOnlyPaths", "PrivateTmp", "PrivateDevices", "PrivateUsers"),
    *("ProtectProc", "NoNewPrivileges", "CapabilityBoundingSet", "RestrictNamespaces", "SystemCallArchitectures"),
    *("FragmentPath", "DropInPaths"),
)


@dataclass(frozen=True)
class Served:
    """``command``: the service, as its unit starts it. ``keep``: what it reads. ``root``: None for a model alone.
    ``key``: of its clients, where it asks for one."""

    command: tuple[str, ...]
    keep: tuple[str, ...]
    environment: Mapping[str, str]
    root: Path | None = None
    manifest: Manifest | None = None
    key: str = ""


@dataclass(frozen=True)
class Sandbox:
    """``talk``: where the attempts are told. ``changed``: lines that differ from the service's own unit.
    ``properties``: of the unit, as systemd tells them."""

    way: str
    pid: int
    attempts: int
    address: Address
    talk: str
    changed: str = ""
    properties: Mapping[str, str] | None = None


def tell(talk: str, wanted: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The outcomes of these attempts, made in there. Raises EdgeError."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
            one.settimeout(TRY_SECONDS)
            one.connect(talk)
            one.sendall(lines_of(wanted))
            one.shutdown(socket.SHUT_WR)
            with one.makefile("rb") as stream:
                return outcomes(stream.read(), len(wanted))
    except OSError as error:
        raise EdgeError(f"the attempts in the sandbox did not end: {error}") from error


def lines_of(wanted: Sequence[Mapping[str, Any]]) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in wanted)


def outcomes(said: bytes, count: int) -> list[dict[str, Any]]:
    """Raises EdgeError when there are not so many."""
    found = [json.loads(line) for line in said.splitlines()]
    if len(found) != count:
        raise EdgeError(f"{len(found)} of {count} attempts came to an end")
    return found


def run_attempts(wanted: Sequence[Mapping[str, Any]], **space: Any) -> list[dict[str, Any]]:
    """Outside, or in a namespace that ``namespaces.py`` enters by ``space``. Raises EdgeError."""
    command = python("attempts.py")
    if space:
        command = [*python("namespaces.py"), json.dumps({**space, "command": command})]
    try:
        done = subprocess.run(command, input=lines_of(wanted), capture_output=True, timeout=TRY_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise EdgeError(f"the attempts did not end in {TRY_SECONDS:.0f} s") from error
    if done.returncode:
        raise EdgeError(f"the attempts failed: {trial.last_line(done.stderr)}")
    return outcomes(done.stdout, len(wanted))


def python(program: str, folder: Path = CODE) -> list[str]:
    """One of the programs that need nothing but the standard library."""
    return [sys.executable, "-I", str(folder / program)]


def attempts_of(pid: int) -> int:
    """The process that was started beside the service. Raises EdgeError."""
    for child in look.children(pid):
        with contextlib.suppress(OSError):
            if b"attempts.py" in (look.PROC / str(child) / "cmdline").read_bytes():
                return child
    raise EdgeError("the attempts beside the service have ended")


# --- namespaces of our own


@contextlib.contextmanager
def by_namespaces(served: Served, folder: Path) -> Iterator[Sandbox]:
    """``folder``: an empty one, for what it writes. Raises EdgeError."""
    (state := folder / "state").mkdir(mode=0o700)
    with listen_on_loopback(folder) as listening, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as talk:
        talk.bind(str(folder / "talk"))
        talk.listen()
        passed = [listening.fileno(), talk.fileno()]
        keep = [os.path.realpath(path) for path in (*served.keep, str(folder), str(CODE))]
        told = {
            "hidden": HIDDEN,
            "keep": [*keep, *DEVICES],
            "sockets": passed,
            "command": [*python("beside.py"), *served.command],
        }
        folders = ("HOME", "TMPDIR", "STATE_DIRECTORY", "CACHE_DIRECTORY", "EDGE_HOME")
        usual = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", "HF_HUB_OFFLINE": "1"}
        with (folder / "log").open("wb") as log:
            child = subprocess.Popen(
                [*python("namespaces.py"), json.dumps(told)],
                cwd="/",
                env={**usual, **{name: str(state) for name in folders}, **served.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=passed,
                preexec_fn=trial.die_with_parent,
            )
        try:
            address = listening.getsockname()
            where = address if isinstance(address, str) else (str(address[0]), int(address[1]))
            wait_until_ready(child, where, folder / "log")
            pid = served_by(child)
            yield Sandbox("namespaces", pid, attempts_of(pid), where, str(folder / "talk"))
        finally:
            child.kill()  # and by that all that it started
            child.wait()


def served_by(child: subprocess.Popen[bytes]) -> int:
    """The service: a grandchild. Raises EdgeError."""
    for middle in look.children(child.pid):
        for pid in look.children(middle):
            return pid
    raise EdgeError("the service has ended in its sandbox")


def listen_on_loopback(folder: Path) -> socket.socket:
    """A machine may have no loopback; a Unix socket does as well."""
    try:
        listening = socket.create_server((LOOPBACK, 0))
        with socket.create_connection(listening.getsockname(), 1.0):
            listening.accept()[0].close()
        return listening
    except OSError:
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listening.bind(str(folder / "service"))
        listening.listen()
        return listening


def wait_until_ready(child: subprocess.Popen[bytes], address: Address, log: Path) -> None:
    """Raises EdgeError."""
    until = time.monotonic() + trial.START_SECONDS
    while time.monotonic() < until:
        if child.poll() is not None:
            raise EdgeError(f"the service ended in its sandbox: {trial.last_line(log.read_bytes())}")
        if is_ready(address):
            return
        time.sleep(PAUSE)
    raise EdgeError(f"the service was not ready after {trial.START_SECONDS:.0f} s")


# --- systemd


@contextlib.contextmanager
def by_systemd(served: Served, systemd: Systemd) -> Iterator[Sandbox]:
    """By the very unit, under another name and with folders and an address of its own. Raises EdgeError, BoxError."""
    assert served.root is not None and served.manifest is not None
    code = served.root / "current" / "site" / "edge" / "kiosk" / "proof"
    code = code if code.is_dir() else CODE
    if is_below(str(code), units.HIDDEN) and not is_below(str(code), [str(served.root)]):
        raise EdgeError(f"the service's sandbox hides {code}", f"run {served.root}/edge prove-offline")
    address = (LOOPBACK, free_port())
    texts = install.unit_files(Layout(served.root), served.manifest, f"{LOOPBACK}:{address[1]}")
    installed = systemd.units / units.SERVICE
    text = installed.read_text() if installed.exists() else texts[units.SERVICE]
    changed = changes(text, code)
    names = [f"{PROOF}.service", f"{PROOF}.socket"]
    own, folder = Systemd(VOLATILE, systemd.systemctl), VOLATILE / f"{PROOF}.service.d"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (VOLATILE / names[0]).write_text(renamed(text))
        (VOLATILE / names[1]).write_text(with_talk(texts[units.SOCKET]))
        for number, path in enumerate(drop_ins(systemd)):
            shutil.copyfile(path, folder / f"{number:03}-{path.name}")
        (folder / "zzz-proof.conf").write_text(changed)
        own.must("daemon-reload")
        try:
            own.must("stop", *names[::-1])  # of a proof that was killed
            own.must("start", names[1])
            own.must("start", names[0])
        except BoxError as error:
            raise EdgeError(error.message, f"see: journalctl -u {PROOF}") from error
        pid = int(show(own, names[0], "MainPID")["MainPID"])
        told = show(own, names[0], *PROPERTIES)
        yield Sandbox("systemd", pid, attempts_of(pid), address, TALK, changed, told)
    except OSError as error:
        raise EdgeError(f"no unit can be made in {VOLATILE}: {error.strerror}", "run this as root") from error
    finally:
        own.run("stop", *names[::-1])
        for path in (folder, *(parent / "private" / PROOF for parent in WRITTEN)):
            shutil.rmtree(path, ignore_errors=True)
        for path in (*(VOLATILE / name for name in names), *(parent / PROOF for parent in WRITTEN), Path(TALK)):
            path.unlink(missing_ok=True)
        own.run("daemon-reload")
        own.run("reset-failed", *names)


def free_port() -> int:
    with socket.create_server((LOOPBACK, 0)) as one:
        return one.getsockname()[1]


def renamed(text: str) -> str:
    """It belongs to a socket of another name. Dependencies cannot be taken back in a drop-in."""
    own = {f"Requires={units.SOCKET}": f"Requires={PROOF}.socket", f"After={units.SOCKET}": f"After={PROOF}.socket"}
    return "".join(f"{own.get(line, line)}\n" for line in text.splitlines())


def with_talk(text: str) -> str:
    """A second socket is passed, for the attempts."""
    lines = text.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("ListenStream="))
    return "\n".join([*lines[: at + 1], f"ListenStream={TALK}", "SocketMode=0600", *lines[at + 1 :]]) + "\n"


def changes(text: str, code: Path) -> str:
    """The last drop-in: the attempts beside the service, and folders other than those of the service that runs."""
    start = next(line for line in reversed(text.splitlines()) if line.startswith("ExecStart="))
    before = " ".join(units.quote(word, command=True) for word in python("beside.py", code))
    lines = ["[Service]", "ExecStart=", f"ExecStart={before} {start.partition('=')[2]}", "Restart=no"]
    for name in ("StateDirectory", "CacheDirectory"):
        lines += [f"{name}=", f"{name}={PROOF}"]
    lines += [f"Environment=HOME=%C/private/{PROOF}", f"SyslogIdentifier={PROOF}"]
    return "\n".join(lines) + "\n"


def drop_ins(systemd: Systemd) -> list[Path]:
    """What an administrator changed in the service."""
    return [Path(path) for path in show(systemd, units.SERVICE, "DropInPaths").get("DropInPaths", "").split()]


def show(systemd: Systemd, unit: str, *names: str) -> dict[str, str]:
    told = systemd.run("show", unit, *(f"--property={name}" for name in names)).stdout.decode(errors="replace")
    return dict(line.split("=", 1) for line in told.splitlines() if "=" in line)


def can_use_systemd() -> Systemd | None:
    """Only root may make units, and only process 1 can be a systemd that runs services of the machine."""
    return service.find() if os.geteuid() == 0 else None
