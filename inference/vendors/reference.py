"""onnx's own evaluator as a device: for comparing, not for a plant."""

from __future__ import annotations

from inference.adapters.reference import ReferenceBackend


def backend() -> ReferenceBackend:
    """The evaluator that ships with onnx."""
    return ReferenceBackend("reference", "verified-ci")
