"""Continuous batching: tokens in, tokens out. One thread owns the context; each step is plan, run, deliver."""
