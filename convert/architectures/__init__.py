"""The model families that can be converted, one small file each."""

from __future__ import annotations

from convert.architectures.chatglm import CHATGLM
from convert.architectures.glm import GLM
from convert.architectures.glm4 import GLM4
from convert.architectures.glm4_moe import GLM4_MOE
from convert.architectures.glm4_moe_lite import GLM4_MOE_LITE
from convert.architectures.qwen import QWEN
from convert.architectures.qwen2 import QWEN2
from convert.architectures.qwen2_moe import QWEN2_MOE
from convert.architectures.qwen3 import QWEN3
from convert.architectures.qwen3_5 import QWEN3_5
from convert.architectures.qwen3_5_moe import QWEN3_5_MOE
from convert.architectures.qwen3_moe import QWEN3_MOE
from convert.architectures.qwen3_next import QWEN3_NEXT

FAMILIES = (
    QWEN,
    QWEN2,
    QWEN2_MOE,
    QWEN3,
    QWEN3_MOE,
    QWEN3_NEXT,
    QWEN3_5,
    QWEN3_5_MOE,
    CHATGLM,
    GLM,
    GLM4,
    GLM4_MOE,
    GLM4_MOE_LITE,
)
REGISTRY = {name: architecture for architecture in FAMILIES for name in architecture.hf_names}
