"""Engines in which makers' modules are mocks, and what those were called with."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path
from typing import Any, Final

from inference.adapters.remote import Engine, Place

TRANSCRIPTS: Final = Path(__file__).with_name("transcripts")
_ATC: Final = """\
#!{python}
import sys
sys.path.insert(0, {transcripts!r})
from recorder import note
told = dict(one.lstrip("-").split("=", 1) for one in sys.argv[1:])
note("atc", *(f"{{name}}={{told[name]}}" for name in sorted(told) if name not in ("model", "output")))
if told["soc_version"] == "none":
    sys.exit(3)
open(told["output"] + ".om", "w").write("om")
"""


class Mocked:
    """One engine, with this interpreter and the mocks of `transcripts/`."""

    def __init__(self, folder: Path, open_s: float = 60.0, **environment: str) -> None:
        """`environment`: what the mocks are told."""
        self._file = folder / "transcript.jsonl"
        programs = folder / "programs"
        programs.mkdir()
        atc = programs / "atc"
        atc.write_text(_ATC.format(python=sys.executable, transcripts=str(TRANSCRIPTS)), encoding="utf-8")
        atc.chmod(atc.stat().st_mode | stat.S_IXUSR)
        self.engine = Engine(Place(
            Path(sys.executable), open_s=open_s,
            environment={
                "PYTHONPATH": str(TRANSCRIPTS), "HEADRACE_TRANSCRIPT": str(self._file),
                "PATH": f"{programs}:{os.environ['PATH']}", **environment,
            },
        ))  # fmt: skip

    def calls(self) -> list[list[Any]]:
        """Each call, with what was noted of its arguments."""
        return [json.loads(line) for line in self._file.read_text(encoding="utf-8").splitlines()]

    def names(self) -> list[str]:
        """What was called, in order."""
        return [one[0] for one in self.calls()]
