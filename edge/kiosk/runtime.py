"""The Python packages that the service needs, as files of a box; it runs there without pip.

Taken from the environment that packs, where they were tried. Compiled ``.pyc`` that nothing checks against their source
let a read-only installation start quickly.
"""

from __future__ import annotations

import importlib.metadata
import py_compile
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import convert
import edge
from edge.errors import PackError
from edge.lock_file import shipped_path

SITE, LICENCES = "site", "licences"
ROOTS = (
    *("click", "fastapi", "filelock", "gguf", "jinja2", "llama-cpp-python", "llguidance", "numpy", "platformdirs"),
    *("prometheus-client", "psutil", "pydantic", "rich", "uvicorn"),
)
# Packages name these, but do not import them for what a kiosk does: fetching, and colours for code and Markdown.
LEFT_OUT = {"requests", "tqdm", "pygments", "markdown-it-py"}
# Not what a package is for here: its own build of llama.cpp's libraries, which the box has for each CPU, and headers.
PARTS_LEFT_OUT = {"llama-cpp-python": ("bin/", "include/", "lib/", "llama_cpp/lib/", "llama_cpp/server/")}
NEEDLESS = {".pyi", ".pxd", ".h", ".hpp", ".c", ".a", ".lib", ".cmake", ".pyc", ".pth"}
OWN_LEFT_OUT = "edge/models/tiny-"  # checkpoints of the embedded models
LICENCE_NAME = re.compile(r"(licen[cs]e|copying|notice|authors)", re.IGNORECASE)
LIBRARY_OF_PYTHON = re.compile(r"\.(cpython-[^.]+|abi3)\.so$")
GLIBC = re.compile(rb"GLIBC_2\.(\d+)")


@dataclass(frozen=True)
class Content:
    """A file of a box: its path there, and where its content is now."""

    path: str
    source: Path


@dataclass(frozen=True)
class Runtime:
    """``licences``: as the packages name them."""

    files: tuple[Content, ...]
    licences: tuple[str, ...]


def collect(staging: Path) -> Runtime:
    """Everything in ``site/`` and the packages' licences; what has to be made is written into ``staging``.

    Raises PackError.
    """
    found = distributions(ROOTS)
    files = [content for name, one in sorted(found.items()) for content in package_files(name, one)]
    files += own_files()
    check_compiled(files)
    files += list(compiled(files, staging))
    licences = {name: licence_of(one) for name, one in found.items()}
    return Runtime(tuple(files), tuple(sorted({licence for licence in licences.values() if licence})))


# --- which packages


def distributions(roots: Iterable[str]) -> dict[str, importlib.metadata.Distribution]:
    """The ``roots`` and what they need. Raises PackError for one that is not installed."""
    found: dict[str, importlib.metadata.Distribution] = {}
    waiting = [(root, "") for root in roots]
    while waiting:
        name, marker = waiting.pop()
        name = normal(name)
        if name in found or name in LEFT_OUT:
            continue
        try:
            found[name] = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            if marker:  # such as one for another system
                continue
            raise PackError(f"the package {name} is not installed", "repair the environment with: make setup") from None
        waiting += required(found[name].requires or ())
    return found


def required(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Name and marker of each requirement, but for those of extras."""
    for line in lines:
        requirement, _, marker = line.partition(";")
        if "extra" not in marker and (match := re.match(r"[A-Za-z0-9._-]+", requirement.strip())):
            yield match[0], marker.strip()


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def licence_of(one: importlib.metadata.Distribution) -> str:
    """As an SPDX expression where the package has one; empty where it does not say."""
    words = [*(one.metadata.get_all("License-Expression") or ()), *(one.metadata.get_all("License") or ())]
    if words and "\n" not in words[0] and len(words[0]) < 200:
        return words[0]
    classifiers = (line.split(" :: ") for line in one.metadata.get_all("Classifier") or ())
    return next((parts[-1] for parts in classifiers if parts[0] == "License"), "")


# --- which files


def package_files(name: str, one: importlib.metadata.Distribution) -> Iterator[Content]:
    """By the package's RECORD. Raises PackError where that is missing."""
    if one.files is None:
        raise PackError(f"the package {name} has no list of its files", "install it with pip")
    for file in one.files:
        path = PurePosixPath(file.as_posix())
        if (target := place(name, path)) is None:
            continue
        source = Path(str(one.locate_file(file)))
        if not source.is_file():
            raise PackError(f"{path} of the package {name} is missing", "repair the environment with: make setup")
        yield Content(target, source)


def place(name: str, path: PurePosixPath) -> str | None:
    """Where a file of a package goes in the box, if it does."""
    if path.is_absolute() or ".." in path.parts:  # commands, headers
        return None
    if path.parts[0].endswith(".dist-info"):
        if path.name in ("METADATA", "entry_points.txt"):  # programs ask for versions, and for plug-ins
            return f"{SITE}/{path}"
        is_licence = LICENCE_NAME.match(path.name) or path.parts[1] == "licenses"
        return f"{LICENCES}/{name}/{'/'.join(path.parts[1:])}" if is_licence else None
    if path.suffix in NEEDLESS or {"tests", "__pycache__"} & {*path.parts[:-1]}:
        return None
    return None if str(path).startswith(PARTS_LEFT_OUT.get(name, ())) else f"{SITE}/{path}"


def own_files() -> Iterator[Content]:
    """This program, also where it is installed as a source tree; with the lock beside it."""
    for package in (convert, edge):
        root = Path(package.__file__ or "").parent
        for source in sorted(path for path in root.rglob("*") if path.is_file()):
            path = f"{root.name}/{source.relative_to(root).as_posix()}"
            if "__pycache__" not in source.parts and not path.startswith(OWN_LEFT_OUT) and path != "edge/models.lock":
                yield Content(f"{SITE}/{path}", source)
    yield Content(f"{SITE}/edge/models.lock", shipped_path())
    for source in own_licences():
        yield Content(f"{LICENCES}/edge/{source.name}", source)


def own_licences() -> list[Path]:
    """From the source tree, else from what pip installed."""
    tree = Path(edge.__file__ or "").parent.parent / "LICENSE"
    if tree.is_file():
        return [tree]
    files = importlib.metadata.distribution("edge-gguf").files or ()
    return [Path(str(file.locate())) for file in files if LICENCE_NAME.match(file.name)]


def compiled(files: Iterable[Content], staging: Path) -> Iterator[Content]:
    """A ``.pyc`` for each ``.py`` of ``site/``; none for one that this Python cannot read, such as a template."""
    tag = sys.implementation.cache_tag
    for content in files:
        path = PurePosixPath(content.path)
        if path.suffix != ".py" or path.parts[0] != SITE:
            continue
        target = path.parent / "__pycache__" / f"{path.stem}.{tag}.pyc"
        made = staging / target
        made.parent.mkdir(parents=True, exist_ok=True)
        try:
            py_compile.compile(
                str(content.source),
                str(made),
                dfile=content.path,  # no folder of this machine is in it
                doraise=True,
                invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
            )
        except py_compile.PyCompileError:
            continue
        yield Content(str(target), made)


# --- what it needs of the target


def check_compiled(files: Iterable[Content]) -> None:
    """Raise PackError for a module that another Python was compiled for."""
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    for content in files:
        match = LIBRARY_OF_PYTHON.search(content.path)
        if match and match[1] != "abi3" and match[0] != suffix:
            raise PackError(f"{content.path} is for another Python than {suffix}", "repair the environment: make setup")


def least_glibc(sources: Iterable[Path]) -> str:
    """The oldest glibc, as 2.28, that has every function that these compiled files name. Others are passed over."""
    newest = 17  # what manylinux2014 promises; nothing here is older
    for source in sources:
        with source.open("rb") as file:
            if file.read(4) != b"\x7fELF":
                continue
            data = file.read()
        newest = max([newest, *(int(match[1]) for match in GLIBC.finditer(data))])
        if b"GLIBC_ABI_DT_RELR" in data:  # a way to relocate that older loaders do not know
            newest = max(newest, 36)
    return f"2.{newest}"


def python_version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def licence_texts(found: Mapping[str, Path]) -> Iterator[Content]:
    """``found``: name of a part -> its licence."""
    for name, source in found.items():
        yield Content(f"{LICENCES}/{name}/{source.name}", source)
