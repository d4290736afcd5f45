"""Everything between a fresh machine and an importable library: `make setup`, or `py tools/setup.py`.

Makes a virtual environment, gets llama-cpp-python (a wheel that pip finds, one built before, or a build
from source), installs this project, and proves that the library loads. Quick when nothing changed.

Only the standard library, and only words that Python 3.6 reads, so that an old Python says what it lacks.
"""

import argparse
import hashlib
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from build_log import Progress, failure

ROOT = Path(__file__).resolve().parent.parent
NEEDED = (3, 11)
NEWER_NAMES = [f"python3.{minor}" for minor in range(19, NEEDED[1] - 1, -1)]
WINDOWS = os.name == "nt"
ILLEGAL_INSTRUCTION = (-getattr(signal, "SIGILL", 4), 0xC000001D)
NO_AMX = "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"
USUAL_CUDA = "/usr/local/cuda"
AGAIN = "py tools\\setup.py" if WINDOWS else "make setup"
AGAIN_REBUILD = "py tools\\setup.py --rebuild" if WINDOWS else "make setup REBUILD=1"

PROOF = """
import sys
from edge.llama import library
try:
    library.load()
except library.LibraryError as error:
    sys.exit("error: %s" % error)
"""


class SetupError(Exception):
    """Why the set-up cannot go on, and the next step, in one plain sentence."""


def main(arguments: "list[str] | None" = None) -> int:
    parser = argparse.ArgumentParser(description="Set up everything that edge needs")
    parser.add_argument("--venv", default=".venv", help="the virtual environment's folder")
    parser.add_argument("--extra", action="append", default=[], help="an extra of pyproject.toml, such as test")
    parser.add_argument("--with", dest="requirements", action="append", default=[], metavar="REQUIREMENT",
                        help="install this first, such as a certain torch")  # fmt: skip
    parser.add_argument("--cuda", action="store_true", help="build llama.cpp with CUDA")
    parser.add_argument("--rebuild", action="store_true", help="build llama.cpp again from source")
    options = parser.parse_args(arguments)
    try:
        check_python(sys.version_info, shutil.which)
        set_up(options)
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\nstopped; what is installed so far stays, go on with: {AGAIN}", file=sys.stderr)
        return 130
    return 0


def set_up(options: argparse.Namespace) -> None:
    venv = ROOT / options.venv
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    version = pinned_version(project)
    wanted = {
        "project": hashlib.sha256(project.encode()).hexdigest(),
        "extras": sorted(set(options.extra)),
        "with": sorted(options.requirements),
    }
    stamp = venv / "edge-setup.json"
    library_ready = is_installed(venv, version) and (not options.cuda or has_cuda(venv)) and not options.rebuild
    if library_ready and covers(stamp, wanted):
        return
    make_venv(venv)
    if options.requirements:
        pip(venv, ["install", "-q", *options.requirements], "installing " + ", ".join(options.requirements))
    if not library_ready:
        get_library(venv, version, cuda=options.cuda, rebuild=options.rebuild)
    extras = f"[{','.join(sorted(set(options.extra)))}]" if options.extra else ""
    pip(venv, ["install", "-q", "-e", str(ROOT) + extras], "installing this project and what it needs")
    prove(venv)
    stamp.write_text(json.dumps(wanted), encoding="utf-8")
    say("Ready.")


def check_python(version: "tuple[int | str, ...]", which: "Callable[[str], str | None]") -> None:
    """Raise SetupError for a Python older than NEEDED; ``which`` finds a command's path."""
    if version[:2] >= NEEDED:
        return
    found = next((name for name in NEWER_NAMES if which(name)), None)
    if found:
        step = f"use the newer one on this machine: make PYTHON={found} setup"
    elif WINDOWS:
        step = "install it from python.org, then: py -3.12 tools\\setup.py"
    else:
        step = "install it from python.org or your package manager, then: make PYTHON=python3.12 setup"
    raise SetupError(
        f"Python {NEEDED[0]}.{NEEDED[1]} or newer is needed, "
        f"this is {'.'.join(str(part) for part in version[:3])}; {step}"
    )


def pinned_version(project: str) -> str:
    """The version of llama-cpp-python that the text of pyproject.toml asks for."""
    match = re.search(r'"llama-cpp-python==([0-9.]+)"', project)
    if match is None:
        raise SetupError("pyproject.toml does not pin llama-cpp-python; restore it from version control")
    return match.group(1)


def covers(stamp: Path, wanted: "dict[str, str | list[str]]") -> bool:
    """Whether the last finished set-up installed all of this from the same pyproject.toml."""
    try:
        done = json.loads(stamp.read_text(encoding="utf-8"))
        return done["project"] == wanted["project"] and all(
            set(wanted[key]) <= set(done[key]) for key in ("extras", "with")
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


# --- the virtual environment


def python_of(venv: Path) -> Path:
    return venv / "Scripts" / "python.exe" if WINDOWS else venv / "bin" / "python"


def site_packages(venv: Path) -> "list[Path]":
    return sorted(venv.glob("Lib/site-packages" if WINDOWS else "lib/python3*/site-packages"))


def is_installed(venv: Path, version: str) -> bool:
    name = f"llama_cpp_python-{version}.dist-info"
    return python_of(venv).exists() and any((folder / name).is_dir() for folder in site_packages(venv))


def has_cuda(venv: Path) -> bool:
    return any(any(folder.glob("llama_cpp/lib/*ggml-cuda*")) for folder in site_packages(venv))


def make_venv(venv: Path) -> None:
    """Make the environment unless a working one is there."""
    check = f"import sys, pip; sys.exit(sys.version_info < {NEEDED})"
    if python_of(venv).exists() and succeeds([str(python_of(venv)), "-c", check]):
        return
    if not succeeds([sys.executable, "-c", "import venv, ensurepip"]):
        raise SetupError(
            f"this Python has no venv module; install it, then run {AGAIN} again: "
            "sudo apt install python3-venv (Debian, Ubuntu), or Python from python.org"
        )
    say(f"Making the virtual environment {venv}")
    made = subprocess.run([sys.executable, "-m", "venv", "--clear", str(venv)], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)  # fmt: skip
    if made.returncode != 0:
        reason = last_line(made.stdout.decode(errors="replace"))
        raise SetupError(f"the virtual environment {venv} cannot be made: {reason}")


def succeeds(command: "list[str]") -> bool:
    try:
        return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0
    except OSError:
        return False


def pip_command(venv: Path, arguments: "list[str]") -> "list[str]":
    return [str(python_of(venv)), "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]


def pip(venv: Path, arguments: "list[str]", what: str) -> None:
    say(what[0].upper() + what[1:])
    done = subprocess.run(pip_command(venv, arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        log = venv / "pip.log"
        log.write_bytes(done.stdout)
        raise SetupError(failure(done.stdout.decode(errors="replace").splitlines(), what, log))


# --- llama-cpp-python


def get_library(venv: Path, version: str, *, cuda: bool, rebuild: bool) -> None:
    """Install llama-cpp-python in the cheapest way that gives what was asked for."""
    requirement = "llama-cpp-python==" + version
    # pip's cache of wheels does not know CMAKE_ARGS: a build with other options neither uses nor fills it.
    special = cuda or bool(os.environ.get("CMAKE_ARGS", "").strip())
    if not (special or rebuild):
        with tempfile.TemporaryDirectory() as folder:
            wheel = find_wheel(venv, requirement, folder) or cached_wheel(venv, version)
            if wheel:
                pip(venv, ["install", "-q", "--force-reinstall", "--no-deps", wheel], "installing " + Path(wheel).name)
                return
    environment = build_environment(os.environ, cuda=cuda)
    check_compilers(environment, cuda=cuda)
    arguments = ["install", "-v", "--no-deps", "--force-reinstall", "--no-binary", "llama-cpp-python"]
    if special:
        arguments.append("--no-cache-dir")
    elif rebuild:  # the wheel built before is not to be trusted, here or in another environment
        succeeds(pip_command(venv, ["cache", "remove", "llama_cpp_python"]))
    build(pip_command(venv, [*arguments, requirement]), environment, venv / "build.log", cuda=cuda)


def find_wheel(venv: Path, requirement: str, folder: str) -> "str | None":
    """A ready wheel from the indexes that this person's pip uses, or None."""
    say("Looking for a ready wheel of " + requirement)
    command = pip_command(venv, ["download", "-q", "--only-binary", ":all:", "--no-deps", "-d", folder, requirement])
    return next((str(path) for path in Path(folder).glob("*.whl")), None) if succeeds(command) else None


def cached_wheel(venv: Path, version: str) -> "str | None":
    """The wheel that pip built from source before, or None."""
    command = pip_command(venv, ["cache", "list", "--format=abspath", "llama_cpp_python"])
    listing = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    if listing.returncode != 0:  # the cache is switched off
        return None
    paths = [Path(line.strip()) for line in listing.stdout.decode(errors="replace").splitlines()]
    return next((str(p) for p in paths if p.name.startswith(f"llama_cpp_python-{version}-") and p.is_file()), None)


def build_environment(environment: "os._Environ[str] | dict[str, str]", *, cuda: bool) -> "dict[str, str]":
    """The environment of the build: our switches first, so that the person's own CMAKE_ARGS win."""
    result = dict(environment)
    # Either of these would change the build: the first turns off every instruction set of this CPU,
    # the second the "[27/140]" that the progress line reads.
    for name in ("SOURCE_DATE_EPOCH", "NINJA_STATUS"):
        result.pop(name, None)
    ours = ["-DLLAVA_BUILD=OFF"] + (["-DGGML_CUDA=on"] if cuda else [])
    result["CMAKE_ARGS"] = " ".join([*ours, environment.get("CMAKE_ARGS", "")]).strip()
    if miscompiles_amx(gcc_version(result)):
        for name in ("CFLAGS", "CXXFLAGS"):
            result[name] = f"{environment.get(name, '')} {NO_AMX}".strip()
    if cuda:
        nvcc = find_nvcc(result)
        if nvcc:
            result["CUDACXX"] = nvcc
    return result


def gcc_version(environment: "dict[str, str]") -> "tuple[int, ...] | None":
    """The version of the C compiler if it is GCC (no other one knows -dumpfullversion), else None."""
    command = environment.get("CC", "").split() or ["cc"]
    command[0] = shutil.which(command[0], path=environment.get("PATH", "")) or command[0]
    try:
        asked = subprocess.run([*command, "-dumpfullversion"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except OSError:
        return None
    match = re.match(r"(\d+)\.(\d+)", asked.stdout.decode(errors="replace"))
    return (int(match.group(1)), int(match.group(2))) if match and asked.returncode == 0 else None


def miscompiles_amx(gcc: "tuple[int, ...] | None") -> bool:
    """GCC 11 to 13.2 drops most of the stores before _tile_loadconfig: the first prefill ends in a fault."""
    return gcc is not None and (11, 0) <= gcc < (13, 3)


def check_compilers(environment: "dict[str, str]", *, cuda: bool) -> None:
    """Raise SetupError, naming what to install, before a build that could not succeed."""
    path = environment.get("PATH", "")
    if cuda and not find_nvcc(environment):
        raise SetupError(
            "CUDA=1 needs NVIDIA's CUDA toolkit, and its compiler nvcc is not found; install the toolkit "
            "(or put nvcc's folder into PATH), or leave CUDA=1 out"
        )
    if WINDOWS:
        return  # CMake finds Visual Studio without PATH
    if sys.platform == "darwin" and not succeeds(["xcode-select", "-p"]):
        raise SetupError(f"no C++ compiler; install Apple's, then run {AGAIN} again: xcode-select --install")

    def have(variable: str, names: "tuple[str, ...]") -> bool:
        chosen = environment.get(variable, "").split()
        return any(shutil.which(name, path=path) for name in (chosen[:1] or names))

    if have("CC", ("cc", "gcc", "clang")) and have("CXX", ("c++", "g++", "clang++")):
        return
    raise SetupError(
        "llama.cpp is built from source here, which needs a C and C++ compiler; install one: "
        "sudo apt install build-essential (Debian, Ubuntu), sudo dnf install gcc-c++ (Fedora), "
        f"xcode-select --install (macOS); then run {AGAIN} again"
    )


def find_nvcc(environment: "dict[str, str]") -> "str | None":
    name = "nvcc.exe" if WINDOWS else "nvcc"
    homes = [environment.get("CUDA_PATH"), environment.get("CUDA_HOME"), USUAL_CUDA]
    places = [environment.get("CUDACXX"), shutil.which("nvcc", path=environment.get("PATH", ""))]
    places += [str(Path(home) / "bin" / name) for home in homes if home]
    return next((place for place in places if place and Path(place).is_file()), None)


def build(command: "list[str]", environment: "dict[str, str]", log: Path, *, cuda: bool) -> None:
    """Run pip's build, its output going to ``log``, and show on the way how far it is."""
    if cuda:
        say("Building llama.cpp with CUDA from source. This takes long: half an hour or more on few cores.")
    else:
        say("Building llama.cpp from source. This happens once and takes about ten minutes on two cores.")
    say(f"The full log: {log}")
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    lines = queue.Queue()  # type: queue.Queue[bytes | None]

    def read() -> None:
        for line in process.stdout or ():
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    progress = Progress(sys.stdout, time.monotonic)
    try:
        with log.open("wb") as file:
            while True:
                try:
                    line = lines.get(timeout=1)
                except queue.Empty:
                    line = b""
                if line is None:
                    break
                file.write(line)
                file.flush()
                progress.line(line.decode(errors="replace"))
    except KeyboardInterrupt:
        process.terminate()
        raise
    finally:
        progress.close()
    if process.wait() != 0:
        raise SetupError(failure(log.read_text(encoding="utf-8", errors="replace").splitlines(), "the build", log))


# --- the proof


def prove(venv: Path) -> None:
    """Load the library in a child process: a library for another CPU would end this one."""
    command = [str(python_of(venv)), "-c", PROOF]
    done = subprocess.run(command, cwd=str(ROOT), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode == 0:
        return
    raise SetupError(explain_proof(done.returncode, done.stdout.decode(errors="replace")))


def explain_proof(code: int, output: str) -> str:
    if code in ILLEGAL_INSTRUCTION:
        return (
            "llama.cpp was built for instructions that this CPU does not have; "
            f"build it on this machine: {AGAIN_REBUILD}"
        )
    said = last_line(output)
    if said.startswith("error: "):
        return said[len("error: ") :]
    return f"llama.cpp is installed, but does not load (exit code {code}): {said}; build it again: {AGAIN_REBUILD}"


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
