"""The chat template of a checkpoint, from whichever of its files holds it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convert.checkpoint import Checkpoint
from convert.errors import CheckpointError
from convert.metadata import KV
from convert.own_templates import OwnTemplate

MAX_TEMPLATE = 1_000_000  # characters; the largest real one has about 20,000


def template_metadata(
    checkpoint: Checkpoint, tokenizer_config: Mapping[str, Any], own: OwnTemplate | None = None
) -> list[KV]:
    """``tokenizer.chat_template``, and one key for each named template. Empty for a base model without one.

    ``own`` is for a checkpoint without a template, and holds the prefix that no template may lack.
    """
    template = tokenizer_config.get("chat_template", template_file(checkpoint))
    if template is None and own:
        template = own.template
    if template is None:
        return []
    named = template if isinstance(template, list) else [{"name": "default", "template": template}]
    found: dict[str, str] = {}
    for entry in named:
        name, text = (entry.get("name"), entry.get("template")) if isinstance(entry, dict) else (None, None)
        if not isinstance(name, str) or not isinstance(text, str) or len(text) > MAX_TEMPLATE:
            raise CheckpointError(f"the chat template {str(name)[:40]!r} is not text of a sane length")
        found["".join(c if c.isascii() and c.isalnum() else "_" for c in name)] = (
            with_prefix(text, own.prefix) if own else text
        )
    default = found.pop("default", None)
    keys = [KV(f"tokenizer.chat_template.{name}", "str", text) for name, text in found.items()]
    if found:
        keys.append(KV("tokenizer.chat_templates", "[str]", list(found)))
    if default is not None:
        keys.append(KV("tokenizer.chat_template", "str", default))
    return keys


def with_prefix(template: str, prefix: str) -> str:
    """The template, so that what it renders begins with ``prefix``, in the texts that the tokens have here.

    The reference tokenizer adds the prefix by itself, llama.cpp does not; some templates have it, some leave it out.
    """
    template = template.replace("[gMASK]sop", "[gMASK]<sop>")
    return template if not prefix or "[gMASK]" in template else prefix + template


def template_file(checkpoint: Checkpoint) -> str | list[dict[str, str]] | None:
    folder = checkpoint.folder
    if (folder / "chat_template.jinja").is_file():
        default = read_text(folder, "chat_template.jinja")
        others = sorted((folder / "additional_chat_templates").glob("*.jinja"))
        if not others:
            return default
        named = [{"name": path.stem, "template": read_text(path.parent, path.name)} for path in others]
        return [{"name": "default", "template": default}, *named]
    return checkpoint.json("chat_template.json").get("chat_template")


def read_text(folder: Any, name: str) -> str:
    try:
        return (folder / name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"cannot read {name}: {error}") from error
