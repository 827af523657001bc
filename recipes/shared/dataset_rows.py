"""The rows of a dataset that a run trains on or is measured with: loading them, and which can't be used."""

import difflib

import datasets

import data
import rewards
from recipes.shared import terminal, tokens
from recipes.shared.arguments import DatasetArgs

NUMBERS = 5  # how many rows are named by their numbers
THOUGHTLESS = "have an answer without </think>, where the prompt ends in <think>"


def load_rows(args: DatasetArgs, split: str | None = None, **template) -> datasets.Dataset:
    """The rows to train on, or those of another split; with `template=None` as they are before the template."""
    settings = {"template": args.template, "columns": args.columns} | template
    split = split or args.dataset_split
    rows, how = data.read(args.dataset, split, **settings, **args.dataset_options)
    if how.startswith("a mixture") or "," in how:  # rows were left out, or drawn
        terminal.say(f"{data.named(args.dataset)}, {split}: {len(rows):,} rows, read as {how}")
    return rows


def load_held_out(args: DatasetArgs) -> datasets.Dataset:
    """The first `held_out` rows of the held-out split. Raises ValueError when they could be rows trained on."""
    name = args.held_out_dataset or args.dataset
    same = name == args.dataset
    parts = [{"name": name}] if isinstance(name, str) else name
    trained_on = any(data.is_file(part["name"]) or part.get("split") for part in parts)
    if same and (trained_on or args.held_out_split == args.dataset_split):
        raise ValueError(
            f"held_out={args.held_out}: {data.named(name)!r}, split {args.held_out_split!r}, is what the run trains on: name another "
            "held_out_dataset or held_out_split, or say held_out: 0"
        )
    columns = (
        args.columns if isinstance(name, str) and (data.is_file(name) or "/" in name) else None
    )  # a module reads its own
    options = args.dataset_options if same else {}
    rows = data.load(name, args.held_out_split, template=args.template, columns=columns, **options)
    return rows.select(range(min(args.held_out, len(rows))))


def usable_rows(rows: datasets.Dataset, reward_funcs: list, tokenizer, max_prompt_length: int | None):
    """The rows whose completions can be graded, and {"rows", "ungradable", "too_long"}: all, and those left out.

    A row is ungradable when it has no prompt, when a reward that has the columns it needs returns None even for an empty
    completion, so that its gold is broken by the rewards' own contract, or when no reward finds the gold it needs. A mixture's row
    needs one reward that does. max_prompt_length counts tokens, of the prompt as the model gets it.
    Raises ValueError when a reward needs a column that isn't there, and when no row is left.
    """
    if taken := [c for c in rows.column_names if c in (*rewards.PASSED, "image", "images")]:
        raise ValueError(
            f"the dataset's column {taken[0]!r} has a name that TRL's trainers use themselves: rename it, as in "
            f"columns: {{my_{taken[0]}: {taken[0]}}}"
        )
    columns, empty = reward_columns(rows), as_completions([""] * len(rows), rows)
    ungradable, lacking = {}, {}
    for reward in reward_funcs:
        reward.of_gradable_rows = False
        if missing := [c for c in rewards.columns_of(reward) if c not in columns]:
            raise ValueError(
                f"reward {reward.__name__!r} needs the column {missing[0]!r}, but the dataset has "
                f"{_columns(rows)}: {_say_which(missing[0], [c for c in columns if c not in ('prompts', '_row')])}, choose another "
                "reward, or another dataset"
            )
        values = reward(completions=empty, **columns)
        needed = rewards.columns_of(reward)
        without = {i for c in needed for i, value in enumerate(columns[c]) if value is None}
        ungradable[reward.__name__] = {i for i, value in enumerate(values) if value is None} - without
        if needed:
            lacking[needed[0]] = without & lacking.get(needed[0], without)
    for reward in reward_funcs:
        reward.of_gradable_rows = True  # from here on, nothing but None is the reward's fault
    too_long = set()
    if max_prompt_length is not None:
        lengths = tokens.lengths(tokens.with_ids(rows, tokenizer), "prompt_ids")
        too_long = {i for i, n in enumerate(lengths) if n > max_prompt_length}
    if "prefilled_think" not in rows.column_names and tokens.begins_thoughts(rows["prompt"], tokenizer):
        rows = rows.add_column("prefilled_think", [True] * len(rows))  # an option of think_format, for each row
    no_gold = set.intersection(*lacking.values()) if lacking else set()
    return _leave_out(
        rows,
        tokenizer,
        *(("ungradable", f"have {lack}", found) for lack, found in unreadable(rows).items()),
        ("ungradable", f"have no {' and no '.join(lacking)}", no_gold),
        *(("ungradable", f"can't be graded by {name} (broken gold)", found) for name, found in ungradable.items()),
        ("too_long", f"have prompts of more than max_prompt_length={max_prompt_length} tokens", too_long),
    )


def refuse_too_few(rows: int, prompts: int) -> None:
    """Raises ValueError where a batch takes more prompts than there are: TRL drops what doesn't fill one, and ends at step 0.

    What an epoch drops is said.
    """
    if rows < prompts:
        raise ValueError(
            f"{rows} rows are fewer than the {prompts} prompts that are sampled together, so that no batch would be full and "
            "nothing trained: lower per_device_train_batch_size, or add rows"
        )
    if prompts and (dropped := rows % prompts):
        terminal.say(f"{dropped} of {rows} rows fill no batch of {prompts} prompts, other ones in each epoch")


def reward_columns(rows: datasets.Dataset) -> dict[str, list]:
    """What a reward gets of each row in addition to its completion: the columns, and `prompts`, as TRL's trainers pass them."""
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
    """The rows to imitate, with their `prompt_ids` and `completion_ids`, and {"rows", "broken", "too_long"}: all, and those left out.

    A row is broken when it has no prompt or no completion (data/ gives None for one it can't read), or doesn't go on with the
    thoughts that its prompt has begun; max_length counts the tokens of both.
    Raises ValueError when there is no such column, and when no row is left.
    """
    _need(rows, "completion")
    rows = tokens.with_ids(rows, tokenizer, "completion")
    broken = _lacking(rows, "completion")
    return _leave_out(
        rows,
        tokenizer,
        *(("broken", f"have {lack}", found) for lack, found in unreadable(rows).items()),
        ("broken", "have no prompt or no completion", broken),
        ("broken", THOUGHTLESS, _empty(rows, "completion") - broken),
        ("too_long", f"are longer than max_length={max_length} tokens", _too_long(rows, max_length, "completion")),
    )


def usable_pairs(rows: datasets.Dataset, tokenizer, max_length: int | None):
    """The preference rows, with their `prompt_ids`, `chosen_ids` and `rejected_ids`, and {"rows", "broken", "equal", "too_long"}.

    Those are all, and those left out. A row is broken when it has no prompt or lacks one of two answers (data/ gives None for
    one it can't read), or its chosen answer doesn't end the thoughts that the prompt has begun; and equal when both answers
    are the same, which prefers nothing; max_length counts the tokens of prompt and longer answer.
    Raises ValueError when a column is missing, and when no row is left.
    """
    _need(rows, "chosen", "rejected")
    rows = tokens.with_ids(rows, tokenizer, "chosen", "rejected")
    broken = _lacking(rows, "chosen", "rejected")
    same = {
        i
        for i, row in enumerate(rows.select_columns(["chosen_ids", "rejected_ids"]))
        if len({*map(tuple, row.values())}) == 1
    }
    return _leave_out(
        rows,
        tokenizer,
        *(("broken", f"have {lack}", found) for lack, found in unreadable(rows).items()),
        ("broken", "lack a prompt or one of two answers", broken),
        ("broken", THOUGHTLESS, _empty(rows, "chosen") - broken),
        ("equal", "have equal answers, chosen and rejected", same),
        (
            "too_long",
            f"are longer than max_length={max_length} tokens",
            _too_long(rows, max_length, "chosen", "rejected"),
        ),
    )


def _lacking(rows: datasets.Dataset, *answers: str) -> set[int]:
    columns = zip(rows["prompt"], *(map(tokens.text_of, rows[a]) for a in answers), strict=True)
    return {i for i, values in enumerate(columns) if not all(values)}


def _empty(rows: datasets.Dataset, answer: str) -> set[int]:
    return {i for i, n in enumerate(tokens.lengths(rows, tokens.answer_ids(answer))) if n == 0}


def _need(rows: datasets.Dataset, *columns: str) -> None:
    if missing := [c for c in ("prompt", *columns) if c not in rows.column_names]:
        others = [c for c in rows.column_names if c not in ("prompt", "_row", *columns)]
        raise ValueError(
            f"this recipe needs the column {missing[0]!r}, but the dataset has {_columns(rows)}: "
            f"{_say_which(missing[0], others)}, or choose another dataset"
        )


def _columns(rows: datasets.Dataset) -> str:
    return ", ".join(c for c in rows.column_names if c != "_row")


def _say_which(missing: str, others: list[str]) -> str:
    near = difflib.get_close_matches(missing, others, n=1) or others[:1] or ["<yours>"]
    return f"say which one it is, such as columns: {{{missing}: {near[0]}}}"


def _too_long(rows: datasets.Dataset, max_length: int | None, *answers: str) -> set[int]:
    if max_length is None:
        return set()
    of_answers = [tokens.lengths(rows, tokens.answer_ids(a)) for a in answers]
    totals = zip(tokens.lengths(rows, "prompt_ids"), map(max, *of_answers, [0] * len(rows)), strict=True)
    return {i for i, (prompt, answer) in enumerate(totals) if prompt + answer > max_length}


class Counts(dict):
    """How many rows there were, and how many were left out for each kind of reason; `reasons`: in words."""

    reasons = ""


def _numbers(found: list[int], rows: datasets.Dataset) -> str:
    """The first of these rows by their numbers, which begin at 0; of a part of a dataset, `_row` has them."""
    numbers = [rows[i]["_row"] if "_row" in rows.column_names else i for i in found[:NUMBERS]]
    more = f" and {len(found) - NUMBERS} more" if len(found) > NUMBERS else ""
    return f"row{'s' * (len(found) > 1)} {', '.join(map(str, numbers))}{more}"


def _leave_out(rows: datasets.Dataset, tokenizer, *reasons: tuple[str, str, set[int]]):
    """The rows without those found, and how many were left out, each for the first of its reasons, which are said.

    Raises ValueError when no row is left, and when the prompts need a chat template that the tokenizer doesn't have.
    """
    counts, gone, reasons_found = Counts(rows=len(rows)), set(), []
    for name, why, found in reasons:
        here = sorted(found - gone)
        counts[name] = counts.get(name, 0) + len(here)
        gone |= found
        reasons_found += [f"{len(here)} {why} ({_numbers(here, rows)})"] * bool(here)
    counts.reasons = ", ".join(reasons_found)
    if len(gone) == len(rows):
        raise ValueError(f"no row is left of {len(rows)}: {counts.reasons}")
    if gone:
        terminal.say(f"left out {len(gone)} of {len(rows)} rows: {counts.reasons}")
        rows = rows.select([i for i in range(len(rows)) if i not in gone])
    tokens.prompt_texts([rows["prompt"][0]], tokenizer)
    return rows.remove_columns("unreadable") if "unreadable" in rows.column_names else rows, counts
