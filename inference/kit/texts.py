"""What a reader of the page is told, in English and Chinese beside each other."""

from __future__ import annotations

from typing import Dict, Tuple  # noqa: UP035 - Python 3.8

TEXTS: Dict[str, Tuple[str, str]] = {  # noqa: UP006 - Python 3.8
    "title": ("Conformance of {}", "{} 的一致性"),
    "passed": ("passed", "通过"),
    "failed": ("failed", "失败"),
    "not_possible": ("not possible", "无法进行"),
    "partly": ("partly: nothing failed, not all was done", "部分：无失败项，但未全部进行"),
    "not_run": ("not asked for", "未要求"),
    "fallen_back": ("fallen back", "已回退"),
    "differs": ("differs", "结果不同"),
    "refused": ("refused", "被拒"),
    "answered": ("answered all the same", "仍然作答"),
    "unnamed": ("error without a name", "错误未说明原因"),
    "not_tried": ("not tried", "未试"),
    "verdict": ("verdict", "结论"),
    "section": ("section", "部分"),
    "reason": ("reason", "原因"),
    "seconds": ("seconds", "秒"),
    "nodes": ("Node cases", "算子用例"),
    "golden": ("Golden vectors by precision class", "各精度等级的黄金样本"),
    "finite": ("Finite answers", "结果有限"),
    "placement": ("Placement of nodes", "节点落位"),
    "latency": ("Latency and throughput", "时延与吞吐"),
    "concurrency": ("Concurrency", "并发"),
    "reload": ("Reload", "重复加载"),
    "cancel": ("Cancel", "取消"),
    "restart": ("Restart", "重启"),
    "faults": ("Faults", "异常"),
    "about nodes": (
        ("ONNX's own backend cases. The section fails where the device takes a case and answers otherwise than expected "
         "although the yardstick has it right; what it refuses is coverage."),
        "ONNX 自带的后端用例。设备接受了用例、基准能答对而设备答错时判为失败；被拒的用例只计入覆盖率。"),
    "about golden": (
        "Small models of the classes that plants use, held to the answers of onnx's own evaluator in float32.",
        "工厂常见类别的小模型，与 onnx 自带求值器的 float32 结果比较。"),
    "about finite": ("Neither NaN nor infinity where the evaluator has numbers.", "求值器有数值之处不得出现 NaN 或无穷。"),
    "about placement": (
        "Every node on the device. Nodes elsewhere are named; where nobody can tell, they count as fallen back.",
        "所有节点都应在设备上。落在别处的节点列出名称；无法得知的按回退计。"),
    "about latency": (
        ("Of one run through the session. The first run at a batch is told apart, and warm-up runs are not counted. "
         "Figures are told, not judged."),
        "经会话的单次运行。每种批量的首次运行单列，预热不计。仅给出数字，不作评判。"),
    "about concurrency": ("Threads that ask at once, each with a session of its own.", "多个线程同时请求，各有自己的会话。"),
    "about reload": (
        "Opened, run once and closed again and again; the slope is that of resident memory after the warm-up.",
        "反复打开、运行一次、关闭；斜率取预热之后的常驻内存。"),
    "about cancel": (
        "A long run is given up; what is asked next has to be answered rightly, in the same process or a new one.",
        "放弃一次长时间运行；其后的请求必须答对，无论在原进程还是新进程。"),
    "about restart": (
        "The process is killed in a run: the caller is told, and the next answer has to be right.",
        "运行中强行结束进程：调用方得到告知，且下一次结果必须正确。"),
    "about faults": ("Each is an error that names what is wrong, never an answer.", "每一项都应报出具名错误，绝不作答。"),
    "device": ("device", "设备"), "made at": ("made at", "生成时间"), "cases chosen by": ("cases chosen by", "用例筛选"),
    "all": ("all", "全部"), "signed by": ("signed by (SHA-256 of the Ed25519 key)", "签名者（Ed25519 公钥的 SHA-256）"),
    "unsigned page": (
        ("This page is for reading; the JSON beside it is what is signed. A signature shows that a report is unchanged "
         "since, and whose key signed it; it does not show that the machine was what the report says."),
        "本页仅供阅读，签名的是随附的 JSON。签名证明报告此后未被改动以及由谁的密钥签署，但不证明机器确如报告所述。"),
    "headrace": ("Headrace", "引渠"), "onnx": ("onnx of the cases", "用例所属 onnx"), "backend": ("runtime", "运行时"),
    "python": ("Python", "Python"), "numpy": ("numpy", "numpy"), "os": ("system", "系统"),
    "machine": ("architecture", "架构"), "driver": ("driver, as stated", "驱动（自述）"), "way": ("run by", "运行方式"),
    "yardstick": ("yardstick", "基准"), "coverage": ("coverage", "覆盖率"), "cases": ("cases", "用例"),
    "kind": ("kind", "类别"), "operator": ("operator", "算子"), "by operator": ("By operator", "按算子"),
    "not passed": ("Not passed", "未通过"), "case": ("case", "用例"), "outcome": ("outcome", "结果"),
    "model": ("model", "模型"), "precision": ("class", "等级"), "asked": ("asked for", "请求精度"),
    "max_abs": ("largest difference", "最大偏差"), "rtol": ("relative", "相对容差"), "atol": ("absolute", "绝对容差"),
    "sources": ("Where the tolerances come from", "容差来源"), "on_device": ("on the device", "在设备上"),
    "fallen_back_nodes": ("elsewhere", "在别处"), "node_count": ("nodes", "节点"), "batch": ("batch", "批量"),
    "runs": ("runs", "次数"), "first_ns": ("first, µs", "首次（微秒）"), "p50_ns": ("p50, µs", "p50（微秒）"),
    "p99_ns": ("p99, µs", "p99（微秒）"), "rows_per_s": ("rows/s", "行/秒"), "threads": ("threads", "线程"),
    "other_answers": ("other answers", "不同结果"), "errors": ("errors", "错误"), "reloads": ("reloads", "加载次数"),
    "first": ("first, MB", "起始（MB）"), "last": ("last, MB", "末尾（MB）"),
    "slope": ("slope, bytes a reload", "斜率（字节/次）"), "bound": ("allowed", "上限"),
    "wrong_answers": ("wrong answers", "错误结果"), "whole_ms": ("whole run, ms", "完整运行（毫秒）"),
    "after_ms": ("given up after, ms", "放弃时刻（毫秒）"), "ended_ms": ("ended after, ms", "结束时刻（毫秒）"),
    "process_kept": ("process kept", "进程保留"), "right_after": ("right afterwards", "其后正确"),
    "said": ("said", "说明"), "killed_after_ms": ("killed after, ms", "结束进程于（毫秒）"),
    "back_ms": ("back after, ms", "恢复用时（毫秒）"), "told": ("the caller was told", "调用方得知"),
    "fault": ("fault", "异常"), "yes": ("yes", "是"), "no": ("no", "否"), "finite answer": ("finite", "有限"),
    "file_cut_off": ("file cut off", "文件被截断"), "file_of_noise": ("file of noise", "文件为噪声"),
    "file_empty": ("empty file", "空文件"), "operator_unknown": ("unknown operator", "未知算子"),
    "shape_wrong": ("wrong shape", "形状错误"), "rank_wrong": ("wrong rank", "维数错误"),
    "text_for_numbers": ("text for numbers", "以文字代数值"), "input_missing": ("missing input", "缺少输入"),
    "input_unknown": ("unknown input", "未知输入"), "gateway": ("the gateway", "网关"),
    "archive": ("the archive, by the host's own Python", "离线包，使用主机自身的 Python"),
}


def said(key: str, language: str) -> str:
    """The text in `en` or `zh`; a key without a text is shown as it is."""
    pair = TEXTS.get(key)
    return key if pair is None else pair[language == "zh"]
