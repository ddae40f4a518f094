"""Which connector a URL names, and what a command gives it: user, password file, security, whom to trust."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from urllib.parse import urlsplit

import typer
from pydantic import ValidationError

import connectors
from app.commands.console import fail, t

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

    from connectors import Browser

Url = Annotated[str, typer.Argument(help="opc.tcp://HOST:PORT or mqtt://HOST:PORT")]
User = Annotated[str | None, typer.Option(help="User name.")]
PasswordFile = Annotated[Path | None, typer.Option(help="File that holds the password.", exists=True)]
Security = Annotated[str | None, typer.Option(help="OPC UA security policy; None without a user name by default.")]
Mode = Annotated[str | None, typer.Option(help="OPC UA: SignAndEncrypt or Sign.")]
Trust = Annotated[Path | None, typer.Option(help="The peer's certificate, or that of its authority.", exists=True)]
T = TypeVar("T")


def connector(url: str, capability: str) -> Any:  # noqa: ANN401 - a connector module with this capability
    """The connector of a URL's scheme. Ends the command where there is none, or none that can do this."""
    scheme = urlsplit(url).scheme
    for name in connectors.names():
        try:
            module: Any = connectors.load(name)
        except connectors.NotInstalledError:
            continue
        if scheme in module.SCHEMES and hasattr(module, capability):
            return module
    raise fail(t("There is no connector for {url}.", url=url), 2)


def credentials(
    module: Any,  # noqa: ANN401 - a connector module
    *,
    user: str | None = None,
    password_file: Path | None = None,
    security: str | None = None,
    mode: str | None = None,
    trust: Path | None = None,
) -> dict[str, Any]:
    """Those that were given, as the connector's `Options` call them."""
    known = module.Options.model_fields
    given: dict[str, Any] = {"username": user, "security": security, "mode": mode}
    if password_file is not None:
        given["password"] = password_file.read_text(encoding="utf-8").rstrip("\r\n")
    if trust is not None:
        several = "trusted_certificates" in known
        given["trusted_certificates" if several else "ca_file"] = [trust] if several else trust
    return {key: value for key, value in given.items() if value is not None}


def ask(asked: Coroutine[Any, Any, T]) -> T:
    """Ask a peer; what goes wrong is a sentence."""
    try:
        return asyncio.run(asked)
    except connectors.ConnectorError as error:
        raise fail(str(error)) from error
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False)
        said = [": ".join([*map(str, one["loc"]), one["msg"].removeprefix("Value error, ")]) for one in wrong]
        raise fail("; ".join(said), 2) from error
    except ValueError as error:
        raise fail(str(error), 2) from error


@asynccontextmanager
async def browsing(browser: Browser) -> AsyncIterator[Browser]:
    """A browser that is connected, and closed in the end."""
    try:
        await browser.connect()
        yield browser
    finally:
        await browser.close()
