"""Chat templates for checkpoints that have none, because their Python code builds the prompts.

Written from the prompts that the models were trained on. Tools are left to templates that know them.
"""

from __future__ import annotations

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
BASE_MODELS = {"glm-4-9b"}


@dataclass(frozen=True)
class OwnTemplate:
    """``template`` for a checkpoint without one, None for a base model.

    ``prefix``: tokens that the reference tokenizer puts before every prompt, whatever its template says.
    """

    template: str | None
    prefix: str = ""


def qwen_template(generation_config: Mapping[str, Any]) -> OwnTemplate:
    """Qwen-7B-Chat names its format in generation_config.json; "raw" is a base model's."""
    return OwnTemplate(CHATML if generation_config.get("chat_format") == "chatml" else None)


def glm4_template(config: Mapping[str, Any]) -> OwnTemplate:
    return OwnTemplate(None if is_base_model(config) else GLM4, PREFIX)


def chatglm3_template(config: Mapping[str, Any]) -> OwnTemplate:
    return OwnTemplate(None if is_base_model(config) else CHATGLM3, PREFIX)


def is_base_model(config: Mapping[str, Any]) -> bool:
    """Nothing but the name tells: the base model's configs name the same end tokens as the chat model's."""
    name = str(config.get("_name_or_path", "")).replace("\\", "/").rstrip("/").rpartition("/")[2].lower()
    return name.endswith("-base") or name in BASE_MODELS
