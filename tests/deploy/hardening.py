"""What every service of a compose file has to keep, and every unit of systemd."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

OURS: Final = ("headrace:", "headrace-demo:")
NEEDED_TO_STEP_DOWN: Final = frozenset(("CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"))
"""Of images that start as root, take over their volume and go on as a user of their own."""
ONE_SHOT: Final = "no"
SECRET_WORDS: Final = ("PASSWORD", "SECRET", "TOKEN", "KEY", "DATABASE_URL", "REDIS_URL")
UNIT: Final = {
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "User": "headrace",
    "CapabilityBoundingSet": "",
    "UMask": "0077",
}


def broken(compose: dict[str, Any]) -> Iterator[str]:
    """Every way in which the services are less closed than they can be."""
    for name, service in compose["services"].items():
        for what in (*_privileges(service), *_secrets(service), *_exposure(service), *_health(service)):
            yield f"{name}: {what}"


def _privileges(service: dict[str, Any]) -> Iterator[str]:
    if not service.get("read_only"):
        yield "its root file system can be written"
    if service.get("cap_drop") != ["ALL"]:
        yield "it keeps capabilities"
    added = set(service.get("cap_add", ()))
    if added - NEEDED_TO_STEP_DOWN or (added and service["image"].startswith(OURS)):
        yield f"it is given {sorted(added)}"
    if "no-new-privileges:true" not in service.get("security_opt", ()):
        yield "it may gain privileges"
    if service.get("privileged") or service.get("network_mode") == "host" or service.get("pid") == "host":
        yield "it is part of the host"


def _secrets(service: dict[str, Any]) -> Iterator[str]:
    for variable in service.get("environment", {}):
        if any(word in variable for word in SECRET_WORDS) and not variable.endswith("_FILE"):
            yield f"{variable} stands in the environment"


def _exposure(service: dict[str, Any]) -> Iterator[str]:
    for port in service.get("ports", ()):
        if "127.0.0.1:" not in str(port):
            yield f"port {port} is open to the network"


def _health(service: dict[str, Any]) -> Iterator[str]:
    if (
        service.get("restart") != ONE_SHOT
        and not service.get("healthcheck")
        and "demo" not in service.get("profiles", ())
    ):
        yield "nobody checks its health"


def unit_broken(text: str) -> Iterator[str]:
    """Every way in which a unit of systemd is less closed than it can be."""
    stated = dict(line.partition("=")[::2] for line in text.splitlines() if "=" in line)
    for name, value in UNIT.items():
        if stated.get(name) != value:
            yield f"{name} is {stated.get(name)!r}, not {value!r}"
