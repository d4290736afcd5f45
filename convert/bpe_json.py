"""``tokenizer.json``, the file of Hugging Face's tokenizers library, as far as it is byte-level BPE."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from convert.errors import CheckpointError, UnsupportedError
from convert.pre_tokenizers import PreTokenizer, find_pre_tokenizer
from convert.vocabulary import AddedToken, Vocabulary, refuse_half_characters, token_list

FILE, CONFIG = "tokenizer.json", "tokenizer_config.json"
ID = re.compile("[0-9]{1,9}")


def read_bpe_json(files: Mapping[str, Any], config: Mapping[str, Any], size: int) -> Vocabulary:
    """The vocabulary of ``size`` ids from tokenizer.json and tokenizer_config.json.

    Raises CheckpointError or UnsupportedError naming what is wrong.
    """
    model = files.get("model")
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE" or not isinstance(model.get("vocab"), dict):
        raise UnsupportedError(f"{FILE} is not a byte-level BPE tokenizer", "only those of Qwen and GLM are known")
    added = added_tokens(files.get("added_tokens"), config)
    texts, types = token_list(model["vocab"], added, size, FILE)
    markers = {token.text for token in added}
    pre = find_pre_tokenizer(files.get("pre_tokenizer"), markers, bool(model.get("ignore_merges")))
    refuse_other_normalizer(files.get("normalizer"), pre)
    return Vocabulary(
        "gpt2",
        pre.name,
        texts,
        types,
        {token.text: token.id for token in added},
        merges=merge_lines(model.get("merges")),
    )


def refuse_other_normalizer(normalizer: Any, pre: PreTokenizer) -> None:
    """llama.cpp normalizes nothing. The engine applies NFC, but knows only from the pre-tokenizer when to."""
    kind = normalizer.get("type") if isinstance(normalizer, dict) else normalizer
    if kind != ("NFC" if pre.nfc else None):
        raise UnsupportedError(
            f"{FILE} normalizes text by {str(kind)[:40]!r}",
            f"with the split rule {pre.name} only {'NFC' if pre.nfc else 'nothing'} is known",
        )


def added_tokens(listed: Any, config: Mapping[str, Any]) -> list[AddedToken]:
    """Tokens beyond the BPE vocabulary: those ``listed`` in tokenizer.json, then those only the config has."""
    listed, decoder = listed or [], config.get("added_tokens_decoder") or {}
    if not isinstance(listed, list):
        raise CheckpointError(f"{FILE}: added_tokens is not a list", "fetch the file again")
    if not isinstance(decoder, dict):
        raise CheckpointError(f"{CONFIG}: added_tokens_decoder is not an object", "fetch the file again")
    entries = [(FILE, entry.get("id") if isinstance(entry, dict) else None, entry) for entry in listed]
    entries += [(CONFIG, int(key) if ID.fullmatch(key) else None, entry) for key, entry in decoder.items()]
    found: dict[int, AddedToken] = {}
    for file, id, entry in entries:
        text = entry.get("content") if isinstance(entry, dict) else None
        if type(id) is not int or id < 0 or not isinstance(text, str) or not text:
            raise CheckpointError(f"{file}: added token {str(entry)[:60]} has no id or no content")
        if (first := found.setdefault(id, AddedToken(id, text, bool(entry.get("special"))))).text != text:
            raise CheckpointError(
                f"{FILE} and {CONFIG} disagree on token {str(id)[:20]}: {first.text[:40]!r} and {text[:40]!r}"
            )
    return list(found.values())


def merge_lines(merges: Any) -> list[str]:
    """Merges as ``"left right"`` lines, from lines or from pairs."""
    if not isinstance(merges, list) or not merges:
        raise CheckpointError(f"{FILE} has no merges", "fetch the file again")
    lines = []
    for merge in merges:
        if isinstance(merge, list) and len(merge) == 2 and all(isinstance(part, str) for part in merge):
            merge = " ".join(part.replace(" ", "Ġ") for part in merge)
        if not isinstance(merge, str) or merge.count(" ") != 1 or merge[0] == " " or merge[-1] == " ":
            raise CheckpointError(f"{FILE}: merge {str(merge)[:60]!r} is not a pair")
        lines.append(merge)
    refuse_half_characters(lines, FILE)
    return lines
