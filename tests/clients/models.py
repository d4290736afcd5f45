"""The tiny models with chat templates that know tools: they call functions in the formats of Qwen and of GLM-4."""

from __future__ import annotations

import json
import shutil
from importlib.resources import files
from pathlib import Path

QWEN = """\
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
GLM = """\
[gMASK]<sop>
{%- if tools -%}
<|system|>
You may call: {{ tools | tojson }}
{%- endif -%}
{%- for message in messages -%}
<|{{ message.role }}|>
{{ message.content }}
{%- for call in message.tool_calls or [] %}
{{ call.function.name }}
{{ call.function.arguments | tojson }}
{%- endfor -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
<|assistant|>
{% endif -%}
"""
TEMPLATES = {"tiny-qwen": QWEN, "tiny-glm": GLM}


def with_tools(name: str, folder: Path) -> Path:
    """A checkpoint in ``folder``."""
    checkpoint = folder / f"{name}-tools"
    shutil.copytree(str(files("edge.models") / name), checkpoint)
    path = checkpoint / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, "chat_template": TEMPLATES[name]}, ensure_ascii=False), encoding="utf-8")
    return checkpoint
