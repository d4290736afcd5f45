"""Where chat templates run: Jinja as Hugging Face sets it up, with a budget on top.

A template comes with a model, so it is a stranger's program. Jinja's immutable sandbox keeps it away
from Python; it does not keep it from looping for ever or from making a string of a terabyte. Here
every loop step, call, filter and operation that can make text grow is charged to the budget of the
render, before it happens where it could be large at once.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace, pass_context
from jinja2.visitor import NodeTransformer

BUDGET = 32 << 20  # characters
STEP = 16  # what a loop step or an operation costs beside the text it makes
CALL = 128  # what a call costs
MAX_BITS = 4096  # of an integer
FILTERS = """
    abs attr capitalize count d default dictsort e escape first float format groupby indent int items join last
    length list lower map max min reject rejectattr replace reverse safe select selectattr sort string sum
    title tojson trim unique upper wordcount
"""
STR_METHODS = """
    capitalize casefold count endswith find index isalnum isalpha isdecimal isdigit islower isnumeric
    isspace istitle isupper join lower lstrip partition removeprefix removesuffix replace rfind rindex
    rpartition rsplit rstrip split splitlines startswith strip swapcase title upper
"""
WIDE = re.compile(r"\d{4}|\*|\{[^{}]*\{")  # a width of thousands, or one taken from an argument


class BudgetExceededError(Exception):
    """The template made too much text or too many steps."""


_left: ContextVar[list[int] | None] = ContextVar("left", default=None)


@contextmanager
def budget(characters: int = BUDGET) -> Iterator[None]:
    """Everything rendered inside shares one budget."""
    token = _left.set([characters])
    try:
        yield
    finally:
        _left.reset(token)


def spend(n: int) -> None:
    left = _left.get()
    if left is None:
        raise RuntimeError("render inside of budget()")
    left[0] -= n
    if left[0] < 0:
        raise BudgetExceededError


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """Hugging Face's settings, filters and globals for chat templates, charged to ``budget``."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, GenerationTag], finalize=_text)
        self.filters = {name: _metered(self.filters[name]) for name in FILTERS.split()}
        self.filters |= {
            "tojson": _metered(_tojson),
            "join": _join_filter,
            "replace": _replace_filter,
            "format": _format_filter,
            "indent": _metered(_checked_indent(self.filters["indent"])),
            "string": _text,
            "_concat": _concat,
            "_walked": _walked,
            "_charged": _charged,
        }
        self.globals = {
            "range": self.globals["range"],  # the sandbox's own, which has a limit
            "dict": _dict,
            "namespace": _Namespace,
            "cycler": self.globals["cycler"],
            "joiner": self.globals["joiner"],
            "raise_exception": _raise_exception,
            "strftime_now": _strftime_now,
        }

    def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> str:
        source = _Charge().visit(source)
        source.set_environment(self)
        return super()._generate(source, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "*":
            _check_product(left, right)
        elif operator == "**":
            if isinstance(left, int) and isinstance(right, int):
                _check_bits(left.bit_length() * max(right, 1))
        elif operator == "%" and isinstance(left, str):
            _check_format(left, right)
        result = super().call_binop(context, operator, left, right)
        spend(STEP + _length(result))
        return result

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Jinja's own ``str.format``, which templates get in place of the bound method."""
        wrapped = super().wrap_str_format(value)
        if wrapped is None:
            return None

        def checked(*args: Any, **kwargs: Any) -> str:
            _check_format(value.__self__, (args, kwargs))
            return wrapped(*args, **kwargs)

        return checked

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        spend(CALL)
        owner, name = getattr(obj, "__self__", None), getattr(obj, "__name__", "")
        if isinstance(owner, str):
            if name not in STR_METHODS.split():
                raise SecurityError(f"the string method {name!r} is not for templates")
            if name == "join":
                args = (_checked_items(owner, *args),)
            elif name == "replace":
                _check_replace(owner, *args)
            else:
                spend(len(owner))
        elif isinstance(owner, int | float | bytes):
            raise SecurityError(f"the method {name!r} is not for templates")
        result = super().call(context, obj, *args, **kwargs)
        spend(_length(result))
        return result


class GenerationTag(Extension):
    """``{% generation %}`` marks for training what the model is to learn; here it is only its content."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's own declaration

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Charge(NodeTransformer):
    """Puts the charging filters into a parsed template."""

    def visit_For(self, node: nodes.For) -> nodes.For:
        if node.recursive:
            raise jinja2.TemplateSyntaxError("recursive loops are not for templates", node.lineno)
        self.generic_visit(node)
        literal = sum(len(data.data) for data in node.find_all(nodes.TemplateData))
        literal += sum(len(const.value) for const in node.find_all(nodes.Const) if isinstance(const.value, str))
        node.iter = _filter(node.iter, "_charged", nodes.Const(STEP + literal, lineno=node.lineno))
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:
        self.generic_visit(node)
        return _filter(nodes.List(node.nodes, lineno=node.lineno), "_concat")

    def visit_List(self, node: nodes.List | nodes.Dict) -> nodes.Filter:
        self.generic_visit(node)
        return _filter(node, "_walked")

    visit_Dict = visit_List

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        self.generic_visit(node)
        return _filter(node, "_walked") if node.ctx == "load" else node


def _filter(node: Any, name: str, *args: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(node, name, list(args), [], None, None, lineno=node.lineno)


# --- what things cost


def _length(value: Any) -> int:
    return len(value) if isinstance(value, str | list | tuple | dict | range) else 0


def _walk(value: Any) -> None:
    """Charge for everything inside ``value``: a list of lists of itself is short and prints for ever."""
    stack = [value]
    while stack:
        item = stack.pop()
        spend(STEP + (len(item) if isinstance(item, str) else 0))
        if isinstance(item, dict):
            stack += item.keys()
            stack += item.values()
        elif isinstance(item, list | tuple | range):
            spend(len(item))
            stack += item


def _text(value: Any) -> str:
    """What Jinja prints for ``value``."""
    if isinstance(value, str):
        spend(len(value))
        return value
    _walk(value)
    return str(value)


@pass_context  # so that Jinja does not fold it away
def _charged(_: Context, items: Iterable[Any], cost: int) -> Iterator[Any]:
    for item in items:
        spend(cost)
        yield item


@pass_context
def _concat(_: Context, parts: list[Any]) -> str:
    return "".join([_text(part) for part in parts])


@pass_context
def _walked(_: Context, value: Any) -> Any:
    _walk(value)
    return value


def _metered(function: Callable[..., Any]) -> Callable[..., Any]:
    value_at = 1 if hasattr(function, "jinja_pass_arg") else 0

    @functools.wraps(function)
    def metered(*args: Any, **kwargs: Any) -> Any:
        spend(STEP + _length(args[value_at]))
        result = function(*args, **kwargs)
        spend(_length(result))
        return result

    return metered


# --- what can be large at once


def _check_bits(n: int) -> None:
    if n > MAX_BITS:
        raise BudgetExceededError


def _check_product(left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() + right.bit_length())
    for sized, count in ((left, right), (right, left)):
        if isinstance(sized, str | list | tuple) and isinstance(count, int):
            spend(len(sized) * max(count, 0))


def _check_format(pattern: str, values: Any) -> None:
    if WIDE.search(pattern):
        raise BudgetExceededError
    for _ in range(1 + pattern.count("%") + pattern.count("{")):
        _walk(values)


def _check_replace(text: str, old: str, new: str, count: int | None = None) -> None:
    spend(len(text) + (text.count(old) if count is None or count < 0 else count) * len(new))


def _checked_items(separator: str, items: Iterable[Any]) -> list[str]:
    texts = [_text(item) for item in items]
    spend(len(separator) * len(texts))
    return texts


def _replace_filter(text: Any, old: str, new: str, count: int | None = None) -> str:
    text = _text(text)
    _check_replace(text, old, new, count)
    return text.replace(old, new, -1 if count is None else count)


@pass_context
def _join_filter(context: Context, items: Iterable[Any], d: str = "", attribute: str | None = None) -> str:
    if attribute is not None:
        items = [context.environment.getattr(item, attribute) for item in items]
    return d.join(_checked_items(d, items))


def _format_filter(pattern: Any, *args: Any, **kwargs: Any) -> str:
    pattern = _text(pattern)
    _check_format(pattern, (args, kwargs))
    return pattern % (kwargs or args)


def _checked_indent(indent: Callable[..., str]) -> Callable[..., str]:
    def checked(text: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
        size = width if isinstance(width, int) else len(width)
        spend((text.count("\n") + 1) * max(size, 0))
        return indent(text, width, first, blank)

    return checked


# --- Hugging Face's own


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    _walk(value)
    if isinstance(indent, int) and indent > 64:
        raise BudgetExceededError
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _strftime_now(pattern: str) -> str:
    if len(pattern) > 256 or WIDE.search(pattern):
        raise BudgetExceededError
    return datetime.now().strftime(pattern)


def _dict(*args: Any, **kwargs: Any) -> dict[Any, Any]:
    made = dict(*args, **kwargs)
    _walk(made)
    return made


class _Namespace(Namespace):
    """A namespace that takes no name beginning with an underscore, lest it pose as another type."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        attributes = dict(*args, **kwargs)
        for name in attributes:
            _Namespace._check(name)
        super().__init__(attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _Namespace._check(name)
        super().__setitem__(name, value)

    @staticmethod
    def _check(name: str) -> None:
        if name.startswith("_"):
            raise SecurityError(f"a namespace has no room for {name!r}")
