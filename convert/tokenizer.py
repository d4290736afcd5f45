"""Tokenizer files -> GGUF tokenizer keys. A pre-tokenizer llama.cpp does not have is an error, not a guess."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gguf import TokenType

from convert.chat_template import template_metadata
from convert.checkpoint import Checkpoint
from convert.errors import CheckpointError, UnsupportedError
from convert.metadata import KV


@dataclass(frozen=True)
class PreTokenizer:
    """A split regex llama.cpp implements, its name there, and a token that tells namesakes apart."""

    name: str
    regex: str
    marker: str | None = None


_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_TAIL = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
_QWEN2 = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*" + _TAIL
_GLM4 = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*" + _TAIL
PRE_TOKENIZERS = (
    PreTokenizer("deepseek-r1-qwen", _QWEN2, marker="<｜begin▁of▁sentence｜>"),
    PreTokenizer("qwen2", _QWEN2),
    PreTokenizer("glm4", _GLM4, marker="[gMASK]"),
)

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


@dataclass(frozen=True)
class AddedToken:
    id: int
    text: str
    special: bool


def tokenizer_metadata(checkpoint: Checkpoint, vocab_size: int, fallback: Mapping[str, str]) -> list[KV]:
    """All ``tokenizer.*`` keys, in the order llama.cpp's converter writes them.

    ``fallback`` gives the texts of special tokens that the files may leave unset, by kind.
    Raises CheckpointError or UnsupportedError naming the file and what is wrong with it.
    """
    if not (checkpoint.folder / "tokenizer.json").is_file():
        raise CheckpointError("the checkpoint has no tokenizer.json", "fetch it; the weights alone cannot be used")
    files = checkpoint.json("tokenizer.json")
    config = checkpoint.json("tokenizer_config.json")
    model = files.get("model")
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE" or not isinstance(model.get("vocab"), dict):
        raise UnsupportedError(
            "tokenizer.json is not a byte-level BPE tokenizer", "only those of Qwen and GLM are known"
        )
    refuse_other_normalizer(files.get("normalizer"))
    added = added_tokens(files, config)
    texts, types = token_list(model["vocab"], added, vocab_size)
    pre = find_pre_tokenizer(files.get("pre_tokenizer"), {token.text for token in added})
    ids = {token.text: token.id for token in added}
    flags = added_flags(files.get("post_processor"), config)
    special = special_ids(ids, config, checkpoint.config, vocab_size)
    for kind, text in fallback.items():
        if kind not in special and text in ids:
            special[kind] = ids[text]
    mark_other_ends(special, end_ids(checkpoint), texts)
    return [
        KV("tokenizer.ggml.model", "str", "gpt2"),
        KV("tokenizer.ggml.pre", "str", pre),
        KV("tokenizer.ggml.tokens", "[str]", texts),
        KV("tokenizer.ggml.token_type", "[i32]", types),
        KV("tokenizer.ggml.merges", "[str]", merge_lines(model.get("merges"))),
        *(
            KV(f"tokenizer.ggml.{SPECIAL_KEYS[kind]}", "u32", id)
            for kind, id in special.items()
            if kind in SPECIAL_KEYS
        ),
        *flags,
        *template_metadata(checkpoint, config),
    ]


def refuse_other_normalizer(normalizer: Any) -> None:
    """NFC is applied by the engine before it tokenizes; llama.cpp has no other."""
    if normalizer is not None and (not isinstance(normalizer, dict) or normalizer.get("type") != "NFC"):
        kind = normalizer.get("type") if isinstance(normalizer, dict) else normalizer
        raise UnsupportedError(
            f"tokenizer.json normalizes text by {str(kind)[:40]!r}", "only NFC, or nothing, is known"
        )


def added_tokens(files: Mapping[str, Any], config: Mapping[str, Any]) -> list[AddedToken]:
    """Tokens beyond the BPE vocabulary, from tokenizer.json, then those only tokenizer_config.json has."""
    found: dict[int, AddedToken] = {}
    decoder = config.get("added_tokens_decoder") or {}
    listed = [(entry.get("id"), entry) for entry in files.get("added_tokens") or [] if isinstance(entry, dict)]
    listed += [(int(key), entry) for key, entry in decoder.items() if str(key).isdecimal() and isinstance(entry, dict)]
    for id, entry in listed:
        text = entry.get("content")
        if type(id) is not int or id < 0 or not isinstance(text, str):
            raise CheckpointError(f"tokenizer files: added token {str(entry)[:60]} has no id or no content")
        if found.setdefault(id, AddedToken(id, text, bool(entry.get("special")))).text != text:
            raise CheckpointError(f"tokenizer files disagree on token {id}: {found[id].text!r} and {text!r}")
    return list(found.values())


def token_list(vocab: Mapping[str, Any], added: Iterable[AddedToken], size: int) -> tuple[list[str], list[int]]:
    """Text and type of every id below ``size``; ids that no file names become unused ``[PAD{id}]`` tokens."""
    texts: list[str | None] = [None] * size
    types = [int(TokenType.UNUSED)] * size
    for text, id in vocab.items():
        place_token(texts, id, text)
        types[id] = int(TokenType.NORMAL)
    for token in added:
        place_token(texts, token.id, token.text)
        control = token.special or is_control_text(token.text)
        types[token.id] = int(TokenType.CONTROL if control else TokenType.USER_DEFINED)
    filled = [f"[PAD{id}]" if text is None else text for id, text in enumerate(texts)]
    if len(set(filled)) != len(filled):
        raise CheckpointError("tokenizer files give two ids the same text", "llama.cpp cannot load such a vocabulary")
    return filled, types


def place_token(texts: list[str | None], id: Any, text: str) -> None:
    if type(id) is not int or not 0 <= id < len(texts):
        raise CheckpointError(
            f"tokenizer.json gives {text!r} the id {id}, but config.json has vocab_size = {len(texts)}",
            "the tokenizer may belong to another model",
        )
    if texts[id] not in (None, text):
        raise CheckpointError(f"tokenizer files disagree on token {id}: {texts[id]!r} and {text!r}")
    texts[id] = text


def is_control_text(text: str) -> bool:
    """Qwen marks ``<|fim_prefix|>`` and the like as ordinary text; llama.cpp must not."""
    return (text.startswith("<|") and text.endswith("|>")) or (text.startswith("<｜") and text.endswith("｜>"))


def merge_lines(merges: Any) -> list[str]:
    """Merges as ``"left right"`` lines, from lines or from pairs."""
    if not isinstance(merges, list) or not merges:
        raise CheckpointError("tokenizer.json has no merges", "fetch the file again")
    lines = []
    for merge in merges:
        if isinstance(merge, list) and len(merge) == 2 and all(isinstance(part, str) for part in merge):
            merge = " ".join(part.replace(" ", "Ġ") for part in merge)
        if not isinstance(merge, str) or merge.count(" ") != 1 or merge[0] == " " or merge[-1] == " ":
            raise CheckpointError(f"tokenizer.json: merge {str(merge)[:60]!r} is not a pair")
        lines.append(merge)
    return lines


def find_pre_tokenizer(tree: Any, markers: set[str]) -> str:
    """llama.cpp's name for the split regex in tokenizer.json; an unknown one is shown beside the nearest known."""
    steps = tree.get("pretokenizers", [tree]) if isinstance(tree, dict) else []
    splits = [step for step in steps if isinstance(step, dict) and step.get("type") == "Split"]
    levels = [step for step in steps if isinstance(step, dict) and step.get("type") == "ByteLevel"]
    pattern = splits[0].get("pattern") if splits else None
    regex = pattern.get("Regex") if isinstance(pattern, dict) else None
    if len(steps) != 2 or len(levels) != 1 or not isinstance(regex, str):
        kinds = ", ".join(str(step.get("type")) for step in steps if isinstance(step, dict)) or "nothing"
        raise UnsupportedError(f"tokenizer.json splits text by {kinds}; known is Split by a regex, then ByteLevel")
    if levels[0].get("add_prefix_space") or levels[0].get("use_regex") or splits[0].get("invert"):
        raise UnsupportedError("tokenizer.json uses add_prefix_space, use_regex or invert, which llama.cpp does not")
    if splits[0].get("behavior") != "Isolated":
        raise UnsupportedError(f"tokenizer.json splits with behavior {splits[0].get('behavior')!r}; known is Isolated")
    for known in PRE_TOKENIZERS:
        if regex == known.regex and (known.marker is None or known.marker in markers):
            return known.name
    nearest = max(PRE_TOKENIZERS, key=lambda known: difflib.SequenceMatcher(None, known.regex, regex[:500]).ratio())
    raise UnsupportedError(
        f"unknown pre-tokenizer regex: nearest is {nearest.name}, {describe_difference(nearest.regex, regex[:500])}",
        "converting with a wrong one would give a model that reads text differently",
    )


def describe_difference(known: str, found: str) -> str:
    parts = difflib.SequenceMatcher(None, known, found).get_opcodes()
    changes = [f"{known[a:b]!r} -> {found[c:d]!r}" for op, a, b, c, d in parts if op != "equal"]
    return "which differs in " + "; ".join(changes[:3]) if changes else "which needs other special tokens"


def special_ids(
    ids: Mapping[str, int], tokenizer_config: Mapping[str, Any], config: Mapping[str, Any], vocab_size: int
) -> dict[str, int]:
    """Special token ids by kind: tokenizer_config.json first, config.json for those still unset."""
    found: dict[str, int] = {}
    for kind in SPECIAL_KINDS:
        text = token_text(tokenizer_config.get(f"{kind}_token"))
        if isinstance(text, str) and text in ids:
            found[kind] = ids[text]
    for kind in SPECIAL_KINDS:
        id = config.get(f"{kind}_token_id")
        if type(id) is int and kind not in found:
            if not 0 <= id < vocab_size:
                raise CheckpointError(f"config.json: {kind}_token_id {id} is outside the vocabulary of {vocab_size}")
            found[kind] = id
    return found


def end_ids(checkpoint: Checkpoint) -> list[int]:
    """Every id that config.json or generation_config.json calls the end of generation."""
    found: list[int] = []
    for name in ("config.json", "generation_config.json"):
        value = checkpoint.json(name).get("eos_token_id")
        for id in value if isinstance(value, list) else [value]:
            if type(id) is int and id not in found:
                found.append(id)
    return found


def mark_other_ends(special: dict[str, int], ends: Iterable[int], texts: list[str]) -> None:
    """Give the end tokens that llama.cpp would not stop at the kinds it has left: eos, eot, eom."""
    for id in ends:
        if not 0 <= id < len(texts):
            raise CheckpointError(f"eos_token_id {id} is outside the vocabulary of {len(texts)}")
        if id in (special.get("eos"), special.get("eot"), special.get("eom")) or texts[id] in END_BY_TEXT:
            continue
        free = next((kind for kind in ("eos", "eot", "eom") if kind not in special), None)
        if free is None:
            raise UnsupportedError(f"{texts[id]!r} should end generation too, but GGUF has no key left to say so")
        special[free] = id


def added_flags(post_processor: Any, config: dict[str, Any]) -> list[KV]:
    """Whether a bos or eos token is put around a text: as the post-processor says, else the config.

    A template that begins with a special token makes it the bos token where ``config`` names none.
    """
    flags: dict[str, bool] = {}
    steps = post_processor.get("processors", [post_processor]) if isinstance(post_processor, dict) else []
    for step in steps:
        kind = step.get("type") if isinstance(step, dict) else None
        if kind == "ByteLevel":
            flags.setdefault("bos", False)
            flags.setdefault("eos", False)
        elif kind == "TemplateProcessing":
            flags.update(template_flags(step.get("single"), config))
        else:
            raise UnsupportedError(f"tokenizer.json has an unknown post-processor {str(kind)[:40]!r}")
    for kind in ("bos", "eos", "sep"):
        if isinstance(value := config.get(f"add_{kind}_token"), bool):
            flags.setdefault(kind, value)
    return [KV(f"tokenizer.ggml.add_{kind}_token", "bool", value) for kind, value in flags.items()]


def template_flags(pieces: Any, config: dict[str, Any]) -> dict[str, bool]:
    """Flags of a TemplateProcessing step, from its ``single`` list of pieces."""
    special = [piece.get("SpecialToken", {}).get("id") for piece in pieces or [] if isinstance(piece, dict)]
    flags: dict[str, bool] = {}
    if len(special) < 2:
        return flags
    if special[0] is not None:
        if not config.get("bos_token"):
            config["bos_token"] = special[0]
        flags["bos"] = special[0] == token_text(config["bos_token"])
    if special[-1] is not None:
        if special[-1] != token_text(config.get("eos_token")):
            raise UnsupportedError(
                f"tokenizer.json ends every text with {special[-1]!r}", "is this an embedding model?"
            )
        flags["eos"] = True
    return flags


def token_text(entry: Any) -> Any:
    return entry.get("content") if isinstance(entry, dict) else entry
