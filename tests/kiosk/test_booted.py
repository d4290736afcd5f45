"""The service's own units, run by a real systemd: the sandbox, the passed socket, the watchdog, the new start.

In place of an installed slot there is a small one: the packages of this checkout, and an embedded model.
"""

from __future__ import annotations

import dataclasses
import shutil
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edge.kiosk.box.units import SERVICE, SOCKET, quote, units
from tests.edge.kiosk.box.test_units import MANIFEST
from tests.kiosk.booted import PATIENCE, PLAIN_PYTHON, Booted, booted, missing

ROOT = '/opt/edge "50%h" $HOME \\kiosk'  # what quoting must bear
CHECKOUT, PACKAGES, PYTHON = "/opt/edge-checkout", "/opt/edge-packages", "/opt/edge-python"
HIDDEN = {"look-home": '/home/kiosk:1/"edge', "look-tmp": "/var/tmp/edge kiosk"}
WATCHDOG = 4  # seconds
SECRET = "my diary says zanzibar"

LAUNCH = f"""
import os, pathlib, sys
sys.path[:0] = [{CHECKOUT!r}, {PACKAGES!r}]
slot = pathlib.Path(__file__).parents[1]
state = os.environ["STATE_DIRECTORY"]
sys.argv = ["edge", "serve", f"{{slot}}/model/model.gguf", "--kiosk", f"{{slot}}/kiosk.toml", "--state-dir", state]
sys.argv += ["--alias", "kiosk", "-v"]
from edge.cli.main import main
main()
"""
KIOSK = """system = "You are the guide of a small museum of clocks, and answer every visitor in two friendly sentences."
questions = ["Where is the oldest clock?", "Where is the café?"]
"""
DROP_IN = f"""[Service]
StandardOutput=append:/run/kiosk.log
StandardError=append:/run/kiosk.log
WatchdogSec={WATCHDOG}
Environment=LD_PRELOAD=/opt/hang.so HANG_FILE=/opt/hang LD_LIBRARY_PATH={PYTHON}/lib
"""
# In place of the service: what it sees of a root in a folder that is hidden from it.
LOOK = """[Service]
Type=oneshot
Restart=no
ExecStart=
ExecStart=/bin/sh -c 'cat "$$0/seen" && ! ls /home/somebody && ! touch "$$0/new"' {root}
StandardOutput=append:/run/look.log
"""
ASK = f"""
import json, urllib.request
body = {{"messages": [{{"role": "user", "content": {SECRET!r}}}], "max_tokens": 4}}
kind = {{"Content-Type": "application/json"}}
request = urllib.request.Request("http://127.0.0.1:8080/v1/chat/completions", json.dumps(body).encode(), kind)
print(urllib.request.build_opener(urllib.request.ProxyHandler({{}})).open(request, timeout=60).status)
"""


@pytest.fixture(scope="module")
def systemd(tmp_path_factory: pytest.TempPathFactory, gguf: Path, hanging: Path) -> Iterator[Booted]:
    if why := missing():
        pytest.skip(f"no systemd can be booted here: {why}")
    folder = tmp_path_factory.mktemp("booted")
    (place := folder / "place").mkdir()
    slot = folder / "files" / ROOT[1:] / "slots" / "a"
    for path, source in (("box/launch.py", None), ("model/model.gguf", gguf)):
        (slot / path).parent.mkdir(parents=True)
        _ = shutil.copy(source, slot / path) if source else (slot / path).write_text(LAUNCH)
    (slot / "kiosk.toml").write_text(KIOSK)
    (slot.parent.parent / "current").symlink_to("slots/a")
    shutil.copy(hanging, folder / "files" / "opt" / "hang.so")
    unit_files = folder / "files" / "etc" / "systemd" / "system"
    (unit_files / f"{SERVICE}.d").mkdir(parents=True)
    (unit_files / f"{SERVICE}.d" / "test.conf").write_text(DROP_IN)
    manifest = dataclasses.replace(MANIFEST, memory=1 << 30)
    python = f"{PYTHON}/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    for name, text in units(ROOT, manifest, python=python).items():
        (unit_files / name).write_text(text)
    (folder / "files" / "home" / "somebody").mkdir(parents=True)
    for name, root in HIDDEN.items():
        (folder / "files" / root[1:]).mkdir(parents=True)
        (folder / "files" / root[1:] / "seen").write_text(f"{name}\n")
        (unit_files / f"{name}.service").write_text(units(root, manifest)[SERVICE])
        (unit_files / f"{name}.service.d").mkdir()
        (unit_files / f"{name}.service.d" / "test.conf").write_text(LOOK.format(root=quote(root, command=True)))
    for path in (folder / "files").rglob("*"):  # pytest's folders are for their owner alone
        path.chmod(0o755 if path.is_dir() else 0o644)
    shown = {
        str(Path(__file__).parents[2]): CHECKOUT,
        sysconfig.get_paths()["platlib"]: PACKAGES,
        sys.base_prefix: PYTHON,
    }
    with booted(place, folder / "files", shown) as one:
        yield one


@pytest.fixture(scope="module")
def service(systemd: Booted) -> Booted:
    """With the service running, as ``systemctl start`` says once it is ready."""
    systemd.run("systemctl", "start", SOCKET)
    try:
        systemd.run("systemctl", "start", SERVICE)
    except AssertionError as error:
        log = systemd.run("cat", "/run/kiosk.log", check=False)
        raise AssertionError(f"{error}\n{systemd.run('systemctl', 'status', SERVICE, check=False)}\n{log}") from None
    return systemd


def ask(systemd: Booted) -> str:
    return systemd.run(PLAIN_PYTHON, "-c", ASK).strip()


def answers(systemd: Booted) -> bool:
    return systemd.run(PLAIN_PYTHON, "-c", ASK, check=False).strip() == "200"


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def main_pid(systemd: Booted) -> str:
    return systemd.show(SERVICE, "MainPID")["MainPID"]


def test_it_answers_through_the_passed_socket(service: Booted) -> None:
    assert service.show(SERVICE, "ActiveState", "StatusText") == {
        "ActiveState": "active",
        "StatusText": "answers with kiosk",
    }
    assert ask(service) == "200"


def test_its_sandbox(service: Booted) -> None:
    pid = main_pid(service)
    lines = service.run("cat", f"/proc/{pid}/status").splitlines()
    status = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    assert "0" not in status["Uid"] and status["NoNewPrivs"] == ["1"] and status["Seccomp"] == ["2"]
    assert all(int(status[name][0], 16) == 0 for name in ("CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb"))
    interfaces = service.run("cat", f"/proc/{pid}/net/dev").splitlines()[2:]
    assert [line.split(":")[0].strip() for line in interfaces] == ["lo"]
    limits = service.run("cat", f"/proc/{pid}/limits").splitlines()
    assert [line.split()[4:6] for line in limits if line.startswith("Max core file size")] == [["0", "0"]]
    mounts = [line.split() for line in service.run("cat", f"/proc/{pid}/mounts").splitlines()]
    writable = {mount[1] for mount in mounts if "rw" in mount[3].split(",") and not mount[1].startswith("/dev/")}
    own = {f"/var/{kind}/private/edge-kiosk" for kind in ("lib", "cache")}
    assert writable == own | {"/tmp", "/var/tmp", "/proc"}


def test_a_hang_in_native_code(service: Booted) -> None:
    """systemd's own watchdog ends it, and its successor answers from the same socket."""
    before = main_pid(service)
    service.run("touch", "/opt/hang")
    began = time.monotonic()
    with ThreadPoolExecutor() as pool:
        lost = pool.submit(ask, service)
        until(lambda: main_pid(service) != before)
        killed = time.monotonic()
        service.run("rm", "/opt/hang")
        assert lost.exception(PATIENCE) is not None, "who asked the process that hung is not answered"
    until(lambda: answers(service))
    answered = time.monotonic()
    assert service.show(SERVICE, "NRestarts") == {"NRestarts": "1"}
    print(f"\nhang to kill: {killed - began:.1f} s of {WATCHDOG} s, to the next answer: {answered - began:.1f} s")


def test_it_ends_in_order_and_comes_back_by_a_request(service: Booted) -> None:
    service.run("systemctl", "stop", SERVICE)
    assert service.show(SERVICE, "ActiveState", "Result") == {"ActiveState": "inactive", "Result": "success"}
    until(lambda: answers(service))  # the socket starts it; while it loads it says so


def test_its_log(service: Booted) -> None:
    """Nothing of what visitors asked; and the one start that was cold was the first."""
    log = service.run("cat", "/run/kiosk.log")
    assert "POST /v1/chat/completions 200" in log and "Fatal Python error: Aborted" in log
    assert log.count("cold start: ") == 1 and log.count("warm start: ") == 2, log
    assert "zanzibar" not in log and "Traceback" not in log


@pytest.mark.parametrize("name", HIDDEN)
def test_a_root_in_a_hidden_folder(systemd: Booted, name: str) -> None:
    """It is seen, cannot be written to, and is all that is seen there."""
    systemd.run("systemctl", "start", f"{name}.service")
    assert name in systemd.run("cat", "/run/look.log").split()
