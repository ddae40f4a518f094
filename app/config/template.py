"""The annotated plant.yaml that `headrace init` writes."""

from __future__ import annotations

from importlib.resources import files


def text() -> str:
    """The template: it passes `headrace check` once its model path names a model."""
    return files("app.config").joinpath("template.yaml").read_text(encoding="utf-8")
