"""``confine.py FOLDER TEST READY_FD RESULT_FD SECONDS``: runs one test of an answer's code with no rights.

On standard input, JSON: ``code``, ``tests`` and ``parent``, the process that waits. Three processes: the first makes
namespaces of users, network (with no interface up), processes, IPC and mounts; the second is their process 1, so that
all end with it, and nothing inside can reach it; the third is confined and runs the test:

- of the files it sees only Python's own and the system's libraries, read-only, and FOLDER, which is memory in there
- Landlock allows it no other file, were one to be seen
- limits on memory, time, open files and their size
- no capability, and none to be had
- no system call that makes a process, thread, socket or shared memory, sends a signal or changes a file's mode

``READY_FD`` gets ``confined`` and is closed before the code starts, or gets why it cannot be confined. Nothing is run
then. ``RESULT_FD`` gets JSON, ``why`` the test failed, empty where it passed.

What it does not keep from the code: to say that it passed. It is in the same process as its test.

Standard library alone; Linux on x86-64 or ARM64.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import struct
import sys
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

MEMORY, FOLDER_SIZE, FOLDER_FILES, FILE_SIZE, OPEN_FILES = 512 << 20, 16 << 20, 1000, 1 << 20, 64  # sizes in bytes
LONGEST_WHY = 300  # characters
LIBRARIES = ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/share/zoneinfo")  # folders, and those of Python

NEW_MOUNTS, NEW_IPC, NEW_USER, NEW_PIDS, NEW_NETWORK = 0x20000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 0x1000, 0x4000, 0x40000
MOUNT_SETATTR, AT_FDCWD, AT_RECURSIVE, READ_ONLY = 442, -100, 0x8000, 1  # read-only as mount_setattr has it
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 24, 38
SECCOMP_MODE_FILTER = 2
CAPABILITY_VERSION = 0x20080522

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # Landlock's calls have the same numbers everywhere
RULESET_VERSION, PATH_BENEATH = 1, 1
EXECUTE, WRITE_FILE, READ_FILE, READ_FOLDER, REMOVE_FOLDER, REMOVE_FILE = 1, 2, 4, 8, 16, 32
MAKE_FOLDER, MAKE_FILE = 1 << 7, 1 << 8
READING = READ_FILE | READ_FOLDER | EXECUTE
WRITING = WRITE_FILE | READ_FILE | READ_FOLDER | REMOVE_FOLDER | REMOVE_FILE | MAKE_FOLDER | MAKE_FILE
FILE_RIGHTS = (1 << 13) - 1  # of version 1
REFER, TRUNCATE, DEVICE_CALLS = 1 << 13, 1 << 14, 1 << 15  # of versions 2, 3 and 5
NETWORK_RIGHTS, SCOPES = 3, 3  # of versions 4 and 6

# A filter of system calls, in classic BPF: jumps count from the next line.
LOAD, JUMP_IF, JUMP_FROM, RETURN = 0x20, 0x15, 0x35, 0x06
NUMBER, ARCHITECTURE = 0, 4  # of struct seccomp_data, little endian
ALLOW, FAIL_WITH = 0x7FFF0000, 0x50000
EPERM, ENOSYS = 1, 38
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column below, mark of the architecture

# From here on all machines have the same numbers. Calls so new are refused as by an old kernel, but for close_range,
# faccessat2 and epoll_pwait2: so io_uring, clone3, pidfds, the new mounts, and whatever is still to come. (x86's x32
# calls have higher numbers still.)
NEW, NEW_ALLOWED = 424, (436, 439, 441)
REFUSED = {  # on x86-64, on ARM64
    # processes and threads, and leaving the group that is killed
    **{"fork": (57, None), "vfork": (58, None), "clone": (56, 220), "execve": (59, 221), "execveat": (322, 281)},
    **{"setsid": (112, 157), "setpgid": (109, 154), "prctl": (157, 167), "unshare": (272, 97), "setns": (308, 268)},
    # other processes
    **{"kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131), "ptrace": (101, 117), "kcmp": (312, 272)},
    **{"rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240)},
    **{"process_vm_readv": (310, 270), "process_vm_writev": (311, 271)},
    # networks
    **{"socket": (41, 198), "socketpair": (53, 199)},
    # memory that no limit counts
    **{"shmget": (29, 194), "msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180)},
    **{"memfd_create": (319, 279), "fallocate": (285, 47)},
    # what Landlock leaves alone: modes, owners, times and attributes of files
    **{"chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53)},
    **{"chown": (92, None), "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54)},
    **{"utime": (132, None), "utimes": (235, None), "futimesat": (261, None), "utimensat": (280, 88)},
    **{"setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7)},
    **{"removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16)},
    # the rest of the kernel
    **{"mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51)},
    **{"name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "syslog": (103, 116)},
    **{"bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282)},
    **{"keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218)},
}

LIBC = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    folder, test, ready, result, seconds = sys.argv[1:]
    told = json.load(sys.stdin)
    try:
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)  # the tests are not to be read there again
        in_namespaces(told["parent"])
        readable = list(outermost([*LIBRARIES, *python_folders()]))
        see_only(folder, readable)
        limit(int(seconds))
        drop_rights()
        landlock(folder, readable)
        filter_calls(os.uname().machine)
    except Exception as error:
        why = ": ".join(filter(None, (error.filename, error.strerror))) if isinstance(error, OSError) else repr(error)
        os.write(int(ready), why.encode(errors="replace")[:LONGEST_WHY])
        os._exit(1)
    os.write(int(ready), b"confined")
    os.close(int(ready))
    why = run(told["code"], told["tests"], test)
    os.write(int(result), json.dumps({"why": why[:LONGEST_WHY]}).encode())
    os._exit(0)


def must(result: int, what: str) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")
    return result


# --- namespaces


def in_namespaces(parent: int) -> None:
    """Only the third process returns from here. Raises OSError."""
    user, group = os.geteuid(), os.getegid()
    spaces = NEW_NETWORK | NEW_PIDS | NEW_IPC | NEW_MOUNTS
    if LIBC.unshare(spaces | NEW_USER) == 0:
        for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            Path(f"/proc/self/{name}").write_text(text)
    else:  # root may do without a namespace of users, where a kernel has none
        must(LIBC.unshare(spaces), "namespaces")
    ends_with_parent()
    if os.getppid() != parent:
        os._exit(1)
    for _ in range(2):
        if child := os.fork():
            follow(child)
        ends_with_parent()


def ends_with_parent() -> None:
    must(LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")


def follow(child: int) -> NoReturn:
    os.waitpid(child, 0)
    os._exit(0)


# --- files


def python_folders() -> list[str]:
    """As named and as they lie: a link in them may name either."""
    named = [*sys.path, *(str(Path(sys.base_prefix, name)) for name in ("lib", "lib64"))]
    return [*named, *map(os.path.realpath, named)]


def outermost(paths: Sequence[str]) -> Iterator[str]:
    """Of those that are folders, those in no other."""
    folders = {path for path in paths if Path(path).is_dir()}
    for path in sorted(folders):
        if not any(str(above) in folders for above in Path(path).parents):
            yield path


def see_only(folder: str, readable: Sequence[str]) -> None:
    """A file tree of ``readable``, read-only, and ``folder``, which is empty. Raises OSError."""
    mount("none", "/", "", MS_REC | MS_PRIVATE)
    mount("tmpfs", folder, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
    for path in readable:
        Path(folder + path).mkdir(parents=True, exist_ok=True)
        mount(path, folder + path, "", MS_BIND | MS_REC)
    Path(folder + folder).mkdir(parents=True, exist_ok=True)
    attributes = struct.pack("=QQQQ", READ_ONLY | MS_NOSUID | MS_NODEV, 0, 0, 0)
    changed = LIBC.syscall(MOUNT_SETATTR, AT_FDCWD, folder.encode(), AT_RECURSIVE, attributes, len(attributes))
    must(changed, "mount_setattr")
    os.chroot(folder)
    mount("tmpfs", folder, "tmpfs", MS_NOSUID | MS_NODEV, f"mode=700,size={FOLDER_SIZE},nr_inodes={FOLDER_FILES}")
    os.chdir(folder)


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    words = [os.fsencode(text) or None for text in (source, target, kind)]
    must(LIBC.mount(*words, ctypes.c_ulong(flags), data.encode() or None), "mount")


def landlock(folder: str, readable: Sequence[str]) -> None:
    """Raises OSError."""
    version = LIBC.syscall(CREATE_RULESET, None, 0, RULESET_VERSION)
    if version < 1:
        raise OSError(ENOSYS, "this kernel has no Landlock")
    ruleset, writing = ruleset_of(version)
    handle = must(LIBC.syscall(CREATE_RULESET, ruleset, len(ruleset), 0), "Landlock")
    for path, rights in [*((one, READING) for one in readable), (folder, writing)]:
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
        must(LIBC.syscall(ADD_RULE, handle, PATH_BENEATH, struct.pack("=Qi", rights, opened), 0), "Landlock")
        os.close(opened)
    must(LIBC.syscall(RESTRICT_SELF, handle, 0), "Landlock")
    os.close(handle)


def ruleset_of(version: int) -> tuple[bytes, int]:
    """All that this version of Landlock can refuse, and what is allowed in the folder."""
    refused = FILE_RIGHTS
    for least, right in ((2, REFER), (3, TRUNCATE), (5, DEVICE_CALLS)):
        refused |= right if version >= least else 0
    ruleset = struct.pack("=Q", refused)
    ruleset += struct.pack("=Q", NETWORK_RIGHTS) if version >= 4 else b""
    ruleset += struct.pack("=Q", SCOPES) if version >= 6 else b""
    return ruleset, (WRITING | REFER | TRUNCATE) & refused


# --- rights


def limit(seconds: int) -> None:
    """Of processor time; sizes as above."""
    for kind, most in (
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, FILE_SIZE),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (most, most))


def drop_rights() -> None:
    """Every capability for good, and what could bring one back. Raises OSError."""
    capability = 0
    while LIBC.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0:
        capability += 1
    must(LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")
    must(LIBC.capset(struct.pack("=Ii", CAPABILITY_VERSION, 0), bytes(24)), "capset")
    must(LIBC.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0), "prctl")


def filter_calls(machine: str) -> None:
    """Raises OSError."""
    if machine not in MACHINES:
        raise OSError(ENOSYS, f"system calls of {machine} are not known")
    lines = b"".join(struct.pack("=HBBI", *line) for line in filter_lines(machine))
    held = ctypes.create_string_buffer(lines, len(lines))
    program = struct.pack("@HP", len(lines) // 8, ctypes.addressof(held))
    must(LIBC.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0), "seccomp")


def filter_lines(machine: str) -> list[tuple[int, int, int, int]]:
    column, architecture = MACHINES[machine]
    lines = [(LOAD, 0, 0, ARCHITECTURE), (JUMP_IF, 1, 0, architecture), (RETURN, 0, 0, FAIL_WITH | EPERM)]
    lines.append((LOAD, 0, 0, NUMBER))
    for number in NEW_ALLOWED:
        lines += [(JUMP_IF, 0, 1, number), (RETURN, 0, 0, ALLOW)]
    lines += [(JUMP_FROM, 0, 1, NEW), (RETURN, 0, 0, FAIL_WITH | ENOSYS)]
    for numbers in REFUSED.values():
        if (number := numbers[column]) is not None:
            lines += [(JUMP_IF, 0, 1, number), (RETURN, 0, 0, FAIL_WITH | EPERM)]
    return [*lines, (RETURN, 0, 0, ALLOW)]


# --- the test


def run(code: str, tests: str, test: str) -> str:
    """Why the test fails; empty where it passes."""
    try:
        answer = types.ModuleType("answer")
        sys.modules["answer"] = answer
        exec(compile(code, "answer.py", "exec", dont_inherit=True), answer.__dict__)
        space: dict[str, Any] = {"__name__": "tests"}
        exec(compile(tests, "tests.py", "exec", dont_inherit=True), space)
        space[test]()
    except BaseException as error:
        return f"{type(error).__name__}: {error}".removesuffix(": ")
    return ""


if __name__ == "__main__":
    main()
