"""Tags changed in the text of a plant file: everything else stays as it was written."""

from __future__ import annotations

import pytest

from app.config.document import parse
from app.config.tag_edit import EditError, Edits, edited

NEW = {"name": "N", "connection": "plc", "address": "i=9"}
BLOCK = """\
version: 1
connections:
  - {name: plc, connector: opcua}   # the press
tags:   # all of them
  - name: A        # first
    connection: plc
    address: i=1   # as in the drawing
    options:
      queue_size: 5
      trigger: status_value
    # what follows is old
  - {name: B, connection: plc, address: i=2, unit: kN}   # flow

# models below
models: []
"""


def test_only_what_changes_changes() -> None:
    """Values are replaced where they stand, new keys come behind the name, new tags behind the last."""
    changed: dict[int, dict[str, object]] = {
        0: {"address": "i=11", "unit": "bar", "options": {"queue_size": 7}},
        1: {"unit": "", "place": "x/y"},
    }
    assert edited(parse(BLOCK, "p"), Edits([NEW], changed)) == (
        BLOCK.replace("i=1   #", "i=11   #")
        .replace("# first", "# first\n    unit: bar")
        .replace("queue_size: 5\n      trigger: status_value", "{queue_size: 7}")
        .replace("{name: B, connection: plc, address: i=2, unit: kN}   # flow",
                 "{name: B, place: x/y, connection: plc, address: i=2, unit: ''}   # flow\n"
                 "  - {name: N, connection: plc, address: i=9}")
    )


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("version: 1\n", "version: 1\n\ntags:\n  - {name: N, connection: plc, address: i=9}\n"),
        ("version: 1", "version: 1\n\ntags:\n  - {name: N, connection: plc, address: i=9}\n"),
        ("tags: [] # no\nversion: 1\n", "tags: \n  - {name: N, connection: plc, address: i=9} # no\nversion: 1\n"),
        ("tags:\nversion: 1\n", "tags:\n  - {name: N, connection: plc, address: i=9}\nversion: 1\n"),
        ("tags: [{name: A}]\n", "tags: [{name: A}, {name: N, connection: plc, address: i=9}]\n"),
        ("tags:\n- name: A\n", "tags:\n- name: A\n- {name: N, connection: plc, address: i=9}\n"),
        ("tags:\r\n- name: A\r\nversion: 1\r\n",
         "tags:\r\n- name: A\r\n- {name: N, connection: plc, address: i=9}\r\nversion: 1\r\n"),
        ("", "tags:\n  - {name: N, connection: plc, address: i=9}\n"),
    ],
)
def test_a_tag_is_added_to_whatever_is_there(text: str, after: str) -> None:
    """No tags yet, an empty list, lists in either style, with the line breaks of the file."""
    assert edited(parse(text, "p"), Edits([NEW])) == after


@pytest.mark.parametrize(
    ("text", "value", "after"),
    [
        ("tags:\n- name: A\n  unit: |\n    kN\n  place: x\n", "bar", "tags:\n- name: A\n  unit: bar\n  place: x\n"),
        ("tags:\n- name: A\n  unit:\n  place: x\n", "bar", "tags:\n- name: A\n  unit: bar\n  place: x\n"),
        ("tags:\n- name: A\n  unit: 'a''b' # c\n", "°C", "tags:\n- name: A\n  unit: °C # c\n"),
        ("tags:\n- name: A\n  unit: k\n", "1: 2", "tags:\n- name: A\n  unit: '1: 2'\n"),
    ],
)
def test_a_value_in_any_style_is_replaced(text: str, value: str, after: str) -> None:
    """Block texts, empty values, quotes; a value that YAML would misread is put in quotes."""
    assert edited(parse(text, "p"), Edits(changed={0: {"unit": value}})) == after


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("o: &o {queue_size: 1}\ntags:\n- {name: A, options: *o}\n", {0: {"options": {"queue_size": 2}}}),
        ("tags:\n- &a {name: A}\n- *a\n", {0: {"unit": "x"}}),
        ("{version: 1}\n", {}),
        ("tags: {a: 1}\n", {}),
        ("version: 1\n...\n", {}),
    ],
)
def test_what_cannot_be_changed_piece_by_piece_is_left(text: str, changed: dict[int, dict[str, object]]) -> None:
    """Anchors and odd styles: nothing is guessed, the engineer is told to do it by hand."""
    with pytest.raises(EditError, match="by hand"):
        edited(parse(text, "p"), Edits([NEW], changed))


def test_an_anchor_elsewhere_is_no_hindrance() -> None:
    """Anchors that no change touches stay as they are."""
    text = "o: &o {x: 1}\np: *o\ntags:\n- {name: A}\n"
    after = edited(parse(text, "p"), Edits(changed={0: {"unit": "m"}}))
    assert after == text.replace("{name: A}", "{name: A, unit: m}")
