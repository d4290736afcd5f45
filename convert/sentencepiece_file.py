"""``tokenizer.model`` of ChatGLM3: a SentencePiece model, and the special tokens its Python code puts behind it.

Field numbers: https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from gguf import TokenType

from convert.errors import CheckpointError, UnsupportedError
from convert.protobuf import WireError, fields
from convert.vocabulary import Vocabulary, padded, refuse_same_texts

# ChatGLM3 calls the fourth and fifth ``sop`` and ``eop``. llama.cpp joins pieces to every text in the vocabulary, be it
# a control token, so that "people" would hold ``eop`` and "sophist" ``sop``. They get the names GLM-4 has for them.
SPECIALS = (
    *("[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>"),
    *("<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"),
)
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


def read_chatglm3(data: bytes, size: int, file: str) -> Vocabulary:
    """The pieces, ChatGLM3's special tokens, then unused ids up to ``size``.

    Raises CheckpointError if the file is damaged, UnsupportedError for a model that llama.cpp would read otherwise.
    """
    try:
        pieces, trainer, normalizer = parse(memoryview(data))
    except (WireError, UnicodeDecodeError, struct.error) as error:
        raise CheckpointError(f"{file} is no SentencePiece model: {error}", "fetch it again") from error
    refuse_other_rules(trainer, normalizer, file)
    refuse_other_pieces(pieces, file)
    used = len(pieces) + len(SPECIALS)
    if used > size:
        raise CheckpointError(
            f"{file} has {used} tokens with the special ones, but config.json has a vocabulary of {size}",
            "the tokenizer may belong to another model",
        )
    texts: list[str | None] = [*FIRST_TEXTS, *(piece.text for piece in pieces[3:]), *SPECIALS]
    texts += [None] * (size - used)
    types = [piece.type for piece in pieces]
    types += [TokenType.CONTROL] * len(SPECIALS) + [TokenType.UNUSED] * (size - used)
    scores = [piece.score for piece in pieces] + [0.0] * (size - len(pieces))
    special = {text: id for id, text in enumerate(SPECIALS, len(pieces))}
    refuse_same_texts(names := padded(texts), file)
    return Vocabulary("llama", "chatglm-spm", names, [int(kind) for kind in types], special, scores=scores)


def parse(data: memoryview) -> tuple[list[Piece], dict[int, int | memoryview], dict[int, int | memoryview]]:
    """Pieces, and the settings of trainer and normalizer by field number."""
    pieces: list[Piece] = []
    settings: dict[int, dict[int, int | memoryview]] = {TRAINER: {}, NORMALIZER: {}}
    for number, value in fields(data):
        if number == PIECES:
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


def refuse_other_rules(
    trainer: dict[int, int | memoryview], normalizer: dict[int, int | memoryview], file: str
) -> None:
    """llama.cpp joins by scores, puts a space in front and shows spaces as ``▁``. It changes nothing else."""
    wrong = {
        "is not of the BPE type": trainer.get(MODEL_TYPE) != BPE,
        "puts spaces behind words": bool(trainer.get(SPACE_BEHIND, 0)),
        "maps characters to others": len(message(normalizer.get(CHARSMAP, memoryview(b"")))) > 0,
        "puts no space in front": not normalizer.get(DUMMY_PREFIX, 1),
        "removes spaces": bool(normalizer.get(TRIM_SPACES, 1)),
        "leaves spaces as they are": not normalizer.get(ESCAPE_SPACES, 1),
    }
    if found := [what for what, is_so in wrong.items() if is_so]:
        raise UnsupportedError(f"the SentencePiece model in {file} {' and '.join(found)}, which llama.cpp does not")


def refuse_other_pieces(pieces: list[Piece], file: str) -> None:
    if tuple(piece.type for piece in pieces[:3]) != FIRST_TYPES:
        raise UnsupportedError(f"{file} does not begin with unknown, begin and end, as that of ChatGLM3 does")
    if own := next((piece.text for piece in pieces if piece.type == TokenType.USER_DEFINED), None):
        raise UnsupportedError(f"{file} has the user-defined piece {own[:40]!r}; llama.cpp would put a space behind it")
    bytes_there = {piece.text for piece in pieces if piece.type == TokenType.BYTE}
    if missing := [byte for byte in range(256) if f"<0x{byte:02X}>" not in bytes_there]:
        raise UnsupportedError(f"{file} has no piece for the byte {missing[0]}; llama.cpp needs all of them")
