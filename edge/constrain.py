"""Constrained output: which tokens may come next, so that the answer is a document of the wanted form."""

from __future__ import annotations

import ctypes
import functools
import itertools
import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from llguidance.gbnf_to_lark import gbnf_to_lark

from edge import json_schema
from edge.json_schema import ConstraintError, plain
from edge.llama.model import Model

T = TypeVar("T")
Kind = Literal["json_schema", "json_object", "regex", "lark", "gbnf", "calls"]

MAX_GRAMMAR_BYTES = 32 * 1024
MAX_CALLS_BYTES = 1024 * 1024
"""Of a grammar that was made of schemas, which have bounds of their own."""

AFTER_THINKING = r"""
start: THOUGHTS @answer
THOUGHTS: FREE "</think>" /\n{0,2}/
FREE: /(?s:.*)/ & ~/(?s:.*)<\/think>(?s:.*)/
"""
SPECIAL = b"\xff"  # before the name of a token: it is no text

WHITESPACE = r"[ \n\r\t]{1,40}"
"""Between the parts of a JSON document. Bounded, because small models can go on with line breaks for ever."""

LIMITS = LLParserLimits(max_lexer_states=20_000, max_grammar_size=100_000, verbose_errors=False)
"""A state takes 1-2 kB. The defaults bound the work: about 20 ms to build, 15 ms for a token."""

DEEP_STACK = 64 * 1024 * 1024
"""Bytes for compiling. The library recurses along references and rules, 3-10 kB each, and ends the process at the
end of the stack; this is enough for the longest chain that the bounds on size let through."""

LITERALS = re.compile(r'//[^\n]*|"(?:\\.|[^"\\\n])*"|/(?:\\.|[^/\\\n])+/')

_stack_size_lock = threading.Lock()


@dataclass(frozen=True)
class ConstraintSpec:
    """The form of an answer.

    ``source``: the schema (JSON text, or the value it stands for), regular expression, Lark or GBNF
    grammar; nothing for ``json_object``, which is any JSON object. ``compact``: JSON without whitespace.
    ``after_thinking``: all text is free up to ``</think>``, but the answer cannot end there.
    ``calls`` is a Lark grammar of our own for tool calls; ``functions``: the schemas in it by the functions' names.

    Properties come in the order of the schema; names that it does not list are not kept unique.
    """

    kind: Kind
    source: str | bool | Mapping[str, Any] = ""
    compact: bool = False
    after_thinking: bool = False
    functions: Mapping[str, Any] = field(default_factory=dict)


class Grammars:
    """The compiler for one model. Threads may share it; it must not be used after the model is closed.

    The vocabulary is prepared at first use: 1 s and 55 MB for 150,000 tokens. A token is the text that a reader of the
    answer gets, so that a tag may be a token or be spelled; tokens without text can never come, but for the ends.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self._lock = threading.Lock()

    def compile(self, spec: ConstraintSpec) -> Constraint:
        """Raises ``ConstraintError``: the grammar is wrong (a schema: where), not supported, or too large."""
        tokenizer, ends = self._vocabulary()
        return Constraint(self.model, ends, _on_deep_stack(lambda: _compile(tokenizer, spec)))

    def _vocabulary(self) -> tuple[LLTokenizer, frozenset[int]]:
        self.model.is_eog(0)  # raises ModelError if the model is closed; C would read freed memory
        with self._lock:
            return self._prepared

    @functools.cached_property
    def _prepared(self) -> tuple[LLTokenizer, frozenset[int]]:
        model = self.model
        ends = [token for token in range(model.n_vocab) if model.is_eog(token)]
        if not ends:
            raise ConstraintError(f"{model.path.name} has no token that ends an answer", "convert it again")
        texts = (model.token_bytes(token) for token in range(model.n_vocab))
        tokenizer = LLTokenizer.from_llamacpp(  # pyright: ignore[reportAttributeAccessIssue]
            tokens=[text or SPECIAL + model.token_bytes(token, special=True) for token, text in enumerate(texts)],
            vocab_ptr=model.vocab,
            tokenize_fptr=ctypes.cast(model.lib._lib.llama_tokenize, ctypes.c_void_p).value,
            eos_token=ends,
            slices=None,
        )
        return tokenizer, frozenset(ends)


class Constraint:
    """The state of one answer: ``mask`` the logits, draw, ``accept`` the token, until ``finished``.

    Not for several threads at once. Every method raises ``ConstraintError`` when the grammar has become
    too complex to follow, or asks for what cannot be.
    """

    def __init__(self, model: Model, ends: frozenset[int], matcher: LLMatcher) -> None:
        self._model = model
        self._ends = ends
        self._end_ids = np.fromiter(ends, np.int64)
        self._matcher = matcher
        self._ended = False

    @property
    def may_stop(self) -> bool:
        """True if what was accepted is a whole document."""
        return self._matcher.is_accepting()

    @property
    def finished(self) -> bool:
        """True if the document is whole and cannot go on: only an end token may follow."""
        return self._ended or (self.may_stop and self._matcher.is_stopped())

    def mask(self, logits: np.ndarray) -> None:
        """Set the logits of the tokens that may not come next to -inf, in place. ``logits``: float32 [n_vocab]."""
        self._check()
        allowed = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        self._check()
        forbidden = np.unpackbits(~allowed, count=len(logits), bitorder="little").view(np.bool_)
        np.copyto(logits, -np.inf, where=forbidden)
        if not self.may_stop:
            # Some end tokens are plain text to the grammar, such as </s> in Qwen's vocabulary.
            logits[self._end_ids] = -np.inf

    def accept(self, token: int) -> None:
        """Go on by ``token``. Raises ``ConstraintError`` if it is not allowed."""
        self._check()
        if token in self._ends:
            if not self.may_stop:
                raise ConstraintError("the answer ended before it was complete")
            self._ended = True
        elif self._ended:
            raise ConstraintError("the answer has ended already")
        else:
            self._matcher.consume_token(token)
        self._check()

    def forced(self) -> list[int]:
        """Tokens that must come next, often none. Append and ``accept`` each; decode them together."""
        self._check()
        if self._ended:
            return []
        tokens = self._matcher.compute_ff_tokens()
        self._check()
        return list(itertools.takewhile(lambda token: token not in self._ends, tokens))

    def _check(self) -> None:
        self._model.is_eog(0)  # raises ModelError if the model is closed; C would read freed memory
        if self._matcher.is_error():
            raise ConstraintError(f"the answer left its grammar: {plain(self._matcher.get_error())}")


def _compile(tokenizer: LLTokenizer, spec: ConstraintSpec) -> LLMatcher:
    """A matcher that can take its first token. Raises ``ConstraintError``."""
    for name, schema in spec.functions.items():
        if complaint := _matcher(tokenizer, _json_grammar(schema, spec.compact))[1]:
            where = _where(tokenizer, schema, spec.compact, complaint)
            raise ConstraintError(f"the parameters of the function {name!r:.80} are refused at {where}")
    schema = None
    if spec.kind in ("json_schema", "json_object"):
        schema = json_schema.parse(spec.source if spec.kind == "json_schema" else {"type": "object"})
        grammar = _json_grammar(schema, spec.compact)
    else:
        grammar = _text_grammar(spec)
    matcher, complaint = _matcher(tokenizer, grammar)
    if spec.after_thinking and not complaint:
        matcher, complaint = _matcher(tokenizer, _after_thinking(grammar))
    if not complaint:
        return matcher
    if schema is None:
        raise ConstraintError(f"the {spec.kind} is refused: {plain(complaint)}")
    raise ConstraintError(f"the schema is refused at {_where(tokenizer, schema, spec.compact, complaint)}")


def _where(tokenizer: LLTokenizer, schema: Any, compact: bool, complaint: str) -> str:
    return json_schema.fault(schema, complaint, lambda part: _matcher(tokenizer, _json_grammar(part, compact))[1])


def _after_thinking(grammar: str) -> str:
    answer, *others = json.loads(grammar)["grammars"]
    thoughts = {"name": "thoughts", "lark_grammar": AFTER_THINKING}
    return json.dumps({"grammars": [thoughts, {**answer, "name": "answer"}, *others]})


def _matcher(tokenizer: LLTokenizer, grammar: str) -> tuple[LLMatcher, str]:
    """A matcher, and what is wrong with it; some faults show only at the first mask."""
    matcher = LLMatcher(tokenizer, grammar, log_level=0, limits=LIMITS)
    if not matcher.is_error():
        matcher.compute_bitmask()
    return matcher, matcher.get_error()


def _json_grammar(schema: Any, compact: bool) -> str:
    try:
        return LLMatcher.grammar_from_json_schema(
            json_schema.dump(schema),
            overrides={"whitespace_flexible": False} if compact else {"whitespace_pattern": WHITESPACE},
        )
    except ValueError as error:
        raise ConstraintError(f"the schema is refused: {plain(str(error))}") from None


def _text_grammar(spec: ConstraintSpec) -> str:
    text = spec.source
    if not isinstance(text, str):
        raise ConstraintError(f"a {spec.kind} is text, got {type(text).__name__}")
    most = MAX_CALLS_BYTES if spec.kind == "calls" else MAX_GRAMMAR_BYTES
    if len(text.encode("utf-8", "replace")) > most:
        raise ConstraintError(f"the {spec.kind} grammar has more than {most} bytes", "use a smaller one")
    if spec.kind == "regex":
        return LLMatcher.grammar_from_regex(text)
    if spec.kind == "gbnf":
        try:
            text = gbnf_to_lark(text)
        except RecursionError:
            raise ConstraintError("the gbnf is nested too deep") from None
        except Exception as error:  # the converter raises no narrower class
            raise ConstraintError(f"the gbnf is refused: {plain(str(error))}") from None
    elif spec.kind == "lark":
        _check_lark(text)
    elif spec.kind != "calls":
        raise ConstraintError(f"there is no constraint {spec.kind!r}")
    return json.dumps({"grammars": [{"lark_grammar": text}]})


def _check_lark(text: str) -> None:
    if match := re.search("[&~]", LITERALS.sub("", text)):
        raise ConstraintError(f"the lark is refused: the operator {match[0]} is not supported; it can take minutes")
    for match in re.finditer(r"%json\s*", text):
        try:
            schema, _ = json.JSONDecoder().raw_decode(text, match.end())
        except (ValueError, RecursionError):
            continue  # the library says where
        json_schema.check(schema)


def _on_deep_stack(call: Callable[[], T]) -> T:
    """``call()`` on a thread with ``DEEP_STACK``."""
    result: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            result.append(call())
        except BaseException as error:  # a panic of the library is no Exception
            failure.append(error)

    thread = threading.Thread(target=run, name="compile-grammar", daemon=True)
    with _stack_size_lock:
        before = threading.stack_size(DEEP_STACK)
        try:
            thread.start()
        finally:
            threading.stack_size(before)
    thread.join()
    if failure:
        raise failure[0]
    return result[0]
