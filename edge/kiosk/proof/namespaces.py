"""``namespaces.py JSON``: runs ``command`` as the service's unit would have systemd run it, as far as networks go.

For machines that systemd does not run, and for people who are not root. New namespaces for the network (a loopback
alone), mounts, processes and IPC; the folders ``hidden`` are empty but for ``keep``; no capability; of sockets only
Unix ones can be made. With ``bare`` it is the namespaces alone, with all rights in them: there, what is refused inside
must work, or it was tried wrong. With ``join`` it is the network of that process, and nothing else of its sandbox.
``sockets`` become files 3 and 4. Standard library alone.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import platform
import signal
import socket
import struct
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

NEW_MOUNTS, NEW_IPC, NEW_USER, NEW_PIDS, NEW_NETWORK = 0x20000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 0x1000, 0x4000, 0x40000
PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 1, 22, 24, 38, 2
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
FIRST, PAST = 3, 10  # the number of the first file that is passed, and one that is surely free
CAPABILITY_VERSION = 0x20080522

# A filter of system calls, in classic BPF: jumps count from the next line.
LOAD, JUMP_IF, JUMP_IF_SET, RETURN = 0x20, 0x15, 0x45, 0x06
NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16  # of struct seccomp_data, little endian
ALLOW, FAIL_WITH = 0x7FFF0000, 0x50000
EPERM, EAFNOSUPPORT = 1, 97
X32, IO_URING_SETUP = 0x40000000, 425
SYSTEM_CALLS = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}  # the architecture's mark, socket()

LIBC = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    told = json.loads(sys.argv[1])
    try:
        pass_on(told.get("sockets", ()))
        if "join" in told:
            join(told["join"])
            os.execvp(told["command"][0], told["command"])
        enter(NEW_NETWORK if told.get("bare") else NEW_NETWORK | NEW_MOUNTS | NEW_IPC | NEW_PIDS)
        loopback_up()
        if told.get("bare"):
            os.execvp(told["command"][0], told["command"])
        child = os.fork()
        if child:
            follow(child)
        must(LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
        mount("none", "/", "", MS_REC | MS_PRIVATE)
        mount("proc", "/proc", "proc", 0)
        hide(told["hidden"], told["keep"])
        drop_rights()
    except OSError as error:
        sys.exit(f"error: no namespaces can be made here: {error.strerror}")
    command = os.fork()  # process 1 takes no signals that it does not ask for, so it is not the service
    if command == 0:
        os.execvp(told["command"][0], told["command"])
    reap(command)


def must(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def pass_on(sockets: Sequence[int]) -> None:
    moved = [fcntl.fcntl(one, fcntl.F_DUPFD, PAST) for one in sockets]
    for one in sockets:
        os.close(one)
    for number, one in enumerate(moved):
        os.dup2(one, FIRST + number)
        os.close(one)


def join(pid: int) -> None:
    """Who is not root has rights over a network only in the namespace of users that it belongs to."""
    spaces = [os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY) for name in ("user", "net")]
    if os.geteuid() == 0 and LIBC.setns(spaces[1], NEW_NETWORK) == 0:
        return
    must(LIBC.setns(spaces[0], NEW_USER))
    must(LIBC.setns(spaces[1], NEW_NETWORK))


def enter(spaces: int) -> None:
    """As oneself, with all rights in there. Root may do without a namespace of users, where a kernel has none."""
    user, group = os.geteuid(), os.getegid()
    try:
        must(LIBC.unshare(spaces | NEW_USER))
    except OSError:
        if user != 0:
            raise
        must(LIBC.unshare(spaces))
        return
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        Path(f"/proc/self/{name}").write_text(text)


def loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        asked = struct.pack("16sH22x", b"lo", 0)
        (flags,) = struct.unpack_from("H", fcntl.ioctl(one, SIOCGIFFLAGS, asked), 16)
        fcntl.ioctl(one, SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", flags | IFF_UP))


def follow(child: int) -> NoReturn:
    """End as the child does, and take it along."""
    must(LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 0xFF)


def reap(command: int) -> NoReturn:
    """Process 1 takes over orphans. When it ends, so do all."""
    while True:
        ended, status = os.wait()
        if ended == command:
            os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


# --- files


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    words = [text.encode() or None for text in (source, target, kind)]
    must(LIBC.mount(*words, ctypes.c_ulong(flags), data.encode() or None))


def hide(hidden: Sequence[str], keep: Sequence[str]) -> None:
    """Raises OSError."""
    opened = {path: os.open(path, os.O_PATH) for path in outermost(keep) if is_below(path, hidden)}
    for folder in hidden:
        if Path(folder).is_dir() and not Path(folder).is_symlink():
            mount("tmpfs", folder, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
    for path, handle in opened.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        if Path(f"/proc/self/fd/{handle}").is_dir():
            Path(path).mkdir()
        else:
            Path(path).touch()
        mount(f"/proc/self/fd/{handle}", path, "", MS_BIND | MS_REC)
        os.close(handle)


def outermost(paths: Sequence[str]) -> Iterator[str]:
    """Without those that lie in others, and those that are not there."""
    for path in sorted(set(paths)):
        if not is_below(path, [other for other in paths if other != path]) and Path(path).exists():
            yield path


def is_below(path: str, folders: Sequence[str]) -> bool:
    return any(Path(folder) == Path(path) or Path(folder) in Path(path).parents for folder in folders)


# --- rights


def drop_rights() -> None:
    """Every capability for good, and what could bring one back. Raises OSError."""
    capability = 0
    while LIBC.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0:
        capability += 1
    must(LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    must(LIBC.capset(struct.pack("=Ii", CAPABILITY_VERSION, 0), bytes(24)))
    lines = b"".join(struct.pack("=HBBI", *line) for line in filter_lines(platform.machine()))
    held = ctypes.create_string_buffer(lines, len(lines))
    program = struct.pack("@HP", len(lines) // 8, ctypes.addressof(held))
    must(LIBC.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0))


def filter_lines(machine: str) -> list[tuple[int, int, int, int]]:
    """What systemd makes of RestrictAddressFamilies=AF_UNIX, and no rings, which open sockets by another way."""
    if machine not in SYSTEM_CALLS:
        raise OSError(EPERM, f"system calls of {machine} are not known")
    architecture, make_socket = SYSTEM_CALLS[machine]
    return [
        (LOAD, 0, 0, ARCHITECTURE),
        (JUMP_IF, 0, 7, architecture),
        (LOAD, 0, 0, NUMBER),
        (JUMP_IF_SET, 5, 0, X32),
        (JUMP_IF, 4, 0, IO_URING_SETUP),
        (JUMP_IF, 0, 2, make_socket),
        (LOAD, 0, 0, FIRST_ARGUMENT),
        (JUMP_IF, 0, 2, socket.AF_UNIX),
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, FAIL_WITH | EPERM),
        (RETURN, 0, 0, FAIL_WITH | EAFNOSUPPORT),
    ]


if __name__ == "__main__":
    main()
