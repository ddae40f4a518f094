"""Where what asyncua and the network raise becomes our errors, which say whose move it is."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from asyncua.ua.status_codes import StatusCodes, get_name_and_doc
from asyncua.ua.uaerrors import UaError, UaStatusCodeError

from connectors import ConnectorError, NotConnectedError, RefusedError

# The caller hears of an outage as an exception, once; the library would write several lines and a traceback for it.
for _noisy in ("asyncua.client", "asyncua.common.connection", "asyncua.crypto.uacrypto"):
    logging.getLogger(_noisy).setLevel(logging.CRITICAL + 1)

TOO_MUCH: Final = frozenset(
    {
        int(StatusCodes.BadTooManyOperations),
        int(StatusCodes.BadResponseTooLarge),
        int(StatusCodes.BadRequestTooLarge),
        int(StatusCodes.BadEncodingLimitsExceeded),
    }
)
"""Answers to a request that was too large although its limits were kept: half of it is asked."""
REFUSALS: Final = frozenset(
    getattr(StatusCodes, name)
    for name in (
        "BadSecurityChecksFailed",
        "BadSecurityPolicyRejected",
        "BadSecurityModeRejected",
        "BadSecurityModeInsufficient",
        "BadApplicationSignatureInvalid",
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
        "BadLicenseNotAvailable",
    )
    if hasattr(StatusCodes, name)
)
"""Answers that waiting does not mend (IEC 62541-4, tables 177 and 178)."""
LOG_IN_REFUSALS: Final = frozenset(
    getattr(StatusCodes, name)
    for name in (
        "BadUserAccessDenied",
        "BadIdentityTokenInvalid",
        "BadIdentityTokenRejected",
        "BadUserSignatureInvalid",
        "BadPasswordChangeRequired",
    )
    if hasattr(StatusCodes, name)
)
"""The same about the user: another try with the same password may lock the account."""
LET_US_IN: Final = "the peer does not trust our certificate: accept it there, `headrace trust own` shows it"
HINTS: Final = {
    "BadSecurityChecksFailed": f"probably {LET_US_IN}",
    "BadCertificateUntrusted": LET_US_IN,
    "BadCertificateInvalid": "it cannot use our certificate, `headrace trust own` shows it",
    "BadCertificateUriInvalid": "the application URI in our certificate is not the one it expects",
    "BadCertificateTimeInvalid": "it holds our certificate for expired or not yet valid: compare the clocks",
    "BadUserAccessDenied": "it does not let this user in",
    "BadIdentityTokenInvalid": "it cannot read how we log in",
    "BadIdentityTokenRejected": "it does not accept this user, or this way to log in",
    "BadUserSignatureInvalid": "the user's key does not belong to the user's certificate",
}
"""What an engineer can do about it; the standard's own words for the rest."""


class LogInRefusedError(RefusedError):
    """The peer refused the user. Another try is worth while only when the operator has changed something."""


@asynccontextmanager
async def border(doing: str) -> AsyncIterator[None]:
    """Turn what asyncua and the network raise into our errors, which say whose move it is."""
    try:
        yield
    except UaStatusCodeError as error:
        kind: type[ConnectorError] = NotConnectedError
        if error.code in REFUSALS | LOG_IN_REFUSALS:
            kind = LogInRefusedError if error.code in LOG_IN_REFUSALS else RefusedError
        name, said = get_name_and_doc(error.code)
        message = f"{doing}: the server answers {name}: {HINTS.get(name, said)}"
        raise kind(message) from error
    except TimeoutError as error:
        message = f"{doing}: no answer in time"
        raise NotConnectedError(message) from error
    except (OSError, UaError) as error:
        message = f"{doing}: {error or type(error).__name__}"
        raise NotConnectedError(message) from error
