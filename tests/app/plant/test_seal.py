"""Secrets are sealed under a key that lies outside the database; a lost key costs an apply, and no crash."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from app import settings
from app.access import seal
from app.launcher.stack import SOURCE
from app.selftest.preload import Preload
from app.settings import Settings

OPENS = """
import json, sys
from app.access import seal
print(seal.unseal(json.loads(sys.argv[1])))
try:
    seal.seal("y")
except OSError as error:
    print(error.errno)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Iterator[Path]:
    """A data folder of its own, without a key."""
    before = settings.settings()
    settings.use(Settings(data_dir=tmp_path))
    yield tmp_path
    settings.use(before)


def test_what_is_sealed_can_be_opened_and_not_read() -> None:
    """Sealing twice gives two texts, neither of which shows the secret."""
    one, two = seal.seal("密码 hunter2"), seal.seal("密码 hunter2")
    assert one != two
    assert "hunter2" not in str(one)
    assert seal.unseal(one) == seal.unseal(two) == "密码 hunter2"


def test_the_key_is_made_once_and_belongs_to_its_owner_alone(folder: Path) -> None:
    """The file is mode 0600 and stays as it is."""
    sealed = seal.seal("x")
    key = (folder / "secret.key").read_bytes()
    assert stat.S_IMODE((folder / "secret.key").stat().st_mode) == 0o600
    assert list(folder.iterdir()) == [folder / "secret.key"]
    assert seal.unseal(sealed) == "x"
    assert (folder / "secret.key").read_bytes() == key


def test_another_key_opens_nothing(folder: Path) -> None:
    """A secret under a lost key is refused with the way out; options that hold one are not the same as any."""
    options = seal.sealed({"url": "u", "password": "p"}, frozenset({"password"}))
    assert seal.opened(options) == {"url": "u", "password": "p"}
    assert seal.same(options, {"url": "u", "password": "p"})
    settings.use(Settings(data_dir=folder / "other"))
    with pytest.raises(seal.SealError, match=r"secret\.key"):
        seal.opened(options)
    assert not seal.same(options, {"url": "u", "password": "p"})


def test_a_disk_that_fails_hinders_nobody_who_opens(folder: Path, preload: Preload) -> None:
    """Sealing waits for a disk that is well; opening reads."""
    sealed = seal.seal("x")
    preload.tell(sync_fails=True)
    command = [sys.executable, "-P", "-c", OPENS, json.dumps(sealed)]
    environment = {**os.environ, **preload.environment, "HEADRACE_DATA_DIR": str(folder), "PYTHONPATH": str(SOURCE)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["x", "5"]


def test_who_opens_makes_no_key(folder: Path) -> None:
    """What it would not open anyway; and the message says which file is missing."""
    sealed = seal.seal("x")
    settings.use(Settings(data_dir=folder / "other"))
    with pytest.raises(seal.SealError, match=r"other/secret\.key is not there"):
        seal.unseal(sealed)
    assert not (folder / "other").exists()


@pytest.mark.parametrize("value", [{"sealed": "AAAA"}, {"sealed": "no base64!"}, {"sealed": 7}, {}])
def test_what_was_not_sealed_here_is_refused(value: dict[str, object]) -> None:
    """A cut, a forged and a missing text are one error."""
    seal.seal("x")
    with pytest.raises(seal.SealError):
        seal.unseal(value)


def test_a_changed_text_is_refused() -> None:
    """One changed character is noticed."""
    text = seal.seal("secret")["sealed"]
    changed = text[:20] + ("A" if text[20] != "A" else "B") + text[21:]
    with pytest.raises(seal.SealError):
        seal.unseal({"sealed": changed})


def test_a_key_file_that_is_none_is_refused(folder: Path) -> None:
    """A truncated key is never used, and never replaced."""
    (folder / "secret.key").write_bytes(b"short")
    with pytest.raises(seal.SealError, match="backup"):
        seal.seal("x")
    assert (folder / "secret.key").read_bytes() == b"short"


def test_a_configured_key_needs_no_file(folder: Path) -> None:
    """HEADRACE_SECRET_KEY is used instead of a file."""
    settings.use(Settings(data_dir=folder, secret_key=SecretStr("from the vault")))
    assert seal.unseal(seal.seal("x")) == "x"
    assert list(folder.iterdir()) == []
