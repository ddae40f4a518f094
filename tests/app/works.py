"""A pipeline in a database with a real model in a real store, and messages as a gateway sends them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper

from app import tables
from app.certificates.queries import standing
from app.db import make_engine, writing
from app.errors import QueueError
from app.messages import Message
from app.models.tables import ModelRow
from app.northbound.tables import SubscriptionRow
from app.pipelines.tables import PipelineRow, PipelineVersionRow
from app.plant.tables import PlantRevisionRow
from app.records import Record, WindowBlock, to_record
from app.scoring.tasks import Scorer
from app.sessions import Sessions
from app.sources.tables import ConnectionRow, TagRow
from connectors import Batch, Refusal
from inference.model import import_model

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
LENGTH, INPUTS = 4, 2
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def mean_model(rows: int | str = "N") -> onnx.ModelProto:
    """Of x, float32 [N, 4, 2], `score` is the mean of a window, `kind` its whole part, `root` its square root."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["score"], axes=[1, 2], keepdims=0),
        helper.make_node("Cast", ["score"], ["kind"], to=INT64),
        helper.make_node("Sqrt", ["score"], ["root"]),
    ]
    outputs = [
        helper.make_tensor_value_info(name, kind, [rows])
        for name, kind in (("score", FLOAT), ("kind", INT64), ("root", FLOAT))
    ]
    inputs = [helper.make_tensor_value_info("x", FLOAT, [rows, LENGTH, INPUTS])]
    graph = helper.make_graph(nodes, "g", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def rule(**changes: object) -> dict[str, object]:
    """An alarm on a score above 1."""
    return {"name": "high", "output": "score", "above": 1.0, **changes}


def record(connection: int, values: Sequence[float] = (1.0,), at: int = START, **changes: Any) -> Record:  # noqa: ANN401
    """A journal record of readings of tag 1, one a second from `at` on."""
    count = len(values)
    batch = Batch(
        tags=np.ones(count, dtype=np.int64),
        source_time=at + np.arange(count, dtype=np.int64) * SECOND,
        values=np.array(values, dtype=np.float64),
        others={},
        status=np.zeros(count, dtype=np.uint32),
        received_time=at + count * SECOND,
        alive_until=at + count * SECOND,
        revision=1,
        **changes,
    )
    return to_record(connection, batch)


@dataclass
class Works:
    """One connection, one pipeline, two consumers."""

    url: str
    folder: Path
    proto: onnx.ModelProto | None = None
    spec: dict[str, Any] = field(default_factory=dict)
    """What differs from the plainest pipeline."""
    epoch: int = 1
    """Of the journal."""
    number: int = 0
    """Of the last journal record that was sent."""
    rung: int = 0
    """How often its workers told of something new in the outbox."""
    deaf: bool = False
    """Whether telling fails."""

    def __post_init__(self) -> None:
        """Make the rows, in an empty database."""
        self.engine = make_engine(self.url)
        tables.metadata.create_all(self.engine)
        file = self.folder / "model.onnx"
        onnx.save_model(self.proto or mean_model(), file)
        self.model = import_model(file, self.folder / "models")
        with writing(self.engine) as session:
            session.add(ConnectionRow(name="field", connector="opcua", options={}))
            plant = {"document": "", "digest": "", "path": "acme/line1", "applied_at": 1, "applied_by": "t"}
            session.add(PlantRevisionRow(number=1, **plant))
            session.add(PipelineRow(name="watch"))
            session.add(ModelRow(
                digest=self.model.digest, sm3="", name="mean", version="1", contract={}, imported_at=1,
            ))
            session.add(SubscriptionRow(name="mes", connector="mqtt", options={}, topic="up"))
            session.add(SubscriptionRow(name="scada", connector="opcua", options={}))
            session.flush()
            session.add(TagRow(name="t1", connection_id=1, address="ns=2;s=1", datatype="float", options={}))
            session.add(TagRow(name="watch.score", connection_id=None, address="score", datatype="float", options={}))
        self.version = self.put_in_force(**self.spec)
        self.scorer = self.worker()

    def put_in_force(self, **changes: object) -> int:
        """A new version of the pipeline; returns its id."""
        spec = {
            "name": "watch",
            "model_digest": self.model.digest,
            "model_input": "x",
            "asset": "press",
            "window": {"length": LENGTH},
            "inputs": [{"tag": 1, "connection": 1}] * INPUTS,
            "outputs": [
                {"name": "score", "tag": 2, "tag_name": "watch.score"},
                {"name": "kind", "tag": 3, "tag_name": "watch.kind"},
            ],
            **changes,
        }
        with writing(self.engine) as session:
            pipeline = session.get_one(PipelineRow, 1)
            row = PipelineVersionRow(
                pipeline_id=1, number=(pipeline.active_version or 0) + 1, model_digest=self.model.digest, spec=spec,
                created_at=1,
            )
            session.add(row)
            session.flush()
            pipeline.active_version = row.id
            return row.id

    def worker(self) -> Scorer:
        """A worker process's own part, with an engine of its own."""
        engine = make_engine(self.url)
        return Scorer(engine, Sessions(self.folder / "models", standing=partial(standing, engine)), self._ring)

    def _ring(self) -> None:
        self.rung += 1
        if self.deaf:
            message = "nobody is there to hear it"
            raise QueueError(message)

    def block(self, values: Sequence[float], sequence: int, at: int | None = None, **changes: object) -> WindowBlock:
        """Windows whose cells all hold one value each, one a second; numbered from `sequence` on."""
        n = len(values)
        narrow = self.spec.get("cells") == "float32"
        with np.errstate(over="ignore"):
            cells = np.repeat(np.array(values).astype("<f4" if narrow else "<f8"), LENGTH * INPUTS)
        ends = (START if at is None else at) + (sequence + np.arange(n, dtype=np.int64)) * SECOND
        made = WindowBlock(
            version_id=self.version,
            rows=n * LENGTH,
            inputs=INPUTS,
            length=LENGTH,
            block=cells.tobytes(),
            status=np.zeros(cells.size, dtype=np.uint32).tobytes(),
            first_row=(np.arange(n, dtype=np.int64) * LENGTH).tobytes(),
            start_time=(ends - LENGTH * SECOND).tobytes(),
            end_time=ends.tobytes(),
            sequence=(sequence + np.arange(n, dtype=np.int64)).tobytes(),
            quality=np.zeros(n, dtype=np.uint32).tobytes(),
            refused=(),
            context=(),
            newest=int(ends[-1]),
        )
        return msgspec.structs.replace(made, **changes)

    def message(self, number: int, *blocks: WindowBlock, of: Record | None = None) -> bytes:
        """What the gateway sends for one journal record."""
        return msgspec.msgpack.encode(Message(1, "gw", self.epoch, number, of or record(1), blocks))

    def close(self) -> None:
        """Let go of everything."""
        self.scorer.close()
        self.engine.dispose()


REFUSED = Refusal(address="ns=2;s=1", reason="wrong_type", detail="text", excerpt=b"\x00x", readings=3)
"""What a connector could not take."""
