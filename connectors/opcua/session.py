"""A session with an OPC UA server over asyncua's transport: exactly the configured security, or none at all."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from asyncua import ua
from asyncua.client.client import Client
from asyncua.crypto import security_policies
from asyncua.crypto.uacrypto import InvalidSignature  # type: ignore[attr-defined]  # asyncua's own class, not cryptography's
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.status_codes import StatusCodes, get_name_and_doc
from asyncua.ua.uaerrors import UaError, UaStatusCodeError
from cryptography.hazmat.primitives.serialization import Encoding

from connectors import NotConnectedError, RefusedError
from connectors.opcua import security

if TYPE_CHECKING:
    from asyncua.common.utils import Buffer

    from connectors.opcua.options import Credentials
    from connectors.opcua.resume import Kept

# The caller hears of an outage as an exception, once; the library would write several lines and a traceback for it.
for _noisy in ("asyncua.client", "asyncua.common.connection", "asyncua.crypto.uacrypto"):
    logging.getLogger(_noisy).setLevel(logging.CRITICAL + 1)

REFUSALS: Final = frozenset(
    getattr(StatusCodes, name)
    for name in (
        "BadUserAccessDenied",
        "BadIdentityTokenInvalid",
        "BadIdentityTokenRejected",
        "BadSecurityChecksFailed",
        "BadSecurityPolicyRejected",
        "BadSecurityModeRejected",
        "BadSecurityModeInsufficient",
        "BadApplicationSignatureInvalid",
        "BadUserSignatureInvalid",
        "BadCertificateInvalid",
        "BadCertificateTimeInvalid",
        "BadCertificateIssuerTimeInvalid",
        "BadCertificateHostNameInvalid",
        "BadCertificateUriInvalid",
        "BadCertificateUseNotAllowed",
        "BadCertificateUntrusted",
        "BadCertificateRevoked",
        "BadCertificateIssuerRevoked",
        "BadCertificateChainIncomplete",
        "BadCertificatePolicyCheckFailed",
        "BadNoMatch",
        "BadPasswordChangeRequired",
        "BadLicenseNotAvailable",
    )
    if hasattr(StatusCodes, name)
)
"""Answers that waiting does not mend (IEC 62541-4, tables 177 and 178)."""
WEAK_FOR_PASSWORDS: Final = frozenset(
    {"", security_policies.SecurityPolicyNone.URI, security_policies.SecurityPolicyBasic128Rsa15.URI}
)
SESSION_TIMEOUT_MS: Final = 60_000
CHANNEL_LIFETIME_MS: Final = 3_600_000
RENEW_AFTER: Final = 0.75
"""Of the channel's lifetime (IEC 62541-4, 5.5.2.1)."""
LARGEST_MESSAGE: Final = 64 * 1024 * 1024
MOST_CHUNKS: Final = 4096


@asynccontextmanager
async def border(doing: str) -> AsyncIterator[None]:
    """Turn what asyncua and the network raise into our errors, which say whose move it is."""
    try:
        yield
    except UaStatusCodeError as error:
        kind = RefusedError if error.code in REFUSALS else NotConnectedError
        message = f"{doing}: the server answers {get_name_and_doc(error.code)[0]}"
        raise kind(message) from error
    except TimeoutError as error:
        message = f"{doing}: no answer in time"
        raise NotConnectedError(message) from error
    except (OSError, UaError) as error:
        message = f"{doing}: {error or type(error).__name__}"
        raise NotConnectedError(message) from error


class Session:
    """One secure channel and one activated session. Not to be opened twice."""

    def __init__(self, credentials: Credentials, name: str, data_dir: str) -> None:
        """Nothing is opened yet; `data_dir` holds our certificate and the trusted ones."""
        self._credentials = credentials
        self._name = name
        self._folder = Path(data_dir)
        self._client = Client(credentials.url, timeout=credentials.timeout_s)
        self._client.name = self._client.description = f"Headrace {name}"
        self._client.product_uri = "urn:headrace"
        self._client.session_timeout = SESSION_TIMEOUT_MS
        self._client.secure_channel_timeout = CHANNEL_LIFETIME_MS
        self._renew_at = float("inf")
        self.requests = 0
        self.bytes_received = 0
        self.namespaces: list[str] = []

    async def open(self, kept: Kept | None = None) -> bool:
        """Connect, secure, log in; returns whether the kept session was resumed. NotConnectedError, RefusedError."""
        try:
            if self._credentials.security != "None":
                await self._secure()
            async with border(f"connecting to {self._credentials.url}"):
                await self._client.connect_socket()
                await self._client.send_hello()
                self._limit()
                await self._client.open_secure_channel()
            self._renew_at = time.monotonic() + self._client.secure_channel_timeout / 1000 * RENEW_AFTER
            resumed = kept is not None and await self._resume(kept)
            if not resumed:
                await self._log_in()
        except BaseException:
            self._client.disconnect_socket()
            raise
        return resumed

    async def _secure(self) -> None:
        """Find the endpoint we were told to use, check its certificate against the trust list, set up our own."""
        policy, mode = security.POLICIES[self._credentials.security], ua.MessageSecurityMode[self._credentials.mode]
        mine = security.identity(self._folder, self._credentials.application_uri, self._name)
        trusted = security.load_trusted(self._credentials.trusted_certificates, self._folder)
        async with border(f"asking {self._credentials.url} for its endpoints"):
            endpoints = await self._client.connect_and_get_server_endpoints()
        offered = [e for e in endpoints if e.SecurityPolicyUri == policy.URI and e.SecurityMode == mode]
        if not offered:
            names = sorted({f"{str(e.SecurityPolicyUri).rpartition('#')[2]}/{e.SecurityMode.name}" for e in endpoints})
            wanted = f"{self._credentials.security}/{self._credentials.mode}"
            message = f"the server does not offer {wanted}, only {', '.join(names)}"
            raise RefusedError(message)
        certificate = security.check_peer(offered[0].ServerCertificate, trusted, self._folder)
        self._client.application_uri = mine.application_uri
        der = certificate.public_bytes(Encoding.DER)
        await self._client.set_security(policy, mine.certificate, mine.key, server_certificate=der, mode=mode)

    def _limit(self) -> None:
        """Bound what we accept; asyncua has no public door to it and would take what the server says it accepts."""
        protocol = self._client.uaclient.protocol
        if protocol is not None:
            limits = protocol._connection._limits  # noqa: SLF001
            limits.max_message_size, limits.max_chunk_count = LARGEST_MESSAGE, MOST_CHUNKS

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
        try:
            endpoints = await client.get_endpoints()
            endpoint = Client.find_endpoint(endpoints, policy.Mode, policy.URI)
            if policy.peer_certificate is None and endpoint.ServerCertificate:
                policy.peer_certificate = security.first_of_chain(endpoint.ServerCertificate)
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
        if name is not None:
            self._refuse_to_show_the_password()
        await self._client.activate_session(username=name, password=secret.get_secret_value() if secret else None)

    @property
    def token(self) -> ua.NodeId:
        """The authentication token of this session."""
        found: ua.NodeId = self._client.uaclient.session.authentication_token
        return found

    @property
    def nonce(self) -> bytes:
        """The server's last nonce."""
        return bytes(self._client._server_nonce or b"")  # noqa: SLF001 - asyncua keeps it for itself

    def _refuse_to_show_the_password(self) -> None:
        """A password leaves us only encrypted: by the channel, or by a policy of its own."""
        token = self._client.server_policy(ua.UserTokenType.UserName)
        encrypted = self._client.security_policy.Mode == ua.MessageSecurityMode.SignAndEncrypt
        if not encrypted and (token.SecurityPolicyUri or "") in WEAK_FOR_PASSWORDS:
            message = "the server would take the password unencrypted: use security with mode SignAndEncrypt"
            raise RefusedError(message)

    async def request(self, request: Any, timeout_s: float | None = None) -> Buffer:  # noqa: ANN401 - asyncua's requests have no common type
        """Send one service request, return its answer's bytes; `timeout_s` 0 is for ever. Raises what asyncua does."""
        protocol = self._client.uaclient.protocol
        if protocol is None:
            message = "the connection is closed"
            raise ConnectionError(message)
        self.requests += 1
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
        """One attribute of each node, in one request."""
        self.requests += 1
        async with border("reading"):
            found: list[ua.DataValue] = await self._client.uaclient.read_attributes(list(nodes), attribute)
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
