"""The texts of the service's two units. Pure: a root, a manifest and an address in, unit files out.

systemd binds the socket, outside, and passes it on. So the service itself needs no network and is given none, and who
asks while it restarts waits instead of being refused.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from pathlib import PurePosixPath

from .errors import BoxError, one_line
from .manifest import LAUNCH, MODEL, Manifest

SERVICE, SOCKET = "edge-kiosk.service", "edge-kiosk.socket"
LISTEN = "127.0.0.1:8080"
PYTHON = "/usr/bin/python3"

WATCHDOG_SECONDS = 30
RESTART_SECONDS = 2
STOP_SECONDS = 30  # for answers that are at work
ABORT_SECONDS = 10  # for the trace of a process that hung
LEAST_START_SECONDS = 120
SLOWEST_DISK = 20_000_000  # bytes/s
GATE = ".trial-lock"  # held while a version is tried; the service waits for it
MARGIN = 256 << 20  # bytes, and an eighth of the rest: clients, answers, what Python leaves lying
COVERED = ("/run", "/var")  # where other programs have sockets
HIDDEN = ("/home", "/root", "/tmp", *COVERED)  # folders that a service does not see
NOTIFY = "/run/systemd/notify"  # where it tells that it lives

ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[0-9.]+):([0-9]{1,5})")
OPEN_OPTIONS = ("--api-key-file", "--without-key")  # of edge serve: who may ask from elsewhere was thought about
# Files of an administrator, readable for root alone -> the option of edge serve that takes what systemd hands on.
KEY_FILES = {"api-keys": "--api-key-file", "operator-keys": "--operator-key-file"}


def units(
    root: str, manifest: Manifest, listen: str = LISTEN, python: str = PYTHON, keys: Collection[str] = ()
) -> dict[str, str]:
    """File name -> text. ``root``: where the slots are. ``listen``: ``ADDRESS:PORT`` or the path of a Unix socket.
    ``keys``: those of ``KEY_FILES`` that are there.

    Raises BoxError for what cannot be told in a unit, and for an address that others could ask at without a key.
    """
    check_path(root, "the root")
    check_path(python, "the path of Python")
    if is_hidden(python):
        raise BoxError(
            f"the service does not see {python}", f"install with the system's own: sudo {PYTHON} BOX install"
        )
    local = check_listen(listen, manifest, keys)
    return {SERVICE: service(root, manifest, python, keys), SOCKET: socket(listen, local)}


def socket(listen: str, local: bool) -> str:
    is_path = listen.startswith("/")
    lines = [
        "[Unit]",
        "Description=Where visitors ask the edge kiosk",
        "",
        "[Socket]",
        f"ListenStream={escape(listen)}",
        "Backlog=128",
        *(["SocketMode=0660", "RemoveOnStop=yes"] if is_path else ["NoDelay=yes", "FreeBind=yes"]),
        *(["IPAddressDeny=any", "IPAddressAllow=localhost"] if local and not is_path else []),
        "# However often the service falls, nobody would come to start it again.",
        "TriggerLimitIntervalSec=0",
        "",
        "[Install]",
        "WantedBy=sockets.target",
    ]
    return "\n".join(lines) + "\n"


def service(root: str, manifest: Manifest, python: str, keys: Collection[str]) -> str:
    launch = str(PurePosixPath(root) / "current" / LAUNCH)
    lines = [
        "[Unit]",
        f"Description=edge kiosk with {escape(manifest.name)}",
        f"Requires={SOCKET}",
        f"After={SOCKET}",
        f"RequiresMountsFor={quote(root)}",
        "# For a year nobody comes: it is started again for ever.",
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        "Type=notify",
        "NotifyAccess=main",
        "# While another version is tried, nobody starts this one: who asks waits at the socket.",
        f"ExecStartPre=-+/usr/bin/flock --shared {quote(str(PurePosixPath(root) / GATE), command=True)} /bin/true",
        f"ExecStart={quote(python, command=True)} {quote(launch, command=True)} serve",
        "Environment=HF_HUB_OFFLINE=1 HOME=%C/private/edge-kiosk",
        *(f"LoadCredential={name}:{escape(str(PurePosixPath(root) / 'keys' / name))}" for name in sorted(keys)),
        "",
        "# It is ready when it has drawn a token. The model is read from a disk that may be slow.",
        f"TimeoutStartSec={start_seconds(manifest)}",
        f"TimeoutStopSec={STOP_SECONDS}",
        "Restart=always",
        f"RestartSec={RESTART_SECONDS}",
        "# It tells that it lives only while it gets on; SIGABRT shows in the log where it hung.",
        f"WatchdogSec={WATCHDOG_SECONDS}",
        "WatchdogSignal=SIGABRT",
        f"TimeoutAbortSec={ABORT_SECONDS}",
        "LimitCORE=0",
        "",
        "# Mapped weights are counted: with less, the machine would read them from disk for every token.",
        f"MemoryMax={memory_bytes(manifest)}",
        "MemorySwapMax=0",
        "OOMPolicy=stop",
        "TasksMax=512",
        "LimitNOFILE=4096",
        "",
        "StateDirectory=edge-kiosk",
        "StateDirectoryMode=0700",
        "CacheDirectory=edge-kiosk",
        "CacheDirectoryMode=0700",
        "UMask=0077",
        "",
        "# No network. The socket comes from outside and goes on working.",
        "PrivateNetwork=yes",
        "RestrictAddressFamilies=AF_UNIX",
        "IPAddressDeny=any",
        "# Nor another program that has one: those that resolve names or connect for others listen in these folders.",
        "# (A ReadOnlyPaths=/run would take the place of this one.)",
        f"TemporaryFileSystem={' '.join(f'{folder}:ro' for folder in COVERED)}",
        f"BindReadOnlyPaths={NOTIFY}",
        "",
        "# Nothing to write but the state and the cache.",
        "DynamicUser=yes",
        "ProtectSystem=strict",
        *visible(root),
        "PrivateTmp=yes",
        "PrivateDevices=yes",
        "PrivateUsers=yes",
        "PrivateIPC=yes",
        "PrivateMounts=yes",
        "ProtectProc=invisible",
        "ProtectHostname=yes",
        "ProtectClock=yes",
        "ProtectKernelTunables=yes",
        "ProtectKernelModules=yes",
        "ProtectKernelLogs=yes",
        "ProtectControlGroups=yes",
        "RemoveIPC=yes",
        "",
        "# Nothing to become.",
        "NoNewPrivileges=yes",
        "CapabilityBoundingSet=",
        "AmbientCapabilities=",
        "RestrictNamespaces=yes",
        "RestrictRealtime=yes",
        "RestrictSUIDSGID=yes",
        "LockPersonality=yes",
        "MemoryDenyWriteExecute=yes",
        "SystemCallArchitectures=native",
        "SystemCallFilter=@system-service",
        "SystemCallFilter=~@privileged @resources @aio",
        "SystemCallErrorNumber=EPERM",
        "",
        "SyslogIdentifier=edge-kiosk",
        "LogRateLimitIntervalSec=30",
        "LogRateLimitBurst=200",
        "",
        "[Install]",
        "WantedBy=multi-user.target",
    ]
    return "\n".join(lines) + "\n"


def start_seconds(manifest: Manifest) -> int:
    """The whole model is read once, and the server asks for more time as long as it gets on."""
    weights = sum(file.size for file in manifest.files if file.path == MODEL)
    return LEAST_START_SECONDS + weights // SLOWEST_DISK


def memory_bytes(manifest: Manifest) -> int:
    return manifest.memory + manifest.memory // 8 + MARGIN


def visible(root: str) -> list[str]:
    """Homes are hidden, but for a root that lies in one."""
    if not is_hidden(root):
        return ["ProtectHome=yes"]
    return ["ProtectHome=tmpfs", f"BindReadOnlyPaths={quote(root)}"]


def is_hidden(path: str) -> bool:
    return any(path == folder or path.startswith(folder + "/") for folder in HIDDEN)


def check_path(path: str, what: str) -> None:
    """Raises BoxError for what a line of a unit cannot hold."""
    if not path.startswith("/") or path != one_line(path) or any("\ud800" <= c <= "\udfff" for c in path):
        raise BoxError(
            f"{what} {path!r} cannot be in a unit of systemd",
            "give an absolute path of characters that can be shown",
        )


def check_listen(listen: str, manifest: Manifest, keys: Collection[str]) -> bool:
    """Whether only this machine can ask there. Raises BoxError."""
    if listen.startswith("/"):
        check_path(listen, "the socket")
        return True
    if address_of(listen).is_loopback:
        return True
    is_open = any(option.partition("=")[0] in OPEN_OPTIONS for option in manifest.serve)
    if not is_open and "api-keys" not in keys:
        raise BoxError(
            f"{listen} can be reached from other machines, and no key is asked for",
            f"write keys into keys/api-keys below the root, or pack with: -- {OPEN_OPTIONS[1]}",
        )
    return False


def address_of(listen: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Raises BoxError."""
    wrong = BoxError(f"{one_line(listen)!r} is no address to listen on", "write 127.0.0.1:8080, [::1]:8080 or /PATH")
    found = ADDRESS.fullmatch(listen)
    if found is None or not 0 < int(found.group(2)) < 65536:
        raise wrong
    try:
        return ipaddress.ip_address(found.group(1).strip("[]"))
    except ValueError:
        raise wrong from None


def escape(text: str) -> str:
    """In a line that is one value: a percent sign is no specifier."""
    return text.replace("%", "%%")


def quote(text: str, command: bool = False) -> str:
    """One word of a list. In a ``command`` a dollar sign is a variable, too."""
    quoted = escape(text).replace("\\", "\\\\").replace('"', '\\"')
    return '"' + (quoted.replace("$", "$$") if command else quoted) + '"'
