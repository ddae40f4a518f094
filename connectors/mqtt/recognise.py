"""One payload recognised: packed or not, image, JSON, text in any charset, or bytes that only their maker knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from connectors.mqtt import guess_json, guess_text
from connectors.mqtt.body import GZIP_MAGIC, UTF_8, Body, Packing
from connectors.mqtt.guess import BINARY, Guess, Leaf
from connectors.mqtt.layout_image import MAGIC
from connectors.mqtt.values import UnusableError

MOST_UNPACKED: Final = 4 * 1024 * 1024
CHARSETS: Final = (UTF_8, "gbk", "gb18030")
UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")
PLAIN: Final = frozenset("\t\r\n\ufeff")
SHOWN_BYTES: Final = 16
SPARKPLUG: Final = "spBv1.0/"
IMAGE: Final = "image"
HAN: Final = ("\u3400", "\u9fff")


def recognise(topic: str, payload: bytes, now: int) -> Guess:
    """What a message seems to be; `now` is when it came, ns since 1970 UTC. Never raises for whatever was sent."""
    if topic.startswith(SPARKPLUG):
        return Guess(BINARY, note="Sparkplug B, which is no payload of this connector")
    common: dict[str, object] = {}
    content = payload
    if payload.startswith(GZIP_MAGIC):
        try:
            content = Body(payload, now).unpacked(Packing("gzip", MOST_UNPACKED, UTF_8))
        except UnusableError as error:
            return _binary(payload, str(error))
        common["compression"] = "gzip"
    kind = next((kind for kind, (begins, _) in MAGIC.items() if content.startswith(begins)), None)
    if kind is not None:
        return Guess(IMAGE, (Leaf("", "", content, common, note=f"{kind}, {len(content)} bytes"),))
    charset = _charset(content)
    if charset is None:
        return _binary(content, "")
    if charset != UTF_8:
        common["charset"] = charset
    packing = Packing("gzip" if "compression" in common else None, MOST_UNPACKED, charset)
    return _of_text(Body(payload, now), packing, common)


def _of_text(body: Body, packing: Packing, common: Mapping[str, object]) -> Guess:
    text = body.text(packing)
    if not text.strip():
        return Guess("text", note="empty")
    if text.lstrip()[0] not in '{["':
        return guess_text.guess(text, body.received, common)
    try:
        document = body.json(packing)
    except UnusableError:
        return guess_text.guess(text, body.received, common)
    return guess_json.guess(document, body, common)


def _binary(content: bytes, why: str) -> Guess:
    shown = content[:SHOWN_BYTES].hex(" ")
    more = " …" if len(content) > SHOWN_BYTES else ""
    note = f"{len(content)} bytes: {shown}{more}; say under `layout` what is where"
    return Guess(BINARY, (Leaf("", "", content),), f"{why}; {note}" if why else note)


def _charset(content: bytes) -> str | None:
    """The first in which this is a text, or None."""
    for charset in ("utf-16",) if content.startswith(UTF_16) else CHARSETS:
        try:
            text = content.decode(charset)
        except UnicodeDecodeError:
            continue
        if _is_text(text, chinese=charset not in {UTF_8, "utf-16"}):
            return charset
    return None


def _is_text(text: str, *, chinese: bool) -> bool:
    """Whether it can be printed. Bytes are GBK by accident too: then half of what is not ASCII must be Chinese."""
    if not all(one.isprintable() or one in PLAIN for one in text):
        return False
    if not chinese:
        return True
    strange = [one for one in text if not one.isascii()]
    chinese_ones = sum(HAN[0] <= one <= HAN[1] or one in "，。：；（）℃％" for one in strange)
    ascii_ones = len(text) - len(strange)
    return 2 * chinese_ones >= len(strange) and (ascii_ones > 0 or len(strange) > 1)
