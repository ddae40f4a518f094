"""What a server says of itself before any log-in: FindServers and GetEndpoints (IEC 62541-4, 5.4)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, TypeVar

from asyncua import ua
from asyncua.client.client import Client

from connectors import Application, Endpoint, Offer, RefusedError
from connectors.opcua import certificates
from connectors.opcua.border import border
from connectors.opcua.options import Credentials
from connectors.opcua.security import POLICIES

if TYPE_CHECKING:
    from connectors import Certificate

LARGEST_MESSAGE: Final = 32 * 1024 * 1024
"""Half of what a journal record may hold: what came in one message is never cut apart."""
MOST_CHUNKS: Final = 4096
LARGEST_ANSWER: Final = 4 * 1024 * 1024
"""Of a discovery service; before we know whom we talk to."""
MOST_ANSWER_CHUNKS: Final = 256
MOST: Final = 200
"""Servers and endpoints that are shown."""
LONGEST: Final = 500
TOKENS: Final = {
    ua.UserTokenType.Anonymous: "anonymous",
    ua.UserTokenType.UserName: "username",
    ua.UserTokenType.Certificate: "certificate",
    ua.UserTokenType.IssuedToken: "issued",
}
DEPRECATED: Final = frozenset({"Basic128Rsa15", "Basic256"})
Answer = TypeVar("Answer")


def limit(client: Client, size: int = LARGEST_MESSAGE, chunks: int = MOST_CHUNKS) -> None:
    """Bound what we accept; asyncua has no public door to it and would take what the server says it accepts."""
    protocol = client.uaclient.protocol
    if protocol is not None:
        limits = protocol._connection._limits  # noqa: SLF001
        limits.max_message_size, limits.max_chunk_count = size, chunks


async def _asked(client: Client, ask: Callable[[], Awaitable[Answer]]) -> Answer:
    """One question over a channel of its own, which is unsecured: anyone may ask. Raises what asyncua does."""
    try:
        await client.connect_socket()
        await client.send_hello()
        limit(client, LARGEST_ANSWER, MOST_ANSWER_CHUNKS)
        await client.open_secure_channel()
        answer = await ask()
        await client.close_secure_channel()
    finally:
        client.disconnect_socket()
    return answer


async def endpoints_of(client: Client) -> list[ua.EndpointDescription]:
    """The endpoints a server offers; the client must not be connected. NotConnectedError."""
    async with border(f"asking {client.server_url.geturl()} for its endpoints"):
        return list(await _asked(client, client.get_endpoints) or [])


async def offer(url: str, timeout_s: float = 5.0) -> Offer:
    """The servers and endpoints that a server names: read-only. NotConnectedError; ValueError for a wrong address."""
    client = Client(Credentials(url=url).url, timeout=timeout_s)
    endpoints = await endpoints_of(client)
    try:
        async with border(f"asking {url} for servers"):
            applications = list(await _asked(client, client.find_servers) or [])
    except RefusedError as error:
        return Offer((), tuple(_endpoint(one) for one in endpoints[:MOST]), (str(error),))
    notes = _notes(url, endpoints)
    if max(len(endpoints), len(applications)) > MOST:
        notes.append(f"only the first {MOST} are shown")
    return Offer(
        tuple(_application(one) for one in applications[:MOST]),
        tuple(_endpoint(one) for one in endpoints[:MOST]),
        tuple(notes),
    )


def _notes(url: str, endpoints: list[ua.EndpointDescription]) -> list[str]:
    notes = []
    policies = {policy_name(one) for one in endpoints}
    if policies <= {"None"}:
        notes.append("the server offers no security at all")
    elif "None" in policies:
        notes.append("the server also lets clients in without any security")
    if policies & DEPRECATED:
        notes.append(f"deprecated, and never used by us: {', '.join(sorted(policies & DEPRECATED))}")
    strangers = {_text(one.EndpointUrl) for one in endpoints} - {url}
    if strangers and len(strangers) == len({_text(one.EndpointUrl) for one in endpoints}):
        notes.append(f"the server calls itself {min(strangers)}: we connect to the address that is configured")
    return notes


def policy_name(endpoint: ua.EndpointDescription) -> str:
    """As it is configured; of a policy that cannot be, the last part of its URI."""
    uri = _text(endpoint.SecurityPolicyUri)
    return next((name for name, policy in POLICIES.items() if uri == policy.URI), uri.rpartition("#")[2])


def mode_name(endpoint: ua.EndpointDescription) -> str:
    """As it is configured: `SignAndEncrypt`, `Sign`, `None`."""
    return str(endpoint.SecurityMode.name).rstrip("_")


def _application(found: ua.ApplicationDescription) -> Application:
    return Application(
        _text(found.ApplicationName.Text if found.ApplicationName else ""),
        _text(found.ApplicationUri),
        _text(found.ProductUri),
        found.ApplicationType.name,
        tuple(_text(url) for url in (found.DiscoveryUrls or [])[:MOST]),
    )


def _endpoint(found: ua.EndpointDescription) -> Endpoint:
    kinds = [TOKENS.get(one.TokenType, "unknown") for one in found.UserIdentityTokens or []]
    return Endpoint(
        _text(found.EndpointUrl),
        policy_name(found),
        mode_name(found),
        int(found.SecurityLevel),
        tuple(dict.fromkeys(kinds)),
        _certificate(found.ServerCertificate),
    )


def _certificate(der: bytes | None) -> Certificate | None:
    try:
        return certificates.described(certificates.shown_by_peer(der))
    except RefusedError:
        return None


def _text(value: str | None) -> str:
    """What a stranger sent, fit for a terminal."""
    return "".join(one if one.isprintable() else "?" for one in str(value or "")[:LONGEST])
