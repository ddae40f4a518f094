"""An OPC UA server of another make (open62541, through `o6`) as a program of its own: `o6` ends its process in time.

`python -m tests.connectors.opcua_open62541 PORT FOLDER` serves until its standard input ends. `FOLDER` holds the
server's certificate, `clients/` with those it trusts, and `users/` with those of users who may log in.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from app.launcher.ports import Port
from connectors.opcua.own import Own
from tests.connectors.opcua_plant import PASSWORD

URI = "urn:headrace:tests:open62541"
WITHIN_S = 30


@dataclass(frozen=True)
class Other:
    """The running server."""

    url: str
    certificate: Path
    say: Callable[[str], None] = lambda _: None
    """A line to the program, for one that listens."""


@asynccontextmanager
async def open62541(folder: Path, module: str = "tests.connectors.opcua_open62541") -> AsyncIterator[Other]:
    """The server as long as this context; what is in `clients/` and `users/` now is trusted.

    `module`: another program that serves with the same arguments.
    """
    mine = Own(folder, URI, "open62541").use()
    with Port() as port:  # held until the server ends: else whoever asks for any port may be given it first
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", module, str(port.number), str(folder),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        assert process.stdout is not None
        try:
            async with asyncio.timeout(WITHIN_S):
                while await process.stdout.readline() != b"ready\n":
                    assert not process.stdout.at_eof(), "open62541 did not start"
            assert process.stdin is not None
            talk = process.stdin
            url = f"opc.tcp://127.0.0.1:{port.number}"
            yield Other(url, mine.certificate, lambda line: talk.write(f"{line}\n".encode()))
        finally:
            if process.stdin is not None:
                process.stdin.close()
            try:
                await asyncio.wait_for(process.wait(), WITHIN_S)
            except TimeoutError:
                process.kill()
                await process.wait()


async def _serve(port: int, folder: Path) -> None:
    import o6  # noqa: PLC0415 - it prints when it is imported, and ends the process that has it after ten minutes
    from o6.ns import ns0  # noqa: PLC0415

    users = {file.read_bytes() for file in folder.glob("users/*.der")}

    class Access(o6.AccessControl):  # type: ignore[misc]
        """`operator` with the right password, users by certificate, and anyone."""

        def __init__(self) -> None:
            super().__init__(anonymous=True, username=True)
            kind = ns0.datatypes.UserTokenType.CERTIFICATE
            self.user_token_policies.append(ns0.datatypes.UserTokenPolicy(policyId="certificate", tokenType=kind))

        def activateSession(self, endpoint: object, certificate: bytes, session: object, token: object) -> None:  # noqa: N802
            """Raises what the client is answered."""
            del endpoint, certificate, session
            name = getattr(token, "userName", None)
            if name is not None:
                good = (str(name), bytes(getattr(token, "password", b""))) == ("operator", PASSWORD.encode())
            else:
                shown = getattr(token, "certificateData", None)
                good = shown is None or bytes(shown) in users
            if not good:
                raise o6.StatusCodeError(o6.StatusCode.BAD_USER_ACCESS_DENIED)

    mine = Own(folder, URI, "open62541").use()
    server = o6.Server(
        port=port,
        certificate=mine.certificate,
        privateKey=mine.key,
        # It holds users against the same list before it asks who they are.
        trustList=sorted([*folder.glob("clients/*.der"), *folder.glob("users/*.der")]),
        applicationUri=URI,
        accessControl=Access(),
    )
    server.addVariable("Level", server.objectsNode, o6.Double(1.5), nodeId=o6.NodeId("ns=1;s=Level"), writable=False)
    server.start()
    await server.waitReady()
    print("ready", flush=True)  # noqa: T201 - what the test waits for
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), Path(sys.argv[2])))
