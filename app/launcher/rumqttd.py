"""Runs the MQTT broker of the wheel `iotcore` in this process: run by its path, never imported."""

from __future__ import annotations

import logging
import signal
import sys

from iotcore import IotCoreBroker


def main() -> None:
    """Serve until SIGTERM."""
    # The broker logs each packet as an error while it works as it should.
    logging.basicConfig(level=logging.WARNING)
    logging.getLogger("rumqttd").setLevel(logging.CRITICAL)
    # It has no way to stop of its own and keeps nothing on disk: the signal's default action ends it.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    IotCoreBroker(config_path=sys.argv[1]).run_forever()


if __name__ == "__main__":
    main()
