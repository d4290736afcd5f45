"""``tokenizer.model`` of ChatGLM3: a SentencePiece model, and the special tokens its Python code puts behind it.

Field numbers: https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace

from gguf import TokenType

from convert.errors import CheckpointError, UnsupportedError
from convert.protobuf import WireError, fields
from convert.vocabulary import AddedToken, Vocabulary, by_position, named, place_token, with_known

# ChatGLM3 calls the fourth and fifth ``sop`` and ``eop``. llama.cpp joins pieces to every text in the vocabulary, be it
# a control token, so that "people" would hold ``eop`` and "sophist" ``sop``. They get the names GLM-4 has for them.
SPECIALS = (
    *("[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>"),
    *("<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"),
)
RENAMED = {"sop": "<sop>", "eop": "<eop>"}
FIRST_TEXTS = ("<unk>", "<bos>", "<eos>")
FIRST_TYPES = (TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL)

PIECES, TRAINER, NORMALIZER = 1, 2, 3  # fields of the model
TEXT, SCORE, TYPE = 1, 2, 3  # of a piece
MODEL_TYPE, SPACE_BEHIND, BPE = 3, 24, 2  # of the trainer, and the model type that llama.cpp has
CHARSMAP, DUMMY_PREFIX, TRIM_SPACES, ESCAPE_SPACES = 2, 3, 4, 5  # of the normalizer


@dataclass(frozen=True)
class Piece:
    """A token as the model file has it. The numbers of SentencePiece's types are those of GGUF."""

    text: str
    score: float
    type: int


def read_chatglm3(data: bytes, added: Iterable[AddedToken], size: int, file: str) -> Vocabulary:
    """The pieces, ChatGLM3's special tokens, those ``added`` by tokenizer_config.json, then unused ids up to ``size``.

    Raises CheckpointError if the file is damaged, UnsupportedError for a model that llama.cpp would read otherwise.
    """
    try:
        pieces, trainer, normalizer = parse(memoryview(data), size)
        wrong = other_rules(trainer, normalizer)
    except (WireError, UnicodeDecodeError, struct.error) as error:
        raise CheckpointError(f"{file} is no SentencePiece model: {error}", "fetch it again") from error
    if wrong:
        raise UnsupportedError(f"the SentencePiece model in {file} {' and '.join(wrong)}, which llama.cpp does not")
    if len(pieces) + len(SPECIALS) > size:
        raise CheckpointError(
            f"{file} has at least {len(pieces) + len(SPECIALS)} tokens with the special ones, but config.json has "
            f"a vocabulary of {size}",
            "the tokenizer may belong to another model",
        )
    refuse_other_pieces(pieces, file)
    texts: list[str | None] = [*FIRST_TEXTS, *(piece.text for piece in pieces[3:])]
    texts += [None] * (size - len(pieces))
    types = [piece.type for piece in pieces] + [int(TokenType.UNUSED)] * (size - len(pieces))
    scores = [piece.score for piece in pieces] + [0.0] * (size - len(pieces))
    tokens = behind_pieces(pieces, added, file)
    for token in tokens:
        place_token(texts, token.id, token.text, file)
        types[token.id] = token.type
    special = {token.text: token.id for token in tokens}
    return Vocabulary("llama", "chatglm-spm", named(texts, file), types, special, scores=scores)


def behind_pieces(pieces: list[Piece], added: Iterable[AddedToken], file: str) -> list[AddedToken]:
    """ChatGLM3's special tokens and the ``added`` ones, under the names they have here.

    The config may name pieces again; it may not put a special token where ChatGLM3 has it not.
    """
    known = by_position(SPECIALS, len(pieces))
    places = {token.text: token.id for token in known}
    own = [replace(token, text=RENAMED.get(token.text, token.text)) for token in added]
    own = [token for token in own if token.id >= len(pieces) or token.text != pieces[token.id].text]
    own = [token for token in own if token.id >= len(FIRST_TEXTS) or token.text != FIRST_TEXTS[token.id]]
    for token in own:
        if places.get(token.text, token.id) != token.id:
            raise CheckpointError(
                f"{file} has {len(pieces)} pieces, but tokenizer_config.json puts {token.text!r} at {token.id}",
                "one of the two belongs to another model",
            )
    return with_known(own, known)


def parse(data: memoryview, size: int) -> tuple[list[Piece], dict[int, int | memoryview], dict[int, int | memoryview]]:
    """Pieces, at most one more than ``size``, and the settings of trainer and normalizer by field number."""
    pieces: list[Piece] = []
    settings: dict[int, dict[int, int | memoryview]] = {TRAINER: {}, NORMALIZER: {}}
    for number, value in fields(data):
        if number == PIECES and len(pieces) <= size:
            pieces.append(parse_piece(message(value)))
        elif number in settings:
            settings[number] |= dict(fields(message(value)))
    return pieces, settings[TRAINER], settings[NORMALIZER]


def parse_piece(data: memoryview) -> Piece:
    found = dict(fields(data))
    text = bytes(message(found.get(TEXT, data[:0]))).decode("utf-8")
    (score,) = struct.unpack("<f", message(found.get(SCORE, memoryview(bytes(4)))))
    kind = found.get(TYPE, TokenType.NORMAL)
    if kind not in {int(known) for known in TokenType} or not text or score != score:
        raise WireError(f"piece {text[:40]!r} of type {str(kind)[:20]} and score {score}")
    return Piece(text, score, int(kind))


def message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise WireError("a number where a message should be")
    return value


def other_rules(trainer: dict[int, int | memoryview], normalizer: dict[int, int | memoryview]) -> list[str]:
    """What llama.cpp does not: it joins by scores, puts a space in front, shows spaces as ``▁``, and no more."""
    wrong = {
        "is not of the BPE type": trainer.get(MODEL_TYPE) != BPE,
        "puts spaces behind words": bool(trainer.get(SPACE_BEHIND, 0)),
        "maps characters to others": len(message(normalizer.get(CHARSMAP, memoryview(b"")))) > 0,
        "puts no space in front": not normalizer.get(DUMMY_PREFIX, 1),
        "removes spaces": bool(normalizer.get(TRIM_SPACES, 1)),
        "leaves spaces as they are": not normalizer.get(ESCAPE_SPACES, 1),
    }
    return [what for what, is_so in wrong.items() if is_so]


def refuse_other_pieces(pieces: list[Piece], file: str) -> None:
    if tuple(piece.type for piece in pieces[:3]) != FIRST_TYPES:
        raise UnsupportedError(f"{file} does not begin with unknown, begin and end, as that of ChatGLM3 does")
    if own := next((piece.text for piece in pieces if piece.type == TokenType.USER_DEFINED), None):
        raise UnsupportedError(f"{file} has the user-defined piece {own[:40]!r}; llama.cpp would put a space behind it")
    bytes_there = {piece.text for piece in pieces if piece.type == TokenType.BYTE}
    if missing := [byte for byte in range(256) if f"<0x{byte:02X}>" not in bytes_there]:
        raise UnsupportedError(f"{file} has no piece for the byte {missing[0]}; llama.cpp needs all of them")
