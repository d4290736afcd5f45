"""OpenAI's types, and pure functions between them and what the engine takes and gives."""
