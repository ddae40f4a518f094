"""The plant itself: the Tennessee Eastman simulator under Ricker's control, advanced in plant hours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from tep_studio import RickerMultiLoopController, TennesseeEastmanProcess
from tep_studio.simulation.modes import mode_setpoints

from examples.tep.tags import COLUMNS, FAULTS, XMEAS

if TYPE_CHECKING:
    from numpy.typing import NDArray

CONTROL_INTERVAL_H: Final = 0.0025
"""How often the controllers act, in plant hours; training and demonstration must agree on it."""
RESTART_STRIDE: Final = 7919


class Process:
    """The closed loop from the steady state on. Faults are switched by number; a trip stops it until `restart`."""

    def __init__(self, seed: int) -> None:
        """`seed` fixes measurement noise and random disturbances; every restart takes the next one."""
        self._simulator = TennesseeEastmanProcess()
        self._seed = seed
        self.faults: NDArray[np.float64] = np.zeros(len(FAULTS))
        self.restart()

    def restart(self) -> None:
        """Go back to the steady state, plant time 0; the fault switches stay as they are."""
        # The kernel's random numbers are a multiplicative generator modulo 2**32, whose seed must be odd.
        kernel_seed = float((self._seed * 2 + 1) % 2**32)
        self._seed += RESTART_STRIDE
        self._measured, _ = self._simulator.reset(seed=kernel_seed)
        self._action = self._simulator.state[38:50].copy()
        self._controller = RickerMultiLoopController(setpoints=mode_setpoints("mode1"))
        self._controller.reset(self._measured, time=0.0)
        self._steps = 0
        self.trip: str | None = None
        """Why the plant's own protection stopped it, or None while it runs."""

    @property
    def time_h(self) -> float:
        """Plant time since the last start, in hours."""
        return self._steps * CONTROL_INTERVAL_H

    @property
    def values(self) -> NDArray[np.float64]:
        """The present values in the order of `COLUMNS`, shape (53,); analysers hold their last analysis."""
        n = len(XMEAS)
        return np.concatenate((self._measured[:n], self._action, self._measured[n : len(COLUMNS) - len(self._action)]))

    def step(self) -> None:
        """Advance by one control interval. Does nothing after a trip."""
        if self.trip is not None:
            return
        self._action, _ = self._controller.compute_action(self._measured, time=self._simulator.time)
        result = self._simulator.advance(self._action, control_interval=CONTROL_INTERVAL_H, disturbances=self.faults)
        self._measured = result.measurements
        self._steps += 1
        if result.shutdown_status["terminated"]:
            self.trip = str(result.shutdown_status["message"]).strip() or "shut down"
