"""What the service raises for a person or a client: one class, told in the terms of RFC 9457."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class Problem(Exception):  # noqa: N818 - the standard's own word
    """A request that cannot be answered, and what to do about it (RFC 9457, section 3)."""

    def __init__(
        self,
        status: int,
        code: str,
        title: str,
        detail: str = "",
        *,
        errors: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`code` is a stable snake_case word; `errors` name a JSON pointer and a detail each."""
        super().__init__(detail or title)
        self.status = status
        self.code = code
        self.title = title
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = dict(headers or {})


class QueueError(Exception):
    """The queue does not answer, or no address of it is set. Nothing is lost: wait and try again."""
