"""What is known of a chip maker's hardware and runtimes, as data: a vendor file fills it in, everything else reads it.

A fact that no public document gives stays None (or empty, where a field says so): nothing here is a guess. Texts for
people stand in English and Chinese beside each other, so that a new chip is one file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from inference import BackendNotInstalledError

Kind = Literal["ort_plugin", "ort_legacy", "compiled", "framework"]
"""The four kinds of adapter.

`ort_plugin`: a provider loaded into stock ONNX Runtime through its C ABI. `ort_legacy`: a provider built into the
maker's own ONNX Runtime. `compiled`: the maker's compiler makes an artefact, its runtime loads it. `framework`: the
device of a deep-learning framework.
"""

Shape = Literal["dynamic", "profile", "bucket", "static"]
"""How free dimensions are met: by any size; by a range with an optimum or a few sizes, stated before; by one."""

Evidence = Literal["documented", "simulated", "verified-ci", "verified-hardware"]
"""`documented`: written down in public and never tried by us. `simulated`: run in the maker's own simulator.
`verified-ci`: run in our tests. `verified-hardware`: a signed certificate from a host with the chip is on file."""


class Text(NamedTuple):
    """The same sentence in the languages of our users."""

    en: str
    zh: str


def joined(parts: list[Text], en: str, zh: str) -> Text:
    """The texts as one, with the separators of each language."""
    return Text(en.join(part.en for part in parts), zh.join(part.zh for part in parts))


@dataclass(frozen=True, slots=True)
class Source:
    """Where a fact was read: a public document, and the section or file of it."""

    document: str
    section: str = ""


@dataclass(frozen=True, slots=True)
class Probe:
    """How the chip shows itself on a machine. The device node decides; PCI alone does not prove that it can be used."""

    nodes: tuple[str, ...]
    """The device node of one card, below /dev; `{n}` is its number. Several are alternatives, the first found is taken.

    A `dri/renderD{n}` counts only where the kernel says that it is the chip's: by PCI vendor, or by driver.
    """
    beside: tuple[str, ...] = ()
    """Nodes below /dev that must be there as well, once for all cards."""
    pci_vendor: int | None = None
    """PCI vendor id; None where the chip is not on PCI, or no document gives the id."""
    pci_devices: tuple[int, ...] = ()
    """PCI device ids; empty where no document lists them: then any accelerator of the vendor counts."""
    driver: str = ""
    """The kernel driver of a render node that is not on PCI."""
    several: bool = True
    """Whether a machine can hold more than one; then ids carry an ordinal."""


CEILINGS: Final[Mapping[str, tuple[tuple[int | None, int | None], int | None]]] = {
    "paddle": ((7, 15), 10), "rknn": ((None, 19), 11),
}
"""Opsets and highest IR version that converters read, as they were tried here: X2Paddle 1.6.0, RKNN-Toolkit2 2.5.0."""


@dataclass(frozen=True, slots=True)
class Route:
    """One way to run an ONNX model on the chip."""

    kind: Kind
    name: str
    """The runtime, as its maker calls it."""
    evidence: Evidence
    sources: tuple[Source, ...]
    target: str = ""
    """The execution provider's name, or the framework's name of the device."""
    package: str = ""
    """The distribution to install; empty where no document names one."""
    module: str = ""
    """The Python module that must be there."""
    libraries: tuple[str, ...] = ()
    """Shared libraries that must be there, besides what the package brings."""
    folders: tuple[str, ...] = ()
    """Where the maker installs them; the dynamic linker's own folders are looked into as well."""
    python: str | None = None
    """Versions of Python it takes, as a version specifier: `>=3.11`. Likewise the next two."""
    onnxruntime: str | None = None
    numpy: str | None = None
    opset: tuple[int | None, int | None] = (None, None)
    """Lowest and highest opset of ai.onnx."""
    ir: int | None = None
    """Highest IR version of an ONNX file."""
    lacks: tuple[str, ...] | None = None
    """ONNX operators it is documented to lack; None where no document lists what it has, empty where it has all."""
    has: Mapping[str, tuple[str, ...]] | None = None
    """Every ONNX operator it has, as `Relu` or `com.microsoft:FusedGemm`, with the element types that its first input
    may have, as a TensorSpec has them; no type where any will do. None where no document lists them."""
    rejects: tuple[str, ...] = ()
    """Element types it does not compute in."""
    shapes: tuple[Shape, ...] | None = None
    precisions: Mapping[str, tuple[Mapping[str, str], ...]] | None = None
    """For each neutral precision the maker's options that ask for it; several are those of different versions."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Neutral option to the maker's name of it: `device` to `device_id`."""
    recipe: tuple[str, ...] = ()
    """Shell lines that make an environment of its own for it; empty where no document gives them."""
    one_at_a_time: bool = False
    """Whether its sessions in a process have to take turns, because the runtime does not take two runs at once."""
    notes: tuple[Text, ...] = ()
    """What else someone who takes this route has to know."""
    toolchain: str = ""
    """For `compiled` and `framework`: the file in `inference/toolchains/` that makes its calls; empty where there is
    none yet, for one because no public sample of the calls is known."""

    def __post_init__(self) -> None:
        """What a toolchain reads holds whatever chip comes after it."""
        opset, ir = CEILINGS.get(self.toolchain, ((None, None), None))
        if self.opset == (None, None):
            object.__setattr__(self, "opset", opset)
        if self.ir is None:
            object.__setattr__(self, "ir", ir)

    @property
    def adapted(self) -> bool:
        """Whether this version can take the route where its parts are there."""
        return self.kind in ("ort_legacy", "ort_plugin") or bool(self.toolchain)


@dataclass(frozen=True, slots=True)
class Visible:
    """The variables that say which cards may be seen: by a container, and by a process. None: not documented."""

    container: str | None = None
    process: str | None = None


@dataclass(frozen=True, slots=True)
class Container:
    """What passes a card into a container."""

    sources: tuple[Source, ...]
    devices: tuple[str, ...] = ()
    """Paths below /dev, of the first card and of what stands beside it."""
    volumes: tuple[str, ...] = ()
    """Host paths, mounted read-only at the same place."""
    environment: Mapping[str, str] = field(default_factory=dict)
    group_add: tuple[str, ...] = ()
    security_opt: tuple[str, ...] = ()
    toolkit: str | None = None
    """The maker's own container toolkit, where one is documented."""
    notes: tuple[Text, ...] = ()


@dataclass(frozen=True, slots=True)
class Chip:
    """Everything known of one chip maker; the vendor file's name is its id."""

    vendor: str
    maker: Text
    models: tuple[str, ...]
    """Products that the documents name; not a list of all there are."""
    probe: Probe
    visible: Visible
    routes: tuple[Route, ...]
    """In order of preference."""
    container: Container
    sources: tuple[Source, ...]
    """Of the probe rule and the variables."""

    @property
    def evidence(self) -> Evidence:
        """Of the preferred route."""
        return self.routes[0].evidence


class MissingPartError(BackendNotInstalledError):
    """A part of a runtime is absent; says which in the languages of our users."""

    def __init__(self, text: Text) -> None:
        """`text` names the part, and what to do."""
        super().__init__(text.en)
        self.text = text
