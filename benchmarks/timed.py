"""Runs one command and says how long it took and how much memory it held: timed.py RESULT.json COMMAND ...

A process of its own, because Linux counts the memory of the starting process in the peak of the one it starts:
this one is small. The clock runs from before the command starts until it has ended. The peak is the kernel's
`ru_maxrss`, which counts mapped pages; of several processes in the command's tree, the largest.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time


def main() -> None:
    result, *command = sys.argv[1:]
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr
    complaint = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - started
    if status:
        sys.stderr.write(f"{' '.join(command)}\n{complaint.decode(errors='replace')[-2000:]}\n")
        raise SystemExit(1)
    unit = 1 if sys.platform == "darwin" else 1024
    with open(result, "w") as file:  # noqa: PTH123 - pathlib would cost memory
        json.dump({"seconds": seconds, "peak": usage.ru_maxrss * unit}, file)


if __name__ == "__main__":
    main()
