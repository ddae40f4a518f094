"""The passes that fit a model to a chip, one file each: a graph in, another graph out that computes the same.

Each has a function `apply`, which leaves the graph it is given as it is. Whether the new graph really computes the same
is judged in `inference/legalize.py`, after each pass.
"""

from __future__ import annotations

from inference import InferenceError
from inference.chip import Text


class PassError(InferenceError):
    """A pass cannot be applied to this graph, and why. Keep the model from before it."""

    def __init__(self, text: Text) -> None:
        """The reason, in the languages of our users."""
        super().__init__(text.en)
        self.text = text
