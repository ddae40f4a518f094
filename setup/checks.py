"""Runs what has to be green: checks side by side, then the tests, whose summary is last; standard library only."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TOP: Final = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Check:
    """A command that says nothing is wrong by ending with 0."""

    name: str
    command: tuple[str, ...]
    mend: str


CHECKS: Final = (
    Check("types", ("mypy",), "the message names file and line; `make types` runs this check alone"),
    Check("lint", ("ruff", "check", "."), "`.venv/bin/ruff check --fix .` mends what it safely can"),
    Check("contracts", ("lint-imports", "--no-cache"), "which room may import what stands in ARCHITECTURE.md"),
    Check("dependencies", ("deptry", "."), "list what is imported in pyproject.toml, then run `make constraints`"),
)
TESTS: Final = ("pytest",)
AT_ONCE: Final = 2


@dataclass(frozen=True)
class Outcome:
    """How a check ended."""

    check: Check
    code: int
    output: str
    seconds: float


def main() -> int:
    """Exit status 0 when all is green."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("venv", type=Path, help="the folder of the environment")
    parser.add_argument("--only", action="append", choices=[c.name for c in CHECKS], help="this check, no tests")
    arguments, for_pytest = parser.parse_known_args()
    programs = arguments.venv.absolute() / "bin"
    chosen = [c for c in CHECKS if arguments.only is None or c.name in arguments.only]
    failed = [outcome.check.name for outcome in checked(chosen, programs) if outcome.code != 0]
    if arguments.only is not None:
        return 1 if failed else 0
    code = tested(programs, for_pytest)
    if failed:
        sys.stdout.write(f"The tests ended with {code}; these checks, above, did not pass: {', '.join(failed)}\n")
    return code or (1 if failed else 0)


def checked(checks: Sequence[Check], programs: Path) -> list[Outcome]:
    """Run the checks, print each as it is done."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        outcomes = [pool.submit(outcome_of, check, programs) for check in checks]
        return [told(outcome.result()) for outcome in outcomes]


def outcome_of(check: Check, programs: Path) -> Outcome:
    """Run one check, its output held back so that two do not mix."""
    began = time.monotonic()
    done = subprocess.run(
        [programs / check.command[0], *check.command[1:]],
        check=False,
        cwd=TOP,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return Outcome(check, done.returncode, done.stdout, time.monotonic() - began)


def told(outcome: Outcome) -> Outcome:
    """Print one line, and what it said when it failed."""
    verdict = "ok" if outcome.code == 0 else "FAILED"
    sys.stdout.write(f"{outcome.check.name:<14}{verdict:<8}{outcome.seconds:5.1f} s\n")
    if outcome.code != 0:
        sys.stdout.write(f"{outcome.output}\n  To mend it: {outcome.check.mend}.\n")
    sys.stdout.flush()
    return outcome


def tested(programs: Path, arguments: Sequence[str]) -> int:
    """Run the tests; pytest's exit status."""
    done = subprocess.run([programs / TESTS[0], *TESTS[1:], *arguments], check=False, cwd=TOP, stdin=subprocess.DEVNULL)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
