"""Who owns what is shown once, whichever gateway reports first."""

from __future__ import annotations

import pytest

from app import live
from app.health.api import gateways

LEASES = (("connection plc", "one"), ("subscription mes", "one"))


def report(name: str, state: str) -> live.GatewayLive:
    """Of one of two gateways."""
    since = "2026-01-01T00:00:00Z"
    leases = tuple(live.LeaseLive(lease, owner, since, 4, mine=owner == name) for lease, owner in LEASES)
    return live.GatewayLive(name, 1, (live.ConnectionLive("plc", state),), leases=leases)


@pytest.mark.parametrize("order", [1, -1])
def test_a_connection_stands_as_its_owner_says(order: int) -> None:
    """Standing by is not being down; each figure has one sample, or Prometheus takes none of them."""
    reports = [report("one", "connected"), report("two", "standby")][::order]
    assert live.by_name(reports)["plc"].state == "connected"
    samples = [sample for metric in gateways(reports) for sample in metric.samples]
    found = {(one.name, *sorted(one.labels.items())): one.value for one in samples}
    assert len(found) == len(samples)
    assert found["headrace_connection_up", ("connection", "plc")] == 1
    held = {key[1][1]: value for key, value in found.items() if key[0] == "headrace_lease_held" and "plc" in str(key)}
    assert held == {"one": 1, "two": 0}
    assert found["headrace_lease_term", ("lease", "connection plc")] == 4
