"""Bugs put in on purpose, one into each hop: the acceptance test has to be red for every one that it can see.

`python -m tests.chaos.bugs [NAME …]` applies each patch of `bugs/` to a temporary copy, runs the faults that it needs
there, and says what came of it. 1 when a bug was not seen.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PATCHES: Final = Path(__file__).parent / "bugs"
WITHIN_S: Final = 900
SECONDS: Final = 60


@dataclass(frozen=True, slots=True)
class Bug:
    """One patch and what shows it."""

    name: str
    faults: tuple[str, ...]
    """That it needs to be seen; none: it is seen without any."""
    seed: int = 1


BUGS: Final = (
    Bug("acknowledged-before-it-is-durable", ("gateway_killed_when_full",)),
    Bug("segments-that-leave-before-they-are-applied", ("worker_stopped", "gateway_killed")),
    Bug("what-the-queue-lost-is-not-sent-again", ("redis_killed", "redis_flushed")),
    Bug("batches-without-an-id", ("worker_stopped",)),
    Bug("what-comes-again-is-stored-again", ("broker_line_silent", "gateway_killed")),
    Bug("a-gap-that-is-not-stored", ("server_killed",)),
    Bug("an-answer-without-its-row-in-the-outbox", ()),
    Bug("an-answer-marked-as-sent-before-it-is", ("broker_line_silent", "broker_line_cut")),
    # A kill takes nothing from the operating system's cache: a power cut does.
    Bug("sqlite-that-does-not-wait-for-the-disk", ("power_cut",)),
    Bug("acknowledged-before-the-disk-has-it", ("power_cut",)),
    Bug("a-segment-whose-name-is-not-on-the-disk", ("power_cut",)),
)


def copied(folder: Path) -> None:
    """What is in the repository, as it is now."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
    for name in listed.decode().split("\0"):
        source = ROOT / name
        if name and source.is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(source.read_bytes())


def applied(bug: Bug, folder: Path) -> None:
    """CalledProcessError when the patch does not fit any more: renew it."""
    subprocess.run(["git", "apply", str(PATCHES / f"{bug.name}.patch")], cwd=folder, check=True)


def red(bug: Bug, folder: Path) -> tuple[bool, str]:
    """Whether the acceptance test fails there, and what it says."""
    only = [word for fault in bug.faults for word in ("--only", fault)]
    plug = ["--plug"] if bug.faults else []
    words = ["selftest", *plug, "--for", str(SECONDS), "--seed", str(bug.seed), *only]
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", "--lang", "en", *words],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "200"}, check=False,
        capture_output=True, text=True, timeout=WITHIN_S,
    )  # fmt: skip
    return done.returncode != 0 and "FAILED" in done.stderr + done.stdout, done.stdout + done.stderr


def main() -> int:
    """Try all, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--verbose", action="store_true", help="print what each run has said")
    given = parser.parse_args()
    wrong = []
    for bug in BUGS:
        if given.names and bug.name not in given.names:
            continue
        with tempfile.TemporaryDirectory(prefix="headrace-bug-") as name:
            copied(Path(name))
            applied(bug, Path(name))
            found, said = red(bug, Path(name))
        wrong += [] if found else [bug.name]
        sys.stdout.write(f"{bug.name:48} {'red' if found else 'green: NOT SEEN'}\n")
        if given.verbose or not found:
            sys.stdout.write(said + "\n")
        sys.stdout.flush()
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
