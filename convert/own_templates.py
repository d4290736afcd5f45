"""Chat templates for checkpoints that have none, because their Python code builds the prompts.

Written from the prompts that the models were trained on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CHATML = (
    "{% for message in messages %}"
    "{% if loop.first and message.role != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PREFIX = "[gMASK]<sop>"
ROLE = "<|{{ 'observation' if message.role == 'tool' else message.role }}|>{{ message.metadata or '' }}\n"
GENERATE = "{% if add_generation_prompt %}<|assistant|>{% endif %}"
EACH = "{% for message in messages %}"
# Tools and calls are shaped as OpenAI's; a call's arguments are a mapping, or here JSON text.
GLM4 = (
    PREFIX
    + "{% if tools %}<|system|>\n你是一个名为 ChatGLM 的人工智能助手。你是基于智谱AI训练的语言模型 GLM-4 模型开发的，"
    "你的任务是针对用户的问题和要求提供适当的答复和支持。\n\n# 可用工具{% for tool in tools %}"
    "{% set function = tool.function or tool %}\n\n## {{ function.name }}\n\n"
    "{{ function | tojson(indent=4, ensure_ascii=False) }}\n在调用上述函数时，请使用 Json 格式表示调用的参数。"
    "{% endfor %}{% endif %}"
    + EACH
    + "{% if message.content or not message.tool_calls %}"
    + ROLE
    + "{{ message.content }}{% endif %}"
    "{% for call in message.tool_calls or [] %}{% set function = call.function or call %}"
    "<|assistant|>{{ function.name }}\n"
    "{% if function.arguments is string %}{{ function.arguments }}"
    "{% else %}{{ function.arguments | tojson(ensure_ascii=False) }}{% endif %}{% endfor %}"
    "{% endfor %}" + GENERATE
)
# A text of its own begins with a space here: so does every text that SentencePiece is given. No text, no space.
CHATGLM3 = (
    PREFIX + "{% if tools %}<|system|>\n Answer the following questions as best as you can. "
    "You have access to the following tools:\n[{% for tool in tools %}{% set function = tool.function or tool %}"
    "{{ function | tojson(indent=4, ensure_ascii=False) }}{{ '' if loop.last else ',\n' }}{% endfor %}]{% endif %}"
    + EACH
    + "{% if message.content or not message.tool_calls %}"
    + ROLE
    + "{% if message.content %} {{ message.content }}{% endif %}{% endif %}"
    "{% for call in message.tool_calls or [] %}{% set function = call.function or call %}"
    "<|assistant|>{{ function.name }}\n ```python\ntool_call("
    "{% for name, value in function.arguments | items %}{{ name }}="
    "{% if value is string %}{{ value | tojson(ensure_ascii=False) }}{% else %}{{ value }}{% endif %}"
    "{{ '' if loop.last else ', ' }}{% endfor %})\n```{% endfor %}"
    "{% endfor %}" + GENERATE
)
ADDED = "the checkpoint has no chat template; {} was added"
NOT_ADDED = "the checkpoint has no chat template, and none was added: "
# Who published the base models. A fine-tune that was loaded from a folder has the folder's name instead.
BASE_MODEL = re.compile(r"((THUDM|zai-org|ZhipuAI)/)?(glm-4-9b|[^/\\]*-base)", re.IGNORECASE)


@dataclass(frozen=True)
class OwnTemplate:
    """``template`` for a checkpoint without one, None for a base model; ``note`` tells a person which of the two.

    ``prefix``: tokens that the reference tokenizer puts before every prompt, whatever its template says.
    """

    template: str | None
    note: str
    prefix: str = ""


def qwen_template(generation_config: Mapping[str, Any]) -> OwnTemplate:
    """Qwen-7B-Chat names its format in generation_config.json; "raw" is a base model's."""
    if generation_config.get("chat_format") == "chatml":
        return OwnTemplate(CHATML, ADDED.format("ChatML, which generation_config.json names,"))
    return OwnTemplate(None, NOT_ADDED + "generation_config.json names no chat format, as that of a base model")


def glm4_template(config: Mapping[str, Any]) -> OwnTemplate:
    return glm_template(config, GLM4, "glm-4-9b-chat")


def chatglm3_template(config: Mapping[str, Any]) -> OwnTemplate:
    return glm_template(config, CHATGLM3, "ChatGLM3")


def glm_template(config: Mapping[str, Any], template: str, model: str) -> OwnTemplate:
    """Nothing but the name tells: the base model's configs name the same end tokens as the chat model's."""
    name = config.get("_name_or_path")
    if isinstance(name, str) and BASE_MODEL.fullmatch(name):
        return OwnTemplate(None, f"{NOT_ADDED}config.json calls it {name[:80]!r}, a base model", PREFIX)
    return OwnTemplate(template, ADDED.format(f"that of {model}"), PREFIX)
