"""One connection to a broker: paho's protocol engine on an asyncio transport, without a thread."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar
from urllib.parse import SplitResult, urlsplit

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from connectors import ConnectorError, NotConnectedError, RefusedError
from connectors.mqtt.websocket import WebSocket
from connectors.mqtt.wire import Wire

if TYPE_CHECKING:
    from paho.mqtt.reasoncodes import ReasonCode

    from connectors.mqtt.options import Broker

PORTS: Final = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}
SECURED: Final = frozenset({"mqtts", "wss"})
WEB_PATH: Final = "/mqtt"
"""Of a WebSocket whose URL has no path: what most brokers listen on."""
PING_EVERY_S: Final = 1.0
GOODBYE_S: Final = 1.0
"""How long a broker may take to close after we have said goodbye."""
HEADER_ROOM: Final = 70_000
"""A topic has at most 65,535 bytes; the rest is for MQTT 5 properties."""
FAILURE: Final = 0x80
"""Reason codes from here on are failures (MQTT 5, 2.4)."""
BUSY: Final = frozenset(
    {
        "Server unavailable",
        "Server busy",
        "Use another server",
        "Server moved",
        "Connection rate exceeded",
        "Quota exceeded",
    }
)
"""CONNACK reasons that waiting may mend; all others are refusals (MQTT 5, 3.2.2.2)."""

Message = paho.MQTTMessage
T = TypeVar("T")


class Will(NamedTuple):
    """What the broker publishes for us, at QoS 1 and retained, when the connection is lost without a farewell."""

    topic: str
    body: bytes


class _Client(paho.Client):
    """paho with its socket given from outside."""

    wire: Wire

    def _create_socket(self) -> Any:  # noqa: ANN401 - paho's SocketLike is not public
        return self.wire


class Link:
    """Open once, use, close. Every waiting call raises NotConnectedError as soon as the connection is lost."""

    def __init__(
        self,
        broker: Broker,
        client_id: str,
        *,
        clean: bool,
        session_expiry_s: int = 0,
        receive_maximum: int = 65_535,
        most_payload: int = 1_048_576,
        will: Will | None = None,
    ) -> None:
        """Nothing is opened yet."""
        self._broker = broker
        self._clean = clean
        self._expiry_s = session_expiry_s
        self._receive_maximum = receive_maximum
        self._version5 = broker.version == "5"
        protocol = MQTTProtocolVersion.MQTTv5 if self._version5 else MQTTProtocolVersion.MQTTv311
        self._client = _Client(
            CallbackAPIVersion.VERSION2,
            client_id,
            clean_session=None if self._version5 else clean,
            protocol=protocol,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        self._wire = self._client.wire = Wire(most_payload + HEADER_ROOM, self._packets, self._ended, self._oversize)
        self._most_payload = most_payload
        self._client.username_pw_set(broker.username, broker.password.get_secret_value() if broker.password else None)
        if will is not None:
            self._client.will_set(will.topic, will.body, qos=1, retain=True)
        self._client.on_connect = self._connected
        self._client.on_disconnect = self._disconnected
        self._client.on_subscribe = self._answered
        self._client.on_unsubscribe = self._answered
        self._client.on_publish = self._published
        self._client.on_message = self._message
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._error: ConnectorError = NotConnectedError(f"{broker.url}: the connection is closed")
        self._open: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting: dict[int, asyncio.Future[list[ReasonCode]]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._heard_ns = time.time_ns()
        self.on_message: Callable[[Message], None] = lambda _message: None
        self.on_oversize: Callable[[str, int, int, int], None] = lambda _topic, _mid, _qos, _size: None
        self.on_alive: Callable[[], None] = lambda: None
        self.on_login: Callable[[], None] = lambda: None
        """Called when the broker is there, just before it is asked for our session. May raise OSError."""
        self.refused = False
        """Whether the broker has answered that it does not let us in."""

    @property
    def alive(self) -> bool:
        """Whether the connection stands."""
        return self._open.done() and not self._lost.done()

    @property
    def heard_ns(self) -> int:
        """When the broker was last heard, ns since 1970 UTC."""
        return self._heard_ns

    @property
    def bytes_received(self) -> int:
        """Bytes received so far."""
        return self._wire.bytes_received

    async def open(self) -> bool:
        """Connect and log in; returns whether the broker still had our session. NotConnectedError, RefusedError."""
        parts = urlsplit(self._broker.url)
        host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
        context = self._tls() if parts.scheme in SECURED else None
        try:
            async with asyncio.timeout(self._broker.timeout_s):
                await self._connect(parts, host, port, context)
                self.on_login()
                self._client.connect(host, port, self._broker.keepalive_s, **self._connect_options())
                self._client.loop_write()
                present = await self._or_lost(self._open)
        except ssl.SSLCertVerificationError as error:
            message = f"{self._broker.url}: the broker's certificate is not trusted: {error.verify_message}"
            raise RefusedError(message) from error
        except TimeoutError as error:
            # A busy process may see the answer and the end of the time at once: then the answer counts.
            if not self._open.done():
                message = f"{self._broker.url}: no answer within {self._broker.timeout_s:g} s"
                raise NotConnectedError(message) from error
            present = self._open.result()
        except OSError as error:
            message = f"{self._broker.url}: {error}"
            raise NotConnectedError(message) from error
        self._tick()
        return present

    async def _connect(self, parts: SplitResult, host: str, port: int, context: ssl.SSLContext | None) -> None:
        loop = asyncio.get_running_loop()
        if parts.scheme in ("mqtt", "mqtts"):
            await loop.create_connection(lambda: self._wire, host, port, ssl=context)
            return
        path = (parts.path or WEB_PATH) + (f"?{parts.query}" if parts.query else "")
        web = WebSocket(self._wire, parts.netloc, path)
        await loop.create_connection(lambda: web, host, port, ssl=context)
        await web.opened

    def _tls(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self._broker.ca_file)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if self._broker.certificate_file is not None:
                context.load_cert_chain(self._broker.certificate_file, self._broker.key_file)
        except (OSError, ssl.SSLError) as error:
            message = f"a certificate file cannot be used: {error}"
            raise RefusedError(message) from error
        return context

    def _connect_options(self) -> dict[str, Any]:
        if not self._version5:
            return {}
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = 0 if self._clean else self._expiry_s
        properties.ReceiveMaximum = self._receive_maximum
        return {"clean_start": self._clean, "properties": properties}

    async def subscribe(self, filters: Sequence[tuple[str, int]]) -> None:
        """Subscribe to (filter, QoS). RefusedError names a filter that the broker does not allow."""
        if not filters:
            return
        topics: Any = [(f, SubscribeOptions(qos=q)) for f, q in filters] if self._version5 else list(filters)
        codes = await self._ask(self._client.subscribe(topics))
        for (name, _), code in zip(filters, codes, strict=False):
            if code.value >= FAILURE:
                message = f"the broker does not let us subscribe to {name!r}: {code}"
                raise RefusedError(message)

    async def unsubscribe(self, filters: Sequence[str]) -> None:
        """Let go of filters a kept session still has."""
        if filters:
            await self._ask(self._client.unsubscribe(list(filters)))

    async def _ask(self, sent: tuple[MQTTErrorCode, int | None]) -> list[ReasonCode]:
        code, mid = sent
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS or mid is None:
            raise self._error
        answer: asyncio.Future[list[ReasonCode]] = asyncio.get_running_loop().create_future()
        self._waiting[mid] = answer
        try:
            async with asyncio.timeout(self._broker.timeout_s):
                return await self._or_lost(answer)
        except TimeoutError as error:
            message = f"{self._broker.url}: no answer within {self._broker.timeout_s:g} s"
            raise NotConnectedError(message) from error
        finally:
            self._waiting.pop(mid, None)

    def publish(self, topic: str, body: bytes, content_type: str, *, retain: bool) -> asyncio.Future[list[ReasonCode]]:
        """Send at QoS 1; the future is done when the broker has taken it. NotConnectedError."""
        properties = None
        if self._version5:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.ContentType = content_type
        info = self._client.publish(topic, body, qos=1, retain=retain, properties=properties)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise self._error
        taken: asyncio.Future[list[ReasonCode]] = asyncio.get_running_loop().create_future()
        self._waiting[info.mid] = taken
        return taken

    def tell(self, topic: str, body: bytes) -> None:
        """Send at QoS 0, which nobody confirms. NotConnectedError."""
        if self._client.publish(topic, body, qos=0).rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise self._error

    async def until_lost(self) -> None:
        """Wait until the connection is lost, then raise why. Without end while it stands."""
        await asyncio.wait({self._lost})
        raise self._error

    async def wait_all(self, wanted: Sequence[asyncio.Future[list[ReasonCode]]]) -> None:
        """Wait until all these are done. NotConnectedError as soon as the connection is lost."""
        for one in wanted:
            await self._or_lost(one)

    async def _or_lost(self, wanted: asyncio.Future[T]) -> T:
        if not wanted.done():
            ends: set[asyncio.Future[Any]] = {wanted, self._lost}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if not wanted.done():
            raise self._error
        return wanted.result()

    def check(self) -> None:
        """Raise NotConnectedError or RefusedError if the connection is lost."""
        if self._lost.done():
            raise self._error

    def ack(self, messages: Sequence[tuple[int, int]]) -> None:
        """Acknowledge (message id, QoS); without effect once the connection has ended: the broker sends them again."""
        if self.alive:
            for mid, qos in messages:
                if qos:
                    self._client.ack(mid, qos)
            self._client.loop_write()

    def pause(self) -> None:
        """Take no more from the broker for now."""
        self._wire.pause()

    def resume(self) -> None:
        """Take from the broker again."""
        self._wire.resume()

    async def close(self) -> None:
        """Say goodbye, so that the broker keeps the session and sends no will. Safe to call twice."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.alive:
            self._lose(self._error)
            self._wire.leave()
            self._client.disconnect()
            self._client.loop_write()
            await self._wire.left(GOODBYE_S)
        self._lose(self._error)
        self._wire.close()

    def _lose(self, error: ConnectorError) -> None:
        if not self._lost.done():
            self._error = error
            self._lost.set_result(None)
            self.on_alive()

    def _tick(self) -> None:
        """Once a second: ask for a sign of life; no answer in time is an outage."""
        silent = time.monotonic() - self._wire.heard
        if not self._wire.paused and silent > self._broker.timeout_s + PING_EVERY_S:
            self._lose(NotConnectedError(f"{self._broker.url}: the broker has been silent for {silent:.1f} s"))
            self._wire.abort()
            return
        self._wire.ping()
        self._timer = asyncio.get_running_loop().call_later(PING_EVERY_S, self._tick)

    def _packets(self) -> None:
        """Let paho handle what has arrived."""
        while self._wire.has_packets and not self._wire.paused and self._client.socket() is not None:
            self._client.loop_read()
        self._client.loop_write()
        if not self._wire.paused:
            self._heard_ns = time.time_ns()
            self.on_alive()

    def _ended(self, error: Exception | None) -> None:
        why = str(error) if error else "closed by the broker"
        self._lose(NotConnectedError(f"{self._broker.url}: the connection was lost: {why}"))
        if self._client.socket() is not None:
            self._client.loop_read()

    def _connected(self, _client: Any, _userdata: Any, flags: Any, reason: ReasonCode, _properties: Any) -> None:  # noqa: ANN401 - paho's signature
        if reason.value >= FAILURE or reason.is_failure:
            self.refused = True
            kind = NotConnectedError if str(reason) in BUSY else RefusedError
            self._lose(kind(f"{self._broker.url}: the broker refuses us: {reason}"))
        elif not self._open.done():
            self._open.set_result(bool(flags.session_present))

    def _disconnected(self, _client: Any, _userdata: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:  # noqa: ANN401
        self._lose(NotConnectedError(f"{self._broker.url}: the connection was lost: {reason}"))

    def _answered(self, _client: Any, _userdata: Any, mid: int, reasons: list[ReasonCode], _properties: Any) -> None:  # noqa: ANN401
        answer = self._waiting.pop(mid, None)
        if answer is not None and not answer.done():
            answer.set_result(reasons)

    def _published(self, client: Any, userdata: Any, mid: int, reason: ReasonCode, properties: Any) -> None:  # noqa: ANN401
        self._answered(client, userdata, mid, [reason], properties)

    def _message(self, _client: Any, _userdata: Any, message: Message) -> None:  # noqa: ANN401
        if len(message.payload) > self._most_payload:
            self.on_oversize(message.topic, message.mid, message.qos, len(message.payload))
        else:
            self.on_message(message)

    def _oversize(self, topic: str, mid: int, qos: int, size: int) -> None:
        self.on_oversize(topic, mid, qos, size)
