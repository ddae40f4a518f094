"""`headrace endpoints`: what a real server offers, before any log-in."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from app.launcher.ports import Port
from connectors import ConnectionConfig
from connectors.opcua.server import OpcUaSink
from tests.app.commands.process import headrace


async def test_what_a_server_offers(tmp_path: Path) -> None:
    """Servers, policies, modes, log-ins and the certificate to compare; for people, for programs; nothing is kept."""
    with Port() as held:
        url = f"opc.tcp://127.0.0.1:{held.number}/x"
        options = {"endpoint": url, "security": ["Basic256Sha256", "None"], "username": "scada", "password": "p4ss"}
        sink = OpcUaSink(ConnectionConfig("plant", options, (), 1, str(tmp_path / "server")))
        await sink.connect()
        try:
            data = tmp_path / "data"
            common = ("--data", str(data), "--lang", "en", "endpoints", url)
            code, printed, complained = await headrace(*common, "--json")
            assert code == 0, complained
            found: dict[str, Any] = json.loads(printed)
            assert [one["name"] for one in found["applications"]] == ["Headrace"]
            ways = {(one["policy"], one["mode"], *one["tokens"]) for one in found["endpoints"]}
            assert ways == {("Basic256Sha256", "SignAndEncrypt", "username"), ("None", "None", "username")}
            shown = sha256((tmp_path / "server" / "own" / "certificate.der").read_bytes()).hexdigest()
            assert {one["certificate"]["fingerprint"] for one in found["endpoints"]} == {shown}
            assert found["endpoints"][0]["certificate"]["valid_to"].endswith("Z")
            code, printed, complained = await headrace(*common)
            assert code == 0, complained
            for part in ("Basic256Sha256", "SignAndEncrypt", "username", "lets clients in without any security"):
                assert part in printed
            assert printed.count(shown) == 1
            assert not data.exists()
        finally:
            await sink.close()


@pytest.mark.parametrize(
    ("url", "code", "said"),
    [
        ("opc.tcp://127.0.0.1:1", 1, "asking opc.tcp://127.0.0.1:1 for its endpoints"),
        ("opc.tcp://127.0.0.1", 2, "with its port"),
        ("opc.tcp://u:hidden@127.0.0.1:1", 2, "not into the URL"),
        ("mqtt://127.0.0.1:1883", 2, "There is no connector for"),
    ],
)
async def test_what_cannot_be_asked_is_one_line(url: str, code: int, said: str) -> None:
    """Nobody there, no address, a protocol that has no endpoints: a sentence each."""
    status, _, complained = await headrace("--lang", "en", "endpoints", url)
    assert (status, len(complained.strip().splitlines())) == (code, 1), complained
    assert said in complained
    assert code == 2 or "hidden" not in complained
