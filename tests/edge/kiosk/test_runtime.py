from __future__ import annotations

import sys
from pathlib import Path, PurePosixPath

import pytest

from edge.errors import PackError
from edge.kiosk import runtime
from edge.kiosk.runtime import Content


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> runtime.Runtime:
    return runtime.collect(tmp_path_factory.mktemp("staging"))


def test_it_has_what_serves_and_not_what_fetches_or_tests(collected: runtime.Runtime) -> None:
    packages = {PurePosixPath(content.path).parts[1] for content in collected.files if content.path.startswith("site/")}
    assert {"edge", "convert", "llama_cpp", "numpy", "numpy.libs", "uvicorn", "pydantic_core"} <= packages
    assert not packages & {"requests", "huggingface_hub", "tokenizers", "tiktoken", "cryptography", "pytest", "pip"}


def test_no_path_is_there_twice_and_none_is_of_another_place(collected: runtime.Runtime) -> None:
    paths = [content.path for content in collected.files]
    assert len(paths) == len(set(paths))
    assert {PurePosixPath(path).parts[0] for path in paths} == {"site", "licences"}
    assert not any(".." in path or "tests/" in path for path in paths)


def test_llama_cpp_comes_without_the_build_of_this_machine(collected: runtime.Runtime) -> None:
    assert not any(PurePosixPath(content.path).name.startswith(("libllama", "libggml")) for content in collected.files)


def test_modules_are_compiled_and_name_no_folder_of_this_machine(collected: runtime.Runtime) -> None:
    made = {content.path: content.source for content in collected.files if content.path.endswith(".pyc")}
    pyc = made[f"site/edge/server/__pycache__/config.{sys.implementation.cache_tag}.pyc"].read_bytes()
    assert pyc[4:8] == b"\1\0\0\0"  # not checked against the source's time, which an installation changes
    assert b"site/edge/server/config.py" in pyc
    assert str(Path(runtime.__file__).parents[2]).encode() not in pyc


def test_the_lock_lies_where_an_installed_program_looks_for_it(collected: runtime.Runtime) -> None:
    assert any(content.path == "site/edge/models.lock" for content in collected.files)


def test_each_package_brings_its_licence(collected: runtime.Runtime) -> None:
    with_text = {PurePosixPath(content.path).parts[1] for content in collected.files if "licences/" in content.path}
    assert {"edge", "numpy", "llama-cpp-python", "fastapi", "rich"} <= with_text
    assert "MIT" in collected.licences


def test_a_requirement_of_an_extra_or_of_another_system_is_not_followed() -> None:
    lines = ["numpy>=1", "colorama; platform_system == 'Windows'", "pytest>=7; extra == 'test'", "yaml (>=5.1)"]
    assert list(runtime.required(lines)) == [("numpy", ""), ("colorama", "platform_system == 'Windows'"), ("yaml", "")]


def test_a_package_that_is_not_there_is_named() -> None:
    with pytest.raises(PackError, match="no-such-package"):
        runtime.distributions(["click", "no_such.package"])


@pytest.mark.parametrize(
    "path, goes",
    (
        ("numpy/core/x.py", "site/numpy/core/x.py"),
        ("numpy/core/tests/x.py", None),
        ("numpy/core/__pycache__/x.cpython-311.pyc", None),
        ("numpy/core/x.pyi", None),
        ("../../../bin/f2py", None),
        ("/etc/passwd", None),
        ("distutils-precedence.pth", None),
        ("numpy-2.0.dist-info/METADATA", "site/numpy-2.0.dist-info/METADATA"),
        ("numpy-2.0.dist-info/RECORD", None),
        ("numpy-2.0.dist-info/licenses/a/LICENSE", "licences/numpy/licenses/a/LICENSE"),
        ("numpy-2.0.dist-info/COPYING.txt", "licences/numpy/COPYING.txt"),
    ),
)
def test_where_a_file_goes(path: str, goes: str | None) -> None:
    assert runtime.place("numpy", PurePosixPath(path)) == goes


def test_a_module_of_another_python_is_refused() -> None:
    """The box would install and only then not start."""
    here = Path(__file__)
    runtime.check_compiled([Content("site/a.abi3.so", here), Content("site/numpy.libs/liba.so", here)])
    with pytest.raises(PackError, match="another Python"):
        runtime.check_compiled([Content("site/a.cpython-34m-x86_64-linux-gnu.so", here)])


@pytest.mark.parametrize(
    "content, least",
    (
        (b"\x7fELF...\0GLIBC_2.2.5\0GLIBC_2.28\0GLIBC_2.4\0", "2.28"),
        (b"\x7fELF...\0GLIBC_2.17\0GLIBC_PRIVATE\0", "2.17"),
        (b"\x7fELF...\0GLIBC_2.34\0GLIBC_ABI_DT_RELR\0", "2.36"),
        (b"#!/bin/sh\n# GLIBC_2.99", "2.17"),
    ),
)
def test_the_least_glibc_is_read_from_what_is_compiled(content: bytes, least: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    assert runtime.least_glibc([tmp_path / "file"]) == least
