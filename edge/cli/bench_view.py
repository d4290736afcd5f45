"""What ``edge bench`` shows and writes: tables that fill while it works below a bar with an ETA; files at the end."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live as RichLive
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column, Table

from convert.errors import EdgeError, one_line
from edge.plan.words import locale_language
from edge.report.against import difference_table, differences, remarks
from edge.report.charts import speed_quality_svg
from edge.report.html import html_report
from edge.report.tables import csv_text, quality_table, speed_table, widths_table

LONGEST = 38  # characters of what is being done, which may be a file's name


class Live:
    """A context manager: ``update`` is what ``edge.bench.run.bench`` calls. Tables go to standard output at the end,
    also where it comes too early; meanwhile they are shown on standard error where that is a terminal. Silent where
    that is wanted. ``result``: what ``update`` was given last."""

    def __init__(self, silent: bool) -> None:
        self._silent = silent
        self.result: dict[str, Any] = {}
        self._console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}", markup=False, table_column=Column(max_width=LONGEST, no_wrap=True)),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._task = self._bar.add_task("", total=None)
        self._what = ""
        self._live = RichLive(console=self._console, transient=True, refresh_per_second=1)

    def update(self, result: dict[str, Any], what: str, done: int, of: int) -> None:
        self.result = result
        if what != self._what:
            self._bar.remove_task(self._task)
            self._task, self._what = self._bar.add_task(one_line(what), total=of or None), what
        self._bar.update(self._task, completed=done, total=of or None)
        if self._live.is_started:
            self._live.update(Group(self._bar, *tables(result)))  # what a low terminal cuts off is the end

    def __enter__(self) -> Live:
        if not self._silent and self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()
        if not self._silent and has_figures(self.result):
            console = Console()
            for table in tables(self.result):
                console.print(table)
            if (wide := widths_table(self.result)).row_count:
                console.print("\ntokens/s of so many answers at once, all together:")
                console.print(wide)


def write_outputs(outputs: Sequence[Path], result: Mapping[str, Any]) -> None:
    """The result, as each file's suffix asks for it. Raises EdgeError."""
    makers = {
        ".html": lambda: html_report(result, locale_language()),
        ".json": lambda: json.dumps(result, ensure_ascii=False) + "\n",
        ".csv": lambda: csv_text(result),
        ".svg": lambda: speed_quality_svg(result, locale_language()),
    }
    for path in outputs:
        try:
            path.write_text(makers[path.suffix](), encoding="utf-8", newline="")
        except OSError as error:
            raise EdgeError(f"cannot write {path}: {error.strerror}", "choose another place") from error


def show_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    console = Console()
    for remark in remarks(old, new):
        console.print(f"note: {remark}", markup=False, highlight=False)
    console.print(difference_table(differences(old, new)))


def has_figures(result: Mapping[str, Any]) -> bool:
    """Whether anything was measured, beside what the files say of themselves."""
    return any("load" in level for level in result.get("levels", ()))


def tables(result: dict[str, Any]) -> list[Table]:
    """Those that have anything to show yet."""
    return [table for table in (speed_table(result), quality_table(result)) if table.row_count and table.columns]
