"""The binary form of a batch: the same bytes in the journal, in the queue and in the history.

Layout of `columns`, version 1: zstd over msgpack of `Columns`; every array is little-endian raw bytes. The first
difference of the tag ids and of the source times is stored, because neighbours are alike and compress away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

import msgspec
import numpy as np
import zstandard

from app.extensions import contract, extend, without_big
from app.places import NOWHERE, Places
from connectors import NO_TIME

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from connectors import Batch, PlantEvent
    from inference.window import Windows

MAX_COLUMNS = 64 * 2**20
"""A batch larger than this once unpacked is refused: bytes from disk or queue are foreign too."""

VERSION: Final = 1
LEVEL: Final = 3
"""On 5,000 readings level 3 costs what level 1 costs (0.1 us a reading) and takes a fifth to a third less room."""
Content = TypeVar("Content")


class RefusalRecord(msgspec.Struct, array_like=True, frozen=True):
    """`connectors.Refusal` in columns."""

    address: str
    reason: str
    detail: str
    excerpt: bytes
    readings: int
    place: int = NOWHERE
    """Of the tag with this address."""


class FillRecord(msgspec.Struct, array_like=True, frozen=True):
    """Which gap the readings of a record fill, and how far it is filled with it."""

    gap: int
    """`gaps.id`."""
    until: int = 0
    """ns: with this record all up to here was asked for; 0: says nothing of it."""
    end: str = ""
    """How the filling ended: `filled`, `partly`, `none`; empty while it goes on."""
    reason: str = ""
    """Why it is not filled whole, for the operator."""
    lacking: tuple[int, ...] = ()
    """Tags of which the peer had no past."""


class ConditionRecord(msgspec.Struct, array_like=True, frozen=True):
    """`connectors.ConditionState` in columns."""

    id: str
    name: str
    branch: str
    retain: bool
    enabled: bool | None
    acked: bool | None
    confirmed: bool | None
    active: bool | None
    quality: int
    comment: str


class EventRecord(msgspec.Struct, array_like=True, frozen=True):
    """`connectors.PlantEvent` in columns."""

    id: str
    type: str
    source_node: str
    source: str
    time: int
    receive_time: int
    message: dict[str, str]
    severity: int
    condition: ConditionRecord | None


class DroppedRecord(msgspec.Struct, array_like=True, frozen=True):
    """What stands in a record for readings that the loss policy took out of the journal; the rest of it stays."""

    reason: str
    """`journal_full`."""
    readings: int
    since: int
    """ns: from here to the record's last sign of life changes may be missing."""
    until: int = 0
    """ns: on the first and the last of those of a connection that were dropped together, the last one's sign of life:
    in between nobody knows what is in force. 0 on the others."""
    kept: bytes = b""
    """On the last of them: the newest reading of each tag."""


class Record(msgspec.Struct, array_like=True, frozen=True):
    """One journal record: a batch, or a tick of the clock (connection 0, count 0)."""

    connection: int
    revision: int
    received_time: int
    alive_until: int
    count: int
    first_time: int
    last_time: int
    lost: int
    refused: tuple[RefusalRecord, ...]
    columns: bytes
    """Empty when count is 0."""
    gap_since: int = 0
    """ns: from here to `received_time` changes may be missing, because the connection could not take up; 0: none."""
    fill: FillRecord | None = None
    """Of readings that were read from their peer's history: they close no window, and are no sign of life."""
    events: tuple[EventRecord, ...] = ()
    """What the peer reported beside its readings; the ledger counts them by themselves."""
    dropped: DroppedRecord | None = None
    """Its readings are gone: then `count` is 0 and there are no columns."""
    places: tuple[tuple[int, int], ...] = ()
    """How many of `readings()` belong to each place of the ledger; what is left belongs to none."""

    def readings(self) -> int:
        """What the ledger counts as read: good ones, refused ones, and those that were dropped since."""
        gone = self.dropped.readings if self.dropped is not None else 0
        return self.count + gone + sum(r.readings for r in self.refused)

    def placed(self) -> dict[int, int]:
        """Readings that were not refused, those included that were dropped since, by place; `NOWHERE` for the rest."""
        found = dict(self.places)
        for one in self.refused:
            if one.place:
                found[one.place] -= one.readings
        gone = self.dropped.readings if self.dropped is not None else 0
        found[NOWHERE] = self.count + gone - sum(found.values())
        return found

    @property
    def alive(self) -> int:
        """ns: the last sign of life that it brings."""
        return max(self.received_time, self.alive_until)


class Start(msgspec.Struct, array_like=True, frozen=True):
    """Under which lease the windows of a pipeline version are cut, and where their numbers go on."""

    connection: int
    """Whose lease it is."""
    term: int
    first: int = 1
    """Number of the first window."""
    after: int = 0
    """ns: windows that end at or before this were answered in an earlier term."""


class Leased(msgspec.Struct, array_like=True, frozen=True):
    """The leases in force from a record of the journal on; empty where there is one gateway."""

    terms: dict[int, int]
    """Connection → term of its lease."""
    starts: dict[int, Start]
    """By pipeline version."""


class WindowBlock(msgspec.Struct, array_like=True, frozen=True):
    """`inference.window.Windows` of one pipeline version, as raw little-endian bytes."""

    version_id: int
    rows: int
    inputs: int
    length: int
    block: bytes
    """float64 or float32, as the pipeline version says (rows, inputs)."""
    status: bytes
    """uint32 (rows, inputs), or one for all of them: where nothing is wrong, a third of the message."""
    first_row: bytes
    start_time: bytes
    end_time: bytes
    sequence: bytes
    """int64 (n,) each."""
    quality: bytes
    """uint32 (n,)."""
    refused: tuple[tuple[int, str], ...]
    context: tuple[dict[str, object], ...]
    newest: int
    leased: int = 0
    """The connection under whose lease they were cut; 0 where there is one gateway."""
    term: int = 0
    """Of that lease."""


class Columns(msgspec.Struct, array_like=True, frozen=True):
    """What `columns` unpacks to."""

    version: int
    tags: bytes
    """int64 (n,), first differences modulo 2**64."""
    source_time: bytes
    """int64 (n,), first differences modulo 2**64."""
    values: bytes
    """float64 (n,)."""
    status: bytes
    """uint32 (n,), or one for all rows."""
    others: list[tuple[int, object]]


def to_record(
    connection: int, batch: Batch, gap_since: int = 0, fill: FillRecord | None = None, places: Places | None = None
) -> Record:
    """Pack a batch; compresses once for disk, queue and history. TypeError for a value no contract allows.

    `places`: of the connection's tags, where the ledger tells them apart.
    """
    count = len(batch)
    places = places or Places()
    refused = tuple(
        RefusalRecord(r.address, r.reason, r.detail, r.excerpt, r.readings, places.of(r.address)) for r in batch.refused
    )
    times = np.where(batch.source_time == NO_TIME, batch.received_time, batch.source_time)
    return Record(
        connection=connection,
        revision=batch.revision,
        received_time=batch.received_time,
        alive_until=batch.alive_until,
        count=count,
        first_time=int(times.min()) if count else batch.received_time,
        last_time=int(times.max()) if count else batch.received_time,
        lost=batch.lost,
        refused=refused,
        columns=encode_columns(batch) if count else b"",
        gap_since=gap_since if gap_since < batch.received_time else 0,
        fill=fill,
        events=tuple(_event(one) for one in batch.events),
        places=places.count(batch.tags, ((one.place, one.readings) for one in refused)),
    )


def to_block(version: int, windows: Windows, cells: str, start: Start | None = None) -> WindowBlock:
    """Windows as they travel: the same bytes on any machine, in the element type `cells`.

    `start`: where they are cut under a lease.

    What is too large for that becomes infinite, and is refused as out of range.
    """
    with np.errstate(over="ignore"):
        block = windows.block.astype(cells, copy=False).tobytes()
    rows, inputs = windows.block.shape
    status = windows.status.astype("<u4", copy=False)
    uniform = status.size > 0 and bool((status == status[0, 0]).all())
    return WindowBlock(
        version_id=version,
        rows=rows,
        inputs=inputs,
        length=windows.length,
        block=block,
        status=(status[:1, :1] if uniform else status).tobytes(),
        first_row=windows.first_row.astype("<i8", copy=False).tobytes(),
        start_time=windows.start_time.astype("<i8", copy=False).tobytes(),
        end_time=windows.end_time.astype("<i8", copy=False).tobytes(),
        sequence=windows.sequence.astype("<i8", copy=False).tobytes(),
        quality=windows.quality.astype("<u4", copy=False).tobytes(),
        refused=windows.refused,
        context=windows.context,
        newest=windows.newest,
        leased=start.connection if start else 0,
        term=start.term if start else 0,
    )


def _event(event: PlantEvent) -> EventRecord:
    state = event.condition
    condition = None
    if state is not None:
        condition = ConditionRecord(
            state.id, state.name, state.branch, state.retain, state.enabled, state.acked, state.confirmed, state.active,
            state.quality, state.comment,
        )  # fmt: skip
    return EventRecord(
        event.id, event.type, event.source_node, event.source, event.time, event.receive_time, dict(event.message),
        event.severity, condition,
    )  # fmt: skip


def tick(time: int) -> Record:
    """A tick of the clock at this time (ns): windows may close on it."""
    return Record(0, 0, time, 0, 0, time, time, 0, (), b"")


def encode_columns(batch: Batch) -> bytes:
    """The columns of a non-empty batch. TypeError for a value no contract allows; ValueError when it is too large."""
    status = batch.status.astype("<u4", copy=False)
    uniform = bool((status == status[0]).all())
    columns = Columns(
        VERSION,
        _differences(batch.tags),
        _differences(batch.source_time),
        batch.values.astype("<f8", copy=False).tobytes(),
        (status[:1] if uniform else status).tobytes(),
        [(int(row), value) for row, value in batch.others.items()],
    )
    try:
        packed = _encoder.encode(columns)
    except OverflowError:
        packed = _encoder.encode(msgspec.structs.replace(columns, others=without_big(columns.others)))
    if len(packed) > MAX_COLUMNS:
        message = f"a batch of {len(packed)} bytes is larger than {MAX_COLUMNS}"
        raise ValueError(message)
    return zstandard.ZstdCompressor(level=LEVEL).compress(packed)


def pack_others(others: Mapping[int, object]) -> bytes:
    """Row to value, of values that are no numbers, compressed. ValueError when it is too large."""
    rows = list(others.items())
    try:
        packed = _encoder.encode(rows)
    except OverflowError:
        packed = _encoder.encode(without_big(rows))
    if len(packed) > MAX_COLUMNS:
        message = f"values of {len(packed)} bytes are larger than {MAX_COLUMNS}"
        raise ValueError(message)
    return zstandard.ZstdCompressor(level=LEVEL).compress(packed)


def unpack_others(packed: bytes) -> dict[int, object]:
    """Row to value. ValueError when the bytes are not ours or unpack too large."""
    rows = _unpack(packed, _others)
    return dict(rows)


def decode_columns(
    columns: bytes,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], Mapping[int, object], NDArray[np.uint32]]:
    """tags, source_time, values, others, status. ValueError when the bytes are not ours or unpack too large."""
    found = _unpack(columns, _decoder)
    if found.version != VERSION:
        message = f"columns of version {found.version}, this reads version {VERSION}"
        raise ValueError(message)
    tags, times = _summed(found.tags), _summed(found.source_time)
    values = np.frombuffer(found.values, dtype="<f8").astype(np.float64, copy=False)
    status = np.frombuffer(found.status, dtype="<u4").astype(np.uint32, copy=False)
    if len(status) == 1:
        status = np.full(len(tags), status[0], dtype=np.uint32)
    others = dict(found.others)
    lengths = {len(tags), len(times), len(values), len(status)}
    if len(lengths) != 1 or not all(0 <= row < len(tags) for row in others):
        message = "the columns of a batch differ in length"
        raise ValueError(message)
    return tags, times, values, others, status


def _unpack(columns: bytes, decoder: msgspec.msgpack.Decoder[Content]) -> Content:
    try:
        size = zstandard.get_frame_parameters(columns).content_size
        if not 0 < size <= MAX_COLUMNS:
            message = f"a batch unpacks to {size} bytes, more than {MAX_COLUMNS} or unknown"
            raise ValueError(message)
        packed = zstandard.ZstdDecompressor().decompress(columns, allow_extra_data=False)
        return decoder.decode(packed)
    except (zstandard.ZstdError, msgspec.MsgspecError, RecursionError) as error:
        message = f"these bytes are no columns of a batch: {error}"
        raise ValueError(message) from error


def _differences(array: NDArray[np.int64]) -> bytes:
    return np.diff(array.astype("<i8", copy=False), prepend=np.int64(0)).tobytes()


def _summed(differences: bytes) -> NDArray[np.int64]:
    return np.frombuffer(differences, dtype="<i8").cumsum(dtype=np.int64)


_encoder = msgspec.msgpack.Encoder(enc_hook=extend)
_decoder = msgspec.msgpack.Decoder(Columns, ext_hook=contract)
_others = msgspec.msgpack.Decoder(list[tuple[int, object]], ext_hook=contract)
