"""What a machine has is found by looking at files, and nothing is loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from inference.chip import Probe
from inference.host import HERE, Card, Host
from inference.linker import configured
from tests.inference.machines import Machine

TOP = Path(__file__).parents[2]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine without accelerators."""
    return Machine(tmp_path)


def test_cards_are_in_the_order_of_their_numbers(machine: Machine) -> None:
    """The tenth comes after the second; what has no number, or more than one, is no card."""
    for node in ("npu10", "npu2", "npu", "npu2_ctl", "xnpu3"):
        machine.write(f"/dev/{node}")
    cards = machine.host.cards(Probe(nodes=("npu{n}",)))
    assert cards == (Card(0, "/dev/npu2"), Card(1, "/dev/npu10"))


def test_the_first_alternative_that_is_there_is_taken(machine: Machine) -> None:
    """A node under its other name counts as well; a name without a number is one card."""
    probe = Probe(nodes=("npu", "accel{n}"))
    machine.write("/dev/accel7")
    assert machine.host.cards(probe) == (Card(0, "/dev/accel7"),)
    machine.write("/dev/npu")
    assert machine.host.cards(probe) == (Card(0, "/dev/npu"),)


def test_a_render_node_without_an_owner_is_nobody_s(machine: Machine) -> None:
    """Neither a vendor nor a driver known, or sysfs that says nothing: no card."""
    machine.hardware({"nodes": ["dri/renderD128"]})
    for probe in (Probe(nodes=("dri/renderD{n}",)), Probe(nodes=("dri/renderD{n}",), pci_vendor=0x1234)):
        assert machine.host.cards(probe) == ()
    machine.write("/sys/class/drm/renderD128/device/vendor", "no number\n")
    assert machine.host.cards(Probe(nodes=("dri/renderD{n}",), pci_vendor=0x1234)) == ()


def test_pci_shows_accelerators_of_the_vendor_alone(machine: Machine) -> None:
    """Network cards, bridges and other vendors are left out, and other ids where a document lists them."""
    machine.pci({"pci": {
        "0000:01:00.0": [0x19E5, 0x0001, 0x120000], "0000:02:00.0": [0x19E5, 0x0002, 0x030000],
        "0000:03:00.0": [0x19E5, 0x0001, 0x020000], "0000:04:00.0": [0x1234, 0x0001, 0x120000],
    }})
    every = machine.host.pci(Probe(nodes=(), pci_vendor=0x19E5))
    assert every == ("0000:01:00.0 (19e5:0001)", "0000:02:00.0 (19e5:0002)")
    assert machine.host.pci(Probe(nodes=(), pci_vendor=0x19E5, pci_devices=(2,))) == ("0000:02:00.0 (19e5:0002)",)
    assert machine.host.pci(Probe(nodes=())) == ()


def test_a_library_is_found_with_or_without_a_version(machine: Machine) -> None:
    """In the maker's folder or where the linker is configured to look; not by half its name, nor as a dead link."""
    machine.write("/opt/maker/lib/libnpu.so.2.1")
    machine.write("/opt/maker/lib/libnpu.sound")
    assert machine.host.library("libnpu.so", ("/opt/maker/lib",)) == "/opt/maker/lib/libnpu.so.2.1"
    assert machine.host.library("libnpu.so", ()) is None
    assert machine.host.library("libnp.so", ("/opt/maker/lib",)) is None
    (machine.root / "opt/maker/lib/libgone.so").symlink_to("nowhere")
    assert machine.host.library("libgone.so", ("/opt/maker/lib",)) is None
    machine.write("/etc/ld.so.conf.d/maker.conf", "# maker\ninclude /etc/other\n/opt/maker/lib\n")
    assert configured(machine.root) == ("/opt/maker/lib",)
    assert machine.host.library("libnpu.so", ()) == "/opt/maker/lib/libnpu.so.2.1"


def test_the_linker_is_asked_where_it_looks(tmp_path: Path) -> None:
    """A folder of LD_LIBRARY_PATH counts, as it does when the library is loaded; no setting of ours is read for it."""
    (tmp_path / "libnpu.so").touch()
    script = "from inference.host import HERE; print(HERE.library('libnpu.so', ()))"
    for variables, expected in (({"LD_LIBRARY_PATH": str(tmp_path)}, str(tmp_path / "libnpu.so")), ({}, "None")):
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=TOP, env=variables, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == expected


def test_a_module_is_found_and_not_imported(machine: Machine) -> None:
    """A runtime that breaks its process when it is loaded does not break ours."""
    machine.runtime({"modules": ["ruinous"]})
    assert machine.host.module("ruinous")
    assert not machine.host.module("absent")
    assert "ruinous" not in sys.modules
    assert HERE.module("numpy")
    assert not HERE.module("ruinous")


def test_what_may_not_be_looked_at_is_not_there(tmp_path: Path) -> None:
    """No folder, a file in place of one: nothing is found, and nothing is raised."""
    (tmp_path / "dev").write_text("no folder")
    host = Host(tmp_path)
    assert host.cards(Probe(nodes=("npu{n}", "dri/renderD{n}"), pci_vendor=1)) == ()
    assert host.pci(Probe(nodes=(), pci_vendor=1)) == ()
    assert host.library("libnpu.so", ("/opt/maker",)) is None
    assert not host.has("/dev/npu")
