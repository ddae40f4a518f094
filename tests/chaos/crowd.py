"""Several processes and threads that change files in every way there is, some of them the same files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

TIMES = 60


def append(path: Path, mark: bytes) -> None:
    """Lines of one length, each at the end of a file that others append to."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for number in range(TIMES):
        os.write(file, mark * 7 + b"%03d\n" % number)
    os.close(file)


def change(folder: Path) -> None:
    """Every call that changes a file or a name."""
    one = folder / "one"
    file = os.open(one, os.O_RDWR | os.O_CREAT, 0o600)
    os.writev(file, [b"a" * 700, b"b" * 900])
    os.pwritev(file, [b"c" * 300, b"d" * 300], 1400)
    os.pwrite(file, b"e" * 100, 5000)
    os.ftruncate(file, 4096)
    os.posix_fallocate(file, 0, 9000)
    os.lseek(file, 10, os.SEEK_SET)
    os.write(file, b"f")
    os.fsync(file)
    os.truncate(one, 8000)
    (folder / "sub" / "deep").mkdir(parents=True)
    shutil.copyfile(one, folder / "sub" / "copy")
    with (folder / "sub" / "sent").open("wb") as sent:
        sent.write(b"before")
    (folder / "sub" / "sent").open("wb").close()
    os.link(one, folder / "sub" / "deep" / "linked")
    os.write(file, b"through the other name")
    os.close(file)
    (folder / "sub" / "copy").rename(folder / "sub" / "deep" / "moved")
    sized = os.open(folder / "sized", os.O_RDWR | os.O_CREAT, 0o600)
    os.write(sized, b"g" * 5000)
    os.ftruncate(sized, 3000)
    os.posix_fallocate(sized, 0, 7000)
    os.close(sized)
    (folder / "sub").rename(folder / "other")
    shutil.copytree(folder / "other", folder / "tree")
    shutil.rmtree(folder / "other" / "deep")
    # A name that was free again, and what lies under it now.
    one.unlink()
    one.write_bytes(b"another one")
    there = os.open(folder, os.O_RDONLY)
    descriptor = os.open("at", os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=there)
    os.write(descriptor, b"at")
    os.close(descriptor)
    os.rename("at", "tree/at", src_dir_fd=there, dst_dir_fd=there)
    os.close(there)


def main(folder: Path) -> None:
    """All at once."""
    folder.joinpath("mine").mkdir()
    command = [sys.executable, "-c", f"from tests.chaos.crowd import *; append(Path({str(folder)!r}) / 'all', b'P')"]
    with subprocess.Popen(command, close_fds=True), subprocess.Popen(command):
        child = os.fork()
        if child == 0:
            append(folder / "all", b"F")
            os._exit(0)
        threads = [threading.Thread(target=append, args=(folder / "all", mark)) for mark in (b"A", b"B")]
        for thread in threads:
            thread.start()
        change(folder / "mine")
        for thread in threads:
            thread.join()
        os.waitpid(child, 0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
