"""`headrace listen`: a real broker is listened to by the real command; what it proposes makes a good plant file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.config.document import read
from app.config.tag_import import tags_of
from app.launcher.servers import Broker
from tests.app.commands.conftest import Run
from tests.app.commands.process import headrace
from tests.connectors.mqtt_publisher import publish

PLANT = """\
version: 1
connections:
  - {name: mq, connector: mqtt, options: {url: "mqtt://127.0.0.1:1883"}}
"""
RETAINED = {
    "listen/a": b'{"temp": {"value": 23.5, "unit": "\xc2\xb0C"}}',
    "listen/b": b"23,5",
    "listen/c": bytes(range(64)),
}


@pytest.fixture
async def spoken(broker: Broker, tmp_path: Path) -> tuple[str, ...]:
    """A broker that has something to say, and the words to reach it."""
    for topic, payload in RETAINED.items():
        await publish(broker, topic, payload, retain=True)
    secret = tmp_path / "password"
    secret.write_text(f"{broker.password}\n")
    access = ("--user", str(broker.user), "--password-file", str(secret))
    return (f"mqtt://{broker.host}:{broker.port}", "listen/#", "--seconds", "1", *access)


async def test_what_is_proposed_is_taken_over(
    spoken: tuple[str, ...], run: Run, broker: Broker, tmp_path: Path
) -> None:
    """Usable proposals are written as a list, the list is imported, and the file with it passes its check."""
    table, plant = tmp_path / "tags.xlsx", tmp_path / "plant.yaml"
    plant.write_text(PLANT)
    words = ("listen", *spoken, "--propose", str(table), "--connection", "mq")
    code, printed, complained = await headrace("--lang", "en", *words, "--json")
    assert code == 0, complained
    told = {one["address"]: one for one in json.loads(printed)["proposals"]}
    assert {address: one["usable"] for address, one in told.items()} == {
        "listen/a#/temp/value": True,
        "listen/b": True,
        "listen/c": False,
    }
    assert run("tags", "import", plant, table, "--yes").exit_code == 0
    assert run("check", plant).exit_code == 0
    found = tags_of(read(plant))
    assert {name: (one.entry.address, one.entry.unit) for name, one in found.items()} == {
        "temp": ("listen/a#/temp/value", "°C"),
        "b": ("listen/b", ""),
    }
    assert found["b"].entry.options == {"format": "scalar", "decimal_comma": True}
    for topic in RETAINED:
        await publish(broker, topic, b"", retain=True)


async def test_people_get_a_table(spoken: tuple[str, ...], broker: Broker) -> None:
    """Proposals with samples and what they need, in Chinese; binary says that it is."""
    code, printed, complained = await headrace("--lang", "zh-CN", "listen", *spoken)
    assert code == 0, complained
    for part in ("报文格式", "样例", "23.5", "°C", "binary", "listen/b"):
        assert part in printed
    code, printed, complained = await headrace("--lang", "en", "read", spoken[0], "listen/b", *spoken[2:])
    assert (code, "23.5" in printed, "Good" in printed) == (0, True, True), complained
    code, printed, complained = await headrace("--lang", "en", "browse", spoken[0], "listen/", *spoken[2:])
    assert (code, "listen/a" in printed, "scalar" in printed) == (0, True, True), complained
    for topic in RETAINED:
        await publish(broker, topic, b"", retain=True)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("listen", "opc.tcp://127.0.0.1:1"), 2),
        (("listen", "mqtt://127.0.0.1:1", "--seconds", "1"), 1),
        (("listen", "mqtt://user:secret@127.0.0.1:1"), 2),
        (("browse", "mqtt://127.0.0.1:1", "--security", "None"), 2),
    ],
)
async def test_what_cannot_be_listened_to_is_one_line(words: tuple[str, ...], code: int) -> None:
    """No traceback, and no secret in what is said."""
    status, _, complained = await headrace("--lang", "en", *words)
    assert (status, len(complained.strip().splitlines()), "secret" in complained) == (code, 1, False), complained
