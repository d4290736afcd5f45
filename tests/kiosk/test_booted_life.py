"""A kiosk under a real systemd without a network: install, answers, a power cut, an update, and back again."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import pytest

from edge.kiosk.box.units import SERVICE, SOCKET
from edge.kiosk.pack import Packed
from tests.kiosk.booted import PATIENCE, PLAIN_PYTHON, Booted, booted, missing

ROOT, PYTHON, BOX, UPDATE = "/opt/edge-kiosk", "/opt/edge-python", "/opt/edge-box", "/opt/edge-update"
LIBRARIES = f"LD_LIBRARY_PATH={PYTHON}/lib"  # this Python may look for its own where it cannot be seen from inside
DROP_IN = f"[Service]\nEnvironment={LIBRARIES}\nStandardError=append:/run/kiosk.log\n"
ASK = """
import json, urllib.request
body = {"messages": [{"role": "user", "content": "When do you open?"}], "max_tokens": 4, "temperature": 0}
kind = {"Content-Type": "application/json"}
request = urllib.request.Request("http://127.0.0.1:8080/v1/chat/completions", json.dumps(body).encode(), kind)
answer = json.load(urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60))
print(answer["system_fingerprint"].rpartition("-")[2])
"""
# Visitors who ask one after the other, until told that it is enough; "lost" where a connection was cut.
ASK_ON = f"""
import os, time
while not os.path.exists("/run/enough"):
    try:
        exec({ASK!r})
    except Exception as error:
        print("lost", type(error).__name__)
    time.sleep(0.2)
"""


@pytest.fixture(scope="module")
def systemd(tmp_path_factory: pytest.TempPathFactory, box: Packed, update: Packed) -> Iterator[Booted]:
    if why := missing():
        pytest.skip(f"no systemd can be booted here: {why}")
    folder = tmp_path_factory.mktemp("living")
    (place := folder / "place").mkdir()
    drop_ins = folder / "files" / "etc" / "systemd" / "system" / f"{SERVICE}.d"
    drop_ins.mkdir(parents=True)
    (drop_ins / "test.conf").write_text(DROP_IN)
    shown = {sys.base_prefix: PYTHON, str(box.box.parent): BOX, str(update.box.parent): UPDATE}
    with booted(place, folder / "files", shown) as one:
        yield one


def install(systemd: Booted, path: str, *options: str) -> str:
    python = f"{PYTHON}/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    return systemd.run("env", LIBRARIES, python, path, "install", "--root", ROOT, "--min-speed", "0", *options)


def level(systemd: Booted) -> str:
    """Of the model that answers; while one is loaded, none does."""
    end = time.monotonic() + PATIENCE
    while not (found := systemd.run(PLAIN_PYTHON, "-c", ASK, check=False).strip()):
        assert time.monotonic() < end, systemd.run("cat", "/run/kiosk.log")
        time.sleep(0.1)
    return found


def main_pid(systemd: Booted) -> str:
    return systemd.show(SERVICE, "MainPID")["MainPID"]


def test_a_life(systemd: Booted, box: Packed, update: Packed) -> None:
    interfaces = systemd.run("cat", "/proc/net/dev").splitlines()[2:]
    assert [line.split(":")[0].strip() for line in interfaces] == ["lo"]

    install(systemd, f"{BOX}/{box.box.name}", "--key", box.fingerprint)
    assert systemd.run("systemctl", "is-enabled", SERVICE, SOCKET).split() == ["enabled", "enabled"]
    assert level(systemd) == "Q4_0"

    first = main_pid(systemd)
    began = time.monotonic()
    systemd.run("systemctl", "kill", "--signal=KILL", SERVICE)
    assert level(systemd) == "Q4_0" and main_pid(systemd) != first
    print(f"\nSIGKILL to the next answer: {time.monotonic() - began:.1f} s")
    assert "warm start: " in systemd.run("cat", "/run/kiosk.log")

    asking = systemd.start(PLAIN_PYTHON, "-c", ASK_ON)
    install(systemd, f"{UPDATE}/{update.box.name}")  # by the key that is known by now
    assert level(systemd) == "Q8_0"
    systemd.run("touch", "/run/enough")
    answers = asking.communicate(timeout=PATIENCE)[0].split()
    assert answers[0] == "Q4_0" and answers[-1] == "Q8_0" and set(answers) == {"Q4_0", "Q8_0"}, answers

    systemd.run("env", LIBRARIES, f"{ROOT}/edge", "rollback")
    assert level(systemd) == "Q4_0"
    assert "Q4_0" in systemd.run("env", LIBRARIES, f"{ROOT}/edge", "kiosk", "status")


def test_keys_reach_it(systemd: Booted) -> None:
    """They are readable for root alone; systemd hands them on."""
    systemd.run("sh", "-c", f"mkdir -p {ROOT}/keys && umask 077 && echo key-of-a-client >{ROOT}/keys/api-keys")
    systemd.run("env", LIBRARIES, f"{ROOT}/edge", "kiosk", "apply")
    known = ASK.replace('"application/json"', '"application/json", "Authorization": "Bearer key-of-a-client"')
    assert systemd.run(PLAIN_PYTHON, "-c", known).strip() == "Q4_0"
    stranger = known.replace("Bearer key-of", "Bearer guess-of").replace("answer = ", "try:\n    answer = ")
    stranger += "except urllib.error.HTTPError as error:\n    print(error.code)\n"
    stranger = stranger.replace("\nprint(answer", "\n    print(answer")
    assert systemd.run(PLAIN_PYTHON, "-c", stranger).strip() == "401"
