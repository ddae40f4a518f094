"""Which queue a message goes to: pure, with what workers say in the test's hand."""

from __future__ import annotations

import msgspec
import structlog
from hypothesis import given
from hypothesis import strategies as st

from app.field.routing import GONE_S, PATIENCE_S, Router
from app.log import WORK_BACK, WORK_MOVED
from app.messages import Order, Stop
from app.queue import DEFAULT_QUEUE, queue_of
from app.workers import WorkerLive


def worker(name: str, *devices: str, queues: tuple[str, ...] | None = None) -> WorkerLive:
    """One that serves a queue for each class of its devices, unless it says otherwise."""
    served = tuple(sorted({DEFAULT_QUEUE, *map(queue_of, devices)})) if queues is None else queues
    classes = tuple(sorted({one.partition(":")[0] for one in devices}))
    return WorkerLive(name, name, 1, 0, devices, classes, (), served)


def knowing(*workers: WorkerLive) -> Router:
    """A router that has heard of these, at 100 s."""
    made = Router()
    made.learn(workers, 100.0)
    return made


def test_the_first_device_of_the_order_that_a_worker_has_decides() -> None:
    """Not the first that is named, and whatever precision it is to compute in."""
    router = knowing(worker("a", "cpu", "ascend:0"), worker("b", "cpu", "simnpu:0"))
    assert router.queue([("metax", "simnpu@fp16", "ascend", "cpu")]) == "infer.simnpu"
    assert router.queue([("ascend:0", "cpu")]) == "infer.ascend"
    assert router.queue([("cpu",)]) == "infer.cpu"


def test_a_device_that_is_named_by_its_number_must_be_that_one() -> None:
    """Another one of its class does not do, while the order goes on."""
    router = knowing(worker("a", "cpu", "ascend:0"))
    assert router.queue([("ascend:1", "cpu")]) == "infer.cpu"
    assert router.queue([("ascend:1", "ascend", "cpu")]) == "infer.ascend"


def test_where_nobody_has_anything_of_the_order_every_worker_may_take_it() -> None:
    """The same without windows, and while no worker has said anything."""
    assert knowing(worker("a", "cpu")).queue([("metax",)]) == DEFAULT_QUEUE
    assert knowing(worker("a", "cpu", "ascend:0")).queue([]) == DEFAULT_QUEUE
    assert Router().queue([("ascend", "cpu")]) == DEFAULT_QUEUE


def test_a_device_whose_queue_its_worker_does_not_serve_is_not_there() -> None:
    """A worker with one fixed queue takes nothing from that of a class."""
    fixed = worker("a", "cpu", "ascend:0", queues=("line2",))
    assert knowing(fixed).queue([("ascend", "cpu")]) == DEFAULT_QUEUE
    assert not knowing(fixed).serves("infer.ascend")


def test_a_fixed_queue_is_the_only_one() -> None:
    """Whatever workers say."""
    router = Router("line2")
    router.learn([worker("a", "ascend:0")], 1.0)
    assert router.queue([("ascend",)]) == router.queue([]) == "line2"
    assert router.serves("line2")


def test_of_several_pipelines_most_wishes_decide() -> None:
    """Each worker that takes from a queue must be able to: who has the accelerator has a CPU too, not the other way."""
    router = knowing(worker("a", "cpu", "ascend:0"), worker("b", "cpu"))
    assert router.queue([("cpu",), ("ascend", "cpu")]) == "infer.ascend"
    assert router.queue([("cpu",), ("cpu",), ("ascend", "cpu")]) == "infer.ascend"
    two = knowing(worker("a", "ascend:0"), worker("b", "simnpu:0"))
    some = [("simnpu", "ascend"), ("ascend", "simnpu"), ("simnpu", "ascend")]
    assert two.queue(some) == "infer.simnpu"
    assert two.queue(some[:2]) == "infer.simnpu"
    assert two.queue(some[1:2] + some[:1]) == "infer.ascend"


def test_where_all_can_run_comes_before_what_is_wished() -> None:
    """A pipeline that has one device only is not refused for the wishes of two others."""
    router = knowing(worker("a", "ascend:0"), worker("b", "simnpu:0"))
    assert router.queue([("ascend", "simnpu"), ("ascend", "simnpu"), ("simnpu",)]) == "infer.simnpu"


def test_pipelines_whose_devices_are_at_several_workers_pass_each_of_them() -> None:
    """Where each finds what it wishes for; what no worker has is refused at the first stop."""
    router = knowing(worker("a", "cpu", "ascend:0"), worker("b", "cpu", "simnpu:0"))
    ascend, simnpu, cpu, metax = ("ascend",), ("simnpu", "ascend"), ("cpu",), ("metax",)
    assert router.way([ascend, simnpu, cpu, metax]) == (Stop("infer.ascend"), Stop("infer.simnpu", (simnpu,)))
    assert router.way([cpu, metax]) == (Stop(DEFAULT_QUEUE),)
    assert router.way([]) == (Stop(DEFAULT_QUEUE),)
    assert router.way([simnpu, simnpu]) == (Stop("infer.simnpu"),)
    assert Router("line2").way([ascend, simnpu]) == (Stop("line2"),)


def test_where_one_worker_has_all_devices_there_is_one_stop() -> None:
    """Unless another one takes from its queue as well that has not."""
    both = worker("a", "cpu", "ascend:0", "simnpu:0")
    orders = [("ascend",), ("simnpu", "cpu"), ("cpu",)]
    assert knowing(both).way(orders) == (Stop("infer.ascend"),)
    assert knowing(both, worker("b", "cpu", "ascend:0")).way(orders) == (Stop("infer.simnpu"),)
    two = knowing(both, worker("b", "cpu", "ascend:0"), worker("c", "cpu", "simnpu:0"))
    assert two.way(orders) == (Stop("infer.ascend"), Stop("infer.simnpu", (("simnpu", "cpu"),)))


def test_a_way_does_not_lead_where_nobody_is() -> None:
    """What waits for a device that is gone for a while does not hold up the other pipelines of its message."""
    here = worker("b", "cpu", "simnpu:0")
    router = knowing(worker("a", "cpu", "ascend:0"), here)
    assert len(router.way([("ascend",), ("simnpu",)])) == 2
    router.learn([here], 101.0 + GONE_S)
    assert router.way([("ascend",)]) == (Stop("infer.ascend"),)
    assert router.way([("ascend",), ("simnpu",)]) == (Stop("infer.simnpu"),)
    assert router.way([("simnpu",), ("ascend", "cpu")]) == (Stop("infer.simnpu"),)


MAKERS = st.sampled_from(["ascend", "simnpu", "metax", "cpu"])
ORDERS = st.lists(st.lists(MAKERS, min_size=1, max_size=3, unique=True).map(tuple), max_size=6)
HAVE = st.lists(st.sets(MAKERS), max_size=4)


@given(ORDERS, HAVE)
def test_each_pipeline_is_run_once_where_its_wish_is(orders: list[Order], have: list[set[str]]) -> None:
    """Whatever workers there are: by every worker that may take the message there, no queue is passed twice."""
    workers = [worker(str(at), "cpu", *(f"{one}:0" for one in some - {"cpu"})) for at, some in enumerate(have)]
    router = knowing(*workers)
    first, *later = router.way(orders)
    queues = [first.queue, *(stop.queue for stop in later)]
    assert len(set(queues)) == len(queues)
    assert first.orders == ()
    for order in orders:
        stops = [stop.queue for stop in later if order in stop.orders]
        assert len(stops) <= 1
        there = {name for one in workers for name in one.classes}
        wish = next((name for name in order if name in there), None)
        for one in workers:
            if wish is not None and (stops or [first.queue])[0] in one.queues:
                assert wish in one.classes


def test_a_worker_that_is_not_heard_of_is_gone_after_some_seconds() -> None:
    """Not at once: its word may just have been lost. Its queue is served no more, and the order goes on."""
    one, other = worker("a", "cpu", "ascend:0"), worker("b", "cpu")
    router = knowing(one, other)
    router.learn([other], 100.0 + GONE_S)
    assert router.queue([("ascend", "cpu")]) == "infer.ascend"
    router.learn([other], 100.1 + GONE_S)
    assert router.queue([("ascend", "cpu")]) == "infer.cpu"
    assert not router.serves("infer.ascend")
    router.learn([one, other], 200.0)
    assert router.queue([("ascend", "cpu")]) == "infer.ascend"


def test_a_device_that_its_worker_has_lost_is_gone_at_once() -> None:
    """The worker says so itself."""
    router = knowing(worker("a", "cpu", "ascend:0"))
    router.learn([worker("a", "cpu")], 101.0)
    assert router.queue([("ascend", "cpu")]) == "infer.cpu"
    # An order that names a maker means its first device: another one of it does not do.
    second = msgspec.structs.replace(worker("a", "cpu", "ascend:1"), classes=("cpu",), lost=("ascend:0",))
    router.learn([second], 102.0)
    assert router.queue([("ascend", "cpu")]) == "infer.cpu"
    assert router.queue([("ascend", "ascend:1", "cpu")]) == "infer.ascend"


def test_work_that_runs_nowhere_else_waits_for_a_while() -> None:
    """A worker that is started again finds it; then it goes where it is refused with the reason."""
    router = knowing(worker("a", "cpu", "ascend:0"), worker("b", "cpu"))
    router.learn([worker("b", "cpu")], 99.0 + PATIENCE_S)
    assert router.queue([("ascend",)]) == "infer.ascend"
    assert router.queue([("ascend", "cpu")]) == "infer.cpu"
    router.learn([worker("b", "cpu")], 101.0 + PATIENCE_S)
    assert router.queue([("ascend",)]) == DEFAULT_QUEUE


def test_work_that_moves_is_told_once_and_once_when_it_is_back() -> None:
    """Per order of devices; what goes where it should is not told."""
    one, other = worker("a", "cpu", "ascend:0"), worker("b", "cpu")
    with structlog.testing.capture_logs() as logs:
        router = knowing(one, other)
        for _ in range(3):
            router.queue([("ascend", "cpu"), ("cpu",)])
        assert logs == []
        for second in range(10):
            router.learn([other], 101.0 + second)
            router.queue([("ascend", "cpu"), ("cpu",)])
        for second in range(10):
            router.learn([one, other], 120.0 + second)
            router.queue([("ascend", "cpu")])
    told = [(one["event"], one["queue"], one.get("to"), one["devices"]) for one in logs]
    order = ["ascend", "cpu"]
    assert told == [(WORK_MOVED, "infer.ascend", "infer.cpu", order), (WORK_BACK, "infer.ascend", None, order)]


def test_while_no_worker_was_ever_heard_of_nothing_has_moved() -> None:
    """A box that starts: its work waits for its worker."""
    with structlog.testing.capture_logs() as logs:
        router = Router()
        router.learn([], 100.0)
        router.queue([("ascend", "cpu")])
        router.learn([worker("a", "cpu", "ascend:0")], 101.0)
    assert logs == []
