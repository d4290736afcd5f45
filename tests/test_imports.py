"""The import graph points one way: convert knows nothing of edge, only edge.llama knows llama_cpp."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent

# The parts of the converter that anything may import: data, rules, readers.
PURE_CONVERT = {
    "convert.architecture",
    "convert.architectures",
    "convert.checkpoint",
    "convert.durable",
    "convert.errors",
    "convert.gguf_file",
    "convert.hparams",
    "convert.levels",
    "convert.metadata",
}
COMPOSERS = {"convert.__main__", "edge.conversion", "edge.cli"}  # the only ones that put pipeline and gate together
BOX = "edge.kiosk.box"  # travels inside boxes
LLAMA_LAYER = {
    "edge.cgroup",
    "edge.machine",
    "edge.topology",
    "edge.gguf_sane",
    "edge.cost",
    "edge.shapes",
    "edge.llama",
}
# Part of the tree -> all of our own that it may import.
MIDDLE = {
    "edge.engine": {"edge.engine", "edge.llama"},
    "edge.constrain": {"edge.json_schema", "edge.llama"},
    "edge.answer": {"edge.chat", "edge.engine.types", "edge.sentence", "edge.text"},
    "edge.report": {"edge.report", "edge.text"},
}
LEAVES = {
    "edge.cgroup",
    "edge.cost",
    "edge.errors",
    "edge.gguf_sane",
    "edge.hashing",
    "edge.hub",
    "edge.json_schema",
    "edge.lock",
    "edge.lock_config",
    "edge.lock_file",
    "edge.machine",
    "edge.names",
    "edge.receipt",
    "edge.sentence",
    "edge.shapes",
    "edge.text",
    "edge.topology",
    "edge.wanted",
}


def modules() -> Iterator[tuple[str, Path]]:
    for package in ("convert", "edge"):
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            yield name, path


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found


def within(name: str, parts: set[str]) -> bool:
    return any(name == part or name.startswith(part + ".") for part in parts)


def test_no_relative_imports_hide_from_this_test() -> None:
    for name, path in modules():
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        levels = {node.level for node in nodes if isinstance(node, ast.ImportFrom)}
        assert levels <= ({0, 1} if within(name, {BOX}) else {0}), name


def test_the_code_in_a_box_needs_the_standard_library_alone() -> None:
    """It runs under two names, ``box`` and ``edge.kiosk.box``, so its own parts are imported by relative names."""
    for name, path in modules():
        if within(name, {BOX}):
            ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 8))
            used = {target.partition(".")[0] for target in imports(path)} - {"box"}
            assert used <= sys.stdlib_module_names, name


def test_convert_knows_nothing_of_edge() -> None:
    for name, path in modules():
        if within(name, {"convert"}) and name not in COMPOSERS:
            assert not any(within(target, {"edge"}) for target in imports(path)), name


def test_only_edge_llama_imports_llama_cpp() -> None:
    for name, path in modules():
        if not within(name, {"edge.llama"}):
            assert not any(within(target, {"llama_cpp"}) for target in imports(path)), name


def test_only_the_composers_call_the_pipeline() -> None:
    for name, path in modules():
        if within(name, {"edge"}) and not within(name, COMPOSERS):
            used = {target for target in imports(path) if target.startswith("convert.")}
            assert all(within(target, PURE_CONVERT) for target in used), (name, used)


def test_lower_layers_do_not_reach_up() -> None:
    for name, path in modules():
        own = {target for target in imports(path) if target.startswith("edge.")}
        if within(name, {"edge.llama"}):
            assert all(within(target, LLAMA_LAYER) for target in own), (name, own)
        elif within(name, {"edge.chat"}):
            assert all(within(target, {"edge.chat"}) for target in own), (name, own)
        elif layer := next((layer for layer in MIDDLE if within(name, {layer})), None):
            assert all(within(target, MIDDLE[layer]) for target in own), (name, own)
        elif within(name, LEAVES):
            assert all(within(target, LEAVES) for target in own), (name, own)
        elif within(name, {"edge.plan"}):  # a plan is made before anything can be measured
            assert not any(within(target, {"edge.bench", "edge.cli", "edge.engine"}) for target in own), (name, own)
        elif not within(name, {"edge.cli", "edge.__main__", "convert.__main__"}):
            assert not any(within(target, {"edge.cli"}) for target in own), (name, own)
