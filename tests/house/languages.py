"""Pages that stand in one language only: a user reads either."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath

CHINESE = PurePosixPath("docs/zh-CN")
FOR_DEVELOPERS = frozenset(("decisions", "reports"))
"""Folders of docs for those who change the code; they stand in English."""


def missing(paths: Iterable[str]) -> list[str]:
    """The pages that should be there and are not."""
    there = {PurePosixPath(p) for p in paths if p.endswith(".md")}
    return sorted(str(other) for page in there if (other := counterpart(page)) is not None and other not in there)


def counterpart(page: PurePosixPath) -> PurePosixPath | None:
    """The same page in the other language; None where one language is enough."""
    if page.name == "README.md" and page.parts[0] != "docs":
        return page.with_name("README.zh-CN.md")
    if page.name == "README.zh-CN.md":
        return page.with_name("README.md")
    if page.is_relative_to(CHINESE):
        return PurePosixPath("docs") / page.relative_to(CHINESE)
    if page.parts[0] == "docs" and page.parts[1] not in FOR_DEVELOPERS:
        return CHINESE / page.relative_to("docs")
    return None
