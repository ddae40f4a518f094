"""The Chinese of `--help`: what commands and options are for; the English stands where they are made."""

from __future__ import annotations

from typing import Final

ZH: Final[dict[str, str]] = {
    "Headrace 引渠: plant data to models and answers back.": "Headrace 引渠：把工厂数据引向模型，再把结果送回工厂。",
    "Write an annotated plant.yaml, and beside it the JSON Schema that editors complete it with.": "写出带注释的 plant.yaml，并在旁边写出供编辑器补全用的 JSON Schema。",
    "Check a plant file: every mistake at once, with its line.": "检查工厂文件：一次列出全部错误及其行号。",
    "Make the gateway equal to a plant file; the difference is shown first.": "使网关与工厂文件一致；先显示差异。",
    "List every plant file that was applied; `apply --revision` brings one back.": "列出所有应用过的工厂文件；用 `apply --revision` 可恢复其中一版。",
    "Print the JSON Schema of plant.yaml, for editors.": "输出 plant.yaml 的 JSON Schema，供编辑器使用。",
    "Run the gateway: its servers where none are configured, then gateway, worker, beat and API.": "运行网关：先启动未配置的服务器，再启动网关、worker、beat 和 API。",
    "Bring the database to the newest schema; the first time, make the user admin and show the password, once.": "将数据库升级到最新结构；首次运行时创建用户 admin，并显示一次密码。",
    "Run the example plants and a gateway on this machine; nothing is left running.": "在本机运行示例工厂和网关；结束后不留任何进程。",
    "Show how gateways, connections and pipelines stand; exit status 1 when no gateway reports.": "显示网关、连接和流水线的状态；没有网关上报时退出码为 1。",
    "Show per connection what was read and what became of it; exit status 1 when it does not balance.": "按连接显示读取的数据及其去向；不平衡时退出码为 1。",
    "List what a model can run on here, and why the rest cannot be used.": "列出模型在本机可用的设备，以及其余设备不可用的原因。",
    "Look at a foreign plant: tags, types, quality, clock offset, rates, and the load it caused.": "观察外部工厂：点位、类型、质量、时钟偏差、变化率，以及造成的负载。",
    "A plant file that refers to {env: HEADRACE_BROKER_URL}, …_USER and …_PASSWORD is given a private MQTT broker.": "工厂文件若引用 {env: HEADRACE_BROKER_URL}、…_USER 和 …_PASSWORD，会为其启动私有 MQTT 代理。",
    "en or zh-CN; the locale's by default.": "en 或 zh-CN；默认取系统语言。",
    "Data folder; HEADRACE_DATA_DIR by default.": "数据目录；默认取 HEADRACE_DATA_DIR。",
    "Data folder; emptied first if an earlier demo made it.": "数据目录；若由先前的示例生成，则先清空。",
    "Plant file to apply first.": "先应用的工厂文件。",
    "The plant file.": "工厂文件。",
    "Print JSON.": "输出 JSON。",
    "Where to write it.": "写到何处。",
    "Replace a file that is there.": "覆盖已有文件。",
    "Bring back an earlier revision instead of a file.": "不用文件，恢复先前的一版。",
    "Do not ask.": "不询问。",
    "Show the difference only.": "只显示差异。",
    "A running gateway's address instead of a data folder.": "不用数据目录，指定正在运行的网关地址。",
    "Holds the API token; else HEADRACE_TOKEN.": "存放 API 令牌的文件；否则取 HEADRACE_TOKEN。",
    "Who signed the gateway's certificate.": "签发网关证书的机构。",
    "Allow http to another machine.": "允许用 http 访问另一台机器。",
    "opc.tcp://HOST:PORT or mqtt://HOST:PORT": "opc.tcp://主机:端口 或 mqtt://主机:端口",
    "Browse a peer level by level: name, type, unit, access, address; writes a tag list if asked to.": "逐层浏览对端：名称、类型、单位、访问权限、地址；需要时写出点位表。",
    "Read values once: type, quality and source time; exit status 1 when one of them is Bad.": "读取一次数值：类型、质量和源时间；有坏值时退出码为 1。",
    "Where to begin; a tag's address.": "从何处开始；写法同点位地址。",
    "Levels; 1, or 16 with --match or --tags.": "层数；默认 1，带 --match 或 --tags 时为 16。",
    "Only names that match, e.g. 'Press/**/Temp*'; may be given again.": "只要匹配的名称，例如 'Press/**/Temp*'；可多次给出。",
    "Most nodes to ask about.": "最多查询多少个节点。",
    "MQTT: how long to listen.": "MQTT：监听多久。",
    "Write a tag list here: .csv, .xlsx or .yaml.": "将点位表写到此处：.csv、.xlsx 或 .yaml。",
    "Connection to write into the tag list.": "写入点位表的连接名。",
    "Write addresses by browse path.": "以浏览路径写出地址。",
    "Addresses of tags.": "点位地址。",
    "OPC UA security policy; None without a user name by default.": "OPC UA 安全策略；未给用户名时默认为 None。",
    "OPC UA: SignAndEncrypt or Sign.": "OPC UA：SignAndEncrypt 或 Sign。",
    "The peer's certificate, or that of its authority.": "对端的证书，或签发机构的证书。",
    "How long to look.": "观察多久。",
    "User name.": "用户名。",
    "File that holds the password.": "存放密码的文件。",
    "Stop after so many seconds.": "运行多少秒后停止。",
    "Write a JSON report here.": "将 JSON 报告写到此处。",
    "Plant seconds per second.": "工厂时间与实际时间之比。",
    "Install completion for the current shell.": "为当前 shell 安装命令补全。",
    "Show completion for the current shell, to copy it or customize the installation.": "显示当前 shell 的补全脚本，供复制或自行安装。",
    "Show this message and exit.": "显示本说明并退出。",
}


def in_chinese(text: str) -> str:
    """The Chinese of a help text, paragraph by paragraph; what is not here stays as it is."""
    return "\n\n".join(ZH.get(part, part) for part in text.split("\n\n"))
