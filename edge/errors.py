"""Failures of the runtime; their base is ``convert.errors.EdgeError``."""

from __future__ import annotations

from convert.errors import EdgeError


class ModelNotFound(EdgeError):
    """MODEL does not name anything that is there."""


class StoreError(EdgeError):
    """The models folder cannot be read or changed."""


class HubError(EdgeError):
    """A source of model files cannot be reached, refuses, or serves something else."""


class GateError(EdgeError):
    """A converted file failed its check, which the message names."""


class MemoryShort(EdgeError):
    """What was asked for needs more memory than there is."""


class PackError(EdgeError):
    """A box for kiosks cannot be made."""
