"""The contract of the fault detector: what goes in, what comes out, in which units, from which window."""

from __future__ import annotations

from examples.tep.tags import COLUMNS, FAULTS
from examples.tep.windows import HOP_S, LENGTH, STEP_S


def manifest() -> dict[str, object]:
    """`model.yaml` as plain data."""
    window = {
        "name": "window",
        "dtype": "float32",
        "shape": [None, LENGTH, len(COLUMNS)],
        "unit": "mixed",
        "meaning": "rows ascending in time, the last one is the window's end; one column per tag",
        "columns": [{"tag": tag.name, "unit": tag.unit.text, "meaning": tag.description} for tag in COLUMNS],
    }
    classes = ["normal", *FAULTS]
    outputs = [
        {
            "name": "score",
            "dtype": "float32",
            "shape": [None],
            "unit": "1",
            "limit": 1.0,
            "meaning": "how far from normal operation; above 1 is an alarm, below 1 % of normal windows reach it",
        },
        {
            "name": "fault",
            "dtype": "int64",
            "shape": [None],
            "unit": "1",
            "classes": classes,
            "meaning": "0 while the score is at most 1, else the number of the likeliest fault, IDV(1) to IDV(28)",
        },
        {
            "name": "probabilities",
            "dtype": "float32",
            "shape": [None, len(classes)],
            "unit": "1",
            "classes": classes,
            "meaning": "the classifier's probability of each class, uncalibrated",
        },
    ]
    return {
        "name": "tep-fault-detector",
        "version": "1.0.0",
        "description": "Detects and names faults of the Tennessee Eastman plant under Ricker's control, mode 1",
        "licence": "Apache-2.0",
        "author": "The Headrace authors",
        "inputs": [window],
        "outputs": outputs,
        "window": {"kind": "hop", "step_s": STEP_S, "length": LENGTH, "hop_s": HOP_S, "resample": "last"},
        "quality": {"uncertain": "accept", "bad": "hold", "hold_s": 5.0},
    }
