"""Chat templates for checkpoints that have none, because their Python code builds the prompts.

Written from the prompts that the models were trained on. Tools are left to templates that know them.
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
GLM4 = PREFIX + "{% for message in messages %}" + ROLE + "{{ message.content }}{% endfor %}" + GENERATE
# A text of its own begins with a space here: so does every text that SentencePiece is given. No text, no space.
CHATGLM3 = (
    PREFIX
    + "{% for message in messages %}"
    + ROLE
    + "{% if message.content %} {{ message.content }}{% endif %}{% endfor %}"
    + GENERATE
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
