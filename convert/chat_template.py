"""The chat template of a checkpoint, from whichever of its files holds it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convert.checkpoint import Checkpoint
from convert.errors import CheckpointError
from convert.metadata import KV
from convert.own_templates import OwnTemplate
from convert.vocabulary import refuse_half_characters

LEGACY = "chat_template.json"
MAX_TEMPLATE = 1_000_000  # characters; the largest real one has about 20,000


def template_metadata(
    checkpoint: Checkpoint, tokenizer_config: Mapping[str, Any], own: OwnTemplate | None = None
) -> list[KV]:
    """``tokenizer.chat_template``, and one key for each named template. Empty for a base model without one.

    ``own`` is for a checkpoint without a template, and holds the prefix that no template may lack.
    """
    templates = stored_templates(checkpoint, tokenizer_config)
    if not templates and own and own.template:
        templates = {"default": own.template}
    found = {
        "".join(c if c.isascii() and c.isalnum() else "_" for c in name): with_prefix(text, own.prefix) if own else text
        for name, text in templates.items()
    }
    default = found.pop("default", None)
    keys = [KV(f"tokenizer.chat_template.{name}", "str", text) for name, text in found.items()]
    if found:
        keys.append(KV("tokenizer.chat_templates", "[str]", list(found)))
    if default is not None:
        keys.append(KV("tokenizer.chat_template", "str", default))
    return keys


def stored_templates(checkpoint: Checkpoint, tokenizer_config: Mapping[str, Any]) -> dict[str, str]:
    """The checkpoint's templates by name, the usual one as ``default``. Raises CheckpointError naming the file.

    Files of their own go before the entry of tokenizer_config.json, as in transformers.
    """
    folder = checkpoint.folder
    files = [("default", path)] if (path := folder / "chat_template.jinja").is_file() else []
    files += [(path.stem, path) for path in sorted((folder / "additional_chat_templates").glob("*.jinja"))]
    if files:
        return {name: checked(read_text(path), path.name) for name, path in files}
    for file, settings in (("tokenizer_config.json", tokenizer_config), (LEGACY, checkpoint.json(LEGACY))):
        if (entry := settings.get("chat_template")) is not None:
            return named_templates(entry, file)
    return {}


def named_templates(entry: Any, file: str) -> dict[str, str]:
    """From a text, or from a list of ``{"name", "template"}``."""
    if isinstance(entry, str):
        return {"default": checked(entry, file)}
    found: dict[str, str] = {}
    for one in entry if isinstance(entry, list) else [None]:
        name, text = (one.get("name"), one.get("template")) if isinstance(one, dict) else (None, None)
        if not isinstance(name, str) or not isinstance(text, str):
            raise CheckpointError(f"{file}: the chat template is neither text nor a list of texts with names")
        found[name] = checked(text, file)
    return found


def checked(text: str, file: str) -> str:
    if len(text) > MAX_TEMPLATE:
        raise CheckpointError(f"{file}: a chat template of {len(text)} characters", f"the limit is {MAX_TEMPLATE}")
    refuse_half_characters([text], file)
    return text


def with_prefix(template: str, prefix: str) -> str:
    """The template, so that what it renders begins with ``prefix``, in the texts that the tokens have here.

    The reference tokenizer adds the prefix by itself, llama.cpp does not; some templates have it, some leave it out.
    """
    template = template.replace("[gMASK]sop", "[gMASK]<sop>")
    return template if not prefix or "[gMASK]" in template else prefix + template


def read_text(path: Path) -> str:
    try:
        if path.stat().st_size > 4 * MAX_TEMPLATE:  # bytes of as many characters, at most
            raise CheckpointError(f"{path.name} has {path.stat().st_size} bytes", "it cannot be a chat template")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"cannot read {path.name}: {error}") from error
