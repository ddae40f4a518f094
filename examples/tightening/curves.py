"""Torque and angle of a screw being tightened, from a physical description: run-down, snug, elastic slope, yield."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAMPLES: Final = 128
SAMPLE_S: Final = 0.01
"""The spindle's controller records 128 samples at 100 Hz from the start of each cycle."""
TICKS_PER_SAMPLE: Final = 10
RUN_DOWN_DEG_S: Final = 1200.0
TIGHTEN_DEG_S: Final = 170.0
SPIN_DOWN_S: Final = 0.012
VERDICTS: Final = ("ok", "cross-threaded", "stripped thread", "stick-slip", "no screw", "overtightened")
OK, CROSS, STRIPPED, STICK_SLIP, NO_SCREW, OVERTIGHTENED = range(len(VERDICTS))


@dataclass(frozen=True, slots=True)
class Recipe:
    """What one kind of joint is tightened to."""

    name: str
    revision: int
    target: float
    """Nm: the spindle stops there."""
    slope: float
    """Nm per degree in the elastic range."""
    turns: float
    """Of run-down until the head is snug."""


RECIPES: Final = (Recipe("M8-25Nm", 3, 25.0, 0.42, 2.1), Recipe("M6-10Nm", 5, 10.0, 0.17, 1.7))


@dataclass(frozen=True, slots=True)
class Joint:
    """One joint as it is, with its scatter and its defect."""

    target: float
    snug_deg: float
    prevailing: float
    """Nm of friction during run-down."""
    slope: float
    yield_torque: float
    yield_slope: float
    """Share of the elastic slope that remains above yield."""
    strip_torque: float
    """Nm at which the thread gives way; infinite where it holds."""
    slip: float
    """Share of the torque by which it jumps when the head sticks and slips."""
    bind: float
    """Nm per degree from the first turn on, of a thread that is crossed."""
    engaged: bool


def joint(random: np.random.Generator, recipe: Recipe, verdict: int) -> Joint:
    """A joint of this recipe with the scatter of parts and friction, and the defect that the verdict names."""
    sound = Joint(
        target=recipe.target,
        snug_deg=360.0 * recipe.turns * random.normal(1.0, 0.05),
        prevailing=recipe.target * random.uniform(0.03, 0.08),
        slope=recipe.slope * random.normal(1.0, 0.08),
        yield_torque=recipe.target * random.uniform(1.15, 1.4),
        yield_slope=0.1,
        strip_torque=float("inf"),
        slip=random.uniform(0.0, 0.015),
        bind=0.0,
        engaged=True,
    )
    if verdict == CROSS:
        return replace(sound, bind=recipe.target / random.uniform(250.0, 650.0))
    if verdict == STRIPPED:
        return replace(sound, strip_torque=recipe.target * random.uniform(0.35, 0.85))
    if verdict == STICK_SLIP:
        return replace(sound, slip=random.uniform(0.06, 0.25))
    if verdict == NO_SCREW:
        return replace(sound, engaged=False)
    if verdict == OVERTIGHTENED:
        torque = recipe.target * random.uniform(0.6, 0.88)
        return replace(sound, yield_torque=torque, yield_slope=random.uniform(0.02, 0.12))
    return sound


def _reaction(part: Joint, angle: float, stripped: bool, random: np.random.Generator) -> float:  # noqa: FBT001 - a state
    """The torque in Nm that the joint sets against the spindle at this angle in degrees."""
    friction = part.prevailing * (1.0 + 0.25 * math.sin(math.radians(angle)))
    if not part.engaged:
        return 0.3 * friction
    torque = friction + part.bind * max(angle - 180.0, 0.0)
    elastic = part.slope * max(angle - part.snug_deg, 0.0)
    if stripped:
        return torque + 0.25 * part.strip_torque * math.exp(-max(angle - part.snug_deg, 0.0) / 200.0)
    over = max(elastic - part.yield_torque, 0.0)
    torque += elastic - (1.0 - part.yield_slope) * over
    jump = part.slip * torque * ((angle / 9.0) % 1.0 - 0.5) if elastic > 0 else 0.0
    return torque + 2.0 * jump + random.normal(0.0, 0.002 * part.target)


def curve(random: np.random.Generator, recipe: Recipe, verdict: int) -> NDArray[np.float32]:
    """One cycle: shape (128, 2), torque in Nm and angle in degrees, 10 ms apart.

    The spindle runs down fast, tightens slowly once it feels the head, stops at the target torque, at a limit of
    angle, or when its record is full; then the torque falls away and the joint springs back a little.
    """
    part = joint(random, recipe, verdict)
    tick = SAMPLE_S / TICKS_PER_SAMPLE
    angle = torque = 0.0
    stripped = stopped = False
    samples = np.zeros((SAMPLES, 2))
    for i in range(SAMPLES * TICKS_PER_SAMPLE):
        if stopped:
            torque *= math.exp(-tick / SPIN_DOWN_S)
        else:
            slow = torque > 0.2 * part.target
            angle += tick * (TIGHTEN_DEG_S if slow else RUN_DOWN_DEG_S)
            torque = _reaction(part, angle, stripped, random)
            stripped = stripped or torque > part.strip_torque
            stopped = torque >= part.target or angle > part.snug_deg + 400.0
            angle -= 2.0 if stopped else 0.0
        if i % TICKS_PER_SAMPLE == TICKS_PER_SAMPLE - 1:
            samples[i // TICKS_PER_SAMPLE] = torque, angle
    samples[:, 0] += random.normal(0.0, 0.004 * part.target, SAMPLES)
    samples[:, 1] += random.normal(0.0, 0.5, SAMPLES)
    return samples.astype(np.float32)


def window_check(samples: NDArray[np.float32], recipe: Recipe) -> bool:
    """The station's own verdict, as such stations give it: peak torque and final angle within their windows."""
    peak, final = float(samples[:, 0].max()), float(samples[-1, 1])
    nominal = 360.0 * recipe.turns + recipe.target / recipe.slope
    return abs(peak / recipe.target - 1.0) <= 0.1 and abs(final - nominal) <= 180.0  # noqa: PLR2004 - its windows
