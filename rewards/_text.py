"""Reading completions: their text, and the final answer in it."""

BOX = "\\boxed"


def text_of(completion: str | list[dict]) -> str:
    """The text of a completion given as a string or as a list of messages."""
    if isinstance(completion, str):
        return completion
    return "".join(m["content"] or "" for m in completion if m["role"] == "assistant")


def final_answer(text: str) -> str | None:
    """What the completion commits to, or None when it commits to nothing or to two different things.

    Only text after the last </think> counts: guesses in the thoughts would score otherwise. One <answer> block, or
    several identical ones; inside it a \\boxed if there is one, else the whole body. Without tags, a box alone. There is
    no last-number fallback, which pays for numbers mentioned in passing.
    """
    thoughts_end = text.rfind("</think>")
    if text.rfind("<think>") > thoughts_end:
        return None
    text = text[thoughts_end + len("</think>") :] if thoughts_end >= 0 else text
    blocks, start = set(), text.find("<answer>")
    while start >= 0:
        start += len("<answer>")
        end = text.find("</answer>", start)
        following = text.find("<answer>", start)
        if end < 0 or 0 <= following < end:
            return None
        blocks.add(text[start:end].strip())
        start = following
    if len(blocks) > 1:
        return None
    body = blocks.pop() if blocks else text
    boxed = boxes(body)
    if boxed is None or len(set(boxed)) > 1:
        return None
    if boxed:
        return boxed[0] or None
    return (body or None) if "<answer>" in text else None


def boxes(text: str) -> list[str] | None:
    """The contents of every \\boxed{...}, braces matched; None when one is left open."""
    found, start = [], text.find(BOX)
    while start >= 0:
        i = start + len(BOX)
        while i < len(text) and text[i] == " ":
            i += 1
        if not text.startswith("{", i):
            return None
        depth, j = 1, i + 1
        while j < len(text) and depth:
            if text[j] == "\\":
                j += 1
            elif text[j] in "{}":
                depth += 1 if text[j] == "{" else -1
            j += 1
        if depth:
            return None
        found.append(text[i + 1 : j - 1].strip())
        start = text.find(BOX, j)
    return found
