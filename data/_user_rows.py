"""A user's own rows: prompts with answers, demonstrations or pairs, by the names of their columns or as `columns` says.

A row becomes {"prompt": messages} with `answer` (text), `completion` (messages), or both; system message and earlier turns
stay, and so does every other column, for the rewards.
"""

import difflib
from statistics import fmean

from datasets import Dataset, Features, Value

from data import _rows, _source

# role -> names that stand for it, the surest first
NAMES = {
    "prompt": ("prompt", "question", "problem", "instruction", "query"),
    "answer": ("answer", "solution", "gold", "ground_truth", "target"),
    "completion": ("completion", "response", "output"),
    "messages": ("messages", "conversations", "conversation"),
    "system": ("system", "system_prompt"),
}
TEXT = {name for names in NAMES.values() for name in names}  # what a .csv's columns of these names hold, even 007
LOOKED_AT = 100


def renamed(name: str, raw: Dataset, columns: dict[str, str]) -> Dataset:
    """The rows with what `columns` names, {ours: theirs}, under our names; theirs may be nested, as in `reward_model.gold`.

    Raises ValueError for one that isn't there, naming those that are and the likely one.
    """
    there = paths(raw.features)
    for ours, theirs in columns.items():
        if theirs not in there:
            near = difflib.get_close_matches(theirs, there, n=1)
            raise ValueError(
                f"columns: {{{ours}: {theirs}}}: dataset {name!r} has no column {theirs!r}: "
                f"{f'did you mean {near[0]!r}? ' if near else ''}there are {', '.join(there)}"
            )
    picked = _source.mapped(raw, _pick, fn_kwargs={"columns": columns}, remove_columns=raw.column_names)
    taken = {*columns, *(theirs for theirs in columns.values() if "." not in theirs)}
    return _source.beside(picked, raw.select_columns([c for c in raw.column_names if c not in taken]))


def paths(features: Features) -> list[str]:
    """The names of columns, and of the fields inside, as `column.field`."""
    found = []
    for column, kind in features.items():
        found += [column, *(f"{column}.{field}" for field in kind)] if isinstance(kind, dict) else [column]
    return found


def _pick(raw: dict, columns: dict[str, str]) -> dict:
    return {ours: at(raw, theirs) for ours, theirs in columns.items()}


def at(raw: dict, path: str):
    column, _, field = path.partition(".")
    value = raw[column]
    return value.get(field) if field and isinstance(value, dict) else None if field else value


def roles_of(name: str, raw: Dataset) -> dict[str, str]:
    """{role: where it stands} for the roles of NAMES that these rows have. Raises ValueError where none is a prompt."""
    there = paths(raw.features)
    inside = {path.rpartition(".")[2]: path for path in reversed(there) if "." in path}
    roles = {}
    for role, names in NAMES.items():
        found = next((n for n in names if n in raw.column_names), None)
        if found is None and role == "answer":
            found = next((inside[n] for n in names if n in inside), None)
        if found is not None:
            roles[role] = found
    if "messages" in roles:
        ends = [turns[-1]["role"] for turns in map(_rows.messages, raw[:LOOKED_AT][roles["messages"]]) if turns]
        if "assistant" in ends and "completion" not in roles:
            roles.pop("prompt", None)
        else:  # conversations that wait for an answer
            roles = {"prompt": roles.pop("messages")} | roles
    if "prompt" not in roles and "messages" not in roles:
        raise ValueError(
            f"dataset {name!r} has the columns {', '.join(raw.column_names)}, and none of them is called "
            f"{', '.join(NAMES['prompt'])} or messages: say which one is the prompt, such as columns: {{prompt: {_likely(raw)}}}"
        )
    return roles


def _likely(raw: Dataset) -> str:
    """The column that may be the prompt: the nearest by name, or else, of those that can't be anything else, the longest texts."""
    for column in raw.column_names:
        if difflib.get_close_matches(column.lower(), NAMES["prompt"], n=1):
            return column
    texts = {c: [v for v in raw[:LOOKED_AT][c] if isinstance(v, str)] for c in raw.column_names if c not in TEXT}
    return max((c for c in texts if texts[c]), key=lambda c: fmean(map(len, texts[c])), default="<yours>")


def to_row(raw: dict, roles: dict[str, str]) -> dict:
    """What the roles say, as `prompt`, `completion` and `answer`; see the module.

    `completion` is None where it is empty or not the assistant's, `prompt` [] where there is none, `answer` None where it is
    neither text nor a number.
    """
    values = {role: at(raw, path) for role, path in roles.items()}
    if "messages" in roles:
        turns = _rows.messages(values["messages"])
        answered = bool(turns) and turns[-1]["role"] == "assistant"
        prompt, completion = (turns[:-1], turns[-1:]) if answered else (turns, [])
    else:
        text = values["prompt"]
        if roles["prompt"] == "instruction" and isinstance(raw.get("input"), str) and isinstance(text, str):
            text = "\n\n".join(part for part in (text, raw["input"]) if part.strip())  # Alpaca's form
        prompt, answer = _rows.messages(text), values.get("completion")
        completion = [{"role": "assistant", "content": answer}] if isinstance(answer, str) else _rows.messages(answer)
    system = values.get("system")
    if prompt and isinstance(system, str) and system.strip() and prompt[0]["role"] != "system":
        prompt = [{"role": "system", "content": system}, *prompt]
    has_question = bool(prompt) and prompt[-1]["role"] == "user" and bool(prompt[-1]["content"].strip())
    row = {"prompt": prompt if has_question else []}
    if demonstrates(roles):
        has_answer = [m["role"] for m in completion] == ["assistant"] and completion[0]["content"].strip()
        row["completion"] = completion if has_question and has_answer else None
    if "answer" in roles:
        row["answer"] = _rows.as_text(values["answer"])
    return row


def demonstrates(roles: dict[str, str]) -> bool:
    return "completion" in roles or "messages" in roles


def why(row: dict) -> str | None:
    """What a row lacks, that could not be read."""
    if not row["prompt"]:
        return "no prompt"
    return "no completion" if "completion" in row and row["completion"] is None else None


def features(roles: dict[str, str]) -> Features:
    kinds = {"prompt": _rows.MESSAGES}
    kinds |= {"completion": _rows.MESSAGES} if demonstrates(roles) else {}
    return Features(kinds | ({"answer": Value("string")} if "answer" in roles else {}))


def described(roles: dict[str, str]) -> str:
    """How the rows were read, in words."""
    kind = "demonstrations" if demonstrates(roles) else "prompts with answers" if "answer" in roles else "prompts"
    return f"{kind} ({', '.join(f'{role}: {path}' for role, path in roles.items())})"
