"""``edge`` with chats that are answered with letters, one in 20 ms: for tests of how the program ends.

``python -m tests.edge.server.braked serve MODEL``
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from edge.api import Engine
from edge.cli.main import main
from tests.edge.server.saying import saying

real, stack = Engine.__init__, ExitStack()


def begin(engine: Engine, *args: Any, **options: Any) -> None:
    real(engine, *args, **options)
    stack.enter_context(saying(engine, "x" * 3000, pause=0.02))


if __name__ == "__main__":
    Engine.__init__ = begin
    main()
