"""What ``edge compare`` and ``edge eval`` do alike: ask with a progress bar, print a table, write the files."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from convert.errors import EdgeError, one_line
from edge import reference
from edge.cli.answering import ensure_converted
from edge.cli.common import print_json, progress_bar
from edge.compare import tables
from edge.compare.contender import Contender, from_address, from_file, is_address
from edge.compare.differ import difference_rows, remarks
from edge.compare.markdown import markdown_report
from edge.compare.report import html_report
from edge.compare.run import compare
from edge.compare.suite import Suite
from edge.compare.words import words
from edge.plan.words import locale_language

COLUMN = len("0.00 (0.00-0.00)") + 2


def asked(
    models: Sequence[str], suites: Sequence[Suite], folder: Path, silent: bool, given: dict[str, Any]
) -> dict[str, Any]:
    """The result. Raises EdgeError."""
    key_file = given.pop("key_file")
    key = read_key(key_file) if key_file else ""
    contenders = [from_address(text, key) if is_address(text) else local(text, folder, silent) for text in models]
    names = [one.name for one in contenders]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise EdgeError(f"{twice} is there twice", "name each model once")

    def tell(line: str) -> None:
        if not silent:
            click.echo(one_line(line), err=True)

    with progress_bar(silent) as bar:
        return compare(contenders, suites, folder, command=command_line(), on_progress=bar, tell=tell, **given)


def local(text: str, folder: Path, silent: bool) -> Contender:
    path = ensure_converted(text, folder, silent)
    wanted = reference.parse(text)
    return from_file(wanted.name if wanted.gguf is None else path.stem, path)


def read_key(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").split()[0]
    except (OSError, UnicodeDecodeError, IndexError) as error:
        raise EdgeError(f"no key can be read from {path}", "write the key into it, alone on a line") from error


def command_line() -> str:
    """As it was typed, without the folder that the program is in."""
    return shlex.join(["edge", *sys.argv[1:]])


def write_reports(outputs: Sequence[Path], result: Mapping[str, Any]) -> None:
    """As each file's suffix asks for it. Raises EdgeError."""
    makers = {
        ".html": lambda: html_report(result, locale_language()),
        ".md": lambda: markdown_report(result, locale_language()),
        ".json": lambda: json.dumps(result, ensure_ascii=False) + "\n",
    }
    for path in outputs:
        try:
            path.write_text(makers[path.suffix](), encoding="utf-8", errors="replace", newline="")
        except OSError as error:
            raise EdgeError(f"cannot write {path}: {error.strerror}", "choose another place") from error


def print_result(result: Mapping[str, Any], as_json: bool, quiet: bool) -> None:
    if as_json:
        print_json(result)
    elif not quiet:
        told = words(locale_language())
        console = Console()
        for grid in columns(tables.summary_grid(result, told), console.width):
            console.print(rich_table(grid))
        for line in tables.verdicts(result, told):
            console.print(line, markup=False, highlight=False)


def columns(grid: tables.Grid, width: int) -> Iterator[tables.Grid]:
    """As many models beside each other as ``width`` has room for."""
    side = max(1, (width - max(len(row[0]) for row in grid) - 2) // COLUMN)
    for begin in range(1, len(grid[0]), side):
        yield [[row[0], *row[begin : begin + side]] for row in grid]


def show_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    console = Console()
    for remark in remarks(old, new):
        console.print(f"note: {one_line(remark)}", markup=False, highlight=False)
    rows = [list(row) for row in difference_rows(old, new)]
    if rows:
        console.print(rich_table([["MODEL", "WHAT", "BEFORE -> NOW", ""], *rows]))
    else:
        console.print("no model is in both")


def rich_table(grid: Sequence[Sequence[str]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for head in grid[0]:
        table.add_column(Text(one_line(head)), overflow="fold")
    for row in grid[1:]:
        table.add_row(*(Text(one_line(cell)) for cell in row))
    return table
