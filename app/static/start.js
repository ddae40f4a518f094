// The start page: log in, then show connections, ledger, predictions, events and refusals, every two seconds.
"use strict";

const TEXTS = {
  en: {
    login: "Log in", leave: "Log out", name: "Name", password: "Password", connections: "Connections", ledger: "Ledger",
    predictions: "Latest predictions", events: "Events", refused: "Refused", none: "nothing yet",
    first: "The first password of admin was shown once in the terminal that started the gateway.",
    balance: "Per connection: read = stored + refused + dropped + held.",
    safety: "Not a safety function. Read-only towards the plant.",
    change: "The first password is still in force: change it.", gone: "The gateway does not answer; trying again.",
    connection: "Connection", kind: "Connector", state: "State", tags: "Tags", rate: "Readings/s", error: "Error",
    read: "Read", stored: "Stored", refusedCount: "Refused", dropped: "Dropped", held: "Held", balanced: "Balanced",
    yes: "yes", no: "NO", time: "Time", pipeline: "Pipeline", quality: "Quality", outputs: "Outputs", unit: "Unit",
    device: "Device", id: "Prediction", priority: "Priority", message: "Message", address: "Address", reason: "Reason",
    detail: "Detail", lost: "Lost by peer",
    words: {
      unack_active: "active", ack_active: "active, acknowledged", rtn_unack: "over, not acknowledged", normal: "over",
    },
  },
  "zh-CN": {
    login: "登录", leave: "退出", name: "用户名", password: "密码", connections: "连接", ledger: "台账",
    predictions: "最新预测", events: "事件", refused: "被拒数据", none: "暂无",
    first: "admin 的初始密码只在启动网关的终端显示一次。",
    balance: "每个连接：读取 = 已存 + 被拒 + 丢弃 + 待处理。",
    safety: "本产品不是安全功能；对现场只读。",
    change: "初始密码仍在使用，请尽快修改。", gone: "网关无应答，正在重试。",
    connection: "连接", kind: "协议", state: "状态", tags: "点位", rate: "读数/秒", error: "错误",
    read: "读取", stored: "已存", refusedCount: "被拒", dropped: "丢弃", held: "待处理", balanced: "平衡",
    yes: "是", no: "否", time: "时间", pipeline: "流水线", quality: "质量", outputs: "输出", unit: "工件",
    device: "设备", id: "预测编号", priority: "优先级", message: "消息", address: "地址", reason: "原因",
    detail: "说明", lost: "对端丢失",
    words: {
      unack_active: "活动", ack_active: "活动，已确认", rtn_unack: "已恢复，未确认", normal: "已恢复", occurred: "已发生",
      connecting: "连接中", connected: "已连接", lost: "中断", refused: "被拒绝", stopped: "已停止", ended: "已结束",
      Good: "良好", Uncertain: "不确定", Bad: "坏",
    },
  },
};

let language = navigator.language.startsWith("zh") ? "zh-CN" : "en";
let token = sessionStorage.getItem("token");
const $ = (id) => document.getElementById(id);
const t = (key) => TEXTS[language][key];
const word = (key) => TEXTS[language].words[key] ?? key;
const NUMBERS = new Set(["tags", "rate", "read", "stored", "refusedCount", "dropped", "held", "lost", "priority"]);

function translate() {
  document.documentElement.lang = language;
  $("language").textContent = language === "en" ? "中文" : "English";
  for (const element of document.querySelectorAll("[data-text]")) element.textContent = t(element.dataset.text);
}

async function call(path, options = {}) {
  const headers = { "Accept-Language": language, ...(token && { Authorization: `Bearer ${token}` }), ...options.headers };
  const answer = await fetch(`/api/v1${path}`, { ...options, headers });
  if (answer.status === 401 && path !== "/session") leave();
  const body = answer.status === 204 ? null : await answer.json();
  if (!answer.ok) throw new Error([body.title, body.detail].filter(Boolean).join(" "));
  return body;
}

function cell(value, css = "") {
  const td = document.createElement("td");
  td.textContent = value ?? "–";
  td.className = css || (typeof value === "number" ? "number" : "");
  return td;
}

function show(id, titles, rows) {
  const head = document.createElement("tr");
  head.append(...titles.map((title) => Object.assign(document.createElement("th"),
    { textContent: t(title), className: NUMBERS.has(title) ? "number" : "" })));
  const lines = rows.map((row) => {
    const tr = document.createElement("tr");
    tr.append(...row.map((c) => (Array.isArray(c) ? cell(...c) : cell(c))));
    return tr;
  });
  if (!lines.length) lines.push(Object.assign(document.createElement("tr"), { innerHTML: "" }));
  if (!rows.length) lines[0].append(cell(t("none"), "note"));
  $(id).replaceChildren(head, ...lines);
}

const clock = (text) => (text ? new Date(text).toLocaleTimeString(language, { hour12: false }) : "–");
const number = (x) => (typeof x === "number" && !Number.isInteger(x) ? x.toPrecision(4) : x);
const outputs = (o) => Object.entries(o).map(([k, v]) => `${k}=${Array.isArray(v) ? "[…]" : number(v)}`).join("  ");
const why = (p) => (p.reason_tag ? `${p.reason.split(":")[0]}: ${p.reason_tag}` : p.reason);
const mark = { connected: "good", Good: "good", Uncertain: "uncertain", Bad: "bad", refused: "bad", lost: "bad" };

async function refresh() {
  const [connections, ledger, predictions, events, refused] = await Promise.all([
    call("/connections"), call("/ledger"), call("/predictions?limit=15"), call("/events?limit=10"), call("/dead-letters?limit=5"),
  ]);
  show("connections", ["connection", "kind", "state", "tags", "rate", "error"], connections.map((c) =>
    [c.name, c.connector, [word(c.state), mark[c.state]], c.tags, c.readings_per_s && Math.round(c.readings_per_s), [c.error || c.notes.join(" "), "wide"]]));
  show("ledger", ["connection", "read", "stored", "refusedCount", "dropped", "held", "lost", "balanced"], ledger.connections.map((l) =>
    [l.name, l.read, l.stored, l.refused, l.dropped, l.held, l.lost_by_peer, [t(l.balanced ? "yes" : "no"), l.balanced ? "good" : "bad"]]));
  show("predictions", ["time", "pipeline", "quality", "outputs", "unit", "device", "id"], predictions.items.map((p) =>
    [clock(p.passport.end), p.pipeline, [word(p.quality), mark[p.quality]], [outputs(p.outputs) || why(p), "wide"], p.unit_id, p.passport.device, p.id]));
  show("events", ["time", "state", "priority", "message", "id"], events.items.map((e) =>
    [clock(e.raised_at), [word(e.state), e.state.includes("active") ? "bad" : ""], e.priority, [e.message[language] ?? e.message.en ?? Object.values(e.message)[0] ?? e.rule, "wide"], e.prediction_id ?? e.id]));
  show("refused", ["time", "connection", "address", "reason", "detail"], refused.items.map((d) =>
    [clock(d.at), d.connection, [d.address, "wide"], d.reason, [d.detail, "wide"]]));
}

async function turn() {
  if (!token) return;
  try {
    await refresh();
    $("notice").textContent = "";
  } catch (error) {
    $("notice").textContent = error instanceof TypeError ? t("gone") : error.message;
  }
  setTimeout(turn, 2000);
}

function leave() {
  token = null;
  sessionStorage.removeItem("token");
  enter();
}

function enter() {
  $("login").hidden = Boolean(token);
  $("plant").hidden = $("leave").hidden = !token;
  turn();
}

$("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  const body = JSON.stringify({ name: $("name").value, password: $("password").value });
  try {
    token = (await call("/session", { method: "POST", body, headers: { "Content-Type": "application/json" } })).token;
    sessionStorage.setItem("token", token);
    $("problem").textContent = $("password").value = "";
    enter();
  } catch (error) {
    $("problem").textContent = error.message;
  }
});
$("leave").addEventListener("click", () => call("/session", { method: "DELETE" }).finally(leave));
$("language").addEventListener("click", () => { language = language === "en" ? "zh-CN" : "en"; translate(); });
translate();
enter();
