"""What tuning found, in words."""

from __future__ import annotations

from edge.bench.tune import QUESTIONS
from edge.tuned import NO_LIMIT, Tuned
from edge.tuned_text import explain

TUNED = Tuned(
    threads=4,
    threads_batch=8,
    flash_attn=True,
    rows=256,
    width=16,
    measured={
        "decode threads": {"1": 10.54, "4": 30.25},
        "prefill threads": {"8": 100.0},
        "flash attention": {"off": 50.0, "on": 60.0},
        "batch size": {},
    },
)


def test_a_line_for_each_setting_with_what_decided() -> None:
    assert explain(TUNED) == [
        "decode threads  4     of 1: 10.5, 4: 30.2 tokens/s",
        "prefill threads 8     of 8: 100.0 tokens/s",
        "flash attention on    of off: 50.0, on: 60.0 tokens/s",
        "batch size      256   the default, too slow to try",
        "decode width    16    the default, too slow to try",
    ]


def test_off_and_integers() -> None:
    lines = explain(Tuned(1, 1, False, 512, 1, measured={"decode width": {"1": 20}}))
    assert lines[2].split()[:3] == ["flash", "attention", "off"]
    assert lines[4] == "decode width    1     of 1: 20.0 tokens/s"


def test_a_width_without_a_limit() -> None:
    assert explain(Tuned(1, 1, False, 512, NO_LIMIT))[4] == "decode width    all   the default, too slow to try"


def test_each_question_of_tuning_is_explained() -> None:
    """By its own name, under which its rates are kept."""
    measured = {question: {"x": 1.0} for question in QUESTIONS}
    lines = explain(Tuned(1, 1, False, 512, 1, measured=measured))
    assert len(lines) == len(QUESTIONS) and all("x: 1.0" in line for line in lines)
