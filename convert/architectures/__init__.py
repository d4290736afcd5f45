"""The model families that can be converted, one small file each."""

from __future__ import annotations

from convert.architectures.glm4 import GLM4
from convert.architectures.qwen2 import QWEN2

REGISTRY = {name: architecture for architecture in (QWEN2, GLM4) for name in architecture.hf_names}
