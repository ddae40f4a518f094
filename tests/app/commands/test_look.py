"""`headrace try`: a foreign plant is looked at by the real command, over the real protocols."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from app.launcher.ports import Port
from app.launcher.servers import Broker
from connectors import ConnectionConfig, NodeValue, Publication
from connectors.mqtt.sink import MqttSink
from connectors.opcua.server import OpcUaSink
from tests.app.commands.process import headrace


async def test_an_opcua_server_is_looked_at(tmp_path: Path) -> None:
    """Tags with type, value and quality, the clock's offset and the load; nothing is saved."""
    with Port() as held:
        options = {"endpoint": f"opc.tcp://127.0.0.1:{held.number}/x", "security": ["None"], "anonymous": True}
        sink = OpcUaSink(ConnectionConfig("plant", options, (), 1, str(tmp_path / "server")))
        await sink.connect()
        try:
            node = NodeValue("Press/force", 12.5, 0, time.time_ns(), unit="kN")
            await sink.publish([Publication("1", "k", "t", b"", "application/json", (node,))])
            data = tmp_path / "data"
            common = ("--data", str(data), "--lang", "en", "try", str(options["endpoint"]), "--seconds", "1")
            code, printed, complained = await headrace(*common, "--json")
            assert code == 0, complained
            found: dict[str, Any] = json.loads(printed)
            (force,) = (one for one in found["found"] if one["address"].endswith("s=Press/force"))
            assert (force["value"], force["status"]) == ("12.5", 0)
            assert abs(found["clock_offset_ns"]) < 5e9
            assert found["requests"] > 0
            code, printed, complained = await headrace(*common)
            assert code == 0, complained
            for part in ("force", "Good", "Clock offset", "Load caused", "read-only"):
                assert part in printed
            assert not data.exists()
        finally:
            await sink.close()


async def test_a_broker_is_looked_at_with_a_password_from_a_file(broker: Broker, tmp_path: Path) -> None:
    """Topics with their values; the password never stands on the command line."""
    options = {"url": f"mqtt://{broker.host}:{broker.port}", "username": broker.user, "password": broker.password}
    sink = MqttSink(ConnectionConfig("plant", options, (), 1, str(tmp_path)))
    await sink.connect()
    try:
        body = b'{"force": 12.5, "ok": true}'
        await sink.publish([Publication("1", "k", "try/press", body, "application/json", retain=True)])
        secret = tmp_path / "password"
        secret.write_text(f"{broker.password}\n")
        common = ("try", str(options["url"]), "--seconds", "1", "--user", str(broker.user), "--json")
        code, printed, complained = await headrace(*common, "--password-file", str(secret))
        assert code == 0, complained
        found = {one["address"]: one["value"] for one in json.loads(printed)["found"]}
        assert found["try/press#/force"] == "12.5"
        secret.write_text("wrong")
        code, _, complained = await headrace(*common, "--password-file", str(secret))
        assert (code, "Traceback" in complained) == (1, False)
        await sink.publish([Publication("2", "k", "try/press", b"", "application/json", retain=True)])
    finally:
        await sink.close()


@pytest.mark.parametrize(("url", "code"), [("modbus://192.0.2.1", 2), ("opc.tcp://127.0.0.1:1", 1), ("no url", 2)])
async def test_what_cannot_be_looked_at_is_one_line(url: str, code: int) -> None:
    """An unknown protocol and a server that is not there end with a sentence."""
    status, _, complained = await headrace("--lang", "en", "try", url, "--seconds", "1")
    assert (status, len(complained.strip().splitlines())) == (code, 1), complained
