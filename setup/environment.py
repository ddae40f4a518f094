"""Makes `.venv` ready: exact hashed packages, a compiler if there is none, this project; standard library only.

Run by `make`; running it again costs nothing while nothing has changed. Packages come from the index that pip is
configured for; uv, which is much faster, is told the same index, and pip does it all where uv cannot.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TOP: Final = Path(__file__).resolve().parent.parent
PINS: Final = TOP / "constraints.txt"
OLDEST: Final = (3, 11)
BEYOND: Final = (3, 15)
"""onnxruntime has no wheel for it."""
SOURCE_ONLY: Final = frozenset({"tep-studio"})
"""Comes as a source distribution: a C extension that is built here, against what is installed by then."""
USEFUL: Final = {
    "mosquitto": ("mosquitto",),
    "g++": ("g++", "clang++", "c++"),
    "chromium-common": ("/usr/lib/chromium/libvk_swiftshader.so", "/usr/lib/chromium-browser/libvk_swiftshader.so"),
}
"""Debian's package, and programs or files of which one shows that there is no need of it.

Mosquitto keeps sessions over a restart, which the broker of the wheel does not. The simulated accelerator is built by a
C++ compiler. Chromium's software Vulkan runs WebGPU without a GPU.
"""
QUOTED_LINES: Final = 25
PIP_TO_UV: Final = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "cert": "SSL_CERT_FILE",
    "trusted-host": "UV_INSECURE_HOST",
    "proxy": "ALL_PROXY",
}


class SetupError(Exception):
    """A step failed. The message says which and how to mend it."""


@dataclass(frozen=True)
class Venv:
    """The virtual environment that is made ready."""

    folder: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def log(self) -> Path:
        """What the commands said."""
        return self.folder / "setup.log"

    @property
    def stamp(self) -> Path:
        """Holds the digest of what was installed."""
        return self.folder / "setup.stamp"


class Steps:
    """Prints each step with its seconds."""

    def __init__(self, total: int) -> None:
        """`total` steps will come."""
        self._total = total
        self._number = 0

    @contextlib.contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Say what begins, and when it is done."""
        self._number += 1
        began = time.monotonic()
        sys.stdout.write(f"[{self._number}/{self._total}] {what} ")
        sys.stdout.flush()
        try:
            yield
        except BaseException:
            sys.stdout.write("failed\n")
            raise
        sys.stdout.write(f"{time.monotonic() - began:.1f} s\n")


def main() -> int:
    """Exit status 0 when the environment is ready."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("venv", nargs="?", type=Path, default=TOP / ".venv", help="the folder of the environment")
    venv = Venv(parser.parse_args().venv.absolute())
    try:
        make_ready(venv)
    except SetupError as error:
        sys.stderr.write(f"\nThe set-up stopped: {error}\n")
        return 1
    return 0


def make_ready(venv: Venv) -> None:
    """Do what is left to do. Raises SetupError."""
    check_python()
    wanted = digest()
    if venv.stamp.exists() and venv.stamp.read_text() == wanted and venv.python.exists():
        return
    steps = Steps(5)
    with steps.step("virtual environment"):
        make_venv(venv)
    with ThreadPoolExecutor(1) as beside:
        compiler = beside.submit(install_compiler, venv)
        with steps.step("installer"):
            installer = Installer(venv)
        with steps.step("packages (the first time some 250 MB)"):
            installer.install(*(p for name, p in pins().items() if name not in SOURCE_ONLY))
        with steps.step("plant simulator, built from source"):
            build(installer, compiler)
    with steps.step("this project"):
        installer.run("--no-deps", "--no-build-isolation", "--editable", str(TOP))
    venv.stamp.write_text(wanted)


def check_python() -> None:
    """Raise SetupError when this interpreter does not fit."""
    if not OLDEST <= sys.version_info[:2] < BEYOND:
        found = ".".join(map(str, sys.version_info[:3]))
        message = (
            f"Python 3.11 to 3.14 is needed, this is {found} ({sys.executable}). Run: make PYTHON=/path/to/python3.11"
        )
        raise SetupError(message)


def digest() -> str:
    """Of all that decides what is installed."""
    content = b"".join((PINS.read_bytes(), (TOP / "pyproject.toml").read_bytes(), Path(__file__).read_bytes()))
    return hashlib.sha256(content + sys.version.encode() + str(TOP).encode()).hexdigest()


def pins() -> dict[str, str]:
    """Every package of the constraints file: its name, and its lines with hashes, once per marker."""
    found: dict[str, str] = {}
    for block in re.split(r"\n(?=[a-z0-9])", PINS.read_text()):
        if match := re.match(r"([a-z0-9][a-z0-9._-]*)==", block):
            found[match[1]] = found.get(match[1], "") + block.rstrip() + "\n"
    return found


def make_venv(venv: Venv) -> None:
    """Make the environment, or mend one that is half made."""
    same = f"import pip, sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]!r})"
    if venv.python.exists() and works(venv.python, same):
        return
    venv.folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "venv", "--clear", str(venv.folder)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        message = (
            f"no virtual environment could be made:\n{last_lines(done.stdout + done.stderr)}\n"
            f"On Debian and Ubuntu the module is a package of its own: apt-get install python{version}-venv"
        )
        raise SetupError(message)


class Installer:
    """Installs packages into the environment: uv where it can be had, else pip."""

    def __init__(self, venv: Venv) -> None:
        """Gets uv with pip, from a hashed line like every other package."""
        self._venv = venv
        self._environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        self._pip = [str(venv.python), "-m", "pip", "--no-input", "install", "--progress-bar=off"]
        self._command = self._pip
        lines = venv.folder / "setup.in"
        lines.write_text(pins()["uv"])
        try:
            run([*self._pip, "--require-hashes", "-r", str(lines)], self._environment, venv.log)
        except SetupError:
            sys.stdout.write("(without uv: slower) ")
            return
        self._environment |= {"UV_INDEX_STRATEGY": "unsafe-best-match", **as_pip_is_configured(venv, self._environment)}
        self._command = [
            str(venv.folder / "bin" / "uv"),
            "--no-config",
            "pip",
            "install",
            "--quiet",
            "--python",
            str(venv.python),
        ]

    def install(self, *requirements: str, options: tuple[str, ...] = ()) -> None:
        """Install exactly these, by their hashes."""
        lines = self._venv.folder / "setup.in"
        lines.write_text("".join(requirements))
        self.run(*options, "--require-hashes", "-r", str(lines))

    def run(self, *arguments: str) -> None:
        """Run the installer; where uv fails, run pip, which may be configured for something that uv does not know."""
        try:
            run([*self._command, *arguments], self._environment, self._venv.log)
        except SetupError:
            if self._command is self._pip:
                raise
            sys.stdout.write("(again with pip: slower) ")
            sys.stdout.flush()
            self._command = self._pip
            run([*self._command, *arguments], self._environment, self._venv.log)


def as_pip_is_configured(venv: Venv, environment: Mapping[str, str]) -> dict[str, str]:
    """Variables that give uv pip's index, certificate and proxy; a variable of uv's own that is set stays as it is."""
    listed = subprocess.run(
        [str(venv.python), "-m", "pip", "config", "list"], check=False, capture_output=True, text=True, env=environment
    )
    found: dict[str, str] = {"UV_NATIVE_TLS": "1", "UV_SYSTEM_CERTS": "1"}
    # Later lines win: pip lists the environment before the files, although it overrides them.
    for line in sorted(listed.stdout.splitlines(), key=lambda one: one.startswith(":env:")):
        key, _, value = line.partition("=")
        variable = PIP_TO_UV.get(key.rpartition(".")[2])
        if variable and value:
            separator = "," if variable == "UV_FIND_LINKS" else " "
            found[variable] = separator.join(" ".join(shlex.split(value)).replace("\\n", " ").split())
    return {name: value for name, value in found.items() if name not in environment}


def build(installer: Installer, compiler: Future[None]) -> None:
    """Build what has no wheel, with the build tools that are installed and hashed like all the rest."""
    compiler.result()
    requirements = (p for name, p in pins().items() if name in SOURCE_ONLY)
    installer.install(*requirements, options=("--no-deps", "--no-build-isolation"))


def install_compiler(venv: Venv) -> None:
    """Get a C compiler and Python's headers where they are missing and we may; else say what to do.

    Where we may, get what is useful too: see `USEFUL`.
    """
    missing = missing_packages()
    if not missing:
        install_useful(venv)
        return
    install = f"apt-get install -y --no-install-recommends {' '.join(missing)}"
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        message = (
            f"the plant simulator is built from source and needs a C compiler and Python's headers. Run: sudo {install}"
        )
        raise SetupError(message)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        run(["apt-get", "update", "-qq"], environment, venv.log)
        run([*install.split(), "-qq"], environment, venv.log)
    except SetupError as error:
        message = f"a C compiler could not be installed: {error}"
        raise SetupError(message) from error
    install_useful(venv)


def install_useful(venv: Venv) -> None:
    """Install Debian packages that are useful and missing, if we may; without them less can be tried here."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
    missing = [
        package for package, marks in USEFUL.items()
        if not any(shutil.which(mark, path=path) or Path(mark).exists() for mark in marks)
    ]
    if not missing or shutil.which("apt-get") is None or os.geteuid() != 0:
        return
    # In this run level no package starts a server of its own.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    with contextlib.suppress(SetupError):
        run(["apt-get", "update", "-qq"], environment, venv.log)
    for package in missing:
        with contextlib.suppress(SetupError):
            run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", package], environment, venv.log)


def missing_packages() -> list[str]:
    """Debian packages that are needed to build a C extension and are not there."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    libc = compiler and compiles(compiler, "#include <stdio.h>\nint main(void) { return 0; }\n")
    headers = Path(sysconfig.get_paths()["include"], "Python.h").exists()
    needed = {"gcc": compiler, "libc6-dev": libc, f"python{sys.version_info[0]}.{sys.version_info[1]}-dev": headers}
    return [package for package, there in needed.items() if not there]


def compiles(compiler: str, program: str) -> bool:
    """Whether this C program compiles and links."""
    command = [compiler, "-x", "c", "-", "-o", os.devnull]
    return subprocess.run(command, check=False, input=program.encode(), capture_output=True).returncode == 0


def works(python: Path, code: str) -> bool:
    """Whether this interpreter runs this code without an error."""
    return subprocess.run([str(python), "-c", code], check=False, capture_output=True).returncode == 0


def run(command: list[str], environment: Mapping[str, str], log: Path) -> None:
    """Run a command, its output into the log; SetupError quotes the last lines."""
    with log.open("ab") as output:
        output.write(f"$ {shlex.join(command)}\n".encode())
        begun = output.tell()
        output.flush()
        done = subprocess.run(
            command, check=False, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
    if done.returncode != 0:
        with log.open("rb") as said:
            said.seek(begun)
            quoted = last_lines(said.read().decode(errors="replace"))
        message = (
            f"{shlex.join(command[:4])} … ended with {done.returncode}:\n{quoted}\nAll is in {log}. Behind a mirror "
            "or proxy, set PIP_INDEX_URL or HTTPS_PROXY and run make again; it goes on where it stopped."
        )
        raise SetupError(message)


def last_lines(text: str) -> str:
    """The end of a long output, indented."""
    return "\n".join(f"  | {line}" for line in text.splitlines()[-QUOTED_LINES:])


if __name__ == "__main__":
    sys.exit(main())
