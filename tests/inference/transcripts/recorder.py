"""Writes down which calls a toolchain makes. The modules beside are mocks, written by hand after the makers' samples.

They prove the order and the arguments of calls, and that a model's bytes reach what stands for the chip and come back.
They prove nothing of the maker's library, and no chip: what stands for it doubles each number.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def note(name: str, *told: Any) -> None:
    """A call, with what is worth comparing of its arguments."""
    with Path(os.environ["HEADRACE_TRANSCRIPT"]).open("a", encoding="utf-8") as file:
        file.write(json.dumps([name, *told]) + "\n")
