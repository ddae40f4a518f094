"""The one door to Celery and Redis: the app every worker runs, messages sent, and live figures that may vanish."""

from __future__ import annotations

import secrets
from contextlib import suppress
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Final, cast

import msgspec
import redis
import redis.asyncio
from celery import Celery
from kombu.connection import Connection
from kombu.exceptions import KombuError, OperationalError
from kombu.serialization import register

from app.errors import QueueError
from app.settings import settings

if TYPE_CHECKING:
    from kombu.messaging import Producer

TASK: Final = "headrace.score"
RECOMPUTE: Final = "headrace.recompute"
REPLAY_LETTERS: Final = "headrace.replay_letters"
RETENTION: Final = "headrace.retention"
WATCH: Final = "headrace.watch"
COMPACT: Final = "headrace.compact"
THIN: Final = "headrace.thin"
DEFAULT_QUEUE: Final = "infer.cpu"
"""The queue of work that no device is wanted for, or none is known for: every worker serves it."""
HOUSEKEEPING: Final = "housekeeping"
"""The queue that every worker serves, whatever devices it has."""
HISTORY: Final = "history"
"""The queue that beat serves itself: what takes seconds, and must not keep a worker from what is new."""
SERIALIZER: Final = "headrace"
CONTENT_TYPE: Final = "application/vnd.headrace.msgpack"
MAX_BODY: Final = 64 * 2**20
"""A message larger than this is refused before it is unpacked: what comes out of a queue is foreign."""
LARGE: Final = 16_384
"""A message larger than this waits beside the queue, in one piece: in the queue it would be base64 in JSON, which the
worker's parent would unpack, pack again to note who has it, and hand on to its child."""
BESIDE_TTL_S: Final = 86_400
"""What nobody has fetched by then leaves by itself: whoever comes for it finds nothing, and the gateway sends again."""
BELL: Final = "headrace:bell"
"""The channel on which workers say that the outbox has something new."""
LIVE_TTL_S: Final = 60
"""Live figures of a gateway that is gone leave by themselves."""
MAX_LIVE: Final = 65_536
MOST_LIVE: Final = 1000
"""A figure larger than this is not read, nor more of them at a time: Redis is a neighbour."""
CONNECT_TIMEOUT_S: Final = 1.0
ANSWER_TIMEOUT_S: Final = 5.0

VISIBILITY_TIMEOUT_S: Final = 1800
CONFIGURATION: Final[dict[str, object]] = {
    # Bytes stay bytes: a list of floats as JSON is 25 times slower at 1 MB, and pickle runs what it reads.
    "task_serializer": SERIALIZER,
    "result_serializer": SERIALIZER,
    "event_serializer": SERIALIZER,
    "accept_content": [SERIALIZER],
    # Only the database says that a batch is applied: a result would be a second truth, and a write more per message.
    "task_ignore_result": True,
    "task_store_errors_even_if_ignored": False,
    # A message is done when its transaction has committed, not when a worker has seen it.
    "task_acks_late": True,
    # A worker that holds messages it does not work on makes the gateway wait for its time-out when it dies.
    "worker_prefetch_multiplier": 1,
    # A child that starts anew shares no socket, lock or accelerator context with its parent.
    "worker_pool_start_method": "spawn",
    # It loads all its libraries anew: the library's 4 s are too short for a small or busy machine, where every child
    # would be killed before it is up, for ever.
    "worker_proc_alive_timeout": 120.0,
    # A child killed half way costs a retry. Rejecting instead would put a poisonous batch back for ever.
    "task_retry_on_worker_lost": True,
    "task_reject_on_worker_lost": False,
    "task_acks_on_failure": True,
    "task_acks_on_timeout": True,
    # The retry of a lost worker takes these; the library's own delay is 180 s.
    "task_annotations": {"*": {"max_retries": 2, "default_retry_delay": 5}},
    # A run that takes longer is dead; it must end before the message becomes visible to another worker.
    "task_time_limit": 900,
    "task_soft_time_limit": 840,
    "visibility_timeout": VISIBILITY_TIMEOUT_S,
    "broker_transport_options": {
        "visibility_timeout": VISIBILITY_TIMEOUT_S,
        # Sweep for messages of dead workers at every interval; by default it is every tenth.
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 1,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_keepalive": True,
        # No socket_timeout: a worker's blocking read is longer than any that suits a sender.
    },
    # On a warm stop a worker finishes what it has; what takes longer goes back into the queue.
    "worker_soft_shutdown_timeout": 20.0,
    "worker_enable_soft_shutdown_on_idle": True,
    # A worker started before its broker waits for it.
    "broker_connection_retry_on_startup": True,
    "broker_connection_retry": True,
    "broker_connection_max_retries": None,
    # Without a running task nothing would be cancelled; with one, its transaction makes a second run harmless.
    "worker_cancel_long_running_tasks_on_connection_loss": True,
    # Fragmented memory of accelerator runtimes is given back from time to time.
    "worker_max_tasks_per_child": 100_000,
    # Our own logging stays as it is.
    "worker_hijack_root_logger": False,
    "worker_send_task_events": False,
    "task_send_sent_event": False,
    "timezone": "UTC",
    "enable_utc": True,
}

_encoder = msgspec.msgpack.Encoder(enc_hook=str)
_decoder = msgspec.msgpack.Decoder()


def _decode(data: bytes | memoryview) -> object:
    if len(data) > MAX_BODY:
        message = f"a message of {len(data)} bytes is larger than {MAX_BODY}"
        raise ValueError(message)
    return _decoder.decode(data)


register(SERIALIZER, _encoder.encode, _decode, content_type=CONTENT_TYPE, content_encoding="binary")  # type: ignore[no-untyped-call]


def make_celery(url: str | None, queue: str) -> Celery:
    """An app on this broker. Without an address it can be imported and inspected; connecting then fails."""
    made = Celery("headrace", broker=url or "redis://broker-is-not-configured.invalid", set_as_current=False)
    made.conf.update(CONFIGURATION)
    made.conf.task_default_queue = queue
    return made


def _configured() -> str | None:
    url = settings().redis_url
    return None if url is None else url.get_secret_value()


celery: Final = make_celery(_configured(), settings().queue or DEFAULT_QUEUE)
"""What `celery -A app.worker` runs; tasks register on it."""


class Door:
    """One process's way to one Redis. Blocking: on an event loop call it in a thread. Every failure is a QueueError.

    Messages must be sent from one thread at a time.
    """

    def __init__(self, url: str, app: Celery = celery) -> None:
        """Nothing is opened yet."""
        self._app = app
        self._url = url
        self._connection: Connection | None = None
        self._producer: Producer | None = None
        # redis-py 8: one shape of answers for both protocols, and a dead server is noticed in seconds.
        self._redis = redis.Redis.from_url(
            url,
            socket_timeout=ANSWER_TIMEOUT_S,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            legacy_responses=False,
            retry=None,
        )

    def send(self, message: bytes, queue: str, name: str) -> None:
        """Put one message into a queue; when this returns, Redis has it. Fails within seconds when Redis is away.

        `name`: the same for the same message, so that however often it is sent it takes room once.
        """
        large = len(message) > LARGE
        try:
            if large:
                self._redis.set(_beside(name), message, ex=BESIDE_TTL_S)
            self._app.send_task(
                TASK,
                args=(b"", name) if large else (message,),
                queue=queue,
                producer=self._sender(),
                ignore_result=True,
                argsrepr=f"<{len(message)} bytes>",
                kwargsrepr="",
                add_to_parent=False,
                retry=False,
            )
        except (OSError, KombuError, OperationalError, redis.RedisError) as error:
            self._hang_up()
            raise QueueError(_said(error)) from error

    def fetch(self, name: str) -> bytes | None:
        """The large message of this name; None where there is none (any more), or what is there is too large."""
        try:
            found = cast("bytes", self._redis.getrange(_beside(name), 0, MAX_BODY))
        except redis.RedisError as error:
            raise QueueError(_said(error)) from error
        return found if 0 < len(found) <= MAX_BODY else None

    def drop(self, name: str) -> None:
        """The large message of this name is done."""
        try:
            self._redis.unlink(_beside(name))
        except redis.RedisError as error:
            raise QueueError(_said(error)) from error

    def mark(self, journal: str) -> str:
        """Leave a mark that vanishes when Redis loses its memory; returns what `marked` will answer until then."""
        try:
            self._redis.set(_marker(journal), secrets.token_hex(8))
        except redis.RedisError as error:
            raise QueueError(_said(error)) from error
        return self.marked(journal)

    def marked(self, journal: str) -> str:
        """The mark and which run of the server holds it; another answer than before: messages may be lost."""
        try:
            mark = cast("bytes | None", self._redis.get(_marker(journal)))
            run = self._redis.info("server")["run_id"]
        except redis.RedisError as error:
            raise QueueError(_said(error)) from error
        return f"{run}:{(mark or b'').decode()}"

    def put_live(self, key: str, value: bytes, ttl_s: int = LIVE_TTL_S) -> None:
        """Leave a live figure for so long."""
        try:
            self._redis.set(key, value, ex=ttl_s)
        except redis.RedisError as error:
            raise QueueError(_said(error)) from error

    def first(self, key: str, ttl_s: int) -> bool:
        """Whether nobody has asked this within so long; from now on somebody has."""
        try:
            return bool(self._redis.set(key, b"", nx=True, ex=ttl_s))
        except redis.RedisError as error:
            raise QueueError(_said(error)) from error

    def drop_live(self, key: str) -> None:
        """Take a live figure back."""
        try:
            self._redis.unlink(key)
        except redis.RedisError as error:
            raise QueueError(_said(error)) from error

    def get_live(self, key: str) -> bytes | None:
        """A live figure, or None where there is none (any more)."""
        try:
            return cast("bytes | None", self._redis.get(key))
        except redis.RedisError as error:
            raise QueueError(_said(error)) from error

    def live_keys(self, prefix: str) -> list[str]:
        """Keys of live figures that begin so, sorted."""
        try:
            return sorted(key.decode() for key in self._redis.scan_iter(match=f"{prefix}*", count=1000))
        except redis.RedisError as error:
            raise QueueError(_said(error)) from error

    def read_live(self, prefix: str) -> list[bytes]:
        """Live figures whose keys begin so, by key; not those of another kind, or that are too large or too many."""
        try:
            keys = sorted(islice(self._redis.scan_iter(match=f"{prefix}*", count=1000), MOST_LIVE))
            asked = self._redis.pipeline(transaction=False)
            for key in keys:
                asked.getrange(key, 0, MAX_LIVE)
            found = asked.execute(raise_on_error=False)
        except redis.RedisError as error:
            raise QueueError(_said(error)) from error
        return [one for one in found if isinstance(one, bytes) and 0 < len(one) <= MAX_LIVE]

    def ring(self) -> None:
        """Tell every gateway that the outbox has something new."""
        try:
            self._redis.publish(BELL, b"")
        except redis.RedisError as error:
            raise QueueError(_said(error)) from error

    def bell(self) -> Bell:
        """A way to hear of it; of the same Redis."""
        return Bell(self._url)

    def waiting(self, queue: str) -> int:
        """Messages in a queue that no worker has taken."""
        try:
            return self._redis.llen(queue)
        except redis.RedisError as error:
            raise QueueError(_said(error)) from error

    def close(self) -> None:
        """Let go of Redis. Safe to call twice."""
        self._hang_up()
        self._redis.close()

    def _sender(self) -> Producer:
        if self._producer is None:
            options = {
                **cast("dict[str, object]", CONFIGURATION["broker_transport_options"]),
                "socket_timeout": ANSWER_TIMEOUT_S,
            }
            self._connection = Connection(self._url, transport_options=options)  # type: ignore[no-untyped-call]
            self._producer = self._app.amqp.Producer(self._connection.channel(), auto_declare=False)  # type: ignore[no-untyped-call]
        return self._producer

    def _hang_up(self) -> None:
        """A connection that failed once is not used again."""
        connection, self._connection, self._producer = self._connection, None, None
        if connection is not None:
            connection.release()  # type: ignore[no-untyped-call]


class Bell:
    """Hears `Door.ring` on an event loop: it saves time and nothing else, because whoever waits looks by itself too."""

    def __init__(self, url: str) -> None:
        """Nothing is opened yet."""
        self._redis = redis.asyncio.Redis.from_url(
            url, socket_connect_timeout=CONNECT_TIMEOUT_S, socket_timeout=None, legacy_responses=False, retry=None
        )
        self._channel = self._redis.pubsub(ignore_subscribe_messages=True)

    async def heard(self) -> None:
        """Wait until it rings. QueueError when Redis is away: what was rung meanwhile is not heard."""
        try:
            if not self._channel.subscribed:
                await self._channel.subscribe(BELL)
            while await self._channel.get_message(timeout=None) is None:
                pass
        except (OSError, redis.RedisError) as error:
            await self.close()
            raise QueueError(_said(error)) from error

    async def close(self) -> None:
        """Let go of Redis. Safe to call twice; hearing opens it again."""
        with suppress(OSError, redis.RedisError):
            await self._channel.aclose()  # type: ignore[no-untyped-call]
            await self._redis.aclose()


def queue_of(device: str) -> str:
    """Where work for a device (`ascend:0`) or a class of them (`ascend`) is taken up by workers that have one."""
    return f"infer.{device.partition(':')[0]}"


def _beside(name: str) -> str:
    return f"headrace:message:{name}"


def _marker(journal: str) -> str:
    return f"headrace:marker:{journal}"


def _said(error: Exception) -> str:
    """The kind of failure and what the library said; addresses in it carry no password."""
    return f"{type(error).__name__}: {error}"


@cache
def door() -> Door:
    """The process's door to the Redis that its settings name. QueueError when they name none."""
    url = _configured()
    if url is None:
        message = "no queue is configured: set HEADRACE_REDIS_URL to redis://HOST:PORT/0"
        raise QueueError(message)
    return Door(url)


def ring() -> None:
    """`Door.ring` of this process."""
    door().ring()


def recompute() -> None:
    """Have windows of filled gaps computed again. QueueError when Redis is away: beat asks for it, too."""
    ask_for(RECOMPUTE)


def ask_for(task: str, queue: str = HOUSEKEEPING, within_s: float | None = None) -> None:
    """Have one piece of housekeeping done soon. QueueError when Redis is away: beat asks for each of them, too.

    `within_s`: a worker that comes to it later lets it be.
    """
    try:
        celery.send_task(task, queue=queue, ignore_result=True, retry=False, expires=within_s)
    except (OSError, KombuError, OperationalError, redis.RedisError) as error:
        raise QueueError(_said(error)) from error


def put_live(key: str, value: bytes) -> None:
    """`Door.put_live` of this process."""
    door().put_live(key, value)


def get_live(key: str) -> bytes | None:
    """`Door.get_live` of this process."""
    return door().get_live(key)


def live_keys(prefix: str) -> list[str]:
    """`Door.live_keys` of this process."""
    return door().live_keys(prefix)
