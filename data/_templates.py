"""How a question becomes a prompt. The same templates serve every dataset, in training and in evaluation."""

from datasets import Features, Value

# DeepSeek-R1 (arXiv 2501.12948), table 1: the template R1-Zero was trained with, for base models
R1_ZERO = (
    "A conversation between User and Assistant. The user asks a question, and the Assistant solves it. The assistant "
    "first thinks about the reasoning process in the mind and then provides the user with the answer. The reasoning "
    "process and answer are enclosed within <think> </think> and <answer> </answer> tags, respectively, i.e., <think> "
    "reasoning process here </think> <answer> answer here </answer>. User: {question} Assistant:"
)
SYSTEM = "Think about the question first, inside <think> </think>. Then give only the final answer, inside <answer> </answer>."
# Qwen2.5-Math's own, the "Qwen-Math template" of Dr. GRPO (2503.20783): a final answer in a box, no tags
BOXED = "Please reason step by step, and put your final answer within \\boxed{}."
# name -> text with {question}; None keeps the messages and adds the system message, for the tokenizer's own chat template
TEMPLATES = {"chat": None, "boxed": None, "r1_zero": R1_ZERO, "plain": "{question}\n"}
SYSTEMS = {"chat": SYSTEM, "boxed": BOXED}
ANSWERS = ("completion", "chosen", "rejected")


def render(row: dict, template: str = "chat") -> dict:
    """A row put into a template; its `completion`, `chosen` and `rejected`, where it has them, follow suit.

    Messages get the template's system message, unless they bring one of their own. Text is made of one question. None, of a
    row that couldn't be read, stays None. Raises ValueError for a template of text where the prompt has more than a question.
    """
    text, prompt = TEMPLATES[template], row["prompt"]
    if text is None:
        instructed = bool(prompt) and prompt[0]["role"] == "system"
        return row | {"prompt": prompt if instructed else [{"role": "system", "content": SYSTEMS[template]}, *prompt]}
    if len(prompt) > 1 and not row.get("unreadable"):
        more = "a system message of its own" if prompt[0]["role"] == "system" else "earlier turns"
        raise ValueError(
            f"template {template!r} makes text of one question, and a prompt has {more} ({prompt[0]['content'][:60]!r}): say "
            "template: null for the messages as they are, or chat"
        )
    row = row | {"prompt": text.replace("{question}", prompt[-1]["content"] if prompt else "")}
    for answer in ANSWERS:
        if isinstance(row.get(answer), list):
            row[answer] = row[answer][-1]["content"]
    return row


def features(rows: Features, template: str) -> Features:
    """The types of rendered rows: a thousand rows of None in front would leave them unknown."""
    if TEMPLATES[template] is None:
        return rows
    return Features(rows | {column: Value("string") for column in ("prompt", *ANSWERS) if column in rows})
