"""What a box of the test's own takes from where it runs: nothing that another box was told."""

from __future__ import annotations

import os
import subprocess
import sys

from app import settings
from app.launcher.usage import members
from tests.waiting import wait_until

NAME = "HEADRACE_OF_ANOTHER_BOX"


def test_what_another_box_is_told_reaches_nobody_and_comes_back() -> None:
    """Neither this process nor a child sees it meanwhile; afterwards all is as before."""
    os.environ[NAME] = "precious"
    try:
        with settings.alone(TMPDIR="here"):
            assert NAME not in settings.inherited()
            assert settings.inherited()["TMPDIR"] == "here"
            assert settings.Settings().model_fields_set == set()
            command = [sys.executable, "-c", f"import os; print({NAME!r} in os.environ)"]
            assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() == "False"
        assert settings.inherited()[NAME] == "precious"
        assert settings.inherited().get("TMPDIR") != "here"
    finally:
        del os.environ[NAME]


def test_who_is_killed_is_the_process_with_all_that_descends_from_it() -> None:
    """A child in a session of its own, as PostgreSQL's are, is one of them; a stranger is not."""
    inner = "import sys; print('ready', flush=True); sys.stdin.read()"
    outer = (
        "import subprocess, sys; "
        f"subprocess.run([sys.executable, '-c', {inner!r}], start_new_session=True, stdin=sys.stdin)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", outer], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        found = members(process.pid)
        assert process.pid in found
        assert len(found) == 2
        assert os.getpid() not in found
        assert process.stdin is not None
        process.stdin.close()
    wait_until(lambda: members(process.pid) == set())
