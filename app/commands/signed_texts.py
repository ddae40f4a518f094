"""The Chinese of what the commands about conformance say."""

from __future__ import annotations

from typing import Final

ZH: Final[dict[str, str]] = {
    "Give --device and --report, or --archive; to check a report: headrace conform verify FILE": "请给出 --device 和 --report，或 --archive；检查报告请用：headrace conform verify 文件",
    "There is no section {name}; there are: {names}": "没有部分 {name}；现有：{names}",
    "{section} …": "{section}……",
    "{yardstick}: {passed} passed": "{yardstick}：通过 {passed} 项",
    "Verdict: {verdict}": "结论：{verdict}",
    "{file} is written: {count} cases, {size:.1f} MB. On the other host: python3 {name} --help": "已写入 {file}：{count} 个用例，{size:.1f} MB。在另一台主机上：python3 {name} --help",
    "{device}: {verdict}, {made_at}, {backend}": "{device}：{verdict}，{made_at}，{backend}",
    "The report contradicts itself: its verdict is not that of its sections.": "报告自相矛盾：其结论与各部分不符。",
    "The report is signed with {key}: compare it with what its owner told you, and give --fingerprint": "报告由密钥 {key} 签名：请与密钥持有者告知您的指纹核对，并给出 --fingerprint",
    "The report shows too little, or failures: {sections}": "报告内容不足，或含有失败项：{sections}",
    "On file: {vendor} with {backend}, signed by {key}": "已存档：{vendor}，{backend}，由 {key} 签名",
    "signed by (SHA-256 of the Ed25519 key)": "签名者（Ed25519 公钥的 SHA-256）",
    "{file}: {digest}, {sm3}": "{file}：{digest}，{sm3}",
    "Signed ({algorithm}) with the key {key}": "已用密钥 {key} 签名（{algorithm}）",
    "There is no signature {file}.": "没有签名文件 {file}。",
    "The signature ({algorithm}) holds. Compare the key with the one its owner gives you:": "签名（{algorithm}）有效。请与密钥所有者告知的指纹核对：",
    "It is one of HEADRACE_TRUSTED_SIGNERS.": "属于 HEADRACE_TRUSTED_SIGNERS。",
    "nodes": "算子用例",
    "golden": "黄金样本",
    "finite": "结果有限",
    "placement": "节点落位",
    "latency": "时延与吞吐",
    "concurrency": "并发",
    "reload": "重复加载",
    "cancel": "取消",
    "restart": "重启",
    "faults": "异常处理",
    "selection": "未运行全部用例",
    "not_possible": "无法进行",
    "partly": "部分（无失败项，但未全部进行）",
}
