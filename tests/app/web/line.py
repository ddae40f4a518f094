"""A tightening station in a few lines: readings of real curves, cut, scored and stored by the product's own parts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
from sqlalchemy import Engine, select

from app.certificates.queries import standing
from app.config.check import check_text
from app.db import reading
from app.field.windowing import Windowing
from app.inferring import score
from app.journal.frames import Entry, Position
from app.messages import Message
from app.pipelines.service import active
from app.plant import service as plant
from app.records import to_record
from app.scoring import service as scoring
from app.sessions import Sessions
from app.sources.tables import ConnectionRow, TagRow
from connectors import Batch, Refusal

EXAMPLE = Path(__file__).parents[3] / "examples" / "tightening"
FILE = f"""\
version: 1
plant: {{enterprise: acme, site: suzhou}}
connections:
  - {{name: station, connector: mqtt, options: {{url: "mqtt://127.0.0.1:1883"}}}}
tags:
  - {{name: torque, connection: station, address: "st/curve#/torque", unit: N.m, place: st10}}
  - {{name: angle, connection: station, address: "st/curve#/angle", unit: deg, place: st10}}
  - {{name: counter, connection: station, datatype: integer, address: "st/cycle#/counter"}}
  - {{name: serial, connection: station, datatype: string, address: "st/cycle#/unit_id"}}
models:
  - {{name: judge, path: "{EXAMPLE / "package"}"}}
pipelines:
  - name: tightening
    model: judge
    asset: st10
    window: {{trigger: counter, lateness_s: 0}}
    inputs: {{tags: [torque, angle]}}
    context: {{unit_id: serial}}
    rules:
      - name: bad
        output: score
        above: 1.0
        message: {{en: "part {{unit_id}}: {{score}}", zh-CN: "工件 {{unit_id}}"}}
northbound:
  - {{name: mes, connector: mqtt, options: {{url: "mqtt://127.0.0.1:1883"}}}}
  - name: scada
    connector: opcua
    options: {{endpoint: "opc.tcp://127.0.0.1:4841/x", username: u, password: {{file: secret}}}}
"""
SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
_GOLDEN = np.load(EXAMPLE / "package" / "golden.npz")
GOOD = _GOLDEN["in/curve"][0].astype(float)
"""A curve that the model takes for a good one."""
STRIPPED = _GOLDEN["in/curve"][8].astype(float)
"""A stripped thread."""


class Line:
    """One station whose parts go through the product without processes between."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        """Apply the plant file to an empty database."""
        (folder / "secret").write_text("s" * 12)
        plant.apply(engine, check_text(FILE, str(folder / "plant.yaml"), folder / "models"), "test")
        self.engine = engine
        self.sessions = Sessions(folder / "models", standing=partial(standing, engine))
        versions, _ = active(engine)
        self.versions = versions
        self.windowing = Windowing()
        self.windowing.switch(Position(1, 0), versions, versions)
        self.number = 0
        self.now = START
        with reading(engine) as session:
            self.connection = session.scalars(select(ConnectionRow.id)).one()
            self.tags = {row.name: row.id for row in session.execute(select(TagRow.name, TagRow.id))}

    def send(self, rows: list[tuple[str, int, object]], refused: tuple[Refusal, ...] = ()) -> bool:
        """One batch of (tag, time, value) through windows, model and transaction; False when it was applied before."""
        numbers = [float(v) if isinstance(v, int | float) else float("nan") for _, _, v in rows]
        others = {index: value for index, (_, _, value) in enumerate(rows) if not isinstance(value, int | float)}
        batch = Batch(
            tags=np.array([self.tags[name] for name, _, _ in rows], dtype=np.int64),
            source_time=np.array([at for _, at, _ in rows], dtype=np.int64),
            values=np.array(numbers),
            others=others,
            status=np.zeros(len(rows), dtype=np.uint32),
            received_time=self.now,
            alive_until=self.now,
            revision=1,
            refused=refused,
        )
        self.number += 1
        record = to_record(self.connection, batch)
        blocks = self.windowing.feed(Entry(Position(1, self.number), record))
        self.message = Message(1, "test", 1, self.number, record, tuple(blocks))
        return self.apply(self.message)

    def apply(self, message: Message) -> bool:
        """Score and store a message, as a worker does."""
        scored = [score(self.sessions, self.versions[b.version_id], b) for b in message.windows]
        return scoring.apply(self.engine, message, scored)

    def part(self, counter: int, curve: np.ndarray | None = GOOD) -> None:
        """One part: its curve, then its cycle message; without a curve it was missed."""
        begin = self.now + SECOND
        self.now = begin + 2 * SECOND
        rows: list[tuple[str, int, object]] = []
        for index, (torque, angle) in enumerate(curve.tolist() if curve is not None else ()):
            at = begin + index * 10_000_000
            rows += [("torque", at, torque), ("angle", at, angle)]
        end = begin + 1_270_000_000
        rows += [("counter", end, counter), ("serial", end, f"SN{counter}")]
        self.send(rows)


def expected(view: Mapping[str, object]) -> set[str]:
    """The fields of a passport that must never be empty."""
    return {name for name in ("input_digest", "model_digest", "device", "backend", "end") if not view[name]}
