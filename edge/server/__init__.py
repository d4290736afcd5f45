"""An OpenAI-compatible server for one model, with a chat page."""
