"""A worker's thread beside its work: what was never checked is, and a device that is well again gets its work back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from app import settings
from app.certificates import queries
from app.keeping import ABSENT_S, WELL_S, Keeper
from app.settings import Settings
from app.watch.service import uncertified
from connectors import Status
from inference import artefacts
from inference.certify import Examined, Request, examine
from tests.app.field.test_device_queues import model
from tests.app.scoring.test_devices import ORDER, OUTPUTS, million_model, scored, variable
from tests.app.works import Works
from tests.inference.plugins import needs_compiler

pytestmark = needs_compiler


@dataclass
class Clock:
    """Monotonic seconds that a test moves on."""

    now: float = 1000.0

    def __call__(self) -> float:
        """What time it is."""
        return self.now


@dataclass
class Counted:
    """The real check, counted."""

    asked: list[str]

    def __call__(self, request: Request) -> Examined:
        """Of a model on a device."""
        self.asked.append(request.device)
        return examine(request)


@pytest.fixture
def clock() -> Clock:
    """At a thousand seconds."""
    return Clock()


@pytest.fixture
def checks() -> Counted:
    """None yet."""
    return Counted([])


@pytest.fixture
def plug(tmp_path: Path) -> Iterator[Path]:
    """While this file is there, the simulator's devices are gone."""
    path = tmp_path / "unplugged"
    with variable("SIMNPU_UNPLUGGED", str(path)):
        yield path


@pytest.fixture
def works(here: str, tmp_path: Path) -> Iterator[Works]:
    """A pipeline that wants the simulator and then the CPU, put in force before there were certificates."""
    settings.use(Settings(data_dir=tmp_path))
    made = Works(here, tmp_path, proto=million_model(), spec={"devices": ORDER, "layout": "NC", "outputs": OUTPUTS})
    yield made
    made.close()


@pytest.fixture
def keeper(works: Works, clock: Clock, checks: Counted) -> Keeper:
    """Of the worker's own sessions."""
    return Keeper(works.engine, works.scorer.sessions, clock, checks)


def _states(works: Works) -> list[tuple[str, str, str]]:
    return [(row.device, row.outcome, row.occasion) for row in reversed(queries.certificates(works.engine))]


def test_what_was_in_force_before_is_checked_by_itself_once(
    works: Works, keeper: Keeper, checks: Counted
) -> None:
    """On each device of its order, in the background; answers are Good before and after."""
    assert (scored(works, 1).certificate, scored(works, 2).status) == ("unchecked", Status.GOOD)
    for _ in range(2):
        keeper.look()
    assert _states(works) == [("simnpu:0", "passed", "unchecked"), ("cpu", "passed", "unchecked")]
    assert checks.asked == ["simnpu:0", "cpu"]
    works.scorer.sessions.drop_all()
    assert (scored(works, 3).certificate, scored(works, 4).status) == ("valid", Status.GOOD)


def test_a_device_that_computes_wrongly_is_found_out_after_an_upgrade(works: Works, keeper: Keeper) -> None:
    """Half precision that nobody asked for: the check fails, and the next device of the order is taken."""
    with variable("SIMNPU_FAULT", "half"):
        assert scored(works, 1).device == "simnpu:0"
        keeper.look()
    assert _states(works) == [("simnpu:0", "failed", "unchecked"), ("cpu", "passed", "unchecked")]
    for ready in works.scorer.sessions.held().values():
        ready.looked = 0.0
    row = scored(works, 2)
    assert (row.device_wanted, row.device, row.status) == ("simnpu:0", "cpu", Status.GOOD)


def test_work_goes_back_to_a_device_that_was_well_twice(
    works: Works, keeper: Keeper, clock: Clock, checks: Counted, plug: Path
) -> None:
    """Unplugged: on the CPU, with an alarm. Plugged in: only after two checks a minute apart, and the alarm ends."""
    assert scored(works, 1).device == "simnpu:0"
    keeper.look()
    checks.asked.clear()
    plug.touch()
    row = scored(works, 2)
    assert (row.device_wanted, row.device, row.certificate) == ("simnpu:0", "cpu", "valid")
    assert [(one.rule, one.value, one.limit) for one in uncertified(works.engine)] == [("device", "cpu", "= simnpu:0")]
    keeper.look()
    assert checks.asked == []
    clock.now += WELL_S
    keeper.look()
    assert checks.asked == ["simnpu:0"]
    plug.unlink()
    clock.now += WELL_S
    keeper.look()
    assert len(checks.asked) == 1
    clock.now += WELL_S
    keeper.look()
    assert len(checks.asked) == 2
    assert scored(works, 3).device == "cpu"
    clock.now += WELL_S
    keeper.look()
    assert _states(works)[2:] == [("simnpu:0", "passed", "return")]
    row = scored(works, 4)
    assert (row.device, row.certificate, row.status) == ("simnpu:0", "valid", Status.GOOD)
    assert uncertified(works.engine) == []
    keeper.look()
    assert len(checks.asked) == 3


def test_a_device_that_is_away_for_long_is_looked_for_less_and_less(
    works: Works, keeper: Keeper, clock: Clock, checks: Counted, plug: Path
) -> None:
    """From each minute to each ten; nothing of it is written down."""
    scored(works, 1)
    keeper.look()
    checks.asked.clear()
    plug.touch()
    scored(works, 2)
    looked = []
    for second in range(0, 2400, 60):
        before = len(checks.asked)
        keeper.look()
        if len(checks.asked) > before:
            looked.append(second)
        clock.now += 60
    assert looked == [60, 180, 420, 900, 1500, 2100]
    assert looked[-1] - looked[-2] == ABSENT_S
    assert len(_states(works)) == 2


def test_a_device_that_fails_again_and_again_waits_for_longer(works: Works, keeper: Keeper, clock: Clock) -> None:
    """It is tried again at once, then the next device answers the same window; each loss doubles the wait."""
    with variable("SIMNPU_FAULT", "run"):
        row = scored(works, 1)
    assert (row.device_wanted, row.device, row.reason) == ("simnpu:0", "cpu", "")
    sessions = works.scorer.sessions
    assert sessions.waiting == {"simnpu:0"}
    sessions.losses["simnpu:0"] = [clock.now] * 4
    keeper.look()
    asked: list[float] = []
    start, count = clock.now, len(_states(works))
    while len(_states(works)) == count:
        clock.now += WELL_S
        keeper.look()
        asked.append(clock.now - start)
    assert asked[-1] == 8 * WELL_S + WELL_S
    assert sessions.waiting == set()
    assert scored(works, 2).device == "simnpu:0"


def test_what_is_lost_is_told_until_the_device_is_well(
    works: Works, keeper: Keeper, clock: Clock, plug: Path
) -> None:
    """At once, again at each look, and no more once it has passed its checks; one that only stumbled is not lost."""
    told: list[set[str]] = []
    works.scorer.sessions.told = lambda devices: told.append(set(devices))
    scored(works, 1)
    plug.touch()
    assert scored(works, 2).device == "cpu"
    assert told == [{"simnpu:0"}]
    keeper.look()
    assert told == [{"simnpu:0"}] * 2
    plug.unlink()
    for _ in range(3):
        clock.now += WELL_S
        keeper.look()
    assert (told[-1], works.scorer.sessions.lost) == (set(), set())
    assert scored(works, 3).device == "simnpu:0"
    before = len(told)
    keeper.look()
    assert len(told) == before
    works.scorer.sessions.losses.clear()
    ready = next(iter(works.scorer.sessions.held().values()))
    version = next(iter(works.scorer._known.values()))  # noqa: SLF001 - as its scorer would
    works.scorer.sessions.lose(version.spec, ready, "stumbled")
    works.scorer.sessions.get(version.spec)
    assert told[before:] == [{ready.passport.device}, set()]


def test_a_lost_device_that_no_session_waits_for_is_tried_by_the_next_work(
    works: Works, keeper: Keeper, clock: Clock, plug: Path
) -> None:
    """After a minute; otherwise nobody would ever send any."""
    scored(works, 1)
    plug.touch()
    scored(works, 2)
    sessions = works.scorer.sessions
    sessions.drop_all()
    sessions.losses["simnpu:0"] = [clock.now]
    keeper.look()
    assert sessions.lost == {"simnpu:0"}
    clock.now += WELL_S + 1
    keeper.look()
    assert sessions.lost == set()


def test_who_does_not_take_the_model_is_not_asked_again(
    here: str, tmp_path: Path, clock: Clock, checks: Counted, keeping: Callable[..., Keeper]
) -> None:
    """A device that refused it, or computed wrongly, comes back when a person has had it checked."""
    settings.use(Settings(data_dir=tmp_path))
    works = Works(here, tmp_path, spec={"devices": ORDER})
    keeper = keeping(works, clock, checks)
    assert scored(works, 1).device == "cpu"
    keeper.look()
    assert _states(works) == [("cpu", "passed", "unchecked"), ("simnpu:0", "refused", "unchecked")]
    assert uncertified(works.engine) == []
    clock.now += 10 * WELL_S
    keeper.look()
    assert checks.asked == ["cpu", "simnpu:0"]
    works.close()


@pytest.fixture
def aside(works: Works, tmp_path: Path) -> Iterator[Works]:
    """A worker whose models are compiled beside its work; what was compiled is kept."""
    artefacts.use(tmp_path / "artefacts")
    works.scorer.sessions.compiles_aside = True
    yield works
    artefacts.use(None)


def test_the_next_device_serves_while_a_model_is_compiled(aside: Works, keeper: Keeper, checks: Counted) -> None:
    """In a child, whose check is written down; then the work goes over, and a worker started later begins there."""
    row = scored(aside, 1)
    assert (row.device_wanted, row.device, row.status) == ("simnpu:0", "cpu", Status.GOOD)
    assert [one.name for one in (aside.folder / "artefacts").glob("*")] in ([], [".lock"])
    keeper.look()
    assert checks.asked[0] == "simnpu:0"
    assert _states(aside)[0] == ("simnpu:0", "passed", "compile")
    row = scored(aside, 2)
    assert (row.device, row.certificate, row.status) == ("simnpu:0", "valid", Status.GOOD)
    asked = len(checks.asked)
    keeper.look()
    assert len(checks.asked) == asked
    aside.scorer.sessions.drop_all()
    assert scored(aside, 3).device == "simnpu:0"
    assert aside.scorer.sessions.uncompiled == set()


def test_what_cannot_be_kept_is_compiled_where_it_runs(aside: Works, keeper: Keeper) -> None:
    """The worker does not find what the check has compiled: it waits for the compiler once, not for ever."""
    artefacts.use(aside.folder / "elsewhere")
    assert scored(aside, 1).device == "cpu"
    keeper.look()
    assert scored(aside, 2).device == "cpu"
    keeper.look()
    assert scored(aside, 3).device == "simnpu:0"
    assert [occasion for _, _, occasion in _states(aside)].count("compile") == 1


def test_a_precision_that_is_preferred_is_gone_over_to(
    here: str, tmp_path: Path, clock: Clock, checks: Counted, keeping: Callable[..., Keeper]
) -> None:
    """On the same device: what computes is another thing."""
    settings.use(Settings(data_dir=tmp_path))
    artefacts.use(tmp_path / "artefacts")
    spec = {"layout": "NC", "outputs": OUTPUTS}
    works = Works(here, tmp_path, proto=model(), spec={"devices": ("simnpu:0",), **spec})
    works.scorer.sessions.compiles_aside = True
    assert (scored(works, 1).device, scored(works, 2).precision) == ("simnpu:0", "fp32")
    works.version = works.put_in_force(devices=("simnpu:0@fp16", "simnpu:0"), **spec)
    assert (scored(works, 3).device, scored(works, 4).precision) == ("simnpu:0", "fp32")
    keeping(works, clock, checks).look()
    assert _states(works)[0] == ("simnpu:0", "passed", "compile")
    assert (scored(works, 5).device, scored(works, 6).precision) == ("simnpu:0", "fp16")
    works.close()
    artefacts.use(None)


def test_a_model_that_is_not_compiled_stays_where_it_is(aside: Works, keeper: Keeper, checks: Counted) -> None:
    """The compiler refuses it: that is the verdict, and nobody asks it again."""
    with variable("SIMNPU_FAULT", "compile"):
        assert scored(aside, 1).device == "cpu"
        keeper.look()
        assert _states(aside)[0] == ("simnpu:0", "refused", "compile")
        asked = len(checks.asked)
        keeper.look()
        assert len(checks.asked) == asked
        assert scored(aside, 2).device == "cpu"


def test_where_no_other_device_is_named_its_compiler_is_waited_for(here: str, tmp_path: Path) -> None:
    """The pipeline does not allow another one."""
    artefacts.use(tmp_path / "artefacts")
    works = Works(here, tmp_path, proto=million_model(), spec={
        "devices": ("simnpu:0",), "layout": "NC", "outputs": OUTPUTS,
    })  # fmt: skip
    works.scorer.sessions.compiles_aside = True
    assert scored(works, 1).device == "simnpu:0"
    works.close()
    two = works.put_in_force(devices=("metax", "simnpu:0"), layout="NC", outputs=OUTPUTS)
    assert two
    artefacts.use(tmp_path / "others")
    works.scorer = works.worker()
    works.scorer.sessions.compiles_aside = True
    works.version = two
    assert scored(works, 2).device == "simnpu:0"
    works.close()
    artefacts.use(None)


def test_a_device_whose_precision_is_named_is_the_one_in_use(
    here: str, tmp_path: Path, clock: Clock, checks: Counted, keeping: Callable[..., Keeper]
) -> None:
    """`simnpu:0@fp16` is no other device than `simnpu:0`: it is not watched as one that has lost its work."""
    settings.use(Settings(data_dir=tmp_path))
    spec = {"devices": ("simnpu:0@fp16", "cpu"), "layout": "NC", "outputs": OUTPUTS}
    works = Works(here, tmp_path, proto=million_model(), spec=spec)
    keeper = keeping(works, clock, checks)
    assert scored(works, 1).device == "simnpu:0"
    keeper.look()
    before = len(checks.asked)
    for _ in range(4):
        clock.now += WELL_S
        keeper.look()
    assert len(checks.asked) == before
    works.close()


@pytest.fixture
def keeping() -> Callable[..., Keeper]:
    """Makes the thread's work for any worker."""
    return lambda works, clock, checks: Keeper(works.engine, works.scorer.sessions, clock, checks)
