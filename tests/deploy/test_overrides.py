"""Each maker's compose override is made from its vendor file, keeps the schema, and leaves the worker closed."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from app.commands.overrides import name, override
from inference.adapters.chip import chips
from tests.deploy.hardening import broken

TOP = Path(__file__).parents[2]
SCHEMA = Draft7Validator(json.loads((Path(__file__).parent / "compose-spec.json").read_text()))
CHIPS = {chip.vendor: chip for chip in chips()}
EACH = pytest.mark.parametrize("vendor", sorted(CHIPS))


def kept(vendor: str) -> dict[str, Any]:
    """The file in deploy/."""
    loaded: dict[str, Any] = yaml.safe_load((TOP / name(CHIPS[vendor])).read_text(encoding="utf-8"))
    return loaded


def with_override(added: dict[str, Any]) -> dict[str, Any]:
    """docker-compose.yml with an override, as compose merges them: lists are joined, mappings by key."""
    compose: dict[str, Any] = yaml.safe_load((TOP / "docker-compose.yml").read_text(encoding="utf-8"))
    worker = copy.deepcopy(compose["services"]["worker"])
    for key, value in added["services"]["worker"].items():
        there = worker.get(key)
        if isinstance(there, list):
            worker[key] = there + value
        elif isinstance(there, dict):
            worker[key] = there | value
        else:
            worker[key] = value
    compose["services"]["worker"] = worker
    return compose


def test_there_is_one_for_each_maker() -> None:
    """No vendor file without an override, no override without a vendor file."""
    assert sorted(path.name for path in (TOP / "deploy").glob("compose.*.yml")) == sorted(
        f"compose.{vendor}.yml" for vendor in CHIPS
    )


@EACH
def test_it_is_what_the_vendor_file_says(vendor: str) -> None:
    """`headrace vendors NAME --compose` was run after the last change of the data."""
    assert (TOP / name(CHIPS[vendor])).read_text(encoding="utf-8") == override(CHIPS[vendor])


@EACH
def test_it_keeps_the_schema(vendor: str) -> None:
    """Alone and merged it is a compose file; a wrong key is found."""
    file = kept(vendor)
    assert [e.message for e in SCHEMA.iter_errors(file)] == []
    assert [e.message for e in SCHEMA.iter_errors(with_override(file))] == []
    file["services"]["worker"]["device"] = ["/dev/x"]
    assert [e.message for e in SCHEMA.iter_errors(file)] != []


@EACH
def test_only_the_worker_is_given_the_card(vendor: str) -> None:
    """No other service sees it, and what it is given are devices, files to read and variables."""
    file = kept(vendor)
    assert list(file) == ["services"]
    assert list(file["services"]) == ["worker"]
    worker = file["services"]["worker"]
    assert set(worker) <= {"devices", "volumes", "environment", "group_add", "security_opt"}
    assert worker, "it would pass nothing in"
    assert all(volume.endswith(":ro") for volume in worker.get("volumes", ()))
    assert all(device.startswith("/dev/") and device.count(":") == 1 for device in worker.get("devices", ()))


@EACH
def test_the_worker_stays_closed(vendor: str) -> None:
    """With the card it still has no capability, no writable root and no way to gain privileges."""
    assert list(broken(with_override(kept(vendor)))) == []


def test_an_override_that_opens_the_worker_is_found() -> None:
    """A privileged worker, as some recipes ask for, would not pass."""
    file = kept("enflame")
    file["services"]["worker"]["privileged"] = True
    assert len(list(broken(with_override(file)))) == 1


@EACH
def test_its_head_says_that_it_was_not_tried(vendor: str) -> None:
    """Whoever opens the file reads how far it can be trusted, and how it is used."""
    text = (TOP / name(CHIPS[vendor])).read_text(encoding="utf-8")
    assert "Documented: not tried by us." in text.splitlines()[0]
    assert f"docker compose -f docker-compose.yml -f deploy/compose.{vendor}.yml up -d" in text
