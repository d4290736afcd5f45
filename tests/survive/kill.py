"""SIGKILL at random moments of what changes files, then the same command once more.

    python -m tests.survive.kill [--count 200] [--only convert pull ...] [--seed 1]

Each kill has a fresh copy of a folder with an older result in it, and ends the command and all that it started, as a
power cut would (but for what the disk's own cache loses: what is synced before a rename is a test of its own). Half of
the moments are spread evenly over the time that an undisturbed run was measured to take; the others are exact: before
the Nth time that the program opens a file for writing, syncs, renames, links, cuts or removes one, so that all moments
around a rename are met, the last ones first.

Violations: something that the command started still runs after 5 s; a file under its final name that is neither the
old one nor the new one, byte for byte (times in JSON files left aside); an old file that is gone; the program's own
check (``edge verify``; the box's; the seal of a state) says that something is damaged; the same command, run again,
fails, or its result is not the one of an undisturbed run, or it leaves files behind that an undisturbed run does not:
they would grow in number with each power cut.

Columns: ``in time`` and ``exact``, the kills of each kind; ``too late``, moments at which the command had ended;
``old`` and ``new``, what was there after the kill where it was all of one kind, ``both`` where some files were new.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
from pathlib import Path

from tests.survive.common import Tally, parser, still_running
from tests.survive.operations import OPERATIONS, Operation

LATER = 1.02  # of the measured time: the last moments are met though runs differ


def moments_of(operation: Operation, count: int, rng: random.Random) -> list[float | int]:
    """Seconds for half of them, numbers of changes for the others."""
    in_time = count // 2
    times = [operation.seconds * LATER * (index + rng.random()) / in_time for index in range(in_time)]
    exact = list(range(operation.changes, 0, -1))
    while len(exact) < count - in_time:
        exact.append(rng.randint(1, operation.changes))
    return [*times, *exact[: count - in_time]]


def kill_at(operation: Operation, folder: Path, moment: float, tally: Tally) -> None:
    name = operation.name
    operation.copy(folder)
    if isinstance(moment, int):
        where = f"before change {moment} of {operation.changes}"
        ended = operation.run(folder, ["kill", str(moment)])
        tally.add(name, "exact")
    else:
        where = f"after {moment:.3f} of {operation.seconds:.3f} s"
        ended = operation.run(folder, after=moment)
        tally.add(name, "in time")
    if ended.code >= 0:
        tally.add(name, "too late")
        if ended.code:
            tally.violation(name, f"{where}: exit code {ended.code}: {ended.errors[-300:]}")
    for command in still_running(folder):
        tally.violation(name, f"{where}: it still runs: {command}")
    there = operation.content(folder)
    changed = {file for file in operation.new if operation.new[file] != operation.old.get(file)}
    new = {file for file in changed if there.get(file) == operation.new[file]}
    tally.add(name, "new" if new == changed else "both" if new else "old")
    for wrong in operation.wrong(folder):
        tally.violation(name, f"{where}: {wrong}")
    again = operation.run(folder)
    if again.code:
        tally.violation(name, f"{where}: the next run fails: {again.errors.strip()[-300:]}")
    elif operation.content(folder) != operation.new:
        tally.violation(name, f"{where}: the next run ends with another result")
    else:
        for wrong in operation.wrong(folder):
            tally.violation(name, f"{where}: after the next run: {wrong}")
        if left := operation.left_over(folder):
            tally.violation(name, f"{where}: the next run leaves {', '.join(sorted(left))}")


def survive(names: list[str], count: int, seed: int) -> Tally:
    """``count`` kills in all, shared out among the operations."""
    tally, rng = Tally(), random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="survive-") as scratch:
        for index, name in enumerate(names):
            operation = OPERATIONS[name](name)
            operation.ready(Path(scratch))
            tally.figures[f"{name} seconds"] = round(operation.seconds, 2)
            tally.figures[f"{name} changes"] = operation.changes
            share = count // len(names) + (index < count % len(names))
            for number, moment in enumerate(moments_of(operation, share, rng)):
                folder = Path(scratch) / f"{name}-{number}"
                kill_at(operation, folder, moment, tally)
                shutil.rmtree(folder)
            print(f"{name}: {share} kills", flush=True)
    return tally


def main() -> int:
    options = parser("Kills what changes files, at random moments.", list(OPERATIONS), 200).parse_args()
    return survive(options.only, options.count, options.seed).finish("kill")


if __name__ == "__main__":
    sys.exit(main())
