"""A JPEG or PNG image as the whole payload, kept as its bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from pydantic import BaseModel, Field

from connectors import NO_TIME, Status
from connectors.mqtt.body import Packing
from connectors.mqtt.layouts import Found, Reader, Single, Strict, wrong_layout
from connectors.mqtt.values import UnusableError

if TYPE_CHECKING:
    from connectors.mqtt.body import Body
    from connectors.mqtt.options import TagOptions

Kind = Literal["jpeg", "png"]
OF_TAG: Final[frozenset[str]] = frozenset()
TAKES: Final[frozenset[str]] = frozenset()
UNTYPED: Final = False
SPARSE: Final = False
MAGIC: Final[dict[Kind, tuple[bytes, bytes]]] = {
    "jpeg": (b"\xff\xd8\xff", b"\xff\xd9"),
    "png": (b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"),
}
"""How a whole image begins and ends; cameras pad what follows (ITU-T T.81, B.1.1.3; PNG, 5.2 and 11.2.5)."""


class Options(Strict):
    """Which images are taken."""

    kinds: tuple[Kind, ...] = Field(default=("jpeg", "png"), min_length=1)
    max_bytes: int = Field(default=8_388_608, ge=1, le=268_435_455)


def reader(options: TagOptions, layout: BaseModel) -> Reader:
    """See `Layout.reader`."""
    return ImageReader(Packing.of(options), Options.model_validate(layout))


class ImageReader:
    """Recognises an image by how it begins; nothing of it is decoded."""

    def __init__(self, packing: Packing, options: Options) -> None:
        """How the payload is packed, and what is taken."""
        self._packing, self._options = packing, options

    def read(self, body: Body) -> Found:
        """See `Reader.read`."""
        image = body.unpacked(self._packing)
        if len(image) > self._options.max_bytes:
            reason = "too_large"
            raise UnusableError(reason, f"an image of {len(image)} bytes: `max_bytes` is {self._options.max_bytes}")
        kind = next((k for k in self._options.kinds if image.startswith(MAGIC[k][0])), None)
        if kind is None:
            detail = f"the payload does not begin like {' or '.join(self._options.kinds)}"
            raise wrong_layout(detail)
        if MAGIC[kind][1] not in image:
            reason = "broken_image"
            raise UnusableError(reason, f"a {kind} without its end: it was cut on the way, or the camera is at fault")
        return Single((NO_TIME, Status.GOOD, image))
