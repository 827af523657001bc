"""Reading completions: their text, and the final answer in it."""

import re

BARE_BOX = re.compile(r"-?[0-9A-Za-z.,]*[0-9A-Za-z]")
BRACE = re.compile(r"\\(?:boxed|fbox|framebox)(?![a-zA-Z])\s*\{?|\\.|[{}]", re.S)
ANSWER_TAG = re.compile("</?answer>")
# what is no answer: blank space by command, dots, dashes, question marks, and the words of a template
SPACE = re.compile(
    r"\\[hv]?phantom\s*\{[^{}]*\}|\\[hv]space\*?\s*\{[^{}]*\}|\\(?:text|textbf|mathrm|mbox|underline)(?=\s*\{)"
    r"|\\(?:q?quad|[lcv]?dots[bcm]?|square|Box|displaystyle|[,;:! ()\[\]\\])|[\s{}$.,:;?_~…*·•\-–—()\[\]]"
)
EITHER = re.compile(r"\s*(?:\}|</answer>)[\s$\\)]*,?\s*or\b[^a-zA-Z0-9]*(?:\\(?:boxed|fbox|framebox)\s*\{|<answer>)")
PLACEHOLDER = re.compile(
    r"(?:(?:insert|put|write|enter|place)\s*)?(?:(?:the|your|my)\s*)?(?:final\s*)?(?:numeric(?:al)?\s*)?"
    r"(?:answer|result|solution|ans)(?:\s*(?:goes\s*)?here)?",
    re.I,
)
ZERO_WIDTH = "\u200b\u200c\u200d\u2060\ufeff\xad"
BLANK = "\u115f\u1160\u2800\u3164\uffa0" + ZERO_WIDTH


def text_of(completion: str | list[dict]) -> str:
    """The text of a completion given as a string or as a list of messages."""
    if isinstance(completion, str):
        return completion
    contents = (m.get("content") or "" for m in completion if m.get("role") == "assistant")
    return "".join(c if isinstance(c, str) else "".join(map(_part, c)) for c in contents)


def _part(part: str | dict) -> str:
    """The text of one part of a message, which has none where it is an image."""
    return part if isinstance(part, str) else part.get("text") or ""


def printable(text: str) -> str:
    """Model text must not steer a terminal, nor fail on one that knows ASCII only."""
    return "".join(c if " " <= c <= "~" else c.encode("unicode_escape").decode() for c in text)


def final_answer(text: str) -> str | None:
    """What the completion commits to, or None when it commits to nothing: see `extract`."""
    return extract(text)[0]


def extract(text: str) -> tuple[str | None, str]:
    """The final answer, or None, and in words where it was found or why there is none.

    Only text after the last </think> counts: guesses in the thoughts would score otherwise. The last <answer> block that is
    closed and not blank; inside it the last such \\boxed, else the whole body. Without tags, the last \\boxed. Only one
    answer can be paid, so that hedging gains nothing. There is no last-number fallback, which pays for numbers mentioned
    in passing. Cost is linear in the length.
    """
    thoughts_end = text.rfind("</think>")
    if text.rfind("<think>") > thoughts_end:
        return None, "<think> is never closed"
    text = text[thoughts_end + len("</think>") :] if thoughts_end >= 0 else text
    after = " after the last </think>" if thoughts_end >= 0 else ""
    tagged = "<answer>" in text
    body, where = (last(text, blocks(text)), "<answer>") if tagged else (text, "the text")
    if body is None:
        return None, "no <answer> block is closed and holds an answer"
    if not body:
        return None, "one <answer> or another"
    found = boxes(body)
    boxed = last(body, found)
    if boxed == "":
        return None, "one \\boxed or another"
    if boxed is not None:
        return boxed, f"{'the last ' if len(found) > 1 else ''}\\boxed in {where}"
    if not tagged:
        return None, f"no \\boxed holds an answer{after}" if found else f"no <answer> or \\boxed was found{after}"
    return body, where


def last(text: str, spans: list[tuple[int, int]]) -> str | None:
    """The text of the last span that is an answer at all; "" where it is the second of two: this or that."""
    for at in reversed(range(len(spans))):
        body = text[slice(*spans[at])].strip()
        if not blank(body):
            either = (
                at
                and EITHER.fullmatch(text, spans[at - 1][1], spans[at][0])
                and text[slice(*spans[at - 1])].strip() != body
            )
            return "" if either else body
    return None


def blank(body: str) -> bool:
    r"""Whether nothing is said: only space, also by command, dots, dashes, a question mark, or a template's own words."""
    if len(body) > 1000:
        return not body.strip()
    rest = SPACE.sub(" ", body)
    words = " ".join(rest.split())
    return not words.strip(BLANK + " ") or PLACEHOLDER.fullmatch(words) is not None


def blocks(text: str) -> list[tuple[int, int]]:
    """Where the contents are of every <answer> block that is closed; of one in another the inner one."""
    found, start = [], None
    for tag in ANSWER_TAG.finditer(text):
        if tag[0] == "<answer>":
            start = tag.end()
        elif start is not None:
            found.append((start, tag.start()))
            start = None
    return found


def boxes(text: str) -> list[tuple[int, int]]:
    r"""Where the contents are of every \boxed{...} that is closed, and of \boxed 5, in the order in which they end."""
    found: list[tuple[int, int]] = []
    open_braces: list[int | None] = []  # where a box's content starts; None for another brace
    for match in BRACE.finditer(text):
        token = match[0]
        if token == "}":
            start = open_braces.pop() if open_braces else None
            if start is not None:
                found.append((start, match.start()))
        elif token == "{":
            open_braces.append(None)
        elif len(token) > 2:
            if token[-1] == "{":
                open_braces.append(match.end())
            elif bare := BARE_BOX.match(text, match.end()):
                found.append(bare.span())
    return found
