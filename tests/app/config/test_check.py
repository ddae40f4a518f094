"""A plant file is checked whole: every mistake at once, with its line, and what to do."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from app import settings
from app.commands.mistakes import in_chinese, line
from app.config.check import check_file, check_text
from app.config.desired import Desired
from app.config.document import MAX_NODES, DocumentError, Mistake, parse

Check = Callable[[str], Desired]
Wrong = Callable[[str], list[Mistake]]


def line_of(text: str, part: str) -> int:
    """The line, from 1, on which this part first stands."""
    return text[: text.index(part)].count("\n") + 1


def test_a_good_file_says_what_it_asks_for(check: Check, good: str) -> None:
    """Everything is resolved: defaults from the package, secrets from their file, the plant's path."""
    desired = check(good)
    pipeline = desired.pipelines["tightening"]
    assert (pipeline.kind, pipeline.length, pipeline.layout, pipeline.trigger) == ("trigger", 128, "NTC", "counter")
    assert pipeline.cells == "float32", "the model takes no more"
    assert [one.name for one in pipeline.outputs] == ["score", "verdict", "probabilities"]
    assert desired.path == "acme/suzhou"
    station = desired.connections["station"]
    assert station.options["password"] == "hunter2hunter2"  # noqa: S105 - this test's own
    assert station.secrets == {"password"}


CHANGES = {
    "unknown key": ("    window:", "    windo:", "windo", "did you mean 'window'"),
    "unknown key in options": ("      username:", "      user_name:", "user_name", "did you mean 'username'"),
    "unknown connector": (
        "connector: mqtt\n    options:\n",
        "connector: mqqt\n    options:\n",
        "mqqt",
        "did you mean 'mqtt'",
    ),
    "unknown connection": (
        "torque, connection: station",
        "torque, connection: sttion",
        "sttion",
        "did you mean 'station'",
    ),
    "unknown model": ("model: judge", "model: jugde", "jugde", "did you mean 'judge'"),
    "unknown tag in a window": ("tags: [torque, angle]", "tags: [torque, angel]", "angel", "did you mean 'angle'"),
    "unknown trigger": ("trigger: counter", "trigger: countr", "countr", "did you mean 'counter'"),
    "unknown context tag": ("unit_id: serial", "unit_id: serail", "serail", "did you mean 'serial'"),
    "unknown output in a rule": ("output: score", "output: scroe", "scroe", "did you mean 'score'"),
    "text in a window": ("tags: [torque, angle]", "tags: [torque, serial]", "[torque, serial]", ""),
    "a model that does not fit the tags": (
        "tags: [torque, angle]",
        "tags: [torque, angle, counter]",
        "model: judge",
        "model.yaml",
    ),
    "a bad address": ('"st/curve#/torque"', '"st/+#/torque"', "st/+", ""),
    "a wrong type": ("above: 1.0", "above: high", "above: high", ""),
    "a memory that is answered newest first": (
        "model: judge",
        "model: judge\n    catch_up: newest_first",
        "newest_first",
        "catch_up: in_order",
    ),
    "a priority that there is not": ("connector: mqtt\n", "connector: mqtt\n    priority: urgent\n", "urgent", ""),
    "a clear beyond the limit": ("clear: 0.8", "clear: 1.2", "clear: 1.2", ""),
    "a model that was never imported": (
        "name: judge, digest:",
        f"name: judge, digest: 'sha256:{'0' * 64}'}}  # ",
        "0000",
        "",
    ),
    "a device that does not exist": ("model: judge", "model: judge\n    devices: [cpuu]", "cpuu", "did you mean 'cpu'"),
    "an asset that is no path": ("model: judge", "model: judge\n    asset: a/+/b", "a/+/b", ""),
    "a level with a slash in it": ("site: suzhou", "site: su/zhou", "su/zhou", ""),
    "a number without end": ("above: 1.0", "above: .inf", ".inf", ""),
    "a window that the windower would not run": (
        "inputs: {tags: [torque, angle]}",
        "inputs: {tags: [torque, angle], resample: mean}",
        "window: {trigger",
        "resample mean",
    ),
    "a plain password": ("password: {file: secret}", "password: hunter2", "hunter2", ""),
    "a secret file that is not there": ("{file: secret}", "{file: gone}", "gone", ""),
    "a variable that is not set": ("{file: secret}", "{env: HEADRACE_TEST_NOT_SET}", "HEADRACE_TEST_NOT_SET", ""),
    "a topic nobody can publish to": (
        "    connector: mqtt\n    options: {url",
        "    connector: mqtt\n    topic: a/#\n    options: {url",
        "a/#",
        "",
    ),
}


@pytest.mark.parametrize("name", sorted(CHANGES))
def test_each_mistake_names_its_line_and_the_way_out(name: str, wrong: Wrong, good: str) -> None:
    """One thing is wrong, one mistake is said, at the line where it stands."""
    old, new, where, hint = CHANGES[name]
    assert good.count(old) >= 1
    text = good.replace(old, new, 1)
    (mistake,) = wrong(text)
    assert mistake.line == line_of(text, where), str(mistake)
    assert hint in f"{mistake.message} {mistake.hint}"


OF_A_LIBRARY = {"a bad address", "a window that the windower would not run"}
"""Said by a connector or by the windower, in English."""


@pytest.mark.parametrize("name", sorted(CHANGES.keys() - OF_A_LIBRARY))
def test_each_mistake_is_said_in_chinese_too(name: str, wrong: Wrong, good: str) -> None:
    """An engineer who asked for Chinese reads Chinese: the message and the way out, at the same place."""
    old, new, _, _ = CHANGES[name]
    (mistake,) = wrong(good.replace(old, new, 1))
    assert re.search("[\u4e00-\u9fff]", in_chinese(mistake.message)), mistake.message
    assert not mistake.hint or re.search("[\u4e00-\u9fff]", in_chinese(mistake.hint)), mistake.hint
    assert line(mistake).startswith(f"{mistake.file}:{mistake.line}:{mistake.column}: ")


def test_a_plain_password_is_not_repeated(wrong: Wrong, good: str) -> None:
    """The message about a secret does not hold the secret."""
    mistakes = wrong(good.replace("{file: secret}", "hunter2"))
    assert "hunter2" not in str(mistakes)
    assert "{env: NAME}" in mistakes[0].message


def test_all_mistakes_come_at_once(wrong: Wrong, good: str) -> None:
    """Four mistakes in four sections take one check, in the order of their lines."""
    text = good.replace("connection: station, address", "connection: plc, address", 1).replace(
        "above: 1.0", "abov: 1.0"
    )
    text = text.replace("username:", "user:").replace("model: judge", "model: jury")
    mistakes = wrong(text)
    assert len(mistakes) >= 4
    assert [m.line for m in mistakes] == sorted(m.line for m in mistakes)
    for part in ("plc", "abov:", "user:"):
        assert line_of(text, part) in {m.line for m in mistakes}, part


def test_a_gateway_catches_up_in_one_order(wrong: Wrong, check: Check, good: str) -> None:
    """Newest first is refused beside a pipeline that goes in order, which is named; without memory both may."""
    free = good.replace("    context: {unit_id: serial}\n", "").replace(", clear: 0.8", "")
    asked = free.replace("model: judge\n", "model: judge\n    catch_up: newest_first\n")
    assert check(asked).pipelines["tightening"].entry.catch_up == "newest_first"
    begin, end = asked.index("  - name: tightening"), asked.index("northbound:")
    second = asked[begin:end].replace("tightening", "second")
    assert len(check(asked[:end] + second + asked[end:]).pipelines) == 2
    (mistake,) = wrong(asked[:end] + second.replace("newest_first", "in_order") + asked[end:])
    assert "'second' is answered in order" in mistake.message
    assert all(re.search("[\u4e00-\u9fff]", in_chinese(one)) for one in (mistake.message, mistake.hint))
    (mistake,) = wrong(good.replace("model: judge\n", "model: judge\n    catch_up: newest_first\n"))
    assert mistake.message.endswith("bad (clear); context (unit_id)")


def test_a_name_stands_once(wrong: Wrong, good: str) -> None:
    """Two tags of one name are a mistake at the second."""
    (mistake,) = wrong(
        good.replace("name: angle, connection: station", "name: torque, connection: station").replace(
            "[torque, angle]", "[torque, torque]"
        )
    )
    assert "twice" in mistake.message


def test_a_key_stands_once(wrong: Wrong, good: str) -> None:
    """YAML would let the last one win; here it is a mistake."""
    (mistake,) = wrong(good + "version: 1\n")
    assert "twice" in mistake.message


@pytest.mark.parametrize("text", ["version: [", "\tversion: 1", "- 1\n- 2\n", "a: &x [*x]\n"])
def test_what_is_no_plant_file_is_refused(text: str, wrong: Wrong) -> None:
    """Broken YAML, a list, an alias inside itself: said, not crashed on."""
    assert wrong(text)


def test_aliases_that_unfold_without_end_are_refused() -> None:
    """A file of a few lines must not become a million values in memory."""
    lines = ["a0: &a0 [1,1,1,1,1,1,1,1,1,1]"]
    lines += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 8)]
    with pytest.raises(DocumentError, match=str(MAX_NODES)):
        parse("\n".join(lines), "bomb.yaml")


def test_a_file_in_gbk_is_told_to_be_saved_as_utf_8(tmp_path: Path) -> None:
    """An editor of another age is named, with the line."""
    file = tmp_path / "gbk.yaml"
    file.write_bytes("version: 1\nplant: {site: 苏州}\n".encode("gbk"))
    with pytest.raises(DocumentError, match=r"gbk.yaml:2:1: is not UTF-8"):
        check_file(file, tmp_path / "models")


def test_groups_and_ranges_make_many_tags(check: Check, good: str) -> None:
    """A line stands for a hundred tags, zeros kept."""
    group = '  - {names: ["T_[001-100]", extra], connection: station, address: "t/{name}#/v", unit: K}\n'
    desired = check(good.replace("models:\n", group + "models:\n"))
    assert desired.tags["T_007"].address == "t/T_007#/v"
    assert len(desired.tags) == 4 + 101


def test_a_backward_range_and_a_group_without_its_name_are_mistakes(wrong: Wrong, good: str) -> None:
    """Both are said where they stand."""
    group = (
        '  - {names: ["T_[9-1]"], connection: station, address: "t/{name}"}\n'
        '  - {names: [a], connection: station, address: "t"}\n'
    )
    messages = [m.message for m in wrong(good.replace("models:\n", group + "models:\n"))]
    assert any("backwards" in m for m in messages)
    assert any("{name}" in m for m in messages)


def test_tags_come_from_csv_with_a_line_for_each_mistake(check: Check, wrong: Wrong, good: str, tmp_path: Path) -> None:
    """A spreadsheet's tags are checked like the file's own."""
    header = "name,connection,address,datatype,unit,options\n"
    (tmp_path / "tags.csv").write_text(
        header + 'oil,station,oil#/v,float,bar,"{""time"": ""/t"", ""time_format"": ""ms""}"\n', encoding="utf-8-sig"
    )
    desired = check(good + "tags_file: tags.csv\n")
    assert desired.tags["oil"].options == {"time": "/t", "time_format": "ms"}
    (tmp_path / "tags.csv").write_text(header + "oil,station,oil#/v,flaot,bar,\n")
    (mistake,) = wrong(good + "tags_file: tags.csv\n")
    assert (mistake.line, mistake.file.rpartition("/")[2]) == (2, "tags.csv")
    (tmp_path / "tags.csv").write_text("name,where\noil,x\n")
    assert "columns" in wrong(good + "tags_file: tags.csv\n")[0].message


def test_a_row_that_does_not_fit_names_the_line_of_the_spreadsheet(wrong: Wrong, good: str, tmp_path: Path) -> None:
    """Unknown connections, bad addresses and names that are taken are said where they stand: in the CSV."""
    rows = "oil,station,oil#/v\nheat,sttion,heat#/v\nflow,station,flow/+\ntorque,station,t#/v\n"
    (tmp_path / "tags.csv").write_text("name,connection,address\n" + rows)
    mistakes = wrong(good + "tags_file: tags.csv\n")
    assert [(m.file.rpartition("/")[2], m.line) for m in mistakes] == [
        ("tags.csv", 3),
        ("tags.csv", 4),
        ("tags.csv", 5),
    ]
    assert "did you mean 'station'" in mistakes[0].hint


def test_a_model_is_checked_where_its_path_says(check: Check, wrong: Wrong, with_path: str, good: str) -> None:
    """A path gives the same model as its digest; a path to nothing is a mistake at its line."""
    assert check(with_path).models["judge"].model.digest == check(good).models["judge"].model.digest
    text = with_path.replace('path: "', 'path: "nowhere')
    (mistake,) = wrong(text)
    assert mistake.line == line_of(text, "nowhere")


def test_a_file_sent_over_the_network_reads_nothing_of_this_box(with_path: str, tmp_path: Path) -> None:
    """Secrets, models, certificates and CSV by path are refused when the file comes over the API."""
    (tmp_path / "secret").write_text("x")
    text = with_path.replace("url: mqtt://127.0.0.1:1883", "url: mqtts://127.0.0.1:8883\n      ca_file: secret")
    text += "tags_file: tags.csv\n"
    with pytest.raises(DocumentError) as caught:
        check_text(text, str(tmp_path / "plant.yaml"), tmp_path / "models", {})
    lines = [m.line for m in caught.value.mistakes]
    assert lines == [line_of(text, part) for part in ("ca_file", "password", "path:", "tags_file")]


def test_secrets_that_were_sent_are_taken(good: str, tmp_path: Path, store: Path) -> None:
    """What was sent beside the file is used, and nothing that lies here."""
    (tmp_path / "secret").write_text("of this box")
    sent = {"file:secret": "of the sender", "env:OTHER": "x"}
    desired = check_text(good, str(tmp_path / "plant.yaml"), store, sent)
    assert desired.connections["station"].options["password"] == "of the sender"  # noqa: S105 - this test's own


def test_a_secret_is_a_short_text(wrong: Wrong, good: str, tmp_path: Path) -> None:
    """A reference to something endless is refused before it is read."""
    (tmp_path / "secret").write_text("x" * 20_000)
    (mistake,) = wrong(good)
    assert "too large" in mistake.message


def test_addresses_of_the_launcher_can_be_referred_to(check: Check, good: str) -> None:
    """`{env: …}` takes what the launcher provides, in any option."""
    settings.provide({"HEADRACE_TEST_URL": "mqtt://127.0.0.1:4711"})
    desired = check(good.replace("url: mqtt://127.0.0.1:1883", "url: {env: HEADRACE_TEST_URL}"))
    assert desired.connections["station"].options["url"] == "mqtt://127.0.0.1:4711"
    assert "url" not in desired.connections["station"].secrets
