"""A model that calls functions as Qwen's do: tiny-qwen with a chat template that knows tools."""

from __future__ import annotations

import json
import shutil
from importlib.resources import files
from pathlib import Path

TEMPLATE = """\
{%- if tools -%}
<|im_start|>system
You may call: {{ tools | tojson }}
A call is <tool_call>{"name": ..., "arguments": ...}</tool_call><|im_end|>
{% endif -%}
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{{ message.content }}
{%- for call in message.tool_calls or [] -%}
<tool_call>{{ {"name": call.function.name, "arguments": call.function.arguments} | tojson }}</tool_call>
{%- endfor -%}
<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% endif -%}
"""


def with_tools(folder: Path) -> Path:
    """A checkpoint in ``folder``."""
    checkpoint = folder / "tiny-qwen-tools"
    shutil.copytree(str(files("edge.models") / "tiny-qwen"), checkpoint)
    path = checkpoint / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, "chat_template": TEMPLATE}, ensure_ascii=False), encoding="utf-8")
    return checkpoint
