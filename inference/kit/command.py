"""The archive's command: a conformance run on a maker's host, with that host's own Python and runtime."""

from __future__ import annotations

import argparse
import importlib
import io
import json
import os
import platform
import sys
import time
import zipfile
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence  # noqa: UP035 - Python 3.8

import numpy as np

from . import child, pack, page, signing, suite
from .host import Host, Provider
from .lasting import RELOADS
from .texts import said

if TYPE_CHECKING:
    from . import Json

MATERIAL, ABOUT = "material.zip", "about.json"


def words() -> argparse.ArgumentParser:
    """What the command takes."""
    made = argparse.ArgumentParser(prog="python conform.pyz", description=(
        "Runs Headrace's conformance kit on a device of this host, offline, and signs what was found. "
        "在本机设备上离线运行引渠一致性套件，并对结果签名。"
    ))  # fmt: skip
    made.add_argument("--vendor", help="the maker, as listed by --list / 厂商，见 --list")
    made.add_argument("--list", action="store_true", help="makers and their providers / 列出厂商和执行提供程序")
    made.add_argument("--provider", default="", help="another execution provider / 其他执行提供程序")
    made.add_argument("--plugin", default="", help="library of a plugin provider / 插件提供程序的动态库")
    made.add_argument("--option", action="append", default=[], metavar="NAME=VALUE",
                      help="told to the provider, may be repeated / 传给提供程序的选项，可重复")
    made.add_argument("--name", default="", help="what the device is called / 设备名称")
    made.add_argument("--driver", default="", help="its driver, firmware, SDK / 驱动、固件、SDK")
    made.add_argument("--report", type=Path, help="file of the signed report (JSON) / 签名报告文件")
    made.add_argument("--html", type=Path, help="file of the page / 网页文件")
    made.add_argument("--key", type=Path, help="Ed25519 private key, PEM; made where absent / 私钥，缺则新建")
    made.add_argument("--only", action="append", default=[], choices=suite.SECTIONS, help="this section / 仅此部分")
    made.add_argument("--quick", action="store_true", help="without node cases, cancel and restart / 快速")
    made.add_argument("--cases", default="", help="only cases whose name holds this / 仅名称含此文字的用例")
    made.add_argument("--reloads", type=int, default=None, help="times, 1000 by default / 重复加载次数，默认 1000")
    made.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    return made


def main(arguments: Sequence[str], archive: str) -> int:
    """Exit status 0: passed, or nothing failed; 1: a section failed; 2: it cannot be run so."""
    given = words().parse_args(arguments)
    with zipfile.ZipFile(archive) as held:
        about = json.loads(held.read(ABOUT).decode())
        material = held.read(MATERIAL) if not (given.child or given.list) else b""
    if given.list:
        for vendor, told in about["vendors"].items():
            _out("{:<14} {}".format(vendor, told["provider"]))
        return 0
    wire = importlib.import_module("engine_wire")
    driver = importlib.import_module("engine_ort")
    if given.child:
        child.serve(Host(driver, wire, Provider(**json.loads(given.child[0]))), int(given.child[1]))
        return 0
    if given.vendor not in about["vendors"] or given.report is None:
        _out("--vendor ({}), --report".format(", ".join(about["vendors"])))
        return 2
    provider = _provider(given, about["vendors"][given.vendor])
    found = _runtime(driver, wire, provider)
    seed = None if found is None else _seed(given)
    if found is None or seed is None:
        return 2
    command = (sys.executable, archive, "--child", json.dumps(vars(provider)))
    target = Host(driver, wire, provider, command)
    return _ran(given, target, pack.read(io.BytesIO(material)), _device(given, about, provider, found), seed)


def _out(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _runtime(driver: Any, wire: Any, provider: Provider) -> Optional[Json]:  # noqa: ANN401, UP045 - modules, 3.8
    """What this Python's runtime says of itself; None where it is not there, or lacks the provider: then it is told."""
    try:
        found: Json = driver.runtime({"plugin": None})
    except wire.EngineError as error:
        _out(str(error))
        return None
    if not provider.plugin and provider.provider not in found["providers"]:
        _out(f"{provider.provider}: onnxruntime {found['version']} of {sys.executable} has {found['providers']}")
        return None
    return found


def _provider(given: argparse.Namespace, told: Json) -> Provider:
    options = dict(told["options"])
    options.update(one.split("=", 1) for one in given.option if "=" in one)
    return Provider(given.vendor, given.provider or told["provider"], options, told["precisions"], given.plugin)


def _seed(given: argparse.Namespace) -> Any:  # noqa: ANN401 - bytes, or None
    path = given.key or given.report.with_name("conform.key")
    try:
        return signing.read_key(path) if path.exists() else signing.make_key(path)
    except (signing.KeyFileError, OSError) as error:
        _out(str(error))
        return None


def _device(given: argparse.Namespace, about: Json, provider: Provider, found: Json) -> Dict[str, Any]:  # noqa: UP006
    return {
        "device": {"id": given.vendor, "vendor": given.vendor, "name": given.name or provider.provider},
        "versions": {
            "headrace": about["headrace"], "onnx": about["onnx"],
            "backend": "{} {}, {}".format(found["name"], found["version"], provider.provider),
            "python": platform.python_version(), "numpy": np.__version__, "os": platform.platform(),
            "machine": platform.machine(), "driver": given.driver, "way": "archive",
        },
    }  # fmt: skip


def _ran(
    given: argparse.Namespace, target: Host, material: suite.Material, about: Dict[str, Any], seed: bytes  # noqa: UP006
) -> int:
    wanted, reloads = chosen(given.only, quick=given.quick, reloads=given.reloads)
    if given.cases:
        some = [one for one in material.cases if given.cases in one.name]
        material = suite.Material(some, material.questions, material.long, material.foreign, material.right,
                                  material.yardstick)
    sections = suite.Run(target, material, wanted, reloads, _progress).sections()
    report = suite.report(
        sections, made_at=datetime.fromtimestamp(time.time(), timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),  # noqa: UP017 - Python 3.8
        selection=given.cases, reloads=reloads, **about
    )
    signed = signing.signed(suite.SCHEMA, report, seed)
    given.report.write_text(json.dumps(signed, indent=1, ensure_ascii=False), encoding="utf-8")
    if given.html is not None:
        given.html.write_text(page.page(signed), encoding="utf-8")
    for one in sections:
        _out("{:<12} {} {}".format(one.section, said(one.verdict, "en"), one.reason[:160]))
    _out("{}: {} {}".format(given.report, report["verdict"], signed["signature"]["fingerprint"]))
    return int(report["verdict"] == "failed")


def chosen(only: Sequence[str], *, quick: bool, reloads: Any) -> Any:  # noqa: ANN401 - sections and a number
    """Which sections, and how many reloads."""
    wanted: List[str] = [one for one in suite.SECTIONS if one in only] or list(suite.QUICK if quick else suite.SECTIONS)  # noqa: UP006
    return wanted, reloads or (suite.QUICK_RELOADS if quick else RELOADS)


def _progress(section: str, done: int, total: int) -> None:
    if os.isatty(2) or not done:
        sys.stderr.write("{} {}\n".format(section, f"{done}/{total}" if total else "..."))
        sys.stderr.flush()
