"""Births, data and deaths of edge nodes: what each tag says, when, and of which quality."""

from __future__ import annotations

import struct

import pytest

from connectors import NO_TIME, Status
from tests.connectors.sparkplug_edge import (
    BOOLEAN,
    BYTES,
    DOUBLE,
    FLOAT,
    INT32,
    STRING,
    TEMPLATE,
    UINT64,
    block,
    metric,
    payload,
)
from tests.connectors.sparkplug_hearing import Hearing, born, died, double, said

BAD = Status.BAD_NO_COMMUNICATION


def test_a_node_by_the_rules() -> None:
    """Birth, data by alias, a device, its death, the node's death: each tag has what was said, and its end."""
    hearing = Hearing("N#a", "N/D#Motor/Speed")
    assert hearing.hear("NBIRTH/N", born(double("a", 1.5, 5, alias=7))) == [(1, 5, 1.5, 0)]
    assert hearing.hear("DBIRTH/N/D", said(double("Motor/Speed", 10.0, 6, alias=8), seq=1)) == [(2, 6, 10.0, 0)]
    assert hearing.hear("NDATA/N", said(double(None, 2.5, 7, alias=7), seq=2)) == [(1, 7, 2.5, 0)]
    assert hearing.hear("DDATA/N/D", said(double(None, 20.0, 8, alias=8), seq=3)) == [(2, 8, 20.0, 0)]
    hearing.now = 1.0
    assert hearing.hear("DDEATH/N/D", said(seq=4, time=900)) == [(2, 900, None, BAD)]
    assert hearing.hear("NDEATH/N", died()) == [(1, 1000, None, BAD)]
    assert (hearing.refused, hearing.last.lost, hearing.asked) == ([], 0, [0.0])


def test_aliases_belong_to_their_device() -> None:
    """A node that gives the same alias to two devices mixes nothing up."""
    hearing = Hearing("N/D#x", "N/E#x")
    hearing.hear("NBIRTH/N", born())
    hearing.hear("DBIRTH/N/D", said(double("x", 1.0, alias=1), seq=1))
    hearing.hear("DBIRTH/N/E", said(double("x", 2.0, alias=1), seq=2))
    assert hearing.hear("DDATA/N/E", said(double(None, 3.0, 1, alias=1), seq=3)) == [(2, 1, 3.0, 0)]


def test_only_one_old_will_is_ignored() -> None:
    """The will of a session before comes after the new birth: the node is alive; its own will ends it."""
    hearing = Hearing("N#a")
    hearing.hear("NBIRTH/N", born(double("a", 1.0), session=8))
    assert hearing.hear("NDEATH/N", died(7)) == []
    assert hearing.acked == [2]
    assert hearing.hear("NDATA/N", said(double("a", 2.0, 1), seq=1)) == [(1, 1, 2.0, 0)]
    assert hearing.hear("NDEATH/N", died(8)) == [(1, 1, None, BAD)]
    assert hearing.hear("NDEATH/N", died(8)) == []


@pytest.mark.parametrize("session", [None, 3])
def test_a_death_in_doubt_is_believed(session: int | None) -> None:
    """A death without a session, or after a birth that told none, ends the node: no dead tag may look alive."""
    hearing = Hearing("N#a")
    hearing.hear("NBIRTH/N", payload(double("a", 1.0), seq=0))
    assert hearing.hear("NDEATH/N", died(session)) == [(1, 0, None, BAD)]


def test_death_is_the_last_word() -> None:
    """The Bad reading is no earlier than the tag's newest: a node whose clock is ahead does not outlive itself."""
    hearing = Hearing("N#a", "N/D#a")
    hearing.hear("NBIRTH/N", born(double("a", 1.0, 60_000)))
    hearing.hear("DBIRTH/N/D", said(double("a", 1.0, 60_000), seq=1))
    assert hearing.hear("DDEATH/N/D", said(seq=2, time=10)) == [(2, 60_000, None, BAD)]
    assert hearing.hear("NDEATH/N", died()) == [(1, 60_000, None, BAD)]


def test_a_death_in_the_future_is_now() -> None:
    """A device's death that lies ahead of our clock, or has no time, happens when it is heard."""
    hearing = Hearing("N/D#a")
    for sequence, content in ((1, said(seq=2, time=10**9)), (1, payload(seq=2))):
        hearing.hear("NBIRTH/N", born())
        hearing.hear("DBIRTH/N/D", said(double("a", 1.0), seq=sequence))
        hearing.now += 1
        assert hearing.hear("DDEATH/N/D", content) == [(1, int(hearing.now * 1000), None, BAD)]


def test_history_moves_no_death() -> None:
    """Data that was stored while the node was offline has its own time, whatever else it is."""
    hearing = Hearing("N#a")
    hearing.hear("NBIRTH/N", born(double("a", 1.0, 100)))
    old = double("a", 0.5, -5000, flags={5: True, 6: True})
    assert hearing.hear("NDATA/N", said(old, seq=1)) == [(1, -5000, 0.5, 0)]
    assert hearing.hear("NDEATH/N", died()) == [(1, 100, None, BAD)]


def test_all_of_several_values() -> None:
    """A metric that is in a message twice is read twice, and two tags on one metric read the same."""
    hearing = Hearing("N#a", "N#a")
    hearing.hear("NBIRTH/N", born(double("a", 1.0, alias=1), double("a", 1.0, alias=1)))
    found = hearing.hear("NDATA/N", said(double(None, 2.0, 1, alias=1), double(None, 3.0, 2, alias=1), seq=1))
    assert found == [(1, 1, 2.0, 0), (2, 1, 2.0, 0), (1, 2, 3.0, 0), (2, 2, 3.0, 0)]


def test_times() -> None:
    """A metric's own time, else the payload's, else none; ours when that is asked for; one out of range is none."""
    hearing = Hearing("N#a")
    hearing.hear("NBIRTH/N", born(double("a", 1.0)))
    assert hearing.hear("NDATA/N", said(metric("a", DOUBLE, 2.0), seq=1, time=77)) == [(1, 77, 2.0, 0)]
    hearing.hear("NDATA/N", payload(metric("a", DOUBLE, 3.0), seq=2))
    assert hearing.last.rows.times == [NO_TIME]
    hearing.hear("NDATA/N", payload(metric("a", DOUBLE, 3.0, time=2**63), seq=3))
    assert hearing.last.rows.times == [NO_TIME]
    ours = Hearing("N#a", use_received_time=True)
    ours.now = 3.0
    assert ours.hear("NBIRTH/N", born(double("a", 1.0, 5))) == [(1, 3000, 1.0, 0)]


def test_exact_values() -> None:
    """Numbers that a float cannot hold, text, bytes and arrays go through whole."""
    hearing = Hearing("N#u", "N#s", "N#b", "N#i", "N#y")
    found = hearing.hear(
        "NBIRTH/N",
        born(
            metric("u", UINT64, 2**64 - 1),
            metric("s", STRING, "温度"),
            metric("b", BOOLEAN, given=True),
            metric("i", 25, struct.pack("<q", 2**53 + 1)),
            metric("y", BYTES, b"\0\xff"),
        ),
    )
    values = {tag: value for tag, _, value, _ in found}
    assert (values[1], values[2], values[3], values[5]) == (2**64 - 1, "温度", 1.0, b"\0\xff")
    assert [int(one) for one in values[4]] == [2**53 + 1]  # type: ignore[attr-defined]


def test_no_value_is_bad() -> None:
    """Null, a missing value, NaN and infinity are Bad readings and no numbers; a stated Bad quality stays."""
    hearing = Hearing("N#a")
    unavailable = Status.BAD_DATA_UNAVAILABLE
    hearing.hear("NBIRTH/N", born(double("a", None, flags={7: True})))
    for sequence, (one, status) in enumerate(
        (
            (double("a", None, flags={7: True}), unavailable),
            (double("a", None), unavailable),
            (double("a", 5.0, flags={7: True}), unavailable),
            (metric("a", FLOAT, float("nan")), unavailable),
            (metric("a", FLOAT, float("-inf")), Status.BAD_OUT_OF_RANGE),
            (double("a", None, flags={7: True}, quality=0), Status.BAD),
            (metric("a", DOUBLE, float("inf"), quality=0), Status.BAD),
        ),
        1,
    ):
        assert [row[2:] for row in hearing.hear("NDATA/N", said(one, seq=sequence))] == [(None, status)]


def test_quality_travels_with_the_value() -> None:
    """Bad and stale values keep their number and say what they are."""
    hearing = Hearing("N#a")
    found = hearing.hear("NBIRTH/N", born(double("a", 1.0, quality=0), double("a", 2.0, quality=500)))
    assert [row[2:] for row in found] == [
        (1.0, Status.BAD),
        (2.0, Status.UNCERTAIN_NO_COMMUNICATION_LAST_USABLE),
    ]


def test_members_of_a_template() -> None:
    """A member is read under the template's name and its own, at any depth, in births and in partial data."""
    hearing = Hearing("N#M/Speed", "N#M/Oil/T", "N#M", "N#M/Gone")

    def motor(*members: bytes) -> bytes:
        return block(18, block(1, b"1") + b"".join(block(2, one) for one in members) + block(4, b"Motor"))

    inner = block(18, block(2, metric("T", INT32, 55)) + block(4, b"Oil"))
    whole = metric("M", TEMPLATE, alias=3, raw=motor(metric("Speed", DOUBLE, 9.5), metric("Oil", TEMPLATE, raw=inner)))
    found = hearing.hear("NBIRTH/N", born(whole))
    assert {row[0]: row[2] for row in found} == {
        1: 9.5,
        2: 55.0,
        3: {
            "template": "Motor",
            "version": "1",
            "parameters": {},
            "metrics": {
                "Speed": 9.5,
                "Oil": {"template": "Oil", "version": "", "parameters": {}, "metrics": {"T": 55}},
            },
        },
        4: None,
    }
    assert found[-1] == (4, 0, None, Status.BAD_NODE_ID_UNKNOWN)
    part = metric(None, TEMPLATE, alias=3, raw=motor(metric("Speed", DOUBLE, 11.0)))
    assert [row[:3:2] for row in hearing.hear("NDATA/N", said(part, seq=1))][1:] == [(1, 11.0)]
    gone = metric("M", TEMPLATE, alias=3, flags={7: True})
    assert {row[0] for row in hearing.hear("NDATA/N", said(gone, seq=2)) if row[2] is None} == {1, 2, 3, 4}


def test_the_birth_says_the_datatype() -> None:
    """Data without a datatype is read as its birth said, a member of a template too: a negative number stays one."""
    hearing = Hearing("N#n", "N#M/n")

    def motor(member: bytes) -> bytes:
        return block(18, block(2, member))

    first = metric("M", TEMPLATE, alias=2, raw=motor(metric("n", INT32, 5)))
    hearing.hear("NBIRTH/N", born(metric("n", INT32, 5, alias=1), first))
    later = metric(None, alias=2, raw=motor(metric("n", INT32, -7, said=False)))
    found = hearing.hear("NDATA/N", said(metric(None, INT32, -6, alias=1, said=False), later, seq=1))
    assert [row[::2] for row in found] == [(1, -6.0), (2, -7.0)]


def test_a_metric_that_is_not_in_the_birth() -> None:
    """Its tag is Bad from the birth on, and good again once it is there."""
    hearing = Hearing("N#a", "N#b")
    found = hearing.hear("NBIRTH/N", born(double("a", 1.0)))
    assert found == [(1, 0, 1.0, 0), (2, 0, None, Status.BAD_NODE_ID_UNKNOWN)]
    assert hearing.hear("NBIRTH/N", born(double("b", 2.0))) == [
        (2, 0, 2.0, 0),
        (1, 0, None, Status.BAD_NODE_ID_UNKNOWN),
    ]
