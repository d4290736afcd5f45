"""One line of ``edge doctor``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

GB = 1e9

Status = Literal["ok", "warn", "bad"]


@dataclass(frozen=True)
class Check:
    """``found`` is one line on what is there; ``todo`` the next step, empty where none is needed."""

    name: str
    status: Status
    found: str
    todo: str = ""
