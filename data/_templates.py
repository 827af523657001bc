"""How a question becomes a prompt. The same templates serve every dataset, in training and in evaluation."""

# DeepSeek-R1 (arXiv 2501.12948), table 1: the template R1-Zero was trained with, for base models
R1_ZERO = (
    "A conversation between User and Assistant. The user asks a question, and the Assistant solves it. The assistant "
    "first thinks about the reasoning process in the mind and then provides the user with the answer. The reasoning "
    "process and answer are enclosed within <think> </think> and <answer> </answer> tags, respectively, i.e., <think> "
    "reasoning process here </think> <answer> answer here </answer>. User: {question} Assistant:"
)
SYSTEM = "Think about the question first, inside <think> </think>. Then give only the final answer, inside <answer> </answer>."
# name -> text with {question}; None keeps the messages and adds SYSTEM, for the tokenizer's own chat template
TEMPLATES = {"chat": None, "r1_zero": R1_ZERO, "plain": "{question}\n"}


def render(row: dict, template: str = "chat") -> dict:
    """A row whose `prompt` is one user message, put into a template; its `completion`, if any, follows suit."""
    text = TEMPLATES[template]
    if text is None:
        return row | {"prompt": [{"role": "system", "content": SYSTEM}, *row["prompt"]]}
    row = row | {"prompt": text.replace("{question}", row["prompt"][-1]["content"])}
    if "completion" in row:
        row["completion"] = row["completion"][-1]["content"]
    return row
