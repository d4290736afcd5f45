"""Tool calls of ChatGLM3: a line with the name, then Python, of which nothing is ever run::

get_weather
```python
tool_call(city="Oslo", days=3)
```
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterable

from edge.chat.calls import Found, NotACallError
from edge.chat.output import Call
from edge.chat.values import to_json

FENCE = re.compile(r"\n[ \t]*```")
LONGEST = 1 << 14  # characters of Python: deeper nesting than this allows is refused by its parser
FILE = "<tool_call>"

# A model's "\d" is none of the user's business. The name of the file keeps the filter from all other code.
warnings.filterwarnings("ignore", module=re.escape(FILE))


class ChatGlm3:
    """There are no tags: a line is a name only if a tool is called so.

    Arguments must be given by name and be literals that JSON knows: text, numbers, True, False, None, lists, dicts.
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


def _arguments(source: str) -> str:
    if len(source) > LONGEST:
        raise NotACallError
    try:
        call = ast.parse(source.strip(), FILE, mode="eval").body
        if not isinstance(call, ast.Call) or call.args:
            raise NotACallError
        named = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
        if None in named:  # **mapping
            raise NotACallError
        return to_json(named)
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError) as error:
        raise NotACallError from error
