"""A dry run as a device: it answers NaN and is taken only where a pipeline names it."""

from __future__ import annotations

from inference.adapters.null import NullBackend


def backend() -> NullBackend:
    """The device that computes nothing."""
    return NullBackend("null", "verified-ci")
