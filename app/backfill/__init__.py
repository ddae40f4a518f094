"""Gaps that are filled from a peer's history, and the windows that are computed again for it."""
