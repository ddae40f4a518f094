"""The Sink of OPC UA: our own server, on which every output, event and health value is a read-only node."""

from __future__ import annotations

import asyncio
import hmac
import socket
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.server import Server
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.uaerrors import UaError
from cryptography.hazmat.primitives.serialization import Encoding

from connectors import NO_TIME, ConnectionConfig, NodeValue, NotConnectedError, RefusedError, Status
from connectors.opcua.options import SinkOptions
from connectors.opcua.security import Keys, Mark

if TYPE_CHECKING:
    from asyncua.common.node import Node
    from cryptography import x509

    from connectors import Publication

HEARTBEAT: Final = "Headrace/Heartbeat"
HEARTBEAT_S: Final = 1.0
VERSION: Final = metadata.version("headrace")
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
LARGEST_REQUEST: Final = 4 * 1024 * 1024
KINDS: Final[tuple[tuple[type, ua.VariantType], ...]] = (
    (bool, ua.VariantType.Boolean),
    (int, ua.VariantType.Int64),
    (float, ua.VariantType.Double),
    (str, ua.VariantType.String),
)
"""The variant type a node gets from its first value; bool before int, which it is a kind of."""


class OpcUaSink:
    """Shows `NodeValue`s; a node is made when its first value comes."""

    def __init__(self, config: ConnectionConfig) -> None:
        """Nothing is opened yet. Raises ValueError for options that `SinkOptions` refuses."""
        self._options = SinkOptions.model_validate(config.options)
        self._keys = Keys(
            Path(config.data_dir), config.name, self._options.application_uri, self._options.trusted_certificates
        )
        self._own_mark: Mark = ()
        self._server: Server | None = None
        self._namespace = 0
        self._nodes: dict[str, tuple[ua.NodeId, ua.VariantType]] = {}
        self._folders: dict[str, Node] = {}
        self._beats = 0
        self._beating: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Listen. NotConnectedError if the port is taken, RefusedError if a certificate file cannot be used."""
        await self.close()
        _try_to_listen(self._options.endpoint)
        server = await self._prepared()
        try:
            await server.start()
        except OSError as error:
            message = f"cannot listen on {self._options.endpoint}: {error}"
            raise NotConnectedError(message) from error
        self._server = server
        await self._beat()
        self._beating = asyncio.create_task(self._heartbeat())

    async def _prepared(self) -> Server:
        options = self._options
        server = Server(user_manager=_Users(options))  # type: ignore[arg-type]  # asyncua's own managers do not subclass it either
        await server.init()
        server.name, server.product_uri = "Headrace", "urn:headrace"
        await server.set_build_info("urn:headrace", "Headrace", "Headrace", VERSION, VERSION, datetime.now(UTC))
        server.limits.max_message_size = LARGEST_REQUEST
        server.set_endpoint(options.endpoint)
        if self._secured:
            await self._secure(server)
        else:
            await server.set_application_uri(self._keys.mine.uri)
        names = ["NoSecurity" if policy == "None" else f"{policy}_SignAndEncrypt" for policy in options.security]
        server.set_security_policy([ua.SecurityPolicyType[name] for name in names])
        tokens = [ua.AnonymousIdentityToken] if options.anonymous else []
        server.set_identity_tokens(tokens + ([ua.UserNameIdentityToken] if options.username is not None else []))
        self._namespace = await server.register_namespace(options.namespace)
        self._nodes, self._folders = {}, {"": server.nodes.objects}
        return server

    async def _secure(self, server: Server) -> None:
        """Show our certificate, and look at those of the clients."""
        try:
            mine = self._keys.mine.use()
        finally:
            self._own_mark = self._keys.own_mark()
        await server.set_application_uri(mine.application_uri)
        await server.load_certificate(mine.certificate)
        await server.load_private_key(mine.key)
        server.set_certificate_validator(self._check_client)

    async def _check_client(self, certificate: x509.Certificate, client: ua.ApplicationDescription) -> None:
        """Hold a client's certificate against the trust inbox, read afresh: the operator may just have accepted it."""
        try:
            self._keys.inbox.check(certificate.public_bytes(Encoding.DER), uri=str(client.ApplicationUri or ""))
        except RefusedError as error:
            raise ServiceError(StatusCodes.BadCertificateUntrusted) from error

    def tend(self) -> tuple[str, ...]:
        """See `connectors.Tended`."""
        if not self._secured or self._server is None:
            return ()
        if self._keys.own_mark() != self._own_mark:
            message = "our own certificate was switched: starting anew with it"
            raise NotConnectedError(message)
        waiting = self._keys.inbox.pending()
        notes = (
            (f"certificates of clients that wait in the trust inbox: {waiting}; see headrace trust",) if waiting else ()
        )
        return self._keys.mine.tend() + notes

    def mended(self) -> bool:
        """See `connectors.Tended`."""
        return self._keys.own_mark() != self._own_mark

    @property
    def _secured(self) -> bool:
        return any(policy != "None" for policy in self._options.security)

    async def publish(self, items: Sequence[Publication]) -> None:
        """Show every node value of these items. NotConnectedError when the server does not run."""
        server = self._server
        if server is None:
            message = "the OPC UA server does not run"
            raise NotConnectedError(message)
        for item in items:
            for value in item.nodes:
                await self._show(server, value)

    async def _show(self, server: Server, shown: NodeValue) -> None:
        found = self._nodes.get(shown.path)
        if found is None:
            found = self._nodes[shown.path] = await self._make(shown)
        node, kind = found
        variant, status = _variant(shown.value, kind), shown.status
        if variant is None:
            variant, status = ua.Variant(None, ua.VariantType.Null), Status.BAD_TYPE_MISMATCH
        value = ua.DataValue(
            variant, ua.StatusCode(ua.UInt32(status)), _moment(shown.source_time), _moment(time.time_ns())
        )
        await server.write_attribute_value(node, value)

    async def _make(self, shown: NodeValue) -> tuple[ua.NodeId, ua.VariantType]:
        """A variable at this path, below folders of the same path; not writable."""
        parent_path, _, name = shown.path.rpartition("/")
        parent = await self._folder_at(parent_path)
        kind = next(kind for python, kind in KINDS if isinstance(shown.value, python))
        node_id = ua.NodeId(ua.String(shown.path), ua.Int16(self._namespace))
        try:
            node = await parent.add_variable(
                node_id, ua.QualifiedName(name, self._namespace), ua.Variant(_variant_default(kind), kind)
            )
            if shown.description:
                text = ua.DataValue(ua.Variant(ua.LocalizedText(shown.description), ua.VariantType.LocalizedText))
                await node.write_attribute(AttributeIds.Description, text)
            if shown.unit:
                await node.add_property(
                    self._namespace, "EngineeringUnits", ua.EUInformation(DisplayName=ua.LocalizedText(shown.unit))
                )
        except UaError as error:
            message = f"the node {shown.path!r} cannot be made: {error}"
            raise RefusedError(message) from error
        return node.nodeid, kind

    async def _folder_at(self, path: str) -> Node:
        found = self._folders.get(path)
        if found is None:
            above, _, name = path.rpartition("/")
            parent = await self._folder_at(above)
            found = await parent.add_folder(
                ua.NodeId(ua.String(path), ua.Int16(self._namespace)), ua.QualifiedName(name, self._namespace)
            )
            self._folders[path] = found
        return found

    async def _beat(self) -> None:
        self._beats += 1
        if self._server is not None:
            value = NodeValue(
                HEARTBEAT, self._beats, Status.GOOD, time.time_ns(), "", "Counts once a second while Headrace lives"
            )
            await self._show(self._server, value)

    async def _heartbeat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            await self._beat()

    async def close(self) -> None:
        """Stop the server. Safe to call twice."""
        beating, self._beating = self._beating, None
        server, self._server = self._server, None
        if beating is not None:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)
        if server is not None:
            await server.stop()


class _Users:
    """Who may read: anyone if so configured, and the configured user. Nobody may write."""

    def __init__(self, options: SinkOptions) -> None:
        self._options = options

    def get_user(
        self, _iserver: object, username: str | None = None, password: str | None = None, certificate: object = None
    ) -> User | None:
        """Asyncua asks with what a client has shown; None refuses it."""
        del certificate
        options = self._options
        if username is None:
            return User(role=UserRole.User) if options.anonymous else None
        if options.username is None or options.password is None:
            return None
        shown, wanted = (
            f"{username}\0{password}".encode(),
            f"{options.username}\0{options.password.get_secret_value()}".encode(),
        )
        return User(role=UserRole.User, name=username) if hmac.compare_digest(shown, wanted) else None


def _variant(value: float | bool | str, kind: ua.VariantType) -> ua.Variant | None:  # noqa: FBT001 - a value, not a switch
    """The value in the node's own type, None if it does not fit."""
    if kind == ua.VariantType.Double and isinstance(value, int | float) and not isinstance(value, bool):
        return ua.Variant(float(value), kind)
    fits = next(k for python, k in KINDS if isinstance(value, python)) == kind
    return ua.Variant(value, kind) if fits else None


def _moment(time_ns: int) -> ua.DateTime | None:
    if time_ns == NO_TIME:
        return None
    moment = EPOCH + timedelta(microseconds=time_ns // 1000)
    return ua.DateTime(*moment.timetuple()[:6], moment.microsecond, UTC)


def _variant_default(kind: ua.VariantType) -> object:
    return {ua.VariantType.Boolean: False, ua.VariantType.Int64: 0, ua.VariantType.Double: 0.0}.get(kind, "")


def _try_to_listen(endpoint: str) -> None:
    """Preparing a server takes seconds: see first whether the port is free."""
    parts = urlsplit(endpoint)
    try:
        with socket.create_server((parts.hostname or "", parts.port or 0), reuse_port=False):
            pass
    except OSError as error:
        message = f"cannot listen on {endpoint}: {error.strerror or error}"
        raise NotConnectedError(message) from error
