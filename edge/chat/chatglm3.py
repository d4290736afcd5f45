"""Tool calls of ChatGLM3: a line with the name, then Python, of which nothing is ever run::

get_weather
```python
tool_call(city="Oslo", days=3)
```
"""

from __future__ import annotations

import ast
import keyword
import re
import unicodedata
import warnings
from collections.abc import Iterable, Sequence

from edge.chat.calls import Found, NotACallError
from edge.chat.lark import Definitions, json_value, listed, literal
from edge.chat.output import Call
from edge.chat.values import to_json, types
from edge.chat.written import Function, NotWritableError, Parameter, Written, parameters

FENCE = re.compile(r"\n[ \t]*```")
LONGEST = 1 << 14  # characters of Python: deeper nesting than this allows is refused by its parser
FILE = "<tool_call>"
JSON_WORDS = {"true": True, "false": False, "null": None}
WRITTEN = {"boolean": '"True" | "False"', "null": '"None"'}  # in Lark

# A model's "\d" is none of the user's business. The name of the file keeps the filter from all other code.
warnings.filterwarnings("ignore", module=re.escape(FILE))


class ChatGlm3:
    """There are no tags: a line is a name only if a tool is called so.

    Arguments must be given by name and be literals that JSON knows: text, numbers, True, False, None, lists, dicts;
    JSON itself is read as well.
    """

    closing = ""
    own_line = True

    def __init__(self, names: Iterable[str]) -> None:
        # SentencePiece puts a space before every text.
        self.openings: tuple[str, ...] = tuple(
            f"{name}\n{space}```python\ntool_call(" for name in names for space in ("", " ")
        )

    def read(self, text: str, *, ended: bool) -> Found | None:
        name, _, rest = text.partition("\n")
        start = rest.index("tool_call(")
        fence = FENCE.search(rest, start)
        if not fence and len(rest) - start <= LONGEST and not ended:
            return None
        source = rest[start : fence.start() if fence else len(rest)]
        size = fence.end() if fence else len(rest)
        return Found(Call(name, _arguments(source)), len(name) + 1 + size)

    def written(self, function: Function, definitions: Definitions) -> Sequence[Written]:
        name = function.name
        if "\n" in name or name != name.strip():
            raise NotWritableError("its name is no line of text")
        named = [(_named(one, function, definitions), one.required) for one in parameters(function)]
        rest = f"{listed(named, literal(', '), definitions)} " + literal(")\n```")
        return [Written(f"{name}\n{space}```python\ntool_call(", rest) for space in (" ", "")]


class _JsonWords(ast.NodeTransformer):
    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.Constant(JSON_WORDS[node.id]) if node.id in JSON_WORDS else node


def _named(parameter: Parameter, function: Function, definitions: Definitions) -> str:
    name, schema = parameter.name, parameter.schema
    if not name.isidentifier() or keyword.iskeyword(name) or unicodedata.normalize("NFKC", name) != name:
        raise NotWritableError(f"its parameter {name!r:.80} cannot be named in Python")
    (kind, *others) = types(schema) or {""}
    plain = not others and not {"enum", "const", "anyOf", "oneOf"} & schema.keys()
    value = WRITTEN.get(kind) if plain else None
    return f"{literal(f'{name}=')} {definitions.rule(value or json_value(schema, function.parameters))}"


def _arguments(source: str) -> str:
    if len(source) > LONGEST:
        raise NotACallError
    try:
        call = _JsonWords().visit(ast.parse(source.strip(), FILE, mode="eval").body)
        if not isinstance(call, ast.Call) or call.args:
            raise NotACallError
        named = {one.arg: ast.literal_eval(one.value) for one in call.keywords}
        if None in named:  # **mapping
            raise NotACallError
        return to_json(named)
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError) as error:
        raise NotACallError from error
