"""The rules of the house that no linter knows: each finds what breaks it, and shows a sample that does."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

MAX_LINES: Final = 400
FEATURE_FILES: Final = frozenset(("__init__", "api", "tasks", "service", "queries", "schemas", "tables"))
FEATURES: Final = frozenset(
    (
        "access",
        "backfill",
        "certificates",
        "events",
        "health",
        "history",
        "leases",
        "ledger",
        "letters",
        "models",
        "northbound",
        "pipelines",
        "plant",
        "readings",
        "reports",
        "retention",
        "scoring",
        "serving",
        "sources",
        "takeover",
        "thinning",
    ),
)
EXTRA_FILES: Final = frozenset(("app/access/seal.py",))
"""Secrets are sealed where access is granted, and by no feature of its own."""
OUTERMOST: Final = frozenset(
    ("app/gateway.py", "app/field/filling.py", "app/field/outlet.py", "app/field/runner.py", "app/journal/journal.py"),
)
"""Loops that must outlive whatever goes wrong inside, and say so with the traceback."""
WAITING: Final = "tests/waiting.py"
NOT_PROSE: Final = frozenset(("constraints.txt", "tests/house/rules.py"))
"""Generated, and this file, which must hold what it looks for."""
BRANCHES: Final = "migrations/versions/"


@dataclass(frozen=True, slots=True)
class Source:
    """One file of the project."""

    path: str
    text: str

    @property
    def tree(self) -> ast.Module:
        """Its syntax tree; for Python files."""
        return ast.parse(self.text, self.path)

    @property
    def python(self) -> bool:
        """Whether it is a Python file."""
        return self.path.endswith(".py")

    def within(self, *folders: str) -> bool:
        """Whether it lies in one of these top-level folders."""
        return PurePosixPath(self.path).parts[0] in folders


@dataclass(frozen=True, slots=True)
class Rule:
    """What no file may do."""

    name: str
    applies: Callable[[Source], bool]
    broken: Callable[[Source], Iterator[str]]
    bad: tuple[Source, ...]
    """Each breaks the rule."""
    good: tuple[Source, ...] = ()
    """Each comes close and does not."""


def _python(source: Source) -> bool:
    return source.python


def _ours(source: Source) -> bool:
    return source.python and source.within("app", "connectors", "inference", "migrations", "examples", "bench")


def _test(source: Source) -> bool:
    return source.python and source.within("tests") and source.path != WAITING


def _text(source: Source) -> bool:
    return source.path not in NOT_PROSE


def _long(source: Source) -> Iterator[str]:
    lines = source.text.count("\n")
    if lines > MAX_LINES and not source.path.startswith(BRANCHES):
        yield f"{lines} lines, more than {MAX_LINES}: it is two things"


def _nameless(source: Source) -> Iterator[str]:
    first = (ast.get_docstring(source.tree) or "").split("\n")[0]
    if not re.search(r"[.!?:;]$", first) or len(first.split()) < 2:
        yield "the first line does not say in one sentence what the file is for"


def _reads_environment(source: Source) -> Iterator[str]:
    for node in ast.walk(source.tree):
        named = isinstance(node, ast.Attribute) and node.attr in {"environ", "environb", "getenv"}
        imported = (
            isinstance(node, ast.ImportFrom)
            and node.module == "os"
            and {a.name for a in node.names}
            & {
                "environ",
                "environb",
                "getenv",
            }
        )
        if named or imported:
            yield f"line {getattr(node, 'lineno', 0)}: only app/settings.py reads the environment"


def _stranger(source: Source) -> Iterator[str]:
    path = PurePosixPath(source.path)
    if path.stem not in FEATURE_FILES and source.path not in EXTRA_FILES:
        yield f"a feature folder holds {', '.join(sorted(FEATURE_FILES))} and nothing else"


def _too_deep(source: Source) -> Iterator[str]:
    if len(PurePosixPath(source.path).parts) > 3:
        yield "more than two levels of folders"
    if PurePosixPath(source.path).stem in {"utils", "util", "helpers", "misc", "common"}:
        yield "a name that says nothing"


def _sleeps(source: Source) -> Iterator[str]:
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Call):
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        yields = node.args and isinstance(node.args[0], ast.Constant) and node.args[0].value == 0
        if called == "sleep" and not yields:
            yield f"line {node.lineno}: tests wait for a condition ({WAITING}), they do not sleep"


def _patches(source: Source) -> Iterator[str]:
    for node in ast.walk(source.tree):
        names = {a.name for a in node.names} if isinstance(node, ast.Import | ast.ImportFrom) else set()
        module = node.module if isinstance(node, ast.ImportFrom) else ""
        fixture = isinstance(node, ast.arg) and node.arg in {"monkeypatch", "mocker"}
        if (
            fixture
            or module == "unittest.mock"
            or "unittest.mock" in names
            or (module == "unittest" and "mock" in names)
        ):
            yield f"line {getattr(node, 'lineno', 0)}: nothing is patched: use the real peer, or an argument"


def _blind(source: Source) -> Iterator[str]:
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.ExceptHandler):
            continue
        caught = {n.id for n in ast.walk(node.type) if isinstance(n, ast.Name)} if node.type else {"BaseException"}
        raises = any(isinstance(n, ast.Raise) for n in ast.walk(node))
        if caught & {"Exception", "BaseException"} and not raises and source.path not in OUTERMOST:
            yield f"line {node.lineno}: only the outermost loops catch everything: {', '.join(sorted(OUTERMOST))}"


REGISTRY: Final = re.compile(
    r"https?://[^\s\"'<>)]*"
    r"(pypi\.org|pythonhosted\.|npmjs\.|tuna\.tsinghua|aliyun\.com/pypi|/simple\b)",
)
MACHINE: Final = re.compile(r"(?<![\w.-])/(work/|root/|opt/pypi|home/\w|Users/\w)")
MAKING: Final = re.compile(
    r"\b(AI-generated|sub-?agents?|as an AI language|Claude|Copilot|ChatGPT|issue #\d|TODO|FIXME|XXX)\b"
)


COMMANDS: Final = frozenset(("plant_writer", "plant_caller", "_commands"))
"""How the contract calls what changes a plant (`connectors._commands`)."""


def _commands(source: Source) -> Iterator[str]:
    for node in ast.walk(source.tree):
        named = {getattr(node, "attr", None), getattr(node, "id", None)}
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", "") or ""
            named |= {part for one in node.names for part in f"{module}.{one.name}".split(".")}
        if isinstance(node, ast.Constant):
            named.add(node.value if isinstance(node.value, str) else None)
        if found := named & COMMANDS:
            yield f"line {getattr(node, 'lineno', 0)}: {min(map(str, found))}: the product only reads the plant"


def _lines(pattern: re.Pattern[str], why: str) -> Callable[[Source], Iterator[str]]:
    def find(source: Source) -> Iterator[str]:
        for number, line in enumerate(source.text.splitlines(), 1):
            if found := pattern.search(line):
                yield f"line {number}: {found[0]!r}: {why}"

    return find


def _py(path: str, text: str) -> Source:
    return Source(path, f'"""A sample that is read and never run."""\n{text}\n')


RULES: Final = (
    Rule(
        "a file is about one thing",
        _python,
        _long,
        bad=(_py("app/big.py", "x = 1\n" * MAX_LINES),),
        good=(_py("app/small.py", "x = 1\n" * (MAX_LINES - 2)),),
    ),
    Rule(
        "a file says what it is for",
        _python,
        _nameless,
        bad=(
            Source("app/a.py", "x = 1\n"),
            Source("app/a.py", '"""stuff"""\n'),
            Source("app/a.py", '"""The thing of it"""\n'),
        ),
        good=(_py("app/a.py", ""),),
    ),
    Rule(
        "only the settings read the environment",
        lambda s: _ours(s) and s.path != "app/settings.py",
        _reads_environment,
        bad=(
            _py("app/a.py", "import os\nx = os.environ['X']"),
            _py("connectors/a.py", "from os import getenv"),
            _py("inference/a.py", "import os as o\nx = o.getenv('X')"),
        ),
        good=(_py("app/a.py", "environment = {}"),),
    ),
    Rule(
        "a feature folder holds the files every feature has",
        lambda s: s.python and s.within("app") and PurePosixPath(s.path).parent.name in FEATURES,
        _stranger,
        bad=(_py("app/events/manager.py", ""),),
        good=(_py("app/events/service.py", ""),),
    ),
    Rule(
        "two levels of folders, and names that say something",
        _ours,
        _too_deep,
        bad=(_py("app/events/deep/er.py", ""), _py("app/utils.py", "")),
        good=(_py("app/events/api.py", ""),),
    ),
    Rule(
        "the service never changes the plant",
        lambda s: s.python and s.within("app"),
        _commands,
        bad=(
            _py("app/a.py", "import connectors\nconnectors.load('opcua').plant_writer(config)"),
            _py("app/a.py", "from connectors.mqtt import plant_writer"),
            _py("app/a.py", "from connectors._commands import Calling as C"),
            _py("app/a.py", "import connectors._commands"),
            _py("app/a.py", "make = getattr(connector, 'plant_caller')"),
        ),
        good=(
            _py("app/a.py", "from app.journal.segment import Writing"),
            _py("tests/test_a.py", "connector.plant_writer(config)"),
        ),
    ),
    Rule(
        "tests do not sleep",
        _test,
        _sleeps,
        bad=(
            _py("tests/test_a.py", "import time\ntime.sleep(1)"),
            _py("tests/test_a.py", "from asyncio import sleep\nasync def test_b():\n    await sleep(0.1)"),
        ),
        good=(_py("tests/test_a.py", "import asyncio\nasync def test_b():\n    await asyncio.sleep(0)"),),
    ),
    Rule(
        "tests patch nothing",
        _test,
        _patches,
        bad=(
            _py("tests/test_a.py", "from unittest import mock"),
            _py("tests/test_a.py", "from unittest.mock import Mock"),
            _py("tests/test_a.py", "def test_b(monkeypatch): ..."),
        ),
        good=(_py("tests/test_a.py", "import unittest"),),
    ),
    Rule(
        "only the outermost loops catch everything",
        _ours,
        _blind,
        bad=(
            _py("app/a.py", "try:\n    f()\nexcept Exception:\n    pass"),
            _py("app/a.py", "try:\n    f()\nexcept (ValueError, BaseException) as e:\n    print(e)"),
            _py("app/a.py", "try:\n    f()\nexcept:\n    pass"),
        ),
        good=(_py("app/a.py", "try:\n    f()\nexcept BaseException:\n    g()\n    raise"),),
    ),
    Rule(
        "no registry's address",
        _text,
        _lines(REGISTRY, "packages come from the index that pip is configured for"),
        bad=(
            Source("a.md", "https://files.pythonhosted.org/x"),
            Source("a.toml", 'url = "https://mirror.example/simple/"'),
        ),
        good=(Source("a.md", "https://example.com/simply"), Source("a.md", "PIP_INDEX_URL")),
    ),
    Rule(
        "no path of one machine",
        _text,
        _lines(MACHINE, "nobody else has it"),
        bad=(Source("a.md", "see /work/main"), Source("a.py", 'x = "/root/x"')),
        good=(
            Source("a.md", "app/work/x"),
            Source("a.md", "/usr/lib/postgresql"),
            Source("a.yml", "/var/lib/headrace"),
        ),
    ),
    Rule(
        "the project speaks of itself alone",
        _text,
        _lines(MAKING, "this is not about the project"),
        bad=(Source("a.md", "AI-generated"), Source("a.py", "# TODO: later"), Source("a.md", "see issue #4")),
        good=(Source("a.md", "Industrial AI integration gateway"), Source("a.md", "the issue of a token")),
    ),
)
