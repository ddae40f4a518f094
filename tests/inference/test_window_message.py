"""One message is one window: arrays as they are, images decoded, and what is neither is refused."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from inference.window import Input, Router, Spec, Windower, Windows, cut
from inference.windower_message import picture

SECOND = 1_000_000_000
BASE = 1_700_000_000 * SECOND
WAVE, UNIT = 4, 8
SPEC = Spec("message", (Input(WAVE, 1),), 0, 6, 0, 0, shape=(3, 2), context=(("unit_id", UNIT),))
UNCERTAIN, BAD = 0x40000000, 0x80000000


def feed(windower: Windower | Router, *messages: Any, at: float = 1.0, status: int = 0) -> list[Windows]:  # noqa: ANN401
    """Messages of the tag, a second apart from `at` on, in one batch."""
    times = [BASE + round((at + number) * SECOND) for number in range(len(messages))]
    values = [float(one) if isinstance(one, int | float) else np.nan for one in messages]
    others = {row: one for row, one in enumerate(messages) if not isinstance(one, int | float)}
    n = len(messages)
    found = windower.feed(1, [WAVE] * n, times, values, others, [status] * n, times[-1], times[-1])
    return [one for one in (found.values() if isinstance(found, dict) else [found]) if one is not None]


def wave(first: float, shape: tuple[int, ...] = (3, 2)) -> np.ndarray[Any, Any]:
    """Numbers that count on."""
    return first + np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def test_each_message_has_a_window_of_its_cells() -> None:
    """In the order that they lie in, of any type of number; ends are the messages' times, numbers go on."""
    windower = Windower(SPEC)
    windower.feed(1, [UNIT], [BASE], [7.0], {}, [0], BASE, BASE)
    (made,) = feed(windower, wave(1), wave(10).astype(np.int16))
    assert cut(made)[:, :, 0].tolist() == [[1, 2, 3, 4, 5, 6], [10, 11, 12, 13, 14, 15]]
    assert made.end_time.tolist() == [BASE + SECOND, BASE + 2 * SECOND]
    assert made.start_time.tolist() == [BASE + SECOND, BASE + SECOND]
    assert (made.sequence.tolist(), made.refused, made.context) == ([1, 2], (), ({"unit_id": 7}, {"unit_id": 7}))
    assert windower.tick(BASE + 100 * SECOND) is None


@pytest.mark.parametrize(("message", "status", "reason"), [
    (wave(0, (2, 3)), 0, "wrong_shape"), (wave(0, (6,)), 0, "wrong_shape"), ("text", 0, "wrong_type"),
    (wave(0) * np.nan, 0, "not_finite"), (wave(0), BAD, "bad_status"), (b"no image", 0, "wrong_type"),
    (1.5, 0, "wrong_type"), ({"a": [1]}, 0, "wrong_type"), ([[1, 2], [3]], 0, "wrong_type"),
    (np.array([["a"] * 2] * 3), 0, "wrong_type"),
], ids=str)  # fmt: skip
def test_what_the_model_cannot_take_refuses_its_window(message: object, status: int, reason: str) -> None:
    """With the tag, as Bad; the next message is not touched by it."""
    windower = Windower(SPEC)
    (made,) = feed(windower, message, status=status)
    assert made.refused == ((0, f"{reason}:{WAVE}"),)
    assert made.quality[0] >> 30 == 2
    assert np.isnan(cut(made)).all()
    (made,) = feed(windower, wave(0), at=5)
    assert (made.refused, made.sequence.tolist()) == ((), [2])


def test_an_uncertain_message_is_taken_where_the_policy_does() -> None:
    """Its status is that of its window."""
    (made,) = feed(Windower(SPEC), wave(0), status=UNCERTAIN)
    assert (made.refused, made.quality.tolist()) == ((), [UNCERTAIN])
    strict = replace(SPEC, inputs=(Input(WAVE, 1, policy="good"),))
    (made,) = feed(Windower(strict), wave(0), status=UNCERTAIN)
    assert made.refused == ((0, f"bad_status:{WAVE}"),)


def test_the_same_message_again_is_no_other_one() -> None:
    """Another one at the same time is, and ends 1 ns later; an older one is late."""
    windower = Windower(SPEC)
    feed(windower, wave(0))
    assert feed(windower, wave(0)) == []
    (made,) = feed(windower, wave(1))
    assert made.end_time.tolist() == [BASE + SECOND + 1]
    assert feed(windower, wave(2), at=0.5) == []
    assert windower.late == 1


def test_what_is_in_force_at_a_start_has_no_window() -> None:
    """It was answered by whoever was in force then; and a message that was dropped from the journal has none either."""
    router = Router({1: SPEC})
    router.prime(1, [WAVE], [BASE + SECOND], [np.nan], {0: wave(0)}, [0], BASE + SECOND, BASE + SECOND)
    assert router.tick(BASE + 2 * SECOND) == {}
    assert feed(router, wave(0)) == []
    (made,) = feed(router, wave(5), at=3)
    assert made.sequence.tolist() == [1]
    router.lose(1, [WAVE], [BASE + 5 * SECOND], [np.nan], {0: wave(0)}, [0], BASE + 4 * SECOND, BASE + 6 * SECOND)
    assert router.tick(BASE + 7 * SECOND) == {}
    restored = Router.restore({1: SPEC}, router.snapshot())
    assert feed(restored, wave(0), at=5) == feed(router, wave(0), at=5) == []
    assert repr(feed(restored, wave(9), at=8)) == repr(feed(router, wave(9), at=8))


def drawn(size: tuple[int, int], mode: str = "RGB", kind: str = "PNG") -> bytes:
    """An image, columns first, of pixels that count on."""
    channels = {"L": 1, "RGB": 3, "RGBA": 4}[mode]
    pixels = np.arange(size[0] * size[1] * channels, dtype=np.uint8).reshape(size[1], size[0], channels)
    made = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels, mode).save(made, kind)
    return made.getvalue()


def test_an_image_is_decoded_to_rows_columns_and_channels() -> None:
    """PNG exactly, JPEG about so; grey ones with or without a channel of their own."""
    spec = replace(SPEC, shape=(4, 5, 3), length=60, context=())
    (made,) = feed(Windower(spec), drawn((5, 4)))
    assert cut(made).ravel().tolist() == [*range(60)]
    found = picture(drawn((5, 4), kind="JPEG"), (4, 5, 3))
    assert not isinstance(found, str)
    assert found.shape == (4, 5, 3)
    for shape in ((4, 5), (4, 5, 1)):
        grey = picture(drawn((5, 4), "L"), shape)
        assert not isinstance(grey, str)
        assert (grey.shape, grey.ravel().tolist()) == (shape, [*range(20)])


@pytest.mark.parametrize(("content", "shape", "reason"), [
    (drawn((5, 4)), (5, 4, 3), "wrong_shape"), (drawn((5, 4)), (4, 5, 1), "wrong_shape"),
    (drawn((5, 4)), (60,), "wrong_shape"),
    (drawn((5, 4), "L"), (4, 5, 3), "wrong_shape"), (drawn((5, 4), "RGBA"), (4, 5, 3), "wrong_shape"),
    (drawn((5, 4))[:40], (4, 5, 3), "wrong_type"), (b"\x89PNG\r\n\x1a\n" + b"\x00" * 40, (4, 5, 3), "wrong_type"),
    (b"", (4, 5, 3), "wrong_type"), (b"GIF89a" + b"\x00" * 60, (4, 5, 3), "wrong_type"),
], ids=["turned", "grey wanted", "no image", "is grey", "has alpha", "cut off", "broken", "empty", "GIF"])  # fmt: skip
def test_another_image_is_refused(content: bytes, shape: tuple[int, ...], reason: str) -> None:
    """Nothing is resized, turned or recoloured unseen."""
    assert picture(content, shape) == reason


def test_an_image_that_would_fill_the_memory_is_not_decoded() -> None:
    """Its size stands before its content: 81 million pixels in 80 kB."""
    bomb = io.BytesIO()
    Image.new("L", (9_000, 9_000)).save(bomb, "PNG")
    assert picture(bomb.getvalue(), (4, 5)) == "wrong_shape"


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3)), max_size=25), st.integers(1, 6), st.integers(0, 5))
def test_the_same_as_one_after_the_other(messages: list[tuple[int, int]], pieces: int, stop: int) -> None:
    """However they are divided into batches, and with a snapshot in the middle; each that is newer has one window."""
    spec = replace(SPEC, shape=(1,), length=1, context=())
    router = Router({1: spec})
    made: list[Windows] = []
    for number, part in enumerate(np.array_split(np.arange(len(messages)), pieces)):
        some = [messages[index] for index in part]
        times = [BASE + at * SECOND for at, _ in some]
        others = {row: np.array([value]) for row, (_, value) in enumerate(some)}
        n, now = len(some), BASE + 60 * SECOND
        found = router.feed(1, [WAVE] * n, times, [np.nan] * n, others, [0] * n, now, now)
        made += found.values()
        if number == stop:
            router = Router.restore({1: spec}, router.snapshot())
    expected: list[int] = []
    last = (-1, -1)
    for at, value in messages:
        if at > last[0] or (at == last[0] and value != last[1]):
            expected.append(value)
            last = (at, value)
    assert [int(cell) for each in made for cell in cut(each).ravel()] == expected
    assert [int(one) for each in made for one in each.sequence] == [*range(1, len(expected) + 1)]
    ends = [int(one) for each in made for one in each.end_time]
    assert ends == sorted(set(ends))
