"""Read the corpus, and turn it into endlessly varied training texts."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
LANGUAGES = ("en", "zh")

PREFIXES = {
    "en": ("Excuse me, ", "Please, ", "Sorry, ", "Hello, ", "Hi, ", "Can you tell me: ", "A question: "),
    "zh": ("请问", "您好，", "您好，请问", "你好，", "打扰一下，", "不好意思，", "我想问一下，"),
}
SUFFIXES = {"en": (" please", ", please", " Thanks"), "zh": ("呢", "啊", "，谢谢")}
ENDINGS = {"en": ("", "", ".", "?", "!", "??"), "zh": ("", "", "。", "？", "?", "！")}


@dataclass
class Topic:
    """One answer and the ways to ask for it; `held_out` are never trained on."""

    name: str
    language: str
    answer: str = ""
    questions: list[str] = field(default_factory=list)
    held_out: list[str] = field(default_factory=list)


def read_topics(language: str) -> list[Topic]:
    """Parse `qa.LANGUAGE.txt`: `# name`, `> answer`, `- question`, `? held-out question`."""
    path = CORPUS / f"qa.{language}.txt"
    topics: list[Topic] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        mark, _, text = line.partition(" ")
        if mark == "#":
            topics.append(Topic(text, language))
        elif mark == ">":
            topics[-1].answer = text
        elif mark == "-":
            topics[-1].questions.append(text)
        elif mark == "?":
            topics[-1].held_out.append(text)
        elif line:
            raise ValueError(f"{path}:{number}: not a topic, answer or question: {line!r}")
    return topics + sums(language)


def sums(language: str) -> list[Topic]:
    """Additions of two digits, the one topic that is made and not written."""
    answer, *questions = {
        "en": ("{a} plus {b} is {c}.", "What is {a} plus {b}?", "How much is {a} + {b}?"),
        "zh": ("{a}加{b}等于{c}。", "{a}加{b}等于几", "{a}+{b}等于多少"),
    }[language]
    return [
        Topic(
            f"sum {a} {b}",
            language,
            answer.format(a=a, b=b, c=a + b),
            [question.format(a=a, b=b) for question in questions],
        )
        for a in range(1, 10)
        for b in range(1, 10)
    ]


def read_prose(language: str) -> list[str]:
    """Paragraphs of `prose.LANGUAGE.txt`, with their `{this|that}` still to be chosen."""
    text = (CORPUS / f"prose.{language}.txt").read_text(encoding="utf-8")
    return [paragraph.strip() for paragraph in text.splitlines() if paragraph.strip()]


def expand(text: str, rng: random.Random) -> str:
    """Choose one of each `{this|that}`."""
    return re.sub(r"\{([^{}]*)\}", lambda match: rng.choice(match[1].split("|")), text)


def read_systems() -> list[str]:
    """System prompts, in both languages."""
    return (CORPUS / "system.txt").read_text(encoding="utf-8").splitlines()


def vary(question: str, language: str, rng: random.Random) -> str:
    """The question as another visitor would type it: case, punctuation, a polite word."""
    if rng.random() < 0.35:
        return question
    bare = question.rstrip("?？.。!！")
    is_greeting = len(bare) < (12 if language == "en" else 4)
    if not is_greeting and rng.random() < 0.35:
        start = bare if language == "zh" or bare.startswith("I ") else bare[0].lower() + bare[1:]
        bare = rng.choice(PREFIXES[language]) + start
    if not is_greeting and rng.random() < 0.1:
        bare += rng.choice(SUFFIXES[language])
    text = bare + rng.choice(ENDINGS[language])
    return text.lower() if rng.random() < 0.2 else text


def sentences(text: str) -> list[str]:
    """Split prose after `.`, `!`, `?` and their Chinese forms; the marks and spaces stay."""
    return re.findall(r".+?(?:[.!?](?:\s+|$)|[。！？]|$)", text)


@dataclass
class Corpus:
    """All texts of both languages, and the ways to draw from them."""

    topics: list[Topic]
    prose: dict[str, list[str]]
    systems: list[str]

    @classmethod
    def read(cls) -> Corpus:
        topics = [topic for language in LANGUAGES for topic in read_topics(language)]
        return cls(topics, {language: read_prose(language) for language in LANGUAGES}, read_systems())

    def texts(self) -> list[str]:
        """Every trained line once: what the tokenizer is made from."""
        written = [topic for topic in self.topics if not topic.name.startswith("sum ")]
        asked = [text for topic in written for text in (topic.answer, *topic.questions)]
        rng = random.Random(0)
        prose = [expand(text, rng) for language in LANGUAGES for text in self.prose[language] for _ in range(3)]
        return [*asked, *prose, *self.systems]

    def pairs(self, held_out: bool = False) -> list[tuple[str, str]]:
        """Every (question, answer), as written: the trained ones, or the held-out ones."""
        return [
            (question, topic.answer)
            for topic in self.topics
            for question in (topic.held_out if held_out else topic.questions)
        ]

    def conversation(self, rng: random.Random, turns: int) -> list[dict[str, str]]:
        """Chat messages: sometimes a system prompt, then `turns` questions with their answers."""
        messages = []
        if rng.random() < 0.25:
            messages.append({"role": "system", "content": rng.choice(self.systems)})
        language = rng.choice(LANGUAGES)
        for _ in range(turns):
            if rng.random() < 0.1:
                language = rng.choice(LANGUAGES)
            topic = self._topic(language, rng)
            question = vary(rng.choice(topic.questions), language, rng)
            messages.append({"role": "user", "content": question})
            messages.append({"role": "assistant", "content": topic.answer})
        return messages

    def document(self, rng: random.Random, length: int) -> str:
        """Plain prose of about `length` sentences: whole paragraphs, or answers put side by side."""
        language = rng.choice(LANGUAGES)
        parts: list[str] = []
        while len(parts) < length:
            if rng.random() < 0.8:
                paragraph = sentences(expand(rng.choice(self.prose[language]), rng))
                start = rng.randrange(len(paragraph)) if rng.random() < 0.3 else 0
                parts += paragraph[start:]
            else:
                parts += [self._topic(language, rng).answer for _ in range(rng.randint(2, 5))]
            parts[-1] = parts[-1].rstrip() + rng.choice(("\n", "\n\n"))
        return _join(parts[:length], language).rstrip("\n")

    def _topic(self, language: str, rng: random.Random) -> Topic:
        topics = [topic for topic in self.topics if topic.language == language]
        written = [topic for topic in topics if not topic.name.startswith("sum ")]
        return rng.choice(topics if rng.random() < 0.15 else written)


def _join(parts: Sequence[str], language: str) -> str:
    if language == "zh":
        return "".join(parts)
    return "".join(part if part.endswith(("\n", " ")) else part + " " for part in parts)
