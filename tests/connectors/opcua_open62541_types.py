"""An open62541 server with a node per built-in type and shape, and with the types of OPC 30010 (AutoID): a program.

`python -m tests.connectors.opcua_open62541_types PORT FOLDER` serves until its standard input ends; each line there,
`SEVERITY TEXT`, is an event of its Server object.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from tests.connectors.opcua_values import KINDS, MOMENT, SHAPES, Kind, node_name

URI = "urn:headrace:tests:open62541"
MISSING = frozenset(("StatusCode0",))
"""o6 takes a lone StatusCode for an array."""
NUMBERS = frozenset(
    ("Boolean", "SByte", "Byte", "Int16", "UInt16", "Int32", "UInt32", "Int64", "UInt64", "Float", "Double")
)


def _value(o6: Any, kind: Kind, shape: tuple[int, ...]) -> Any:  # noqa: ANN401 - o6 has no types of its own
    import numpy as np  # noqa: PLC0415

    made = getattr(o6, kind.name)
    items = [_one(made, kind.name, one) for one in kind.sent(shape)]
    if not shape:
        return items[0]
    if kind.name in NUMBERS:
        return np.array(items, dtype=made).reshape(shape)
    if len(shape) == 1:
        return items
    rows = np.empty(len(items), dtype=object)
    rows[:] = items
    return rows.reshape(shape)


def _one(made: Any, name: str, value: Any) -> Any:  # noqa: ANN401
    if name == "QualifiedName":
        return made(f"{value[0]}:{value[1]}")
    if name == "LocalizedText":
        return made(":".join(value))
    return value if name == "Guid" else made(value)


async def _serve(port: int) -> None:
    import o6  # noqa: PLC0415 - it prints when it is imported, and ends the process that has it after ten minutes

    server = o6.Server(port=port, applicationUri=URI)
    # The published specifications have variables with history: the server wants somewhere to put it.
    server.config.setHistoryDatabase(capacity=10)
    objects = server.objectsNode
    for kind in KINDS:
        for shape in SHAPES:
            name = node_name(kind.name, shape)
            if name in MISSING:
                continue
            await server.addVariable(
                name, objects, _value(o6, kind, shape), nodeId=o6.NodeId(f"ns=1;s={name}"),
                dataType=o6.NodeId(getattr(o6, kind.name)),
            )  # fmt: skip
    await _structures(o6, server, objects)
    server.start()
    await server.waitReady()
    print("ready", flush=True)  # noqa: T201 - what the test waits for
    while line := await asyncio.to_thread(sys.stdin.readline):
        severity, _, text = line.strip().partition(" ")
        # o6 wants the locale before the text.
        message = o6.LocalizedText(f"zh-CN:{text}")
        await server.createEvent(o6.NodeId("i=2041"), message=message, severity=int(severity))


async def _structures(o6: Any, server: Any, objects: Any) -> None:  # noqa: ANN401
    """Values of a published companion specification: unions, optional fields, structures in structures."""
    # o6 writes its own numbers of namespaces into the definitions of types: the server's have to be the same.
    for number in range(2, o6.ns.di.index):
        server._add_namespace(f"urn:headrace:tests:filler:{number}", number)  # noqa: SLF001
    server.ns.append(o6.ns.di)
    for number in range(o6.ns.di.index + 1, o6.ns.auto_id.index):
        server._add_namespace(f"urn:headrace:tests:filler:{number}", number)  # noqa: SLF001
    server.ns.append(o6.ns.auto_id)
    types = o6.ns.auto_id.datatypes
    at = o6.DateTime(MOMENT)
    data = types.ScanData()
    data.string = "零件 17"
    sighting = types.RfidSighting(antenna=1, strength=-40, timestamp=at, currentPowerLevel=2)
    scan = types.RfidScanResult(codeType="UID", scanData=data, timestamp=at, sighting=[sighting, sighting])
    held = {
        "Scan": scan,
        "Scans": [scan, scan],
        "Settings": types.ScanSettings(duration=0.5, cycles=3, dataAvailable=True),
        "Status": types.DeviceStatusEnumeration.SCANNING,
        "Range": o6.ns.ns0.datatypes.Range(low=-1.0, high=1.0),
        "Stranger": o6.ExtensionObject("ns=1;i=54321", b"\x01\x02\x03"),
    }
    for name, value in held.items():
        await server.addVariable(name, objects, value, nodeId=o6.NodeId(f"ns=1;s={name}"))


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
