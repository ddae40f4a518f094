"""The Chinese of what a check says; a sentence that is not here, a library's own, stays as it is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from app.config.document import Mistake

_SAID: Final = (
    (r"unknown key", "未知的键"),
    (r"unknown key (.+)", "未知的键 {0}"),
    (r"(.+) is missing", "缺少 {0}"),
    (r"(.+) stands here twice", "{0} 出现了两次"),
    (r"the name (.+) is taken", "名称 {0} 已被使用"),
    (r"there is no connector (.+)", "没有连接器 {0}"),
    (r"the connector (.+) cannot publish", "连接器 {0} 不能对外发布"),
    (r"there is no connection (.+)", "没有连接 {0}"),
    (r"there is no model (.+)", "没有模型 {0}"),
    (r"there is no tag (.+)", "没有点位 {0}"),
    (r"there is no device (.+)", "没有设备 {0}"),
    (r"the model has no input (.+)", "模型没有输入 {0}"),
    (r"the model has no output (.+)", "模型没有输出 {0}"),
    (r"the model has (\d+) inputs", "模型有 {0} 个输入"),
    (r"the model needs other inputs too: (.+)", "模型还需要其他输入：{0}"),
    (r"the input (.+) takes (.+), tags give numbers", "输入 {0} 需要 {1}，而点位给出的是数值"),
    (
        r"the input (.+) has (\d+) dimensions, layout (.+) makes (\d+)",
        "输入 {0} 有 {1} 维，而布局 {2} 给出 {3} 维",
    ),
    (
        r"the model does not fit the tags: (.+) takes (.+), (\d+) tags over (\d+) rows make (.+)",
        "模型与点位不符：{0} 需要 {1}，{2} 个点位 × {3} 行给出 {4}",
    ),
    (r"length is missing, and the model package does not say it", "缺少 length，模型包也未给出"),
    (r"a trigger window needs the tag that ends it", "触发窗口需要指定结束它的点位"),
    (r"tags is missing, and the model package does not name its columns", "缺少 tags，模型包也未给出列名"),
    (r"the tag (.+) holds (.+), a window holds numbers", "点位 {0} 的类型是 {1}，窗口只接受数值"),
    (r"the tag (.+) stands here twice", "点位 {0} 出现了两次"),
    (r"there are more than (\d+) tags", "点位超过 {0} 个"),
    (r"the rule (.+) stands here twice", "规则 {0} 出现了两次"),
    (r"the pipeline publishes no output (.+)", "流水线不发布输出 {0}"),
    (r"a rule needs either above or below", "规则需要 above 或 below，二者择一"),
    (r"what has a memory is answered in order: (.+)", "有记忆的内容须按顺序计算：{0}"),
    (r"the pipeline (.+) is answered in order", "流水线 {0} 须按顺序计算"),
    (r"without it, or catch_up: in_order", "去掉它，或写 catch_up: in_order"),
    (
        r"a gateway catches up in one order: newest_first for all of its pipelines or for none",
        "网关只按一种顺序追赶：所有流水线都写 newest_first，或都不写",
    ),
    (r"clear lies beyond the limit: .+", "clear 越过了限值：报警将无法正常保持"),
    (r"unknown language (.+)", "未知的语言 {0}"),
    (r"there is no class (.+) under history", "history 下没有类别 {0}"),
    (r"the steps have to go from the youngest to the oldest", "各步骤须由近及远"),
    (r"(.+) s is no whole multiple of the (.+) s of the step before", "{0} 秒不是前一步 {1} 秒的整数倍"),
    (r"after (.+) days nothing is left to be thinned", "{0} 天之后已没有可抽稀的内容"),
    (r"(.+) is no topic to publish to", "{0} 不能作为发布主题"),
    (r"a model needs either path or digest", "模型需要 path 或 digest，二者择一"),
    (r"(.+) does not exist: give a folder, a \.zip or an \.onnx file", "{0} 不存在：请给出文件夹、.zip 或 .onnx 文件"),
    (r"the store has no model (.+): import it first", "没有导入过模型 {0}：请先导入"),
    (r"the address of a group needs \{name\} where the name belongs", "批量点位的地址中须用 {{name}} 表示名称"),
    (r"the range in (.+) runs backwards or is too long", "{0} 中的范围颠倒或过长"),
    (r"(.+) is no name", "{0} 不是有效的名称"),
    (r"the columns of (.+) do not fit", "{0} 的列不符"),
    (r"(.+) cannot be read: (.+)", "{0} 无法读取：{1}"),
    (r"cannot be read: (.+)", "无法读取：{0}"),
    (r"a secret must not stand in the file: .+", "密码不得写在文件中：请写 {{env: NAME}} 或 {{file: PATH}}"),
    (r"the environment variable (.+) is not set", "环境变量 {0} 未设置"),
    (r"the file (.+) is too large for a secret", "文件 {0} 过大，不是密码文件"),
    (r"the package is not signed, and HEADRACE_REQUIRE_SIGNATURE asks for it: (.+)",
     "模型包未签名，而 HEADRACE_REQUIRE_SIGNATURE 要求签名：{0}"),
    (r"the package is signed by (.+), who is not in HEADRACE_TRUSTED_SIGNERS",
     "模型包由 {0} 签名，不在 HEADRACE_TRUSTED_SIGNERS 中"),
    (r"the signature does not hold: package or signature was changed after it was signed",
     "签名无效：模型包或签名在签名之后被改动"),
    (r"the signature is of other content: (.+), the package is (.+)", "签名属于其他内容：{0}，而模型包为 {1}"),
    (r"SM2 needs the package gmssl-pyx: (.+)", "SM2 需要软件包 gmssl-pyx：{0}"),
    (r"this is no YAML: (.+)", "不是有效的 YAML：{0}"),
    (r"is not UTF-8", "不是 UTF-8 编码"),
    (r"a key must be a plain word", "键必须是普通文字"),
    (r"the file must be a mapping: (.+)", "文件必须是映射：{0}"),
    (r"Input should be a valid (\w+).*", "应为 {0} 类型"),
    (r"Input should be greater than or equal to (.+)", "应不小于 {0}"),
    (r"Input should be greater than (.+)", "应大于 {0}"),
    (r"Input should be less than or equal to (.+)", "应不大于 {0}"),
    (r"Input should be a finite number", "应为有限数值"),
    (r"Input should be (.+)", "应为 {0}"),
    (r"String should match pattern .+", "文字不符合要求的格式"),
    (r"did you mean (.+)\?", "是否应为 {0}？"),
    (r"there are: (.+)", "可用的有：{0}"),
    (r"there are none", "一个也没有"),
    (r"names are unique", "名称不能重复"),
    (r"remove one of them", "请删去其中一个"),
    (r"use mqtt or opcua", "请用 mqtt 或 opcua"),
    (r"e\.g\. (.+)", "例如 {0}"),
    (r"keep it longer than the last step's after_days", "请使其大于最后一步的 after_days"),
    (r"see layout", "参见 layout"),
    (r"say which: input: (.+)", "请指明：input: {0}"),
    (r"pipelines feed one window", "一条流水线只提供一个窗口"),
    (r"compare the tags with the columns in model\.yaml", "请对照 model.yaml 中的列"),
    (r"look at indentation and quotes", "请检查缩进和引号"),
    (r"save it as UTF-8.*", "请另存为 UTF-8"),
    (r"columns: (.+)", "列名：{0}"),
    (r"set it for the process that applies the file", "请为应用该文件的进程设置"),
    (r"no /, # or \+, at most 100 characters", "不含 /、#、+，至多 100 个字符"),
    (r"no \+, #, leading / or \$", "不含 +、#，不以 / 或 $ 开头"),
)
"""Pattern of the whole English sentence, and the Chinese with its groups. The first that fits is taken."""


def in_chinese(text: str) -> str:
    """The Chinese of a sentence, or the sentence."""
    for pattern, chinese in _SAID:
        found = re.fullmatch(pattern, text, re.DOTALL)
        if found is not None:
            return chinese.format(*found.groups())
    return text


def line(mistake: Mistake) -> str:
    """`plant.yaml:12:5: …（…）`."""
    hint = f"（{in_chinese(mistake.hint)}）" if mistake.hint else ""
    return f"{mistake.file}:{mistake.line}:{mistake.column}: {in_chinese(mistake.message)}{hint}"
