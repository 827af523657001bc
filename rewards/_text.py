"""Reading completions: their text, and the final answer in it."""

import re

BOX = "\\boxed"
BRACE = re.compile(r"\\.|[{}]", re.S)
BARE_BOX = re.compile(r" *(-?[0-9A-Za-z.,]*[0-9A-Za-z])")


def text_of(completion: str | list[dict]) -> str:
    """The text of a completion given as a string or as a list of messages."""
    if isinstance(completion, str):
        return completion
    contents = (m.get("content") or "" for m in completion if m.get("role") == "assistant")
    return "".join(c if isinstance(c, str) else "".join(map(_part, c)) for c in contents)


def _part(part: str | dict) -> str:
    """The text of one part of a message, which has none where it is an image."""
    return part if isinstance(part, str) else part.get("text") or ""


def final_answer(text: str) -> str | None:
    """What the completion commits to, or None when it commits to nothing or to two different things: see `extract`."""
    return extract(text)[0]


def extract(text: str) -> tuple[str | None, str]:
    """The final answer, or None, and in words where it was found or why there is none.

    Only text after the last </think> counts: guesses in the thoughts would score otherwise. One <answer> block, or
    several identical ones; inside it a \\boxed if there is one, else the whole body. Without tags, a box alone. There is
    no last-number fallback, which pays for numbers mentioned in passing. Cost is linear in the length.
    """
    thoughts_end = text.rfind("</think>")
    if text.rfind("<think>") > thoughts_end:
        return None, "<think> is never closed"
    text = text[thoughts_end + len("</think>") :] if thoughts_end >= 0 else text
    after = " after the last </think>" if thoughts_end >= 0 else ""
    blocks, start = set(), text.find("<answer>")
    tagged = start >= 0
    while start >= 0:
        start += len("<answer>")
        end = text.find("</answer>", start)
        following = text.find("<answer>", start)
        if end < 0 or 0 <= following < end:
            return None, "<answer> is never closed" if end < 0 else "<answer> inside <answer>"
        blocks.add(text[start:end].strip())
        start = following
    if len(blocks) > 1:
        return None, f"{len(blocks)} different <answer> blocks"
    body = blocks.pop() if tagged else text
    where = "<answer>" if tagged else "the text"
    boxed = boxes(body)
    if boxed is None:
        return None, f"\\boxed in {where} is never closed"
    if len(set(boxed)) > 1:
        return None, f"{len(set(boxed))} different \\boxed in {where}"
    if boxed:
        return (boxed[0], f"\\boxed in {where}") if boxed[0] else (None, f"\\boxed in {where} is empty")
    if not tagged:
        return None, f"no <answer> or \\boxed was found{after}"
    return (body, "<answer>") if body else (None, "<answer> is empty")


def boxes(text: str) -> list[str] | None:
    """The contents of every \\boxed{...}, braces matched, or of \\boxed 5; None when one is left open."""
    found, start = [], text.find(BOX)
    while start >= 0:
        i = start + len(BOX)
        while i < len(text) and text[i] == " ":
            i += 1
        if not text.startswith("{", i):
            bare = BARE_BOX.match(text, i)
            if bare is None:
                return None
            found.append(bare[1])
            start = text.find(BOX, bare.end())
            continue
        depth, j = 0, len(text)
        for brace in BRACE.finditer(text, i):
            depth += {"{": 1, "}": -1}.get(brace[0], 0)
            if depth == 0:
                j = brace.end()
                break
        if depth:
            return None
        found.append(text[i + 1 : j - 1].strip())
        start = text.find(BOX, j)
    return found
