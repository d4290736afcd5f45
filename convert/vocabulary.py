"""What every reader of tokenizer files gives: the tokens in GGUF's terms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gguf import TokenType

from convert.errors import CheckpointError
from convert.metadata import KV


@dataclass(frozen=True)
class Vocabulary:
    """One entry of ``texts``, ``types`` and ``scores`` an id; ``special``: ids of special tokens, by text.

    ``model`` is llama.cpp's name of the algorithm: "gpt2" (byte-level BPE, with ``merges``) or "llama"
    (SentencePiece BPE, with ``scores``); ``pre`` is its name of the rules that split text before that.
    """

    model: str
    pre: str
    texts: list[str]
    types: list[int]
    special: Mapping[str, int]
    scores: list[float] | None = None
    merges: list[str] | None = None


@dataclass(frozen=True)
class AddedToken:
    """A token beyond the trained vocabulary."""

    id: int
    text: str
    special: bool

    @property
    def type(self) -> int:
        """GGUF's. Qwen marks ``<|fim_prefix|>`` and the like as ordinary text; llama.cpp must not print them."""
        text = self.text
        looks = (text.startswith("<|") and text.endswith("|>")) or (text.startswith("<｜") and text.endswith("｜>"))
        return int(TokenType.CONTROL if self.special or looks else TokenType.USER_DEFINED)


def by_position(texts: Iterable[str], first: int) -> list[AddedToken]:
    """Special tokens whose ids follow each other."""
    return [AddedToken(id, text, special=True) for id, text in enumerate(texts, first)]


def with_known(added: Iterable[AddedToken], known: Iterable[AddedToken]) -> list[AddedToken]:
    """``added`` and those ``known`` tokens whose id or text it does not give away, by id.

    What is in both is as ``known``: configs call some special tokens ordinary.
    """
    tokens = {token.id: token for token in added}
    ids = {token.text: token.id for token in tokens.values()}
    for token in known:
        if ids.get(token.text, token.id) == token.id and tokens.get(token.id, token).text == token.text:
            tokens[token.id] = token
    return [tokens[id] for id in sorted(tokens)]


def vocabulary_metadata(vocabulary: Vocabulary) -> list[KV]:
    """The keys that hold the tokens, in the order llama.cpp's converter writes them."""
    keys = [
        KV("tokenizer.ggml.model", "str", vocabulary.model),
        KV("tokenizer.ggml.pre", "str", vocabulary.pre),
        KV("tokenizer.ggml.tokens", "[str]", vocabulary.texts),
    ]
    if vocabulary.scores is not None:
        keys.append(KV("tokenizer.ggml.scores", "[f32]", vocabulary.scores))
    keys.append(KV("tokenizer.ggml.token_type", "[i32]", vocabulary.types))
    if vocabulary.merges is not None:
        keys.append(KV("tokenizer.ggml.merges", "[str]", vocabulary.merges))
    return keys


def token_list(
    vocab: Mapping[str, int], added: Iterable[AddedToken], size: int, file: str
) -> tuple[list[str], list[int]]:
    """Text and type of every id below ``size``; ids that no file names become unused ``[PAD{id}]`` tokens.

    Raises CheckpointError, naming ``file``, for an id outside, and for an id or a text given twice.
    """
    texts: list[str | None] = [None] * size
    types = [int(TokenType.UNUSED)] * size
    for text, id in vocab.items():
        place_token(texts, id, text, file)
        types[id] = int(TokenType.NORMAL)
    for token in added:
        place_token(texts, token.id, token.text, file)
        types[token.id] = token.type
    return named(texts, file), types


def place_token(texts: list[str | None], id: int, text: str, file: str) -> None:
    if type(id) is not int or not 0 <= id < len(texts):
        raise CheckpointError(
            f"{file} gives {text[:40]!r} the id {str(id)[:20]}, but config.json has vocab_size = {len(texts)}",
            "the tokenizer may belong to another model",
        )
    if texts[id] not in (None, text):
        raise CheckpointError(f"{file}: two texts for token {id}: {str(texts[id])[:40]!r} and {text[:40]!r}")
    texts[id] = text


def named(texts: Sequence[str | None], file: str) -> list[str]:
    """``texts`` with a name for each id that has no token: the embedding has more rows than there are tokens.

    Raises CheckpointError for what llama.cpp cannot load: the same text twice, or one that is not Unicode.
    """
    found = [f"[PAD{id}]" if text is None else text for id, text in enumerate(texts)]
    if len(set(found)) != len(found):
        raise CheckpointError(f"{file} gives two ids the same text", "llama.cpp cannot load such a vocabulary")
    refuse_half_characters(found, file)
    return found


def refuse_half_characters(texts: Iterable[str], file: str) -> None:
    """JSON may bring halves of surrogate pairs, which UTF-8 cannot hold."""
    try:
        "".join(texts).encode("utf-8")
    except UnicodeEncodeError as error:
        raise CheckpointError(f"{file} holds half of a character (a lone surrogate)", "fetch the file again") from error


def byte_alphabet() -> list[str]:
    """The printable character that stands for each of the 256 bytes in a byte-level vocabulary (GPT-2's)."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(256, 512))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]
