"""The report beside a GGUF, as a conversion leaves it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge import store


def write_report(gguf: Path, report: dict[str, Any]) -> None:
    store.prepare_report(gguf, report)
    store.publish_report(gguf)
