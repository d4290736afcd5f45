"""The same questions to several models, levels and servers, side by side."""
