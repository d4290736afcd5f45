"""``python3 box.edge``: install this box, check it, or show what it holds. Needs the standard library alone."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn, TextIO

from . import install as installing
from . import service, trust
from .check import check_box
from .container import Box, open_box
from .errors import BoxError
from .install import Ways, title
from .layout import DEFAULT_ROOT, Layout
from .manifest import Manifest, parse
from .target import mib, misfits, read_target

INTERRUPTED = 130  # the shell's own code for Ctrl-C


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Exit code 1 and one line for what fails."""
    try:
        run(parser().parse_args(arguments))
    except BoxError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # who reads has seen enough, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    sys.exit(0)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python3 BOX", description="A model and all that serves it, for one machine.")
    commands = made.add_subparsers(dest="command", metavar="{install,verify,show}", required=True)
    one = commands.add_parser("install", help="check the box, try it here, switch to it")
    add_trust(one)
    one.add_argument(
        "--min-speed",
        type=part,
        default=installing.MIN_SPEED,
        help=f"least part of the planned decode speed ({installing.MIN_SPEED})",
    )
    one.add_argument("--listen", help="where the service is asked: ADDRESS:PORT or the path of a Unix socket")
    one.add_argument("--no-service", action="store_true", help="install no systemd service, touch none")
    add_trust(commands.add_parser("verify", help="check every byte of the box, write nothing"))
    show = commands.add_parser("show", help="what is in the box; checks nothing")
    show.add_argument("--json", action="store_true", help="the manifest, without its files")
    for command in commands.choices.values():
        command.add_argument("--box", type=Path, default=Path(sys.argv[0]), help=argparse.SUPPRESS)
    return made


def add_trust(command: argparse.ArgumentParser) -> None:
    command.add_argument("--key", help="fingerprint of the key to trust, as edge pack printed it")
    command.add_argument("--root", type=Path, default=DEFAULT_ROOT, help=f"where it is installed ({DEFAULT_ROOT})")


def part(text: str) -> float:
    """A number from 0 to 1. Raises ArgumentTypeError."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to 1")
    return number


def run(options: argparse.Namespace) -> None:
    """Raises BoxError."""
    if options.command == "show":
        show(open_box(options.box), options.json)
        return
    layout = Layout(options.root.resolve())
    if options.command == "verify":
        checked = check_box(options.box, trust.trusted(layout, options.key), progress_line(sys.stderr))
        say(f"{title(checked.manifest)}: every byte is the one that {checked.key} signed")
        warn_of_misfits(checked.manifest)
        return
    systemd = None if options.no_service else service.find()
    ways = Ways(options.key, options.min_speed, systemd, options.listen)
    installing.install(options.box, layout, ways, say, progress_line(sys.stderr))
    say(f"run it: {layout.launcher} serve" if ways.systemd is None else f"it is served: {layout.launcher} kiosk status")


def show(box: Box, as_json: bool) -> None:
    """Nothing of it has been checked: the fingerprint is the box's own word."""
    manifest = parse(box.manifest)
    fingerprint = trust.fingerprint(box.key)
    if as_json:
        shown = {name: value for name, value in asdict(manifest).items() if name != "files"}
        end = {"archive_length": box.archive.length, "archive_sha256": box.archive.sha256}
        print(json.dumps({**shown, "key": fingerprint, "bytes": box.size, **end}))
        return
    say(title(manifest))
    say(f"for {manifest.machine}, Python {manifest.python}, glibc {manifest.glibc}, CPU: {', '.join(manifest.cpu)}")
    say(f"{len(manifest.files)} files, {mib(box.size)}; {mib(manifest.memory)} of memory")
    say(f"licences: {', '.join(manifest.licences)}")
    say(f"says it is signed by {fingerprint}")
    say(f"its code: tail -c {box.archive.length} BOX | sha256sum is {box.archive.sha256}")
    warn_of_misfits(manifest)


def warn_of_misfits(manifest: Manifest) -> None:
    for sentence in misfits(manifest, read_target()):
        say(f"does not fit this machine: {sentence}")


def say(text: str) -> None:
    print(text, flush=True)


def progress_line(stream: TextIO) -> Callable[[str, int, int], None]:
    """A line that is written over, on a terminal; nothing elsewhere."""
    shown = ""

    def update(what: str, done: int, of: int) -> None:
        nonlocal shown
        line = f"{what}: {100 * done // max(1, of)} %"
        if line != shown and stream.isatty():
            print(f"\r{line:<20}", end="\r" if done >= of else "", file=stream, flush=True)
        shown = line

    return update


if __name__ == "__main__":
    main()
