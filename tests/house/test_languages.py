"""Everything a user reads exists in English and in Chinese."""

from __future__ import annotations

from tests.house.languages import missing
from tests.house.test_rules import files


def test_every_page_stands_in_both_languages() -> None:
    """Each page of docs/ and each README has its counterpart."""
    assert missing(source.path for source in files()) == []


def test_a_page_in_one_language_is_found() -> None:
    """A page without its counterpart is named, whichever of the two it is."""
    assert missing(["docs/how-to/a.md"]) == ["docs/zh-CN/how-to/a.md"]
    assert missing(["docs/zh-CN/b.md"]) == ["docs/b.md"]
    assert missing(["README.md"]) == ["README.zh-CN.md"]
    assert missing(["examples/tep/README.zh-CN.md"]) == ["examples/tep/README.md"]
    assert missing(["docs/decisions/0001-x.md", "CHANGELOG.md", "docs/a.md", "docs/zh-CN/a.md"]) == []
