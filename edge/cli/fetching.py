"""What the commands that fetch share: where from, and the bar of a download."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from edge.fetch import From
from edge.pull import CHECKING, OnProgress

UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


class Rate(click.ParamType):
    """Bytes a second, with k, M or G for powers of 1024, as curl writes it."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)([kmg]?)", str(value).lower())
        if not found or float(found[1]) == 0:
            self.fail(f"{value!r} is not a rate such as 500k or 2M (bytes a second)", param, ctx)
        return float(found[1]) * UNITS[found[2]]


def source_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """--source, --offline and --limit-rate, handed on as ``where``."""

    @click.option(
        "--source",
        "sources",
        multiple=True,
        metavar="huggingface|modelscope|FOLDER",
        help="Fetch from this hub or folder (several: in this order) instead of those that models.lock names.",
    )
    @click.option("--offline", is_flag=True, help="Use no network, as HF_HUB_OFFLINE=1 does.")
    @click.option("--limit-rate", type=Rate(), metavar="RATE", help="At most so many bytes a second, such as 2M.")
    @functools.wraps(function)
    def wrapper(*args: Any, sources: tuple[str, ...], offline: bool, limit_rate: float | None, **kwargs: Any) -> Any:
        return function(*args, where=From(sources, offline, limit_rate), **kwargs)

    return wrapper


@contextmanager
def download_bar(quiet: bool = False) -> Iterator[OnProgress]:
    """A bar over all files, with speed and ETA, on standard error. Silent when that is not a terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
    )
    disable = quiet or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=disable) as progress:
        task, clocked = None, None

        def update(what: str, done: int, of: int) -> None:
            nonlocal task, clocked
            if task is None or clocked != (of, what == CHECKING):  # a disk's speed tells nothing of the network's
                if task is not None:
                    progress.remove_task(task)
                task, clocked = progress.add_task(what, total=of, completed=done), (of, what == CHECKING)
            progress.update(task, completed=done, description=what)

        yield update


def say(text: str) -> None:
    """A line for people, beside what scripts read."""
    click.echo(text, err=True)
