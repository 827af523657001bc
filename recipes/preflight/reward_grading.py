"""The grading of a run's rewards: the question what each pays for perfect answers, for junk and for silence."""

import rewards
from recipes.preflight import perfect_answers
from recipes.preflight.findings import Findings, need
from recipes.shared import dataset_rows, tokens
from recipes.shared.run_config import RunConfig

GRADED = 32  # rows whose gold is graded as a perfect completion
JUNK = "I don't know. Maybe 7? Or \\boxed{nothing} at all."


def graded(config: RunConfig, found: Findings) -> None:
    """Gold as a perfect completion has to earn everything, junk and silence nothing."""
    if not config["rewards"]:
        return
    need(found, "rows", "lengths")
    rows = found.rows.select(range(min(GRADED, len(found.rows))))
    prefilled = tokens.begins_thoughts(found.rows["prompt"], found.tokenizer)
    for i, (name, reward) in enumerate(found.reward_funcs.items()):
        try:
            needed, perfect = rewards.columns_of(reward), rewards.perfect_of(name)
            its_own = [
                all(row.get(c) is not None for c in needed if c in rows.column_names) for row in rows
            ]  # in a mixture
            golds = [
                perfect_answers.completion(row, prefilled, perfect) if own else None
                for row, own in zip(rows, its_own, strict=True)
            ]
            of_gold = paid(reward, golds, rows, found.tokenizer)
            most = {
                kind: max(
                    (value for value in paid(reward, texts, rows, found.tokenizer).values() if value is not None),
                    default=0,
                )
                for kind, texts in (("junk", [JUNK] * len(rows)), ("nothing", [""] * len(rows)))
            }
        except rewards.RewardError as error:
            found.say("fail", f"reward {name}", error)
            continue
        must_not_pay = i == 0 or name == "think_format"
        found.say(*verdict(name, golds, of_gold, most, rewards.best_of(name), must_not_pay))


def paid(reward, texts: list[str | None], rows, tokenizer) -> dict[int, float | None]:
    """What the reward pays for each row's text, by the row's index; rows without a text are left out."""
    known = [i for i, text in enumerate(texts) if text is not None]
    if not known:
        return {}
    completions = dataset_rows.as_completions([texts[i] for i in known], rows)
    ids = tokenizer([texts[i] for i in known])["input_ids"] if tokenizer else None
    columns = {c: [values[i] for i in known] for c, values in dataset_rows.reward_columns(rows).items()}
    return dict(zip(known, reward(completions=completions, completion_ids=ids, **columns), strict=True))


def verdict(
    name: str, golds: list, of_gold: dict[int, float | None], most: dict[str, float], best: float, must_not_pay: bool
) -> tuple[str, str, str]:
    """The line on one reward: what it pays for the golds, and the most that it pays for junk and for silence."""
    wrong = [i for i, value in of_gold.items() if value != best]
    unearned = {kind: value for kind, value in most.items() if value > 0}
    if wrong:
        status, text = "fail", (
            f"{len(wrong)} of {len(of_gold)} golds dressed as a perfect completion don't earn {best:g}: the first is row "
            f"{wrong[0]}, {golds[wrong[0]][:160]!r}, which earns {of_gold[wrong[0]]}"
        )  # fmt: skip
    elif unearned and must_not_pay:
        status, text = "fail", f"it pays without merit: {unearned}"
    elif unearned:
        status, text = "warn", f"a reward of style: it pays {unearned} without merit; keep its weight small"
    elif not of_gold:
        status, text = "skip", "these rows bring no gold that could be dressed; junk and silence earn 0"
    else:
        status, text = "pass", f"{len(of_gold)} golds earn {best:g}, junk and silence 0"
    return status, f"reward {name}", text
