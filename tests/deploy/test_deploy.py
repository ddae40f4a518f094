"""What a box is deployed with: compose file, image, secrets, units."""

from __future__ import annotations

import copy
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from tests.deploy.hardening import broken, unit_broken

TOP = Path(__file__).parents[2]
DEPLOY = TOP / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
SCHEMA = Draft7Validator(json.loads((Path(__file__).parent / "compose-spec.json").read_text()))


@pytest.fixture
def compose() -> dict[str, Any]:
    """The compose file."""
    loaded: dict[str, Any] = yaml.safe_load((TOP / "docker-compose.yml").read_text())
    return loaded


def test_the_compose_file_is_one(compose: dict[str, Any]) -> None:
    """It keeps the schema of the Compose Specification, and a wrong key would not."""
    assert [e.message for e in SCHEMA.iter_errors(compose)] == []
    compose["services"]["gateway"]["restarts"] = "always"
    assert [e.message for e in SCHEMA.iter_errors(compose)] != []


def test_every_service_is_closed(compose: dict[str, Any]) -> None:
    """No capability, no writable root, no secret in the environment, no port beyond this machine, a health check."""
    assert list(broken(compose)) == []


SPOILT: dict[str, tuple[str, dict[str, Any]]] = {
    "writable": ("gateway", {"read_only": False}),
    "capabilities": ("gateway", {"cap_drop": []}),
    "capability": ("gateway", {"cap_add": ["SETUID"]}),
    "administrator": ("postgres", {"cap_add": ["SYS_ADMIN"]}),
    "privileged": ("worker", {"privileged": True}),
    "host": ("worker", {"network_mode": "host"}),
    "privileges": ("worker", {"security_opt": []}),
    "port": ("api", {"ports": ["8420:8420"]}),
    "health": ("api", {"healthcheck": None}),
    "secret": ("postgres", {"environment": {"POSTGRES_PASSWORD": "x"}}),
}


@pytest.mark.parametrize("name", SPOILT)
def test_an_open_service_is_found(compose: dict[str, Any], name: str) -> None:
    """Each of these openings is reported, once."""
    opened = copy.deepcopy(compose)
    service, change = SPOILT[name]
    opened["services"][service].update(change)
    assert len(list(broken(opened))) == 1


def test_every_secret_is_made_and_none_has_a_default(compose: dict[str, Any], tmp_path: Path) -> None:
    """`make-secrets` makes exactly the files the services ask for, random, closed to others, and never again."""
    folder = tmp_path / "secrets"
    for _ in range(2):
        subprocess.run([DEPLOY / "make-secrets", folder], check=True, capture_output=True)
        made = {p.name: p.read_text() for p in folder.iterdir()}
    assert set(made) == set(compose["secrets"])
    assert folder.stat().st_mode & 0o077 == 0
    subprocess.run([DEPLOY / "make-secrets", tmp_path / "others"], check=True, capture_output=True)
    assert not [name for name, text in made.items() if (tmp_path / "others" / name).read_text() == text]
    assert made["redis_password"] in made["redis_url"]
    assert made["postgres_password"] in made["database_url"]
    subprocess.run([DEPLOY / "make-secrets", folder], check=True, capture_output=True)
    assert {p.name: p.read_text() for p in folder.iterdir()} == made


def test_the_image_runs_as_nobody_in_particular() -> None:
    """The last user of the image's stages is a number that is not root's."""
    text = (TOP / "Dockerfile").read_text()
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE) == ["10001:10001"]


@pytest.mark.parametrize("name", ["runtime", "demo", "build"])
def test_images_install_what_is_tested(name: str) -> None:
    """Every version an image installs is the one of constraints.txt, by hash."""
    pinned = _pins(TOP / "constraints.txt")
    wanted = _pins(DEPLOY / "requirements" / f"{name}.txt")
    assert wanted
    assert {line for line in wanted if line not in pinned} == set()
    assert "--hash=sha256:" in (DEPLOY / "requirements" / f"{name}.txt").read_text()


def _pins(path: Path) -> set[str]:
    return {line.split(" ")[0] for line in path.read_text().splitlines() if re.match(r"[a-z0-9][a-z0-9._-]*==", line)}


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_every_unit_is_closed(unit: Path) -> None:
    """A unit gives its process no privilege it does not need."""
    assert list(unit_broken(unit.read_text())) == []


def test_an_open_unit_is_found() -> None:
    """Without one of the lines the unit is reported."""
    text = UNITS[0].read_text()
    assert len(list(unit_broken(text.replace("NoNewPrivileges=yes\n", "")))) == 1
    assert len(list(unit_broken(text.replace("User=headrace\n", "User=root\n")))) == 1


def test_there_is_a_unit_for_each_process() -> None:
    """The units run what the compose file runs."""
    assert [unit.stem for unit in UNITS] == [f"headrace-{n}" for n in ("api", "beat", "gateway", "migrate", "worker")]
    target = (DEPLOY / "systemd" / "headrace.target").read_text()
    assert all(f"headrace-{name}.service" in target for name in ("api", "beat", "gateway", "worker"))
