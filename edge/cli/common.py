"""What all commands share: their common options, how failures are shown, progress on a terminal."""

from __future__ import annotations

import functools
import json
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import click

from convert.errors import EdgeError, one_line

INTERRUPTED = 130  # the shell's own code for Ctrl-C

models_dir_option = click.option(
    "--models-dir", type=click.Path(path_type=Path), help="Where models live (default: $EDGE_HOME/models)."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")


class OutputPath(click.ParamType):
    """A file whose suffix, one of ``suffixes``, says what goes into it."""

    name = "file"

    def __init__(self, suffixes: tuple[str, ...]) -> None:
        self._suffixes = suffixes

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(value)
        if path.suffix not in self._suffixes:
            self.fail(f"{value!r} does not end in {', '.join(self._suffixes)}", param, ctx)
        return path


def command_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --debug, and turn every failure into one line and an exit code."""

    @click.option("--debug", is_flag=True, help="Show a traceback when something fails.")
    @functools.wraps(function)
    def wrapper(*args: Any, debug: bool, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except (click.ClickException, click.exceptions.Exit, BrokenPipeError):
            raise
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            sys.exit(INTERRUPTED)
        except Exception as error:
            fail(error, debug)

    return wrapper


def fail(error: Exception, debug: bool) -> NoReturn:
    """Say what is wrong and what to do, in one line; exit code 1, or the error's own."""
    if debug:
        traceback.print_exception(error)
    if isinstance(error, ModuleNotFoundError) and is_foreign(error):
        error = EdgeError(f"this needs the package {error.name}, which is not here", "use another machine")
    if isinstance(error, EdgeError):
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    what = f"{type(error).__name__}: {error}"
    click.echo(one_line(f"error: unexpected {what}; run again with --debug and report what it shows"), err=True)
    sys.exit(1)


def is_foreign(error: ModuleNotFoundError) -> bool:
    """Whether it is a package of others that is missing: a kiosk has only those that serve."""
    return error.name is not None and error.name.partition(".")[0] not in ("edge", "convert")


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, ensure_ascii=False))


@contextmanager
def progress_bar(quiet: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """A bar with ETA on standard error: call it with (what, done, of). Silent when that is not a terminal.

    The part of ``what`` after a colon is a detail; the bar and its clock go on while only that changes.
    """
    from rich.console import Console  # most commands show no bar, and it takes long to import
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
    )
    disable = quiet or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=disable) as progress:
        task, shown = progress.add_task("", total=None), ""

        def update(what: str, done: int, of: int) -> None:
            nonlocal task, shown
            if (piece := what.partition(":")[0]) != shown:
                progress.remove_task(task)
                task, shown = progress.add_task(what, total=of), piece
            progress.update(task, completed=done, description=what)

        yield update
