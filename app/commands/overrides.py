"""What passes a maker's card into the worker's container: a compose override, made from the vendor file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from inference.chip import Chip


def name(chip: Chip) -> str:
    """Its path in the project."""
    return f"deploy/compose.{chip.vendor}.yml"


def service(chip: Chip) -> dict[str, Any]:
    """What the override adds to the service `worker` of docker-compose.yml (Compose Specification, services)."""
    container = chip.container
    added = {
        "devices": [f"/dev/{node}:/dev/{node}" for node in container.devices],
        "volumes": [f"{path}:{path}:ro" for path in container.volumes],
        "environment": dict(container.environment),
        "group_add": list(container.group_add),
        "security_opt": list(container.security_opt),
    }
    return {key: value for key, value in added.items() if value}


def override(chip: Chip) -> str:
    """The whole file."""
    container = chip.container
    maker = f"{chip.maker.en} {chip.maker.zh}"
    lines = [
        f"{maker}: passes cards into the worker. {chip.evidence.capitalize()}"
        + (": not tried by us." if chip.evidence == "documented" else "."),
        f"  docker compose -f docker-compose.yml -f {name(chip)} up -d",
        "The image must hold the maker's runtime, too: see docs/reference/accelerators.md.",
        *([f"Needs on the host: {container.toolkit}."] if container.toolkit and not container.devices else []),
        *(note.en for note in container.notes),
        f"Made from inference/vendors/{chip.vendor}.py by: headrace vendors {chip.vendor} --compose",
    ]
    document = {"services": {"worker": service(chip)}}
    body = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, default_flow_style=False, width=120)
    return "".join(f"# {line}\n" for line in lines) + body
