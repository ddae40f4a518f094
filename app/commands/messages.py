"""The Chinese of the command line; the English stands where it is used."""

from __future__ import annotations

from typing import Final

ZH: Final[dict[str, str]] = {
    "{file} is good: {connections} connections, {tags} tags, {pipelines} pipelines.":
        "{file} 正确：{connections} 个连接，{tags} 个点位，{pipelines} 条流水线。",
    "{count} mistakes in {file}.": "{file} 中有 {count} 处错误。",
    "{file} is there already; it is left as it is. Use --force to replace it.": "{file} 已存在，未作改动。使用 --force 可覆盖。",
    "{file} is written. Edit it, then: headrace check {file}": "已写入 {file}。请编辑，然后执行：headrace check {file}",
    "No changes: revision {number} is in force.": "没有变化：第 {number} 版正在生效。",
    "Revision {number} is in force.": "第 {number} 版已生效。",
    "Nothing was changed.": "未作任何改动。",
    "Apply these changes?": "应用这些更改？",
    "This would change:": "将更改：",
    "There is no revision {number}.": "没有第 {number} 版。",
    "kind": "类别", "name": "名称", "what": "变化", "detail": "说明",
    "The model check failed for {pipeline}: {reason}": "流水线 {pipeline} 的模型检查未通过：{reason}",
    "device": "设备", "vendor": "厂商", "backend": "后端", "evidence": "验证程度", "state": "状态", "reason": "原因",
    "present": "可用", "absent": "不可用",
    "connection": "连接", "read": "读取", "stored": "已存", "refused": "被拒", "dropped": "丢弃", "held": "待处理",
    "lost by peer": "对端丢失", "balanced": "平衡", "yes": "是", "NO": "否",
    "No gateway has counted anything yet.": "还没有网关的统计数据。",
    "Every connection balances.": "所有连接均平衡。",
    "NOT BALANCED: keep the data folder and report this.": "不平衡：请保留数据目录并报告。",
    "gateway": "网关", "readings/s": "读数/秒", "error": "错误", "connector": "协议",
    "pipeline": "流水线", "answered": "已答", "p50 ms": "p50 毫秒", "p99 ms": "p99 毫秒",
    "No gateway has reported in the last seconds.": "最近几秒没有网关上报。",
    "journal": "磁盘日志", "head": "最新记录", "watermark": "已落库至",
    "Looking at {url} for {seconds} s: read-only, nothing is saved.": "观察 {url} {seconds} 秒：只读，不保存任何内容。",
    "tag": "点位", "address": "地址", "type": "类型", "value": "值", "quality": "质量", "unit": "单位", "changes/s": "变化/秒",
    "Peer: {peer}": "对端：{peer}",
    "Clock offset: {offset} ms (peer minus us)": "时钟偏差：{offset} 毫秒（对端减本机）",
    "Clock offset: unknown": "时钟偏差：未知",
    "Load caused: {requests} requests, {bytes} bytes received in {seconds:.1f} s":
        "造成的负载：{seconds:.1f} 秒内 {requests} 次请求，接收 {bytes} 字节",
    "There is no connector for {url}.": "没有适用于 {url} 的连接器。",
    "No database in {data}: run `headrace up` first.": "{data} 中没有数据库：请先运行 `headrace up`。",
    "Start page: {url}": "起始页：{url}",
    "First password of admin (shown once): {password}": "admin 的初始密码（只显示一次）：{password}",
    "readings {rate}/s · predictions {predictions} · last score {score} · events {events} · ledger {ledger}":
        "读数 {rate}/s · 预测 {predictions} · 最新得分 {score} · 事件 {events} · 台账{ledger}",
    "NOT balanced": "不平衡",
    "waiting": "等待中",
    "{name} is ready after {seconds:.1f} s": "{name} 在 {seconds:.1f} 秒后就绪",
    "Stop with Ctrl-C.": "按 Ctrl-C 停止。",
    "The example plant needs tep-studio: pip install 'headrace[demo]' (a C compiler is needed), or: make demo":
        "示例工厂需要 tep-studio：pip install 'headrace[demo]'（需要 C 编译器），或执行：make demo",
    "Plant, OPC UA: {url}": "工厂 OPC UA：{url}",
    "MQTT broker: {url} user {user} password {password}": "MQTT 代理：{url} 用户 {user} 密码 {password}",
    "Gateway's OPC UA server: {url}": "网关 OPC UA 服务器：{url}",
    "The report is in {file}.": "报告已写入 {file}。",
    "NOT met: {what}": "未满足：{what}",
}
