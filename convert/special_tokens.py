"""Which tokens begin, end and fill: the ``*_token_id`` and ``add_*_token`` keys, from the files that name them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from convert.checkpoint import Checkpoint
from convert.errors import CheckpointError, UnsupportedError
from convert.metadata import KV

Fallback = Mapping[str, str | tuple[str, ...]]
SPECIAL_KINDS = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
SPECIAL_KEYS = {
    "bos": "bos_token_id",
    "eos": "eos_token_id",
    "unk": "unknown_token_id",
    "sep": "seperator_token_id",  # llama.cpp's own spelling
    "pad": "padding_token_id",
    "mask": "mask_token_id",
    "eot": "eot_token_id",
    "eom": "eom_token_id",
}
# Texts that llama.cpp itself takes for the end of generation (llama-vocab.cpp), of those Qwen and GLM use.
END_BY_TEXT = {
    "<|im_end|>",
    "<|endoftext|>",
    "<|end|>",
    "<|eot_id|>",
    "</s>",
    "<|end_of_text|>",
    "<｜end▁of▁sentence｜>",
}


def special_ids(
    ids: Mapping[str, int], tokenizer_config: Mapping[str, Any], config: Mapping[str, Any], vocab_size: int
) -> dict[str, int]:
    """Special token ids by kind: tokenizer_config.json first, config.json for those still unset, then its text part.

    ``ids``: the special tokens by text. Lists of ids are left to ``end_ids``.
    """
    found: dict[str, int] = {}
    for kind in SPECIAL_KINDS:
        text = token_text(tokenizer_config.get(f"{kind}_token"))
        if isinstance(text, str) and text in ids:
            found[kind] = ids[text]
    for part in parts(config):
        for kind in SPECIAL_KINDS:
            id = part.get(f"{kind}_token_id")
            if type(id) is int and kind not in found:
                if not 0 <= id < vocab_size:
                    raise CheckpointError(
                        f"config.json: {kind}_token_id {id} is outside the vocabulary of {vocab_size}"
                    )
                found[kind] = id
    return found


def end_ids(checkpoint: Checkpoint) -> list[int]:
    """Every id that config.json, its text part or generation_config.json calls the end of generation."""
    generation = checkpoint.json("generation_config.json")
    listed = [part.get("eos_token_id") for part in (*parts(checkpoint.config), generation)]
    words = generation.get("stop_words_ids")  # of the first Qwen models: sequences of ids, of which one ends a text
    listed += [word for word in words if isinstance(word, list) and len(word) == 1] if isinstance(words, list) else []
    found: dict[int, None] = {}
    for value in listed:
        found |= dict.fromkeys(id for id in (value if isinstance(value, list) else [value]) if type(id) is int)
    return list(found)


def parts(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The config, and the part that speaks of text where a model also sees pictures."""
    yield config
    if isinstance(text := config.get("text_config"), dict):
        yield text


def mark_other_ends(special: dict[str, int], ends: Iterable[int], texts: Sequence[str]) -> None:
    """Give the end tokens that llama.cpp would not stop at the kinds it has left: eos, eot, eom."""
    for id in ends:
        if not 0 <= id < len(texts):
            raise CheckpointError(f"eos_token_id {id} is outside the vocabulary of {len(texts)}")
        if texts[id] == f"[PAD{id}]":
            raise CheckpointError(
                f"the configs call {id} the end, but the tokenizer files have no token there", "is a file incomplete?"
            )
        known = texts[id] in END_BY_TEXT and "eos" in special
        if known or id in (special.get("eos"), special.get("eot"), special.get("eom")):
            continue
        free = next((kind for kind in ("eos", "eot", "eom") if kind not in special), None)
        if free is None:
            raise UnsupportedError(f"{texts[id]!r} should end generation too, but GGUF has no key left to say so")
        special[free] = id


def add_fallback(special: dict[str, int], fallback: Fallback, ids: Mapping[str, int], ends: Collection[int]) -> None:
    """Special tokens that no file names, from the texts in ``fallback``.

    Of the texts that the vocabulary has (``ids``) the first, but one that the configs call an end before the others.
    """
    for kind, texts in fallback.items():
        there = [ids[text] for text in ([texts] if isinstance(texts, str) else texts) if text in ids]
        if there and kind not in special:
            special[kind] = next((id for id in there if id in ends), there[0])


def special_metadata(special: Mapping[str, int]) -> list[KV]:
    return [
        KV(f"tokenizer.ggml.{SPECIAL_KEYS[kind]}", "u32", id) for kind, id in special.items() if kind in SPECIAL_KEYS
    ]


def added_flags(post_processor: Any, config: Mapping[str, Any]) -> tuple[list[KV], Any]:
    """Whether a bos or eos token is put around a text: as the post-processor says, else the config. And the bos token.

    A template that begins with a special token makes it the bos token where ``config`` names none.
    """
    flags: dict[str, bool] = {}
    bos = config.get("bos_token")
    for step in processors(post_processor):
        kind = step.get("type") if isinstance(step, dict) else None
        if kind == "ByteLevel":
            flags.setdefault("bos", False)
            flags.setdefault("eos", False)
        elif kind == "TemplateProcessing":
            pieces = template_pieces(step.get("single", []))
            bos = bos or (pieces[0] if len(pieces) > 1 else None)
            flags |= template_flags(pieces, token_text(bos), token_text(config.get("eos_token")))
        else:
            raise UnsupportedError(f"tokenizer.json has an unknown post-processor {str(kind)[:40]!r}")
    for kind in ("bos", "eos", "sep"):
        if isinstance(value := config.get(f"add_{kind}_token"), bool):
            flags.setdefault(kind, value)
    return [KV(f"tokenizer.ggml.add_{kind}_token", "bool", value) for kind, value in flags.items()], bos


def processors(post_processor: Any) -> list[Any]:
    """The steps of a post-processor: it may be one, or a sequence of them."""
    if not post_processor:
        return []
    steps = post_processor.get("processors", [post_processor]) if isinstance(post_processor, dict) else None
    if not isinstance(steps, list):
        raise CheckpointError("tokenizer.json: post_processor is not a list of steps", "fetch the file again")
    return steps


def template_pieces(pieces: Any) -> list[str | None]:
    """The ``single`` list of a TemplateProcessing step: texts of special tokens, None for the text itself."""
    found: list[str | None] = []
    for piece in pieces if isinstance(pieces, list) else [None]:
        token = piece.get("SpecialToken", {"id": None}) if isinstance(piece, dict) else None
        text = token.get("id", "") if isinstance(token, dict) else ""
        if not (text is None or (isinstance(text, str) and text)):
            raise CheckpointError("tokenizer.json: the template of its post_processor is damaged", "fetch it again")
        found.append(text)
    return found


def template_flags(pieces: Sequence[str | None], bos: Any, eos: Any) -> dict[str, bool]:
    """Whether bos or eos is put around a text. A prefix of several tokens no flag can say: chat templates have it."""
    if len(pieces) < 2:
        return {}
    flags: dict[str, bool] = {}
    if pieces[0] is not None:
        flags["bos"] = pieces[0] == bos and pieces[1] is None
    if pieces[-1] is not None:
        if pieces[-1] != eos:
            raise UnsupportedError(f"tokenizer.json ends every text with {pieces[-1]!r}", "is this an embedding model?")
        flags["eos"] = True
    return flags


def token_text(entry: Any) -> Any:
    return entry.get("content") if isinstance(entry, dict) else entry
