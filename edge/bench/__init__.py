"""Measuring models on this machine: speed, quality, settings, and the report about them."""
