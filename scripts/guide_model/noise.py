"""How people really type: politeness, other frames, casing, typos, missing words.

Rule 1: a variation never changes which fact answers the question.
Rule 2: off-topic questions get the same variations, so that none of them hints at the answer.
"""

from __future__ import annotations

import random
import re

_FRAMES = (
    "how can I", "how could I", "how would I", "what do I do to", "I want to", "i'd like to",
    "is there a way to", "can you tell me how to", "help me", "I need to", "show me how to",
    "what is the way to", "any idea how to", "how might I", "how am I supposed to",
    "i am trying to",
    "please explain how to", "what must I do to", "tell me how to", "is it possible to",
    "how does one", "what's the right way to", "how do you", "how do we", "explain how to",
    "what do I type to", "which command do I use to", "where do I go to", "how would I go about to",
    "what's the trick to", "do you know how to", "I was wondering how to", "I'd love to", "could I",
    "my question is how to", "what's the proper way to", "is there some way to",
    "what is needed to",
    "I would like to know how to", "could you show me how to", "can I",
)  # fmt: skip
_HOW = re.compile(r"^(how (do|can|would|should|could) (i|you|we)|how to|how does one)\b", re.I)
_BEFORE_EN = (
    "please ", "hello, ", "hi, ", "hey, ", "excuse me, ", "question: ", "quick question: ", "ok, ",
    "tell me, ", "tell me: ", "sorry, ", "and ", "so, ", "well, ", "one more thing: ", "guide, ",
    "another question: ", "I wonder, ", "now ", "hey guide, ", "I have a question. ", "but ",
    "in short, ", "in a nutshell, ", "on this box, ", "as a beginner, ", "I was wondering, ",
    "I keep wondering: ", "seriously, ", "my boss asks: ", "for my project: ", "in general, ",
    "can you tell me ", "do you know ", "I would like to know: ", "just curious: ", "um, ",
)  # fmt: skip
_AFTER_EN = (
    " please", " thanks", ", please", " thank you", " then", " exactly", ", can you help", " here",
    " on this box", " in my case", " in a nutshell", " right now", ", how does that work",
    " at all", ", what's that", ", what is it", ", what then", ", what does it mean",
    ", how do I do that",
    " on my system", " around here", " on this thing", ", what should I do", " in short",
    " again", " actually", ", any idea", " now", " pls", " by the way", ", do you know",
)  # fmt: skip
_BEFORE_ZH = (
    "请问", "请问,", "你好,", "我想知道", "想问一下,", "麻烦问下", "那个,", "问一下", "请告诉我",
    "我想问",
    "简单说下", "能简单说说", "我想", "我要", "用哪条命令能", "到底", "大概", "听说", "现在",
    "在这台机器上",
    "还有,", "那", "那么", "再问一个:", "你知道", "能不能告诉我", "向导,", "不好意思,", "请教一下,",
)  # fmt: skip
_AFTER_ZH = (
    "呢", "啊", "呀", ",谢谢", ",急", "来着", ",请说明", "?谢谢", ",该怎么弄", ",怎么操作",
    ",怎么处理", ",是怎么回事", ",说明什么", "吗", ",怎么办", "的", ",行吗",
)  # fmt: skip
_CJK = "\u2e80"
_NAMES_EN = ("qwend", "the daemon", "this program", "the service", "this daemon", "the server")
_NAMES_ZH = ("qwend", "守护进程", "这个程序", "它", "服务", "后台程序")
_DROPPABLE = frozenset(
    "the a an do does i is to of my it in for can are on its with please".split()  # noqa: SIM905
)
_SWAPS = {
    "show": ("display", "see", "view"), "change": ("modify", "adjust", "alter"), "see": ("view",),
    "find": ("locate", "get"), "big": ("large",), "large": ("big",), "mean": ("signify",),
    "use": ("utilise", "employ"), "need": ("require",), "several": ("multiple", "many"),
    "error": ("failure", "problem"), "program": ("app", "application"), "machine": ("computer",),
    "quick": ("fast",), "fast": ("quick",), "file": ("document",), "set": ("configure", "define"),
    "remove": ("erase",), "get": ("obtain", "receive"), "answer": ("reply", "response"),
    "answers": ("replies", "responses"), "run": ("execute",), "command": ("instruction",),
    "possible": ("feasible",), "explain": ("clarify",), "directory": ("folder",),
    "where": ("in which place",), "why": ("for what reason", "how come"), "kill": ("terminate",),
}  # fmt: skip


def vary(text: str, language: str, rng: random.Random, *, polite: bool, on_topic: bool) -> str:
    """Return the question as someone might really type it.

    polite: words may be put before and after it (not for a bare greeting).
    """
    return (
        _vary_english(text, rng, polite, on_topic)
        if language == "en"
        else _vary_chinese(text, rng, polite, on_topic)
    )


def cut_points(text: str, rng: random.Random) -> list[str]:
    """Cut some words in two, for a tokenizer to see them in unusual pieces."""
    pieces = []
    start = 0
    for at in range(1, len(text)):
        inside = text[at - 1].isalpha() and text[at].isalpha()
        # Chinese has no spaces: a token may span words that another question puts apart.
        often = 0.2 if text[at] > _CJK else 0.05
        if inside and rng.random() < often:
            pieces.append(text[start:at])
            start = at
    pieces.append(text[start:])
    return pieces


def _vary_english(text: str, rng: random.Random, polite: bool, on_topic: bool) -> str:
    if on_topic:
        for name in ("the daemon", "qwend", "this program"):
            if name in text and rng.random() < 0.3:
                text = text.replace(name, rng.choice(_NAMES_EN), 1)
        if rng.random() < 0.2:
            words = [rng.choice(_SWAPS.get(w, (w,))) for w in text.split(" ")]
            text = " ".join(words)
    if rng.random() < 0.25:
        text = _HOW.sub(rng.choice(_FRAMES), text)
    ending = text[-1] if text[-1] in "?!." else ""
    text = text.rstrip("?!.")
    if polite and rng.random() < 0.2:
        text = rng.choice(_BEFORE_EN) + text
    if polite and rng.random() < 0.15:
        text += rng.choice(_AFTER_EN)
    if polite and rng.random() < 0.12:
        text = _thin(text.split(" "), " ", rng)
    if rng.random() < 0.08:
        kept = [w for w in text.split() if w.lower() not in _DROPPABLE or rng.random() < 0.4]
        text = " ".join(kept) or text
    if rng.random() < 0.15:
        text = _typo(text, rng)
    return _case(text, rng) + rng.choice(
        (ending, ending, ending, "", "?", "?", "??", "!", ".", " ?")
    )


def _vary_chinese(text: str, rng: random.Random, polite: bool, on_topic: bool) -> str:
    if on_topic:
        for name in ("守护进程", "qwend", "它"):
            if name in text and rng.random() < 0.25:
                text = text.replace(name, rng.choice(_NAMES_ZH), 1)
        text = text.replace("怎么", rng.choice(("怎么", "怎么", "怎样", "如何", "咋", "要怎么")))
    ending = "?" if text.endswith(("?", "？")) else ""
    text = text.rstrip("?!。？！")
    if polite and rng.random() < 0.25:
        text = rng.choice(_BEFORE_ZH) + text
    if polite and rng.random() < 0.2:
        text += rng.choice(_AFTER_ZH)
    if polite and rng.random() < 0.15:
        text = _thin(list(text), "", rng)
    if rng.random() < 0.2:
        text = text.replace(" ", "")
    text += rng.choice((ending, ending, "", "?", "?", "!", "。"))
    if rng.random() < 0.75:
        text = text.translate(str.maketrans(",?!:", "，？！："))
    return text


def _thin(parts: list[str], joint: str, rng: random.Random) -> str:
    """Leave out about every sixth word or character, so that no single one is relied on."""
    if len(parts) < 5:
        return joint.join(parts)
    return joint.join(part for part in parts if rng.random() > 0.16)


def _typo(text: str, rng: random.Random) -> str:
    """Swap, drop, double or replace one letter inside a word of five or more."""
    words = text.split(" ")
    long = [i for i, w in enumerate(words) if len(w) >= 5 and w.isalpha()]
    if not long:
        return text
    index = rng.choice(long)
    word = words[index]
    at = rng.randrange(1, len(word) - 1)
    words[index] = rng.choice(
        (
            word[:at] + word[at + 1] + word[at] + word[at + 2 :],
            word[:at] + word[at + 1 :],
            word[:at] + word[at] + word[at:],
            word[:at] + rng.choice("aeioustrn") + word[at + 1 :],
        )
    )
    return " ".join(words)


def _case(text: str, rng: random.Random) -> str:
    draw = rng.random()
    if draw < 0.4:
        return text.lower()
    if draw < 0.7:
        return text[:1].upper() + text[1:]
    return text.upper() if draw > 0.98 else text
