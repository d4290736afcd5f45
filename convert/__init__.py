"""safetensors checkpoints in, GGUF files out, in one pass and without torch."""
