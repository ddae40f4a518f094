"""Tells whoever started this process that it serves now: systemd, or our own supervisor (sd_notify(3))."""

from __future__ import annotations

import socket

from app.settings import variable


def ready() -> None:
    """Send READY=1 to the socket that NOTIFY_SOCKET names; nothing where none is named."""
    address = variable("NOTIFY_SOCKET")
    if not address:
        return
    # A leading @ stands for the zero byte of Linux's abstract socket names.
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect(address.replace("@", "\0", 1) if address.startswith("@") else address)
        sender.send(b"READY=1\n")
