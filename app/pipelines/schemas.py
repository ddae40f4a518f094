"""What a pipeline version holds: tags → window → model → outputs → rules, with tag names resolved to permanent ids."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Frozen(BaseModel):
    """Unknown keys are refused; a version never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class InputSpec(Frozen):
    """One column of the model's window. Meaning of each field: `inference.window.Input`."""

    tag: int
    connection: int
    resample: Literal["last", "linear", "mean", "min", "max"] = "last"
    policy: Literal["good", "uncertain", "hold", "interpolate"] = "uncertain"
    hold_s: float = Field(default=0.0, ge=0)
    max_gap_s: float = Field(default=60.0, gt=0)
    use_received_time: bool = False


class WindowSpec(Frozen):
    """How readings become one tensor. Meaning of each field: `inference.window.Spec`."""

    kind: Literal["grid", "trigger", "between", "message"] = "grid"
    step_s: float = Field(default=1.0, gt=0)
    length: int = Field(ge=1, le=1 << 24)
    hop: int = Field(default=1, ge=1)
    lateness_s: float = Field(default=0.5, ge=0)
    trigger: int = 0
    trigger_connection: int = 0
    stop: int = 0
    stop_connection: int = 0
    shape: tuple[int, ...] = Field(default=(), max_length=3)
    max_length_s: float = Field(default=60.0, gt=0)


class OutputSpec(Frozen):
    """One output of the model, published under a tag of its own."""

    name: str
    """The model's output name."""
    tag: int
    tag_name: str
    unit: str = ""
    description: str = ""


class RuleSpec(Frozen):
    """Raises an event from one output. Memory: on- and off-delay counted in predictions."""

    name: str
    output: str
    above: float | None = None
    below: float | None = None
    clear: float | None = None
    """Clears at this value: the deadband; the limit itself by default."""
    on_delay: int = Field(default=1, ge=1, le=10_000)
    off_delay: int = Field(default=1, ge=1, le=10_000)
    priority: int = Field(default=3, ge=1, le=4)
    message: dict[str, str] = Field(default_factory=dict)
    """Language tag → text; `{output}` names of the prediction are filled in."""


class PipelineSpec(Frozen):
    """Everything a gateway and a worker need to run one version."""

    name: str
    model_digest: str
    model_input: str
    constants: dict[str, Any] = Field(default_factory=dict)
    """Input name → numbers as JSON has them: what the model is fed besides its windows."""
    state: dict[str, str] = Field(default_factory=dict)
    """Input name → output name: what the model carries from window to window."""
    layout: Literal["NTC", "NCT", "NC", "NHWC", "NCHW"] = "NTC"
    """N windows, T rows, C columns; NC flattens each window to one row. Of messages: H rows, W columns, C channels."""
    cells: Literal["float64", "float32"] = "float64"
    """How windows travel: float32 where the model takes no more, which is half of a message."""
    devices: tuple[str, ...] = ("cpu",)
    """The declared order; the first that takes the model runs it."""
    window: WindowSpec
    inputs: tuple[InputSpec, ...] = Field(min_length=1)
    outputs: tuple[OutputSpec, ...]
    rules: tuple[RuleSpec, ...] = ()
    asset: str = ""
    """Path of the asset in the plant's hierarchy: part of topics and of node paths."""
    context: dict[str, int] = Field(default_factory=dict)
    """Field name → tag id; `unit_id` names the part."""
    context_connection: int = 0
    catch_up: Literal["in_order", "newest_first"] = "in_order"
    """What goes first when much is behind: the newest only where nothing of the pipeline has a memory."""
    max_age_s: float = Field(default=30.0, gt=0)
    """A published output older than this turns Bad."""
