"""How a checked model is written into the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.models.tables import ModelRow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from inference import Model


def model_row(model: Model, now: int) -> ModelRow:
    """A checked model as the registry keeps it, imported at this time (ns)."""

    def tensors(specs: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401 - inputs or outputs of a model
        for one in specs:
            yield {
                "name": one.name,
                "dtype": one.dtype,
                "shape": list(one.shape),
                "unit": one.unit,
                "meaning": one.meaning,
            }

    contract = {
        "inputs": list(tensors(model.inputs)),
        "outputs": list(tensors(model.outputs)),
        "opset": model.opset,
        "ir_version": model.ir_version,
        "nodes": model.nodes,
        "manifest": dict(model.manifest),
    }
    return ModelRow(
        digest=model.digest, sm3=model.sm3, name=model.name, version=model.version, contract=contract, imported_at=now
    )
