"""Runs the MQTT broker of the wheel `iotcore` in this process: run by its path, never imported."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import struct
import sys
import threading
import time
import tomllib
from pathlib import Path
from typing import Any

from iotcore import IotCoreBroker

ASK_EVERY_S = 2.0
ANSWER_S = 2.0
PATIENCE = 3
"""Questions in a row without an answer after which the broker is given up."""


def answers(host: str, port: int, user: str, password: str) -> bool:
    """Whether a client is let in: CONNECT with a clean session, CONNACK, DISCONNECT (MQTT 3.1.1, 3.1, 3.2, 3.14)."""
    texts = [text.encode() for text in (f"watch-{secrets.token_hex(6)}", user, password) if text]
    flags = 0x02 | (0xC0 if user else 0)
    payload = b"".join(struct.pack(">H", len(text)) + text for text in texts)
    body = struct.pack(">H4sBBH", 4, b"MQTT", 4, flags, 10) + payload
    try:
        with socket.create_connection((host, port), ANSWER_S) as client:
            client.sendall(bytes((0x10, len(body))) + body)
            accepted = client.recv(4) == b"\x20\x02\x00\x00"
            client.sendall(b"\xe0\x00")
            return accepted
    except OSError:
        return False


def watch(settings: dict[str, Any]) -> None:
    """End this process when its broker lets nobody in any more: whoever started it starts it again.

    A client that breaks off while it is being let in leaves rumqttd 0.20 with a lock that nobody can take.
    """
    server = settings["v4"]["1"]
    host, _, port = server["listen"].rpartition(":")
    user, password = next(iter(server["connections"].get("auth", {"": ""}).items()))
    silent = 0
    while silent < PATIENCE:
        time.sleep(ASK_EVERY_S)
        silent = 0 if answers(host, int(port), user, password) else silent + 1
    sys.stderr.write("the broker lets nobody in any more: it ends, to be started again\n")
    sys.stderr.flush()
    os._exit(1)


def main() -> None:
    """Serve until SIGTERM."""
    # The broker logs each packet as an error while it works as it should.
    logging.basicConfig(level=logging.WARNING)
    logging.getLogger("rumqttd").setLevel(logging.CRITICAL)
    # It has no way to stop of its own and keeps nothing on disk: the signal's default action ends it.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    settings = tomllib.loads(Path(sys.argv[1]).read_text())
    threading.Thread(target=watch, args=(settings,), daemon=True).start()
    IotCoreBroker(config_path=sys.argv[1]).run_forever()


if __name__ == "__main__":
    main()
