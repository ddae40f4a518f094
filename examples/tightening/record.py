"""Makes the recording that the station replays: `curves.npz`, units in the order in which they were tightened."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from examples.tightening.curves import OK, RECIPES, VERDICTS, curve

RECORDING: Final = Path(__file__).parent / "curves.npz"
UNITS: Final = 96
DEFECT_SHARE: Final = 0.2
SEED: Final = 20_260_301
"""No other seed of this example: neither training nor test has seen these curves."""


def main() -> None:
    """Write the recording: `curves` (n, 128, 2) float32, `recipe` and `verdict` (n,) int64, numbers of the tables."""
    random = np.random.default_rng(SEED)
    defect = random.random(UNITS) < DEFECT_SHARE
    verdict = np.where(defect, random.integers(1, len(VERDICTS), UNITS), OK)
    recipe = np.arange(UNITS) % len(RECIPES)
    curves = np.stack([curve(random, RECIPES[r], int(v)) for r, v in zip(recipe, verdict, strict=True)])
    # Resolutions of a real spindle; they also make the file small.
    rounded = np.round(curves / (0.01, 0.1)) * (0.01, 0.1)
    np.savez_compressed(RECORDING, curves=rounded.astype(np.float32), recipe=recipe, verdict=verdict)


if __name__ == "__main__":
    main()
