"""A quantized runtime for Qwen and GLM on small machines, on llama.cpp."""

__version__ = "0.1.0"
