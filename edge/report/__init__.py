"""A result of ``edge bench`` as people and scripts read it: tables, charts, a page, what changed. Pure."""
