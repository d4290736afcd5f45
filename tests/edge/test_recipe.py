"""What an output is compared by: the converter's own source, the CPU, the library."""

from __future__ import annotations

import platform
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import convert
import edge
from edge import recipe
from edge.llama import library
from edge.lock import LockedModel
from edge.lock_file import lock_text


@pytest.fixture
def converter_of(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], str]]:
    """The converter's name if its package were this folder."""

    def name(package: Path) -> str:
        monkeypatch.setattr(convert, "__file__", str(package / "__init__.py"))
        recipe.converter.cache_clear()
        return recipe.converter()

    yield name
    monkeypatch.undo()
    recipe.converter.cache_clear()


def test_any_change_of_the_converter_is_another_one(tmp_path: Path, converter_of: Callable[[Path], str]) -> None:
    real = Path(convert.__file__).parent
    here = converter_of(real)
    assert re.fullmatch(rf"edge {re.escape(edge.__version__)} \([0-9a-f]{{12}}\)", here)
    copy = shutil.copytree(real, tmp_path / "convert", ignore=shutil.ignore_patterns("__pycache__"))
    assert converter_of(copy) == here, "compiled files and the place do not count"
    with (copy / "architectures" / "__init__.py").open("a") as file:
        file.write("# changed\n")
    changed = converter_of(copy)
    (copy / "ops.py").rename(copy / "operations.py")
    assert len({here, changed, converter_of(copy)}) == 3


def test_an_output_says_how_it_was_made() -> None:
    made = recipe.output("Q8_0", "a" * 64)
    assert (made.level, made.cpu, made.sha256) == ("Q8_0", platform.machine().lower(), "a" * 64)
    assert library.version() in made.library and made.library.startswith(library.PACKAGE)
    assert made.converter in lock_text({"m": LockedModel("m", outputs=(made,))})
