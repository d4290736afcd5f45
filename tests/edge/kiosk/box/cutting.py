"""Ends a process at the n-th change that it makes to the disk, as a power cut or SIGKILL would: nothing is tidied."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

CHANGES = ("replace", "rename", "link", "symlink", "mkdir", "unlink", "rmdir", "fsync", "chmod", "fchmod", "sync")
CUT, DONE = 9, 0


def cut(act: Callable[[], object], after: int) -> bool:
    """Run ``act`` in a child that ends before its change number ``after``; whether it came so far."""
    child = os.fork()
    if child == 0:
        try:
            patch(after)
            act()
            os._exit(DONE)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (CUT, DONE), code
    return code == CUT


def patch(after: int) -> None:
    seen = 0

    def counted(real: Callable[..., Any], does: bool) -> Callable[..., Any]:
        def change(*arguments: Any, **options: Any) -> Any:
            nonlocal seen
            if seen == after:
                os._exit(CUT)
            seen += 1
            return real(*arguments, **options) if does else None

        return change

    for name in CHANGES:  # what is only about the disk's own cache would cost the tests time
        setattr(os, name, counted(getattr(os, name), does=name not in ("fsync", "sync")))
