"""A session with an OPC UA server over asyncua's transport: exactly the configured security, or none at all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from asyncua import ua
from asyncua.client.client import Client
from asyncua.crypto.uacrypto import InvalidSignature  # type: ignore[attr-defined]  # asyncua's own class, not cryptography's
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.uaerrors import UaError, UaStatusCodeError
from cryptography.hazmat.primitives.serialization import Encoding

from connectors import NotConnectedError, RefusedError
from connectors.opcua import certificates, security
from connectors.opcua.border import TOO_MUCH, LogInRefusedError, border
from connectors.opcua.discovery import TOKENS, endpoints_of, limit, mode_name, policy_name
from connectors.opcua.own import WARN
from connectors.opcua.pace import Pace

if TYPE_CHECKING:
    from asyncua.common.utils import Buffer

    from connectors.opcua.options import Credentials
    from connectors.opcua.resume import Kept
    from connectors.opcua.security import Mark

SESSION_TIMEOUT_MS: Final = 60_000
CHANNEL_LIFETIME_MS: Final = 3_600_000
RENEW_AFTER: Final = 0.75
"""Of the channel's lifetime (IEC 62541-4, 5.5.2.1)."""


class Session:
    """One secure channel and one activated session. Not to be opened twice."""

    def __init__(self, credentials: Credentials, name: str, data_dir: str) -> None:
        """Nothing is opened yet; `data_dir` holds our certificate and the trusted ones."""
        self._credentials = credentials
        self._keys = security.keys_of(credentials, name, Path(data_dir))
        self._marks: tuple[Mark, Mark] | None = None
        self._shown: tuple[bytes | None, str] = (None, "")
        self._ends = datetime.max.replace(tzinfo=UTC)
        self._user: security.UserCertificate | None = None
        self._client = Client(credentials.url, timeout=credentials.timeout_s)
        self._client.name = self._client.description = f"Headrace {name}"
        self._client.product_uri = "urn:headrace"
        self._client.session_timeout = SESSION_TIMEOUT_MS
        self._client.secure_channel_timeout = CHANNEL_LIFETIME_MS
        self._renew_at = float("inf")
        self.asked_to_resume = False
        self._pace = Pace(credentials.requests_per_s)
        self.requests = 0
        self.bytes_received = 0
        self.namespaces: list[str] = []

    async def open(self, kept: Kept | None = None) -> bool:
        """Connect, secure, log in; returns whether the kept session was resumed. NotConnectedError, RefusedError."""
        try:
            self._user = self._keys.user()
            if self._secured:
                await self._secure()
            async with border(f"connecting to {self._credentials.url}"):
                await self._client.connect_socket()
                await self._client.send_hello()
                limit(self._client)
                await self._client.open_secure_channel()
            self._renew_at = time.monotonic() + self._client.secure_channel_timeout / 1000 * RENEW_AFTER
            resumed = kept is not None and await self._resume(kept)
            if not resumed:
                await self._log_in()
        except BaseException:
            self._client.disconnect_socket()
            raise
        return resumed

    @property
    def _secured(self) -> bool:
        return self._credentials.security != "None"

    async def _secure(self) -> None:
        """Find the endpoint we were told to use, check its certificate against the trust inbox, set up our own."""
        policy, mode = security.POLICIES[self._credentials.security], ua.MessageSecurityMode[self._credentials.mode]
        mine = self._keys.mine.use()
        endpoints = [e for e in await endpoints_of(self._client) if str(e.EndpointUrl).startswith("opc.tcp")]
        offered = [e for e in endpoints if e.SecurityPolicyUri == policy.URI and e.SecurityMode == mode]
        if not offered:
            names = sorted({f"{policy_name(e)}/{mode_name(e)}" for e in endpoints})
            wanted = f"{self._credentials.security}/{self._credentials.mode}"
            message = f"the server does not offer {wanted}, only {', '.join(names)}"
            raise RefusedError(message)
        der = self._believe(offered[0].ServerCertificate, str(offered[0].Server.ApplicationUri or ""))
        self._client.application_uri = mine.application_uri
        await self._client.set_security(policy, mine.certificate, mine.key, server_certificate=der, mode=mode)

    def _believe(self, shown: bytes | None, uri: str) -> bytes:
        """The server's certificate, if it is trusted. RefusedError."""
        # Before the look: what is changed meanwhile is seen by `tend`.
        self._marks = self._keys.mark(), self._keys.own_mark()
        host = urlsplit(self._credentials.url).hostname or ""
        certificate = self._keys.inbox.check(shown, host, uri)
        self._shown, self._ends = (shown, uri), certificate.not_valid_after_utc
        return certificate.public_bytes(Encoding.DER)

    def tend(self) -> tuple[str, ...]:
        """See `connectors.Tended`; of this session."""
        if self._marks is None:
            return self._keys.notes()
        everything, own = self._keys.mark(), self._keys.own_mark()
        if own != self._marks[1]:
            message = "our own certificate was switched: connecting anew with it"
            raise NotConnectedError(message)
        if everything != self._marks[0]:
            self._believe(*self._shown)
        mine = self._keys.mine.tend() if self._secured else ()
        soon = self._ends - datetime.now(UTC) < WARN
        peer = (f"the peer's certificate ends on {self._ends:%Y-%m-%d}: then it needs another one",) if soon else ()
        return mine + peer + self._keys.notes()

    async def _log_in(self) -> None:
        try:
            async with border(f"opening a session on {self._credentials.url}"):
                await self._client.create_session()
                await self._activate()
        except InvalidSignature as error:
            message = "the server's signature is wrong: it does not hold the key of its certificate"
            raise RefusedError(message) from error
        except NotConnectedError as error:
            if isinstance(error.__cause__, UaError) and not isinstance(error.__cause__, UaStatusCodeError):
                raise RefusedError(str(error)) from error
            raise

    async def _resume(self, kept: Kept) -> bool:
        """Activate a session the server may still have, on this new channel (IEC 62541-4, 5.6.3 and 6.7)."""
        client, policy = self._client, self._client.security_policy
        self.asked_to_resume = True
        try:
            endpoints = await client.get_endpoints()
            endpoint = Client.find_endpoint(endpoints, policy.Mode, policy.URI)
            if policy.peer_certificate is None and endpoint.ServerCertificate:
                policy.peer_certificate = certificates.first_of_chain(endpoint.ServerCertificate)
            # asyncua resumes a session by itself only together with its own reconnecting, which we do not use.
            client._policy_ids, client._server_nonce = endpoint.UserIdentityTokens, kept.nonce  # type: ignore[assignment]  # noqa: SLF001
            client.uaclient.session.restore_authentication_token(kept.token)
            await self._activate()
        except UaError:
            client.uaclient.session.reset_authentication_token()
            client._server_nonce = None  # noqa: SLF001
            return False
        except (OSError, TimeoutError) as error:
            message = f"resuming the session on {self._credentials.url}: {error or type(error).__name__}"
            raise NotConnectedError(message) from error
        return True

    async def _activate(self) -> None:
        name, secret = self._credentials.username, self._credentials.password
        kind = ua.UserTokenType.Anonymous
        if name is not None or self._user is not None:
            kind = ua.UserTokenType.UserName if name is not None else ua.UserTokenType.Certificate
            self._refuse_to_show_the_user(kind)
        policies = self._client._policy_ids or []  # noqa: SLF001 - asyncua keeps it for itself
        if policies and kind not in {one.TokenType for one in policies}:
            offered = ", ".join(sorted({TOKENS.get(one.TokenType, "?") for one in policies}))
            message = f"the server lets nobody log in as {TOKENS[kind]}, only as {offered}"
            raise LogInRefusedError(message)
        if self._user is None:
            await self._client.activate_session(username=name, password=secret.get_secret_value() if secret else None)
        else:
            self._client.user_private_key = self._user.key
            await self._client.activate_session(certificate=self._user.certificate)

    @property
    def token(self) -> ua.NodeId:
        """The authentication token of this session."""
        found: ua.NodeId = self._client.uaclient.session.authentication_token
        return found

    @property
    def nonce(self) -> bytes:
        """The server's last nonce."""
        return bytes(self._client._server_nonce or b"")  # noqa: SLF001 - asyncua keeps it for itself

    def _refuse_to_show_the_user(self, kind: ua.UserTokenType) -> None:
        """A password leaves us only encrypted, and only for a peer we believe; a signature must prove something."""
        token, channel = self._client.server_policy(kind), self._client.security_policy
        encrypted = channel.Mode == ua.MessageSecurityMode.SignAndEncrypt
        weak = (token.SecurityPolicyUri or "") in security.WEAK
        if weak and kind == ua.UserTokenType.Certificate:
            message = "the server asks for no proof that the user's certificate is ours: use security"
            raise LogInRefusedError(message)
        if weak and not encrypted:
            message = "the server would take the password unencrypted: use security with mode SignAndEncrypt"
            raise LogInRefusedError(message)
        if not self._secured:
            self._believe(channel.peer_certificate, "")

    async def turn(self) -> None:
        """Before each request: it is counted, and waits until the budget has room for it."""
        self.requests += 1
        await self._pace.turn()

    async def request(self, request: Any, timeout_s: float | None = None) -> Buffer:  # noqa: ANN401 - asyncua's requests have no common type
        """Send one service request within the budget, return its answer's bytes. Raises what asyncua does."""
        await self.turn()
        return await self.send(request, timeout_s)

    async def send(self, request: Any, timeout_s: float | None = None) -> Buffer:  # noqa: ANN401
        """The same beside the budget, for publishing; `timeout_s` 0 is for ever."""
        protocol = self._client.uaclient.protocol
        if protocol is None:
            message = "the connection is closed"
            raise ConnectionError(message)
        answer = await protocol.send_request(request, timeout_s)
        self.bytes_received += len(answer)
        return answer

    @property
    def services(self) -> Any:  # noqa: ANN401 - asyncua's session services, typed there
        """Asyncua's service calls on this session."""
        return self._client.uaclient

    async def read_values(
        self, nodes: Sequence[ua.NodeId], attribute: AttributeIds = AttributeIds.Value
    ) -> list[ua.DataValue]:
        """One attribute of each node, in one request; in smaller ones where the server does not take as many."""
        await self.turn()
        async with border("reading"):
            try:
                found: list[ua.DataValue] = await self._client.uaclient.read_attributes(list(nodes), attribute)
            except UaStatusCodeError as error:
                if error.code not in TOO_MUCH or len(nodes) == 1:
                    raise
                half = len(nodes) // 2
                some = await self.read_values(nodes[:half], attribute)
                found = [*some, *await self.read_values(nodes[half:], attribute)]
        return found

    async def renew_if_due(self) -> None:
        """Renew the channel's keys once most of its lifetime is over."""
        if time.monotonic() >= self._renew_at:
            await self._client.open_secure_channel(renew=True)
            self._client.uaclient.revolve_security_token()
            self._renew_at = time.monotonic() + self._client.secure_channel_timeout / 1000 * RENEW_AFTER

    async def leave(self) -> None:
        """Close the channel and the socket, but leave the session at the server."""
        protocol = self._client.uaclient.protocol
        if protocol is not None and not protocol.is_closed:
            with suppress(OSError, UaError):
                await self._client.close_secure_channel()
        self._client.disconnect_socket()

    async def close(self) -> None:
        """Close session, channel and socket; a server that is gone is not waited for."""
        protocol = self._client.uaclient.protocol
        if protocol is not None and not protocol.is_closed:
            with suppress(OSError, UaError, TimeoutError):
                async with asyncio.timeout(self._credentials.timeout_s):
                    await self._client.close_session()
                    await self._client.close_secure_channel()
        self._client.disconnect_socket()
