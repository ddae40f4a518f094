"""Values of readings as JSON can carry them."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np


def plain(value: object) -> Any:  # noqa: ANN401 - any JSON value
    """Bytes as base64, arrays as lists, no NaN."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, np.ndarray):
        return [plain(item) for item in value.tolist()]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value
