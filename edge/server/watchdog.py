"""Tells the service manager how the server is, from the loop that answers requests.

A timer in a thread would go on through a hang inside C. So a sign of life is sent only when the loop runs, and the
engine waits for requests or has computed something since the last one. Where it has not, the manager kills and
restarts the process; answers that were at work then are lost to those who asked.
"""

from __future__ import annotations

import asyncio

from edge.server.notify import Manager
from edge.server.serving import Serving

LOOKS = 10  # in the seconds after which the manager kills: a step may take all of them but one
LOADING_SECONDS = 5.0  # between two looks at how loading gets on
MORE_SECONDS = 60  # that loading is given from each sign that it gets on


async def supervise(manager: Manager, serving: Serving, loading: asyncio.Task[None]) -> None:
    """To be cancelled when the server has ended. Returns where the model cannot be loaded."""
    manager.tell(f"STATUS=loading {serving.name}")
    await see_it_load(manager, serving, loading)
    if serving.loaded is None:
        return
    manager.tell("READY=1", f"STATUS=answers with {serving.name}")
    if manager.watchdog is not None:
        await give_signs(manager, serving, manager.watchdog / LOOKS)


async def see_it_load(manager: Manager, serving: Serving, loading: asyncio.Task[None]) -> None:
    """A slow disk, or a long system prompt, gets the time it needs; what hangs gets what the unit allows."""
    seen = work_done(serving)
    while not loading.done():
        await asyncio.wait([loading], timeout=LOADING_SECONDS)
        if (now := work_done(serving)) > seen:
            manager.tell(f"EXTEND_TIMEOUT_USEC={MORE_SECONDS * 1_000_000}")
        seen = now


async def give_signs(manager: Manager, serving: Serving, seconds: float) -> None:
    seen = -1
    while True:
        now = serving.engine.steps
        if serving.engine.idle or now > seen:
            manager.tell("WATCHDOG=1")
        seen = now
        await asyncio.sleep(seconds)


def work_done(serving: Serving) -> int:
    """Grows while a model is read or computes."""
    import resource  # where there is no service manager there may be none

    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_majflt + used.ru_inblock + (serving.begun.steps if serving.begun else 0)
