"""Clients of Triton as they are, in an environment of their own, against a running box."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.inference.accelerators.conftest import FOLDER

TOP = Path(__file__).parents[3]


@pytest.mark.timeout(900)
@pytest.mark.skipif(not FOLDER.exists(), reason="its environment is made by `make test-accelerators`")
def test_an_unchanged_client_is_answered_right() -> None:
    """Health, metadata, versions, every data type in JSON and binary, errors by their text, asynchronous calls."""
    done = subprocess.run([sys.executable, "-m", "bench.triton_client"], cwd=TOP, check=False, capture_output=True)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
