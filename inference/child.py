"""A child process with limits, in which foreign models are opened; a crash there is a refusal here."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from inference import InvalidModelError
from inference.limits import MIB, Limits

_ROOT: Final = Path(__file__).resolve().parent.parent
REPORT: Final = "report.json"
"""What the child leaves in its work folder."""
_REPORT_BYTES: Final = 16 * MIB


def run(module: str, request: bytes, work: Path, limits: Limits, doing: str) -> bytes:
    """Run `python -m module` with the request on stdin; its report. `doing` begins the sentences on what went wrong.

    Raises InvalidModelError where the child took too long or too much, crashed, or left no report.
    """
    with tempfile.TemporaryFile() as errors:
        try:
            # A bare environment: nothing of ours leaks to the child, and its numpy starts no threads.
            done = subprocess.run(  # noqa: S603 - our own interpreter and module; what is foreign travels on stdin
                [sys.executable, "-s", "-E", "-m", module], cwd=_ROOT, check=False, input=request,
                stdout=subprocess.DEVNULL, stderr=errors, timeout=limits.wall_s,
                env={"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            )
        except subprocess.TimeoutExpired as error:
            message = f"{doing} took longer than {limits.wall_s:g} s: simplify it or raise the limit"
            raise InvalidModelError(message) from error
        if done.returncode:
            errors.seek(0)
            raise InvalidModelError(_death(done.returncode, errors.read(100_000), limits, doing))
    return _report(work / REPORT)


def _death(code: int, errors: bytes, limits: Limits, doing: str) -> str:
    if -code in (signal.SIGXCPU, signal.SIGKILL):
        return f"{doing} took more than {limits.cpu_s} s of CPU or too much memory: simplify it"
    lines = errors.decode("utf-8", "replace").strip().splitlines()
    cause = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit {code}"
    return f"{doing} crashed the process that checks it ({cause}): {lines[-1][:300] if lines else 'silent'}"


def _report(path: Path) -> bytes:
    if not path.is_file() or path.stat().st_size > _REPORT_BYTES:
        message = "the process that checks models gave no usable report: try again, then check disk space"
        raise InvalidModelError(message)
    report = path.read_bytes()
    path.unlink()
    return report


def confine(limits: Limits) -> None:
    """Give up what opening a model does not need: CPU, memory, file size, core dumps. Never gained back."""
    for kind, most in (
        (resource.RLIMIT_CPU, limits.cpu_s), (resource.RLIMIT_AS, limits.memory_bytes), (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, max(limits.package_bytes, _REPORT_BYTES)), (resource.RLIMIT_NOFILE, 256),
    ):
        _, hard = resource.getrlimit(kind)
        bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (bound, bound))
