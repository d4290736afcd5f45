"""The families there are checkpoints of, by the name `build` knows them by."""

from __future__ import annotations

from tests.checkpoints.families import chatglm, glm, glm_moe, qwen, qwen_dense, qwen_linear, qwen_moe
from tests.checkpoints.family import Family

FAMILIES: dict[str, Family] = {
    "qwen": qwen.QWEN,
    "qwen-first": qwen.QWEN_FIRST,
    "qwen2": qwen_dense.QWEN2,
    "qwen3": qwen_dense.QWEN3,
    "qwen2moe": qwen_moe.QWEN2MOE,
    "qwen3moe": qwen_moe.QWEN3MOE,
    "qwen3next": qwen_linear.QWEN3NEXT,
    "qwen35": qwen_linear.QWEN35,
    "qwen35-text": qwen_linear.QWEN35_TEXT,
    "qwen35moe": qwen_linear.QWEN35MOE,
    "qwen35moe-text": qwen_linear.QWEN35MOE_TEXT,
    "chatglm3": chatglm.CHATGLM3,
    "chatglm4": chatglm.CHATGLM4,
    "glm": glm.GLM,
    "glm-edge": glm.GLM_EDGE,
    "glm4": glm.GLM4,
    "glm4moe": glm_moe.GLM4MOE,
    "glm4moelite": glm_moe.GLM4MOELITE,
}
