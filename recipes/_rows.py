"""The rows that a run trains on and those it is measured with: the keys that name them, and which can't be used."""

import difflib
from dataclasses import dataclass, field
from typing import Literal

import datasets

import data
import rewards
from recipes import _common as common


@dataclass(kw_only=True)
class DatasetArgs:
    dataset: str = field(
        metadata={"help": "a module of data/, a hub name, or a local .jsonl, .json, .csv or .parquet file"}
    )
    dataset_split: str = field(default="train", metadata={"help": "split to train on"})
    dataset_options: dict = field(default_factory=dict, metadata={"help": "what the dataset's own load() takes"})
    columns: dict[str, str] | None = field(
        default=None,
        metadata={
            "help": "of a file or a hub set: {prompt: its question, answer: its gold}; null: found by their names"
        },
    )
    template: Literal["chat", "boxed", "r1_zero", "plain"] | None = field(
        default=None,
        metadata={"help": "how a question becomes a prompt: data/_templates.py; null: messages as they are"},
    )
    held_out: int = field(
        default=0, metadata={"help": "held-out rows to measure on before and after, for summary.json; 0: don't"}
    )
    held_out_dataset: str | None = field(default=None, metadata={"help": "where they are from; None: the dataset"})
    held_out_split: str = field(default="test", metadata={"help": "split they are from"})


@dataclass(kw_only=True)
class SampledArgs:
    """For trainers that sample nothing themselves: what the held-out completions are."""

    accuracy: str | None = field(
        default="math_answer", metadata={"help": "the reward that says which held-out completion is right; or null"}
    )
    max_completion_length: int = field(default=256, metadata={"help": "tokens of a held-out completion, at most"})

    def measures(self) -> dict:
        return {name: rewards.load(name) for name in (self.accuracy, "think_format") if name}


@dataclass(kw_only=True)
class RewardArgs(DatasetArgs):
    template: Literal["chat", "boxed", "r1_zero", "plain"] | None = field(
        default="chat",
        metadata={"help": "how a question becomes a prompt: data/_templates.py; null: messages as they are"},
    )
    rewards: dict[str, float] = field(metadata={"help": "name -> weight; the first one named is the accuracy"})
    reward_options: dict[str, dict] = field(
        default_factory=dict,
        metadata={"help": "reward -> what it takes beside columns, such as {code_tests: {binary: true}}"},
    )
    max_prompt_length: int | None = field(
        default=None, metadata={"help": "rows with longer prompts, in tokens, are left out and counted"}
    )
    completions_to_log: int = field(default=4, metadata={"help": "completions kept of every step"})


def check_dataset(given: dict) -> None:
    """Refuse names, splits and options of sets that this project makes or knows, before anything loads. Raises ValueError."""
    options = given.get("dataset_options") or {}
    if "dataset" in given:
        data.check(given["dataset"], given.get("dataset_split"), given.get("columns"), **options)
    if given.get("held_out") and (other := given.get("held_out_dataset")):
        same = options if other == given.get("dataset") else {}
        data.check(other, given.get("held_out_split"), **same)


def check_rewards(given: dict) -> None:
    """Refuse reward keys that don't go together, before anything loads. Raises ValueError."""
    options = given.get("reward_options") or {}
    for name in given.get("rewards") or {}:
        reward = rewards.load(name, **options.get(name, {}))
        if not rewards.columns_of(reward):
            reward(completions=[], prompts=[])  # says what is wrong with its options, such as a length that isn't set
    if unused := set(given.get("reward_options") or {}) - set(given.get("rewards") or {}):
        raise ValueError(f"reward_options names {sorted(unused)[0]!r}, which is not among the rewards")
    if given.get("completions_to_log", 1) < 1:
        raise ValueError(f"completions_to_log={given['completions_to_log']} must be at least 1")


def load(args: DatasetArgs, split: str | None = None, **template) -> datasets.Dataset:
    """The rows to train on, or those of another split; with `template=None` as they are before the template."""
    settings = {"template": args.template, "columns": args.columns} | template
    return data.load(args.dataset, split or args.dataset_split, **settings, **args.dataset_options)


def load_held_out(args: DatasetArgs) -> datasets.Dataset:
    """The first `held_out` rows of the held-out split. Raises ValueError when they could be rows trained on."""
    name = args.held_out_dataset or args.dataset
    same = name == args.dataset
    if same and (data.is_file(name) or args.held_out_split == args.dataset_split):
        raise ValueError(
            f"held_out={args.held_out}: {name!r}, split {args.held_out_split!r}, is what the run trains on: name another "
            "held_out_dataset or held_out_split, or say held_out: 0"
        )
    columns = args.columns if data.is_file(name) or "/" in name else None  # a module reads its own
    options = args.dataset_options if same else {}
    rows = data.load(name, args.held_out_split, template=args.template, columns=columns, **options)
    return rows.select(range(min(args.held_out, len(rows))))


def prompt_texts(prompts: list, tokenizer) -> list[str]:
    """Prompts as the model sees them: messages through the tokenizer's chat template, text as it is."""
    if isinstance(prompts[0], str):
        return list(prompts)
    if tokenizer.chat_template is None:
        raise ValueError("this model's tokenizer has no chat template: use template r1_zero or plain")
    return [tokenizer.apply_chat_template(p, tokenize=False, add_generation_prompt=True) for p in prompts]


def prompt_ids(prompts: list, tokenizer) -> list[list[int]]:
    """The tokens of each prompt; text gets the tokenizer's start token, if it has one, and a chat template writes its own."""
    text = isinstance(prompts[0], str)
    return tokenizer(prompt_texts(prompts, tokenizer), add_special_tokens=text)["input_ids"]


def completion_ids(completions: list, tokenizer) -> list[list[int]]:
    """The tokens of each completion, and the end token: as a model would have sampled them."""
    texts = [c if isinstance(c, str) else c[-1]["content"] for c in completions]
    return [[*ids, tokenizer.eos_token_id] for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]


def usable_rows(rows: datasets.Dataset, reward_funcs: list, tokenizer, max_prompt_length: int | None):
    """The rows whose completions can be graded, and {"rows", "ungradable", "too_long"}: all, and those left out.

    A row is ungradable when it has no prompt, or when a reward returns None even for an empty completion: its gold is missing
    or broken, by the rewards' own contract. max_prompt_length counts tokens, of the prompt as the model gets it.
    Raises ValueError when a reward needs a column that isn't there, and when no row is left.
    """
    if taken := [c for c in rows.column_names if c in (*rewards.PASSED, "image", "images")]:
        raise ValueError(
            f"the dataset's column {taken[0]!r} has a name that TRL's trainers use themselves: rename it, as in "
            f"columns: {{my_{taken[0]}: {taken[0]}}}"
        )
    columns, empty = reward_columns(rows), as_completions([""] * len(rows), rows)
    ungradable = {}
    for reward in reward_funcs:
        reward.of_gradable_rows = False
        if missing := [c for c in rewards.columns_of(reward) if c not in columns]:
            raise ValueError(
                f"reward {reward.__name__!r} needs the column {missing[0]!r}, but the dataset has "
                f"{', '.join(rows.column_names)}: {_say_which(missing[0], [c for c in columns if c != 'prompts'])}, choose another "
                "reward, or another dataset"
            )
        values = reward(completions=empty, **columns)
        ungradable[reward.__name__] = {i for i, value in enumerate(values) if value is None}
    for reward in reward_funcs:
        reward.of_gradable_rows = True  # from here on: None alone would be the reward's fault
    too_long = set()
    if max_prompt_length is not None:
        lengths = map(len, prompt_ids(rows["prompt"], tokenizer))
        too_long = {i for i, n in enumerate(lengths) if n > max_prompt_length}
    no_gold = {i for i, answer in enumerate(columns.get("answer", [])) if answer is None}
    return _leave_out(
        rows,
        *(("ungradable", f"have {lack}", found) for lack, found in unreadable(rows).items()),
        ("ungradable", "have no answer", no_gold.intersection(set().union(*ungradable.values()))),
        *(("ungradable", f"can't be graded by {name} (broken gold)", found) for name, found in ungradable.items()),
        ("too_long", f"have prompts of more than max_prompt_length={max_prompt_length} tokens", too_long),
    )


def reward_columns(rows: datasets.Dataset) -> dict[str, list]:
    """What a reward gets of each row beside its completion: the columns, and `prompts`, as TRL's trainers pass them."""
    kept = [c for c in rows.column_names if c not in ("prompt", "completion", "unreadable")]
    return {c: list(rows[c]) for c in kept} | {"prompts": list(rows["prompt"])}


def as_completions(texts: list[str], rows: datasets.Dataset) -> list:
    """Completions in the form in which trainers give them to rewards: messages where the prompts are messages, else text."""
    return texts if isinstance(rows["prompt"][0], str) else [[{"role": "assistant", "content": t}] for t in texts]


def unreadable(rows: datasets.Dataset) -> dict[str, set[int]]:
    """Of the rows that data/ could not read, what they lack, and which they are."""
    found = {}
    for i, lack in enumerate(rows["unreadable"] if "unreadable" in rows.column_names else []):
        if lack is not None:
            found.setdefault(lack, set()).add(i)
    return found


def usable_demonstrations(rows: datasets.Dataset, tokenizer, max_length: int | None):
    """The rows to imitate, and {"rows", "broken", "too_long"}: all, and those left out.

    A row is broken when it has no prompt or no completion (data/ gives None for one it can't read); max_length counts
    the tokens of both, and TRL would cut the end off a longer row, and with it the answer.
    Raises ValueError when there is no such column, and when no row is left.
    """
    _need(rows, "completion")
    columns = zip(rows["prompt"], rows["completion"], strict=True)
    broken = {i for i, (prompt, completion) in enumerate(columns) if not (prompt and text_of(completion))}
    whole = [i for i in range(len(rows)) if i not in broken]
    return _leave_out(
        rows,
        *(("broken", f"have {lack}", found) for lack, found in unreadable(rows).items()),
        ("broken", "have no prompt or no completion", broken),
        ("too_long", f"are longer than max_length={max_length} tokens", _too_long(rows, whole, tokenizer, max_length)),
    )


def usable_pairs(rows: datasets.Dataset, tokenizer, max_length: int | None):
    """The preference rows, and {"rows", "broken", "equal", "too_long"}: all, and those left out.

    A row is broken when it has no prompt or lacks one of two answers (data/ gives None for one it can't read), and
    equal when both are the same, which prefers nothing; max_length counts the tokens of prompt and longer answer.
    Raises ValueError when a column is missing, and when no row is left.
    """
    _need(rows, "chosen", "rejected")
    pairs = [(text_of(c), text_of(r)) for c, r in zip(rows["chosen"], rows["rejected"], strict=True)]
    broken = {
        i for i, (prompt, pair) in enumerate(zip(rows["prompt"], pairs, strict=True)) if not (prompt and all(pair))
    }
    whole = [i for i in range(len(rows)) if i not in broken]
    tokens = [completion_ids([pairs[i][side] for i in whole], tokenizer) if whole else [] for side in (0, 1)]
    equal = {i for i, chosen, rejected in zip(whole, *tokens, strict=True) if chosen == rejected}
    return _leave_out(
        rows,
        *(("broken", f"have {lack}", found) for lack, found in unreadable(rows).items()),
        ("broken", "lack a prompt or one of two answers", broken),
        ("equal", "have equal answers, chosen and rejected", equal),
        ("too_long", f"are longer than max_length={max_length} tokens", _too_long(rows, whole, tokenizer, max_length)),
    )


def _need(rows: datasets.Dataset, *columns: str) -> None:
    if missing := [c for c in ("prompt", *columns) if c not in rows.column_names]:
        others = [c for c in rows.column_names if c not in ("prompt", *columns)]
        raise ValueError(
            f"this recipe needs the column {missing[0]!r}, but the dataset has {', '.join(rows.column_names)}: "
            f"{_say_which(missing[0], others)}, or choose another dataset"
        )


def _say_which(missing: str, others: list[str]) -> str:
    near = difflib.get_close_matches(missing, others, n=1) or others[:1] or ["<yours>"]
    return f"say which one it is, such as columns: {{{missing}: {near[0]}}}"


def text_of(answer: str | list[dict] | None) -> str:
    return answer if isinstance(answer, str) else answer[-1]["content"] if answer else ""


def _too_long(rows: datasets.Dataset, whole: list[int], tokenizer, max_length: int | None) -> set[int]:
    if max_length is None or not whole:
        return set()
    rows = rows.select(whole)
    totals = list(map(len, prompt_ids(rows["prompt"], tokenizer)))
    answers = [c for c in ("completion", "chosen", "rejected") if c in rows.column_names]
    lengths = [list(map(len, completion_ids(rows[c], tokenizer))) for c in answers]
    totals = [total + max(n[i] for n in lengths) for i, total in enumerate(totals)]
    return {i for i, total in zip(whole, totals, strict=True) if total > max_length}


class Counts(dict):
    """How many rows there were, and how many were left out for each kind of reason; `said`: the reasons in words."""

    said = ""


def _leave_out(rows: datasets.Dataset, *reasons: tuple[str, str, set[int]]):
    """The rows without those found, and how many were left out, each for the first of its reasons, which are said."""
    counts, gone, said = Counts(rows=len(rows)), set(), []
    for name, why, found in reasons:
        here = len(found - gone)
        counts[name] = counts.get(name, 0) + here
        gone |= found
        said += [f"{here} {why}"] * bool(here)
    counts.said = ", ".join(said)
    if len(gone) == len(rows):
        raise ValueError(f"no row is left of {len(rows)}: {counts.said}")
    if gone:
        common.say(f"left out {len(gone)} of {len(rows)} rows: {counts.said}")
        rows = rows.select([i for i in range(len(rows)) if i not in gone])
    return rows.remove_columns("unreadable") if "unreadable" in rows.column_names else rows, counts
