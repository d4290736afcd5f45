"""A plan in plain words, Chinese or English: which level to take, and why. Pure."""

from __future__ import annotations

import locale
import os
from collections.abc import Mapping, Sequence

from convert.levels import LEVELS
from edge.plan.levels import LevelPlan
from edge.text import size_text

READING = 8.0  # tokens/s: about as fast as people read
ABOUT_AS_QUICK = 0.8
ORDER = list(LEVELS)

TEXTS = {
    "en": {
        "take": "Take {level}: it needs {memory} of memory, writes about {decode} tokens/s ({pace}) and begins to "
        "answer a question of {question} tokens after about {first}.",
        "as_fast": "as fast as one reads, or faster",
        "slower": "slower than one reads",
        "tight": "Memory is tight: close other programs before.",
        "finer": "{level} is finer, but {why}.",
        "finer_slow": "writes only {decode} tokens/s",
        "finer_big": "does not fit into memory",
        "finer_tight": "memory would be tight",
        "none": "None of these fits into the memory of this machine: {memory} are free, the smallest needs "
        "{needed}. Take a smaller model.",
        "disk": "The disk is too full: {needed} are needed, {free} are free.",
        "next": "Next: {command}",
    },
    "zh": {
        "take": "建议选择 {level}：需要 {memory} 内存，每秒约生成 {decode} 个 token（{pace}），"
        "{question} 个 token 的问题约 {first} 后开始回答。",
        "as_fast": "不慢于阅读速度",
        "slower": "慢于阅读速度",
        "tight": "内存比较紧张：请先关闭其他程序。",
        "finer": "{level} 精度更高，但{why}。",
        "finer_slow": "每秒只能生成 {decode} 个 token",
        "finer_big": "内存放不下",
        "finer_tight": "内存会比较紧张",
        "none": "这台机器的内存放不下以上任何一个量化级别：空闲 {memory}，最小的也需要 {needed}。请换一个更小的模型。",
        "disk": "磁盘空间不足：需要 {needed}，只剩 {free}。",
        "next": "下一步：{command}",
    },
}


def locale_language(environment: Mapping[str, str] = os.environ) -> str:
    """``zh`` where the system speaks Chinese, else ``en``. Windows has no such variables, and names in words."""
    names = ("LC_ALL", "LC_MESSAGES", "LANG")
    said = next(filter(None, map(environment.get, names)), None) or locale.getlocale()[0] or ""
    return "zh" if said.lower().startswith(("zh", "chinese")) else "en"


def recommended(plans: Sequence[LevelPlan]) -> LevelPlan | None:
    """The finest level that fits and writes as fast as people read; else the finest of those that fit and are about as
    quick as the quickest. What is only tight is taken where nothing fits; None where nothing does. A level that is not
    quantized gives way: Q8_0 answers the same."""
    for verdict in ("fits", "tight"):
        fitting = [plan for plan in plans if plan.verdict == verdict]
        fitting = [plan for plan in fitting if not is_float(plan)] or fitting
        if fitting:
            enough = min(READING, ABOUT_AS_QUICK * max(plan.decode for plan in fitting))
            return min((plan for plan in fitting if plan.decode >= enough), key=fineness)
    return None


def is_float(plan: LevelPlan) -> bool:
    return plan.level in LEVELS and LEVELS[plan.level].is_float


def fineness(plan: LevelPlan) -> int:
    """The finest level is 0; one without a known name comes last."""
    return ORDER.index(plan.level) if plan.level in ORDER else len(ORDER)


def advice(
    plans: Sequence[LevelPlan], available: int, disk: int | None, command: str, language: str, question: int
) -> list[str]:
    """Sentences for the person who asked. ``available`` and ``disk``: free bytes; ``command``: what gets the model,
    with ``{level}`` in it; ``question``: tokens of the one that ``first_token`` is about."""
    say = TEXTS[language]
    chosen = recommended(plans)
    if chosen is None:
        needed = min(plan.memory for plan in plans)
        return [say["none"].format(memory=size_text(available), needed=size_text(needed))]
    found = [
        say["take"].format(
            level=chosen.level,
            memory=size_text(chosen.memory),
            decode=rate_text(chosen.decode),
            pace=say["as_fast" if chosen.decode >= READING else "slower"],
            first=seconds_text(chosen.first_token),
            question=question,
        )
    ]
    if chosen.verdict == "tight":
        found.append(say["tight"])
    finer = [plan for plan in plans if fineness(plan) < fineness(chosen) and not is_float(plan)]
    if finer:
        next_finer = max(finer, key=fineness)
        found.append(say["finer"].format(level=next_finer.level, why=why_not(next_finer, chosen, say)))
    if chosen.disk_is_short:
        found.append(say["disk"].format(needed=size_text(chosen.disk), free=size_text(disk or 0)))
    elif command and not chosen.here:
        found.append(say["next"].format(command=command.replace("{level}", chosen.level)))
    return found


def why_not(plan: LevelPlan, chosen: LevelPlan, say: Mapping[str, str]) -> str:
    if plan.verdict != chosen.verdict:
        return say["finer_tight" if plan.verdict == "tight" else "finer_big"]
    return say["finer_slow"].format(decode=rate_text(plan.decode))


def rate_text(rate: float) -> str:
    return f"{rate:.1f}" if rate < 10 else f"{rate:.0f}"


def seconds_text(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
