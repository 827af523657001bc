"""The tokens of prompts and answers, made only here, so that every recipe learns from, samples from and measures the same ones.

A prompt is tokenised, an answer is tokenised apart from it, and the end token follows: what a policy would have sampled. The chat
template writes the prompt, up to where the answer begins; it never sees the answer, since many templates take thoughts out
of it, add some, or end it otherwise than sampling would.
"""

import json
import re
from pathlib import Path

import datasets
import jinja2
import pyarrow.compute as pc
from datasets.fingerprint import Hasher

from rewards.think_format import TAGS

TEXT_INSTEAD = "say template: r1_zero, or plain"
ANSWER = "the-answer"  # what stands for one, where a template is asked what it writes around it
THOUGHTS = re.compile(r"(</?think>|\s)*")
OPENED = re.compile(r"<think>(\s*)\Z")


def of_messages(rows: datasets.Dataset) -> bool:
    """Whether the rows' prompts are messages, for the chat template, rather than text."""
    return not isinstance(rows.features["prompt"], datasets.Value)


def is_text(prompts: list) -> bool:
    return isinstance(next((prompt for prompt in prompts if prompt), None), str)


def render(messages: list[dict], tokenizer, **more) -> str:
    """Messages in the tokenizer's chat template. Raises ValueError where it has none, or refuses them."""
    if tokenizer.chat_template is None:
        raise ValueError("this model's tokenizer has no chat template: use template r1_zero or plain")
    try:
        options = getattr(tokenizer, "chat_template_kwargs", None) or {}
        return tokenizer.apply_chat_template(messages, tokenize=False, **options, **more)
    except jinja2.TemplateError as error:
        raise ValueError(
            f"the model's chat template refuses {messages[-1]['content']!r:.60} ({error}): correct the row, or {TEXT_INSTEAD}"
        ) from error


def takes_system(tokenizer) -> bool:
    """Whether the chat template writes what a system message says."""
    try:
        return ANSWER in render(
            [{"role": "system", "content": ANSWER}, {"role": "user", "content": "q"}],
            tokenizer,
            add_generation_prompt=True,
        )
    except ValueError:
        return False


def opening(tokenizer) -> str:
    """What the chat template writes between a prompt and its answer, which belongs to the prompt then, such as gpt-oss's
    channel; empty where that is only white space or thoughts without content."""
    prompt = [{"role": "user", "content": "q"}]
    before = render(prompt, tokenizer, add_generation_prompt=True)
    try:
        whole = render([*prompt, {"role": "assistant", "content": ANSWER}], tokenizer)
    except ValueError:  # it takes no assistant messages
        return ""
    if not whole.startswith(before) or ANSWER not in whole:
        return ""
    between = whole.removeprefix(before).partition(ANSWER)[0]
    return "" if THOUGHTS.fullmatch(between) else between


def prompt_texts(prompts: list, tokenizer) -> list[str]:
    """Prompts as the model sees them: text as it is, messages through the chat template, up to where an answer begins.

    A template without a system role gets what the system says at the head of the first question. Raises ValueError
    where there is no chat template, or it refuses a prompt.
    """
    if is_text(prompts):
        return list(prompts)
    in_question, begun, texts = not takes_system(tokenizer), opening(tokenizer), []
    for messages in prompts:
        messages = _without_system(messages) if in_question else messages
        texts.append(render(messages, tokenizer, add_generation_prompt=True) + begun)
        asked = messages[-1]["content"]
        if isinstance(asked, str) and asked.strip() not in texts[-1]:
            raise ValueError(f"the model's chat template leaves out what is asked, {asked!r:.60}: {TEXT_INSTEAD}")
    return texts


def _without_system(messages: list[dict]) -> list[dict]:
    if len(messages) < 2 or messages[0]["role"] != "system":
        return messages
    system, first, *others = messages
    return [first | {"content": f"{system['content']}\n\n{first['content']}"}, *others]


def prompt_ids(prompts: list, tokenizer) -> list[list[int]]:
    """The tokens of each prompt; text gets the tokenizer's start tokens, if it has some, and a chat template writes its own."""
    ids = tokenizer(prompt_texts(prompts, tokenizer), add_special_tokens=False)["input_ids"]
    if not is_text(prompts):
        return ids
    start = start_tokens(tokenizer)
    return [row if row[: len(start)] == start else [*start, *row] for row in ids]


def start_tokens(tokenizer) -> list[int]:
    """What the tokenizer writes before any text; some write an end behind it too, which no prompt has."""
    alone, framed = tokenizer("a", add_special_tokens=False)["input_ids"], tokenizer("a")["input_ids"]
    return next((framed[:i] for i in range(len(framed)) if framed[i : i + len(alone)] == alone), [])


def begins_thoughts(prompts: list, tokenizer) -> bool:
    """Whether prompts, as the model sees them, end in <think>; the first one that there is says so for all."""
    first = next((prompt for prompt in prompts if prompt), None)
    return first is not None and OPENED.search(prompt_texts([first], tokenizer)[0]) is not None


def continuations(texts: list[str], prompts: list[str], ended: bool = True) -> list[str | None]:
    """Answers, less what their prompts, as the model sees them, have written of them already.

    Where a prompt ends in <think>, an answer's own is left out; None, where `ended`, for one that doesn't end those thoughts.
    """
    rest = []
    for text, prompt in zip(texts, prompts, strict=True):
        if begun := OPENED.search(prompt):
            own = text.lstrip()
            text = own.removeprefix("<think>").removeprefix(begun[1]) if own.startswith("<think>") else text
            text = text if "</think>" in text or not ended else None
        rest.append(text)
    return rest


def text_of(answer: str | list[dict] | None) -> str:
    return answer if isinstance(answer, str) else answer[-1]["content"] if answer else ""


def completion_ids(completions: list, prompts: list, tokenizer, ended: bool = False) -> list[list[int]]:
    """The tokens of each completion behind its prompt, and the end token; none for what `continuations` gives None."""
    texts = continuations([text_of(c) for c in completions], prompt_texts(prompts, tokenizer), ended)
    ids = tokenizer([text or "" for text in texts], add_special_tokens=False)["input_ids"]
    return [[] if text is None else [*row, tokenizer.eos_token_id] for row, text in zip(ids, texts, strict=True)]


def with_ids(rows: datasets.Dataset, tokenizer, *answers: str) -> datasets.Dataset:
    """The rows with `prompt_ids`, and for each of these columns, say `chosen`, its `chosen_ids`.

    Both are empty where the row lacks a prompt or an answer, or an answer to learn doesn't end the thoughts that its prompt begins.
    """
    columns = ["prompt_ids", *(answer_ids(name) for name in answers)]

    def tokenized(batch: dict) -> dict:
        whole = [
            all(values) for values in zip(batch["prompt"], *(map(text_of, batch[a]) for a in answers), strict=True)
        ]
        kept = {c: [v for v, is_whole in zip(batch[c], whole, strict=True) if is_whole] for c in ("prompt", *answers)}
        ids = {c: iter(()) for c in columns}
        if any(whole):
            ids["prompt_ids"] = iter(prompt_ids(kept["prompt"], tokenizer))
            for a in answers:
                to_learn = a != "rejected"
                ids[answer_ids(a)] = iter(completion_ids(kept[a], kept["prompt"], tokenizer, ended=to_learn))
        return {c: [next(ids[c]) if is_whole else [] for is_whole in whole] for c in columns}

    features = datasets.Features(rows.features | dict.fromkeys(columns, datasets.List(datasets.Value("int32"))))
    # datasets would hash the tokenizer as it is, which changes with its use, and find nothing in its cache
    key = Hasher.hash([rows._fingerprint, columns, _state(tokenizer), Path(__file__).read_text()])
    return rows.map(tokenized, batched=True, features=features, desc="tokens", new_fingerprint=key)


def _state(tokenizer) -> list:
    """All that decides which tokens a text becomes here."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    saved = json.loads(backend.to_str()) if backend is not None else sorted(tokenizer.get_vocab().items())
    if backend is not None:
        saved = {k: v for k, v in saved.items() if k not in ("truncation", "padding")}
    options = getattr(tokenizer, "chat_template_kwargs", None)
    return [
        json.dumps(saved, sort_keys=True),
        tokenizer.chat_template,
        options,
        tokenizer.eos_token,
        tokenizer.bos_token,
        start_tokens(tokenizer),
    ]


def answer_ids(column: str) -> str:
    return f"{column}_ids"


def lengths(rows: datasets.Dataset, column: str) -> list[int]:
    """How many tokens each row has there."""
    return pc.list_value_length(rows.with_format("arrow")[column][:]).to_pylist()


def refuse_special_tags(tokenizer) -> None:
    """Raises ValueError where decoding, as TRL does for rewards, leaves out the tags that they read."""
    tagged = "".join(TAGS)
    ids = tokenizer(tagged, add_special_tokens=False)["input_ids"]
    seen = tokenizer.decode(ids, skip_special_tokens=True)
    if lost := [tag for tag in TAGS if tag not in seen]:
        raise ValueError(
            f"{', '.join(lost)}: special tokens of this tokenizer, left out of what the rewards read: say special: false of them in a "
            "copy of its tokenizer.json and tokenizer_config.json"
        )


def turn_end(tokenizer, declared: list[int]) -> str | None:
    """The token that ends an answer in the tokenizer's chat template; None where it ends in none.

    declared: the tokens that the model's files say end a completion. Where nothing ends an answer, the token that begins the
    next turn does, if it is among them, as with GLM-4.
    """
    if tokenizer.chat_template is None:
        return None
    question, answer = {"role": "user", "content": "q"}, {"role": "assistant", "content": ANSWER}
    for messages, among in (([question, answer], None), ([question, answer, question], declared)):
        try:
            _, found, tail = render(messages, tokenizer).rpartition(ANSWER)
        except ValueError:
            continue
        ids = tokenizer(tail.lstrip(), add_special_tokens=False)["input_ids"] if found else []
        if ids and (ids[0] in tokenizer.added_tokens_decoder if among is None else ids[0] in among):
            return tokenizer.convert_ids_to_tokens(ids[0])
    return None
