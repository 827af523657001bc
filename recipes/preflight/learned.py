"""One row of a run's data as the model sees it: which tokens are given, and which are learned or sampled."""

import sys

from recipes.preflight.findings import Findings
from recipes.shared import model_loading, tokens

DIM, GREEN, PLAIN = "\033[2m", "\033[32m", "\033[0m"
SHOWN = 12  # tokens at each end of a block, of which ids are shown


def show(found: Findings) -> None:
    """Print the first usable row: its prompt and its answers, as text and as tokens, and where they start and end."""
    if found.tokenizer is None or not found.rows:
        print("\nno row to show: the tokenizer or the rows could not be had")
        return
    tokenizer, row, recipe = found.tokenizer, found.rows[0], found.config.recipe
    (given,) = tokens.prompt_ids([row["prompt"]], tokenizer)
    blocks = [("given", given, DIM)]
    answers = [c.removesuffix("_ids") for c in ("completion_ids", "chosen_ids", "rejected_ids") if c in row]
    for name in answers:
        word = {"completion": "learned", "chosen": "learned, chosen", "rejected": "learned, rejected"}[name]
        blocks.append((word, row[tokens.answer_ids(name)], GREEN))
    print(f"\nthe first row, as {recipe} sees it")
    for name, ids, colour in blocks:
        print(f"\n{name}, {len(ids)} tokens")
        print(coloured(tokenizer.decode(ids), colour))
        print(coloured(pieces(ids, tokenizer), colour))
    print()
    for name, said in facts(found, given, row).items():
        print(f"{name:<9} {said}")


def facts(found: Findings, given: list[int], row: dict) -> dict[str, str]:
    tokenizer, config = found.tokenizer, found.config
    start = tokenizer.bos_token
    count = given.count(tokenizer.bos_token_id) if start else 0
    declared = model_loading.generation_config_of(
        config["model_name_or_path"], config["model_revision"] or "main", config["trust_remote_code"] or False
    )
    ends = tokenizer.convert_ids_to_tokens(model_loading.end_tokens(tokenizer, declared))
    chat = tokens.of_messages(found.rows)
    has_system = chat and row["prompt"][0]["role"] == "system"
    system = (
        "none"
        if not has_system
        else "as the template has it"
        if tokens.takes_system(tokenizer)
        else "before the question"
    )
    begun = tokens.begins_thoughts([row["prompt"]], tokenizer)
    sampled = config.recipe in ("grpo", "ppo")
    return {
        "start": f"{start!r}, {count} time{'s' * (count != 1)}" if count else "none",
        "end": f"{ends[0]!r}{'' if sampled else ' is learned'}; sampling ends at {', '.join(map(repr, ends))}",
        "system": system,
        "thoughts": "begun by the prompt, ended by the answer" if begun else "the answer's own",
    }


def pieces(ids: list[int], tokenizer) -> str:
    """Each token's id and text, those in the middle of a long block left out."""
    shown = [f"{i} {tokenizer.decode([i])!r}" for i in ids]
    if len(shown) > 2 * SHOWN:
        shown = [*shown[:SHOWN], f"... {len(shown) - 2 * SHOWN} more ...", *shown[-SHOWN:]]
    return "  ".join(shown)


def coloured(text: str, colour: str) -> str:
    return f"{colour}{text}{PLAIN}" if sys.stdout.isatty() else text
