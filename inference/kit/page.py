"""The report as one HTML page: both languages in it, without script, font or network."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any, Iterable, List, Sequence  # noqa: UP035 - Python 3.8

from .suite import SECTIONS
from .texts import TEXTS, said

if TYPE_CHECKING:
    from . import Json

_STYLE = """
:root{--line:#ccd3da;--soft:#f5f7f9;--text:#1c2733}
body{font:15px/1.5 system-ui,"Noto Sans CJK SC","Microsoft YaHei",sans-serif;color:var(--text);margin:0 auto;
 max-width:72rem;padding:1.5rem}
h1{font-size:1.5rem;margin:.4em 0}h2{font-size:1.15rem;margin:2em 0 .3em}p{margin:.3em 0 .8em}
table{border-collapse:collapse;margin:.4em 0 1em;display:block;overflow-x:auto}
td,th{border:1px solid var(--line);padding:.2em .6em;text-align:left;vertical-align:top}
th{background:var(--soft);font-weight:600}td.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.v{border-radius:.3em;padding:.05em .5em;white-space:nowrap;background:#e7ecf1}
.v.passed{background:#d6f0dc}.v.failed,.v.differs,.v.answered,.v.unnamed,.v.fallen_back{background:#f9d7d3}
.v.not_possible,.v.partly,.v.refused{background:#fbeecb}
label{cursor:pointer;margin-right:1em}.zh{display:none}
#zh:checked~.page .zh{display:inline}#zh:checked~.page .en{display:none}
details{margin:.5em 0}summary{cursor:pointer}
"""
Cells = Sequence[Any]


def page(signed: Json, language: str = "en") -> str:
    """The page of a signed report. `language`: the one that is shown first, `en` or `zh`."""
    report = signed["report"]
    first = "zh" if language == "zh" else "en"
    title = said("title", first).format(report["device"]["id"])
    body = [_head(signed), _summary(report)]
    body += [_section(one) for one in report["sections"]]
    return "".join((
        '<!doctype html>\n<html lang="', "zh-CN" if first == "zh" else "en", '"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width"><title>', html.escape(title), "</title><style>", _STYLE,
        "</style></head><body>",
        *(_radio(one, shown, checked=one == first) for one, shown in (("en", "English"), ("zh", "中文"))),
        '<div class="page">', *body, "</div></body></html>\n",
    ))  # fmt: skip


def _radio(name: str, shown: str, *, checked: bool) -> str:
    mark = " checked" if checked else ""
    return f'<input type="radio" name="lang" id="{name}"{mark}><label for="{name}">{shown}</label>'


def _both(key: str, *values: object) -> str:
    """A text of ours in both languages, of which one is shown."""
    if key not in TEXTS:
        return html.escape(key)
    return "".join(f'<span class="{one}">{html.escape(said(key, one).format(*values))}</span>'
                   for one in ("en", "zh"))


def _mark(key: str) -> str:
    return f'<span class="v {html.escape(key)}">{_both(key)}</span>'


def _head(signed: Json) -> str:
    report = signed["report"]
    facts = [
        (_both("verdict"), _mark(report["verdict"])),
        (_both("device"), html.escape("{} ({})".format(report["device"]["id"], report["device"]["name"]))),
        (_both("made at"), html.escape(report["made_at"])),
        (_both("cases chosen by"), html.escape(report["selection"]) or _both("all")),
        *((_both(name), _both(value)) for name, value in report["versions"].items() if value),
        (_both("signed by"), html.escape(signed["signature"]["fingerprint"])),
    ]
    heading = "<h1>{}</h1>".format(_both("title", report["device"]["id"]))
    return heading + _raw([], facts) + "<p>{}</p>".format(_both("unsigned page"))


def _summary(report: Json) -> str:
    found = {one["section"]: one for one in report["sections"]}
    rows = []
    for name in SECTIONS:
        one = found.get(name)
        if one is None:
            rows.append((_both(name), _mark("not_run"), "", ""))
        else:
            rows.append((_both(name), _mark(one["verdict"]), _shown(one["seconds"]), html.escape(one["reason"])))
    return _raw(["section", "verdict", "seconds", "reason"], rows)


def _section(one: Json) -> str:
    name = one["section"]
    head = "<h2>{} {}</h2><p>{}</p>".format(_both(name), _mark(one["verdict"]), _both("about " + name))
    reason = "<p>{}</p>".format(html.escape(one["reason"])) if one["reason"] else ""
    if not one["facts"]:
        return head + reason
    if name == "nodes":
        return head + _nodes(one["facts"])
    if "rows" in one["facts"]:
        return head + _rows(name, one["facts"])
    facts = [(_both(key), _shown(_mega(key, value))) for key, value in one["facts"].items() if key != "sizes"]
    return head + reason + _raw([], facts)


def _nodes(facts: Json) -> str:
    outcomes = list(facts["counts"])
    kinds = [(html.escape(kind), *(_shown(counts[one]) for one in outcomes)) for kind, counts in facts["kinds"].items()]
    kinds.append((_both("all"), *(_shown(facts["counts"][one]) for one in outcomes)))
    told = [(_both("coverage"), _shown("{} %".format(facts["coverage_percent"])))]
    if facts["yardstick"]:
        told.append((_both("yardstick"), html.escape("{}: {}".format(facts["yardstick"], facts["yardstick_passed"]))))
    operators = [(html.escape(name), *(_shown(counts[one]) for one in outcomes))
                 for name, counts in facts["operators"].items()]
    missed = [(html.escape(one["case"]), _mark(one["outcome"]), html.escape(one["reason"]))
              for one in facts["cases"] if one["outcome"] != "passed"]
    return "".join((
        _raw([], told), _raw(["kind", *outcomes], kinds),
        _folded("by operator", _raw(["operator", *outcomes], operators)),
        _folded("not passed", _raw(["case", "outcome", "reason"], missed)),
    ))  # fmt: skip


def _folded(key: str, inner: str) -> str:
    return f"<details><summary>{_both(key)}</summary>{inner}</details>"


def _rows(name: str, facts: Json) -> str:
    rows = facts["rows"]
    if not rows:
        return ""
    keys = list(rows[0])
    titles = {"nodes": "node_count", "fallen_back": "fallen_back_nodes", "placement_reason": "reason",
              "finite": "finite answer"}
    body = [[_cell(key, row[key]) for key in keys] for row in rows]
    extra = ""
    if name == "golden":
        sources = [(html.escape(key), html.escape(text)) for key, text in facts["sources"].items()]
        models = [(html.escape(key), html.escape(text)) for key, text in facts["models"].items()]
        extra = _folded("sources", _raw([], sources)) + _folded("model", _raw([], models))
    return _raw([titles.get(key, key) for key in keys], body) + extra


def _cell(key: str, value: Any) -> str:  # noqa: ANN401 - JSON
    if key == "outcome":
        return _mark(value)
    if key == "fault":
        return _both(value)
    if key.endswith("_ns"):
        return _shown(round(value / 1000, 1))
    return _shown(value)


def _mega(key: str, value: Any) -> Any:  # noqa: ANN401 - JSON
    return round(value / 1e6, 1) if key in ("first", "last") else value


def _shown(value: Any) -> str:  # noqa: ANN401 - JSON
    if value is None:
        return "-"
    if isinstance(value, bool):
        return _both("yes" if value else "no")
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.3g}"  # noqa: PLR2004
    return html.escape(", ".join(map(str, value)) if isinstance(value, list) else str(value))


def _raw(head: Iterable[str], rows: Iterable[Cells]) -> str:
    """A table of cells that are HTML already; numbers stand on the right."""
    top = "".join(f"<th>{_both(cell)}</th>" for cell in head)
    lines: List[str] = [f"<tr>{top}</tr>"] if top else []  # noqa: UP006 - Python 3.8
    for row in rows:
        cells = ("<td{}>{}</td>".format(' class="n"' if top and _number(cell) else "", cell) for cell in row)
        lines.append("<tr>{}</tr>".format("".join(cells)))
    return "<table>{}</table>".format("".join(lines))


def _number(cell: str) -> bool:
    return bool(cell) and cell.replace(",", "").replace(".", "").replace("e-", "").replace("-", "").isdigit()
