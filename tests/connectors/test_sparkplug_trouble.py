"""Edge nodes that break rules, lose messages or vanish: nothing stops, nothing is guessed, few requests are sent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors import Status, TagBinding
from connectors.sparkplug.options import Options
from connectors.sparkplug.plant import Plant, Taken
from connectors.sparkplug.scope import Arrival
from tests.connectors.sparkplug_edge import (
    BYTES,
    DOUBLE,
    INT32,
    INT64,
    STRING,
    TEMPLATE,
    bdseq,
    block,
    metric,
    number,
    payload,
)
from tests.connectors.sparkplug_hearing import MS0, T0, URL, Hearing, born, died, double, said

BAD = Status.BAD_NO_COMMUNICATION


def test_order_and_gap() -> None:
    """What comes early waits; what never comes is counted as lost, costs a request, and holds nothing up for ever."""
    hearing = Hearing("N#a", reorder_timeout_s=2)
    hearing.hear("NBIRTH/N", born(double("a", 0.0, alias=1)))
    hearing.now = 31.0
    assert hearing.hear("NDATA/N", said(double(None, 2.0, 2, alias=1), seq=2)) == []
    assert hearing.acked == []
    assert hearing.plant.certain_until() == T0 + 31 * 10**9
    assert hearing.hear("NDATA/N", said(double(None, 1.0, 1, alias=1), seq=1)) == [(1, 1, 1.0, 0), (1, 2, 2.0, 0)]
    assert hearing.acked == [3, 2]
    assert hearing.plant.certain_until() is None
    assert hearing.hear("NDATA/N", said(double(None, 5.0, 5, alias=1), seq=5)) == []
    assert hearing.later(1.9) == []
    assert hearing.later(0.2) == [(1, 5, 5.0, 0)]
    assert (hearing.last.lost, hearing.acked, hearing.asked) == (2, [4], [0.0, 33.1])
    assert hearing.hear("NDATA/N", said(double(None, 6.0, 6, alias=1), seq=6)) == [(1, 6, 6.0, 0)]


def test_the_number_wraps() -> None:
    """After 255 comes 0."""
    hearing = Hearing("N#a")
    hearing.hear("NBIRTH/N", born(double("a", 0.0), seq=254))
    assert hearing.hear("NDATA/N", said(double("a", 1.0), seq=255))
    assert hearing.hear("NDATA/N", said(double("a", 2.0), seq=0))
    assert hearing.hear("NDATA/N", said(double("a", 3.0), seq=1))


def test_messages_of_devices_without_tags_count() -> None:
    """The numbers run over all messages of a node, those of devices that nobody wants too."""
    hearing = Hearing("N#a")
    hearing.hear("NBIRTH/N", born(double("a", 0.0)))
    assert hearing.hear("DBIRTH/N/other", said(double("x", 0.0), seq=1)) == []
    assert hearing.hear("DDEATH/N/other", said(seq=2)) == []
    assert hearing.hear("NDATA/N", said(double("a", 1.0, 1), seq=3)) == [(1, 1, 1.0, 0)]


def test_a_birth_that_may_have_been_missed() -> None:
    """Where number 0 is among the missing, aliases may mean something else: they are refused until the next birth."""
    hearing = Hearing("N#a", reorder_timeout_s=0)
    hearing.hear("NBIRTH/N", born(double("a", 0.0, alias=1), seq=254))
    hearing.hear("NDATA/N", said(double(None, 1.0, alias=1), double("a", 2.0, 1), seq=1))
    assert hearing.later(0) == [(1, 1, 2.0, 0)]
    assert hearing.refused == [("spBv1.0/G/NDATA/N", "unknown_alias", 1)]
    hearing.hear("NBIRTH/N", born(double("a", 0.0, alias=1)))
    assert hearing.hear("NDATA/N", said(double(None, 3.0, 3, alias=1), seq=1)) == [(1, 3, 3.0, 0)]


def test_what_waited_when_a_birth_comes() -> None:
    """What was sent before the birth is read as of before, what was sent after it as of after."""
    hearing = Hearing("N#a")
    hearing.hear("NBIRTH/N", born(double("a", 0.0, alias=1)))
    hearing.hear("NDATA/N", said(double(None, 7.0, 70, alias=1), seq=5, time=70))
    hearing.hear("NDATA/N", said(double(None, 9.0, 90, alias=2), seq=2, time=90))
    found = hearing.hear("NBIRTH/N", born(double("a", 8.0, 80, alias=2), seq=1, time=80))
    assert found == [(1, 70, 7.0, 0), (1, 80, 8.0, 0), (1, 90, 9.0, 0)]
    assert hearing.last.lost == 4


def test_data_without_a_birth() -> None:
    """Named metrics of a node we have not seen are taken, aliases refused; it is asked, but not again and again."""
    hearing = Hearing("N#a", rebirth_pause_s=30)
    found = hearing.hear("NDATA/N", said(double("a", 1.0, 1), double(None, 2.0, alias=9), seq=44))
    assert found == [(1, 1, 1.0, 0)]
    assert hearing.refused == [("spBv1.0/G/NDATA/N", "unknown_alias", 1)]
    for _ in range(100):
        hearing.now += 1
        hearing.hear("NDATA/N", said(double(None, 2.0, alias=9), seq=45))
    assert hearing.asked == [0.0, 30.0, 90.0]


def test_rebirth_switched_off() -> None:
    """`rebirth: false` asks nobody, whatever happens."""
    hearing = Hearing("N#a", rebirth=False)
    hearing.hear("NDATA/N", said(double(None, 2.0, alias=9), seq=45))
    hearing.later(100)
    assert hearing.asked == []
    assert hearing.plant.rebirths.next_time() is None


def test_a_restart_without_a_birth() -> None:
    """A node that counts from elsewhere has begun anew: it is asked for its births, and its aliases are in doubt."""
    hearing = Hearing("N#a")
    hearing.hear("NBIRTH/N", born(double("a", 0.0, alias=1), seq=100))
    hearing.now = 40.0
    for n in range(3):
        hearing.hear("NDATA/N", said(double("a", float(n), n), seq=n))
    assert hearing.asked == [0.0, 40.0]
    assert hearing.hear("NDATA/N", said(double(None, 5.0, alias=1), seq=3)) == []
    assert hearing.refused == [("spBv1.0/G/NDATA/N", "unknown_alias", 1)]


@pytest.mark.parametrize("device", ["", "/D"])
def test_data_of_the_dead(device: str) -> None:
    """After its death nothing of it is taken before a birth: a dead tag does not look alive by a straggler."""
    hearing = Hearing(f"N{device}#a", rebirth_pause_s=1)
    kind = "D" if device else "N"
    hearing.hear("NBIRTH/N", born(*([] if device else [double("a", 1.0, alias=1)])))
    hearing.hear(f"DBIRTH/N{device or '/D'}", said(double("a", 1.0, alias=1), seq=1))
    hearing.hear(*(("DDEATH/N/D", said(seq=2)) if device else ("NDEATH/N", died())))
    hearing.now = 5.0
    assert hearing.hear(f"{kind}DATA/N{device}", said(double("a", 2.0, 5), double("b", 2.0, 5), seq=3)) == []
    assert hearing.refused == [(f"spBv1.0/G/{kind}DATA/N{device}", "not_born", 2)]
    assert hearing.asked == [0.0, 5.0]


def test_nobody_there() -> None:
    """Tags of a node that is not there are Bad after the wait, not before; until then nothing is said to be alive."""
    hearing = Hearing("N#a", "N/D#b", birth_wait_s=10)
    assert hearing.plant.certain_until() == T0
    assert hearing.later(9.9) == []
    assert hearing.later(0.1) == [(1, 10_000, None, BAD), (2, 10_000, None, BAD)]
    assert hearing.plant.certain_until() is None
    assert hearing.later(1000) == []


def test_a_device_that_does_not_come_back() -> None:
    """After the node's birth a device's tags keep their value for the wait, and are Bad if it is not born by then."""
    hearing = Hearing("N#a", "N/D#b", birth_wait_s=10)
    hearing.hear("NBIRTH/N", born(double("a", 1.0)))
    hearing.hear("DBIRTH/N/D", said(double("b", 1.0), seq=1))
    assert hearing.plant.certain_until() is None
    hearing.now = 5.0
    hearing.hear("NBIRTH/N", born(double("a", 1.0)))
    assert hearing.plant.certain_until() == T0 + 5 * 10**9
    assert hearing.later(10) == [(2, 15_000, None, BAD)]
    assert hearing.plant.certain_until() is None


def test_a_node_that_begins_again_and_again() -> None:
    """Births of a node without its device prolong the wait for that once, not for ever."""
    hearing = Hearing("N#a", "N/D#b", birth_wait_s=10)
    for second in range(20):
        hearing.now = float(second)
        assert hearing.hear("NBIRTH/N", born(double("a", 1.0))) == [(1, 0, 1.0, 0)]
        assert hearing.later(0) == []
        assert hearing.plant.certain_until() == T0
    assert hearing.later(1) == [(2, 20_000, None, BAD)]


def test_a_will_of_somebody_we_do_not_know() -> None:
    """A death before any birth makes the tags Bad; what the node then says by name is taken: it may be alive again."""
    hearing = Hearing("N#a", rebirth=False)
    assert hearing.hear("NDEATH/N", died(4)) == [(1, 0, None, BAD)]
    assert hearing.hear("NDATA/N", said(double("a", 2.0, 5), seq=9)) == [(1, 5, 2.0, 0)]


def test_after_a_reconnect() -> None:
    """A new connection knows nothing: tags wait to be told of again, and nothing is alive until they were."""
    hearing = Hearing("N#a", birth_wait_s=10)
    hearing.hear("NBIRTH/N", born(double("a", 1.0, alias=1)))
    hearing.now = 100.0
    hearing.plant.connected(hearing.now, T0 + 90 * 10**9)
    assert hearing.plant.certain_until() == T0 + 90 * 10**9
    hearing.hear("NDATA/N", said(double(None, 2.0, alias=1), seq=1))
    assert hearing.refused == [("spBv1.0/G/NDATA/N", "unknown_alias", 1)]
    assert hearing.asked == [0.0, 100.0]
    assert hearing.later(10) == [(1, 110_000, None, BAD)]


def test_a_retained_birth() -> None:
    """A birth that a broker kept explains aliases; its values may be old, say so, and prove nobody alive."""
    hearing = Hearing("N#a", birth_wait_s=10)
    kept = hearing.hear("NBIRTH/N", born(double("a", 1.0, 1, alias=1)), retained=True)
    assert kept == [(1, 1, 1.0, Status.UNCERTAIN_LAST_USABLE)]
    assert hearing.plant.certain_until() == T0
    assert hearing.hear("NDEATH/N", died(), retained=True) == []
    assert hearing.hear("NDATA/N", said(double(None, 2.0, 2, alias=1), seq=9)) == [(1, 2, 2.0, 0)]
    assert hearing.hear("NBIRTH/N", born(double("a", 3.0, 3, alias=2))) == [(1, 3, 3.0, 0)]
    assert hearing.hear("NBIRTH/N", born(double("a", 1.0, 1, alias=1)), retained=True) == []
    assert hearing.hear("NDATA/N", said(double(None, 4.0, 4, alias=2), seq=1)) == [(1, 4, 4.0, 0)]
    silent = Hearing("N#a", birth_wait_s=10)
    silent.hear("NBIRTH/N", born(double("a", 1.0, 1, alias=1)), retained=True)
    assert silent.later(10) == [(1, 10_000, None, BAD)]


@pytest.mark.parametrize(
    ("topic", "content", "refused"),
    [
        ("NDATA/N", b"\xff\xff\xff", [("spBv1.0/G/NDATA/N", "broken_payload", 1)]),
        ("NDATA/N", said(metric("温".encode("gbk"), DOUBLE, 1.0), seq=1), [("spBv1.0/G/NDATA/N", "wrong_charset", 1)]),
        ("NDATA/N", said(metric("a", STRING, "x"), seq=1), [("G/N#a", "wrong_type", 1)]),
        ("NDATA/N", said(metric("a", INT64, raw=number(10, 2**31)), seq=1), [("G/N#a", "wrong_field", 1)]),
        ("NDATA/N", said(metric("a", 99, raw=number(10, 1)), seq=1), [("G/N#a", "unknown_datatype", 1)]),
        ("NDATA/N", said(metric(None, DOUBLE, 1.0), seq=1), [("spBv1.0/G/NDATA/N", "unknown_alias", 1)]),
        ("NDATA/N", said(*[double(f"m{n}", 1.0) for n in range(51)], seq=1), [("spBv1.0/G/NDATA/N", "too_large", 1)]),
        ("NDATA/other", b"\xff", []),
        ("NCMD/N", b"\xff", []),
        ("NDATA/N/D", b"\xff", []),
        ("DDATA/N", b"\xff", []),
    ],
)
def test_what_cannot_be_read(topic: str, content: bytes, refused: list[tuple[str, str, int]]) -> None:
    """It is refused by name where it concerns a tag, acknowledged everywhere, and what follows arrives."""
    hearing = Hearing("N#a", datatype="float", max_metrics=50, reorder_timeout_s=0)
    hearing.hear("NBIRTH/N", born(double("a", 1.0)))
    assert hearing.hear(topic, content) == []
    assert (hearing.refused, hearing.acked) == (refused, [2])
    hearing.hear("NDATA/N", said(double("a", 2.0, 2), seq=2))
    hearing.later(0)
    assert hearing.hear("NDATA/N", said(double("a", 3.0, 3), seq=3)) == [(1, 3, 3.0, 0)]


def test_birth_with_something_wrong_in_it() -> None:
    """One bad metric of a birth costs itself: its neighbours and their aliases stand."""
    hearing = Hearing("N#a", "N#b", datatype="float")
    wrong = metric("b", STRING, "no number", alias=2)
    found = hearing.hear("NBIRTH/N", born(metric(b"\xff", DOUBLE, 1.0), wrong, double("a", 1.0, alias=1)))
    assert found == [(1, 0, 1.0, 0)]
    assert hearing.refused == [("spBv1.0/G/NBIRTH/N", "wrong_charset", 1), ("G/N#b", "wrong_type", 1)]
    assert hearing.plant.certain_until() is None
    assert hearing.hear("NDATA/N", said(double(None, 2.0, 2, alias=1), seq=1)) == [(1, 2, 2.0, 0)]


def test_an_empty_birth() -> None:
    """Whoever clears a retained birth publishes an empty one: it is no birth, and changes nothing."""
    hearing = Hearing("N#a", "N/D#b")
    hearing.hear("NBIRTH/N", born(double("a", 1.0, alias=1)))
    hearing.hear("DBIRTH/N/D", said(double("b", 1.0, alias=2), seq=1))
    assert hearing.hear("NBIRTH/N", b"") == []
    assert hearing.hear("DBIRTH/N/D", b"") == []
    assert hearing.acked == [4]
    assert hearing.hear("NDATA/N", said(double(None, 2.0, 2, alias=1), seq=2)) == [(1, 2, 2.0, 0)]
    assert hearing.hear("NDEATH/N", died(3)) == []


def test_memory_is_bounded() -> None:
    """Messages that wait are taken before they need too much, and aliases are remembered up to a limit."""
    hearing = Hearing("N#a")
    hearing.hear("NBIRTH/N", born(double("a", 0.0)))
    large = metric("x", BYTES, bytes(1_000_000))
    found = [hearing.hear("NDATA/N", said(large, double("a", float(n), n), seq=n)) for n in range(2, 40)]
    assert [len(one) for one in found] == [0] * 33 + [34] + [1] * 4
    assert hearing.asked == [0.0]


def test_what_waited_is_not_counted_for_ever() -> None:
    """Large messages that waited and were taken leave their room to others."""
    hearing = Hearing("N#a")
    hearing.hear("NBIRTH/N", born(double("a", 0.0)))
    large = metric("x", BYTES, bytes(1_000_000))
    for n in range(40):
        assert hearing.hear("NDATA/N", said(large, seq=2 * n + 2)) == []
        assert hearing.acked == []
        assert hearing.hear("NDATA/N", said(double("a", float(n), n), seq=2 * n + 1)) == [(1, n, float(n), 0)]
        assert hearing.last.lost == 0


def test_a_dead_device_after_a_reconnect() -> None:
    """What died before a new connection may be alive again: named data of it is taken."""
    hearing = Hearing("N/D#b")
    hearing.hear("NBIRTH/N", born())
    hearing.hear("DBIRTH/N/D", said(double("b", 1.0), seq=1))
    hearing.hear("DDEATH/N/D", said(seq=2))
    hearing.plant.connected(hearing.now, T0)
    assert hearing.hear("DDATA/N/D", said(double("b", 2.0, 7), seq=9)) == [(1, 7, 2.0, 0)]


def test_a_retained_birth_without_a_metric() -> None:
    """An old birth says nothing of what it lacks: its tag waits on."""
    hearing = Hearing("N#a", "N#b")
    kept = hearing.hear("NBIRTH/N", born(double("a", 1.0)), retained=True)
    assert [row[0] for row in kept] == [1]


def test_groups() -> None:
    """A tag in a group that is not listened to is a mistake of the configuration."""
    options = Options.model_validate({"url": URL, "groups": ["H"]})
    assert options.filters() == ["spBv1.0/H/#"]
    with pytest.raises(ValueError, match="'G/N#a' is in none of the `groups` H"):
        Plant([TagBinding(1, "G/N#a")], options)
    assert Options.model_validate({"url": URL}).filters() == ["spBv1.0/#"]
    for wrong in ("STATE", "a/b", "+", "#", ""):
        with pytest.raises(ValueError, match="group"):
            Options.model_validate({"url": URL, "groups": [wrong]})


METRICS = st.builds(
    metric,
    st.sampled_from(["a", "b", "M", "M/x", None, "", "bdSeq", b"\xff"]),
    st.sampled_from([None, DOUBLE, INT32, INT64, STRING, TEMPLATE, 16, 32, 33, 99]),
    alias=st.sampled_from([None, 0, 1, 2**64 - 1]),
    time=st.sampled_from([None, 0, MS0, 2**64 - 1]),
    flags=st.sampled_from([None, {7: True}, {5: True}]),
    quality=st.sampled_from([None, 0, 500, 2**31]),
    raw=st.sampled_from(
        [
            b"",
            number(10, 2**31),
            number(11, 2**63),
            block(15, b"\xff"),
            block(16, b"abc"),
            block(17, number(1, 2)),
            block(18, b""),
        ]
    ),
)
MESSAGES = st.tuples(
    st.sampled_from(["NBIRTH/N", "NDATA/N", "NDEATH/N", "DBIRTH/N/D", "DDATA/N/D", "DDEATH/N/D"]),
    st.one_of(
        st.binary(max_size=30),
        st.builds(
            lambda metrics, session, seq, time: payload(*metrics, bdseq(session), seq=seq, time=time),
            st.lists(METRICS, max_size=4),
            st.integers(0, 2),
            st.one_of(st.none(), st.integers(0, 5), st.integers(0, 2**64 - 1)),
            st.sampled_from([None, MS0, MS0 + 5]),
        ),
    ),
    st.booleans(),
)


@given(st.lists(st.one_of(MESSAGES, st.floats(0, 40)), max_size=30))
def test_any_story(story: list[tuple[str, bytes, bool] | float]) -> None:
    """Whatever nodes send, in whatever order: nothing is raised, and every message is acknowledged once, in the end."""
    hearing = Hearing("N#a", "N#M/x", "N/D#b", "N/D#M")
    acked: list[int] = []
    for one in story:
        if isinstance(one, float):
            hearing.later(one)
        else:
            hearing.hear(one[0], one[1], retained=one[2])
        acked += hearing.acked
        found = hearing.last.rows
        assert len(found.tags) == len(found.times) == len(found.values) == len(found.status)
    hearing.later(1000)
    acked += hearing.acked
    assert sorted(acked) == list(range(1, 1 + sum(not isinstance(one, float) for one in story)))
    assert hearing.plant.certain_until() is None


def test_arrivals_know_their_message() -> None:
    """An acknowledgement names the broker's own number and quality of service."""
    plant, taken = Plant([TagBinding(1, "G/N#a")], Options.model_validate({"url": URL})), Taken()
    plant.connected(0.0, T0)
    first = Arrival("spBv1.0/G/NBIRTH/N", born(double("a", 1.0)), 41, 1, retained=False, received=T0)
    plant.take(first, 0.0, taken)
    plant.take(first._replace(mid=0, qos=0), 0.0, taken)
    assert taken.acks == [(41, 1), (0, 0)]
