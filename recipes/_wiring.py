"""Is the run wired right? Launch, batch, tokens, prompts, rows and rewards: each question is asked of a _findings.Check."""

from importlib.metadata import version
from importlib.util import find_spec
from statistics import median

import data
import rewards
from recipes import _model, _perfect, _rows
from recipes._findings import Check, Skipped, config_of, mixed, mixed_here, need

LOOKED_AT = 512  # rows, spread over the set
GRADED = 32  # rows whose gold is graded as a perfect completion
JUNK = "I don't know. Maybe 7? Or \\boxed{nothing} at all."


def launched(check: Check) -> None:
    launch = check.launch
    names = {"none": "no sharding", "ddp": "DDP", "fsdp": "FSDP2"} | {
        f"zero{n}": f"DeepSpeed ZeRO-{n}" for n in (1, 2, 3)
    }
    said = f"{launch.name}: {launch.processes} process{'es' * (launch.processes > 1)}"
    said += f" on {launch.machines} machines" * (launch.machines > 1) + f", {names[launch.engine]}"
    said += f", mixed precision {launch.mixed_precision}" * (launch.mixed_precision != "no")
    if launch.use_cpu and not check["use_cpu"]:
        raise ValueError(f"{launch.name} runs on the CPU, the config doesn't: say --use_cpu true")
    if check["use_cpu"] and launch.use_cpu is False and launch.engine != "none":
        raise ValueError(f"the config says use_cpu: true, but {launch.name} is for GPUs")
    if (
        launch.engine.startswith("zero")
        and launch.mixed_precision != "no"
        and check.recipe != "ppo"
        and not mixed_here(check)
    ):
        precision_ = launch.mixed_precision
        raise ValueError(
            f"{launch.name} says mixed_precision: {precision_}, the config {precision_}: false, and DeepSpeed refuses to "
            f"begin where they differ: say {precision_}: true, or launch with --mixed_precision no"
        )
    if launch.engine == "zero3" and check["held_out"]:
        raise ValueError(f"held_out={check['held_out']}: ZeRO-3 holds no whole model to measure; say held_out: 0")
    check.say("pass", "launch", said)


def precision(check: Check) -> None:
    amp, dtype = mixed(check), check["dtype"]
    said = f"weights {dtype}" + (f", computed in {amp}" if amp else "")
    if dtype in ("bfloat16", "float16") and not check["use_peft"] and not check.launch.engine.startswith("zero"):
        check.say(
            "warn", "precision", f"{said}: all weights are trained in {dtype}, where steps of less than a 256th of a weight "
            "are lost; say dtype: float32 and bf16: true, or train through DeepSpeed, which keeps a float32 copy"
        )  # fmt: skip
    elif check["load_in_4bit"] and dtype == "float32" and not check["use_cpu"]:
        check.say(
            "warn", "precision", f"{said}: 4-bit weights are computed with in float32, slowly; say dtype: bfloat16"
        )
    else:
        check.say("pass", "precision", said)


def batch(check: Check) -> None:
    """The arithmetic, said in words. Whether it adds up, the recipe's own check has asked."""
    n, per_device = check.launch.processes, check["per_device_train_batch_size"]
    accumulation = check["gradient_accumulation_steps"] or 1
    unit = {"grpo": "completions", "ppo": "completions", "sft": "rows"}.get(check.recipe, "pairs")
    total = n * per_device * accumulation
    said = (
        f"{n} device{'s' * (n > 1)} x {per_device} each x {accumulation} accumulated = {total} {unit} an optimizer step"
    )
    if check.recipe == "grpo":
        group = check["num_generations"]
        steps = check["steps_per_generation"] or accumulation
        sampled = check["generation_batch_size"] or n * per_device * steps
        updates = sampled // total * (check["num_iterations"] or 1)
        said += f"; sampled together: {sampled} = {sampled // group} prompts x a group of {group}, for {updates} step"
        said += "s" * (updates > 1)
    elif check.recipe == "ppo":
        said = f"{n} x {per_device} x {accumulation} = {total} completions sampled together, then {check['num_ppo_epochs']} "
        said += f"epochs of {check['num_mini_batches']} mini-batches"
    check.say("pass", "batch", said)


def generation(check: Check) -> None:
    if check.recipe != "grpo":
        return
    if not check["use_vllm"]:
        check.say("pass", "sampling", "by transformers; vLLM is many times faster on a GPU: use_vllm")
    elif find_spec("vllm") is None:
        check.say(
            "warn", "sampling", "by vLLM, which isn't installed here: pip install -e '.[vllm]' where the run is to be"
        )
    else:
        check.say("pass", "sampling", f"by vLLM {version('vllm')}, {check['vllm_mode']}")


def tokens(check: Check) -> None:
    name = check["model_name_or_path"]
    trust = check["trust_remote_code"] or False
    check.tokenizer = _model.load_tokenizer(name, check["model_revision"] or "main", trust)
    if check["eos_token"]:
        check.tokenizer.eos_token = check["eos_token"]
    tokenizer = check.tokenizer
    if tokenizer.eos_token is None:
        raise ValueError(f"model_name_or_path={name!r}: its tokenizer has no end token, so nothing would ever end")
    if check.recipe in ("ppo", "reward_model"):
        _model.pad_apart(tokenizer, check["pad_token"])
    tagged = "<think>a</think><answer>b</answer>"
    seen = tokenizer.decode(tokenizer(tagged, add_special_tokens=False)["input_ids"], skip_special_tokens=True)
    if (check["rewards"] or {}).keys() & {"think_format", "math_answer", "code_tests", "countdown"} and not all(
        tag in seen for tag in ("<think>", "</think>", "<answer>", "</answer>")
    ):
        raise ValueError(
            f"the tags are special tokens of this tokenizer, and are left out of what the rewards read: {seen!r}"
        )
    check.say("pass", "tokens", f"end {tokenizer.eos_token!r}, padding {tokenizer.pad_token!r}")


def model_config(check: Check) -> None:
    need(check, "tokenizer")
    check.config = config_of(check, "model_name_or_path", check["model_revision"] or "main")
    kind = type(check.config).__name__.removesuffix("Config")
    check.say("pass", "model", f"{check['model_name_or_path']}: {kind}")


def dataset(check: Check) -> None:
    name, split = check["dataset"], check["dataset_split"]
    template = check.given.get("template", check.defaults["template"])
    settings = {"template": template, "columns": check["columns"]}
    rows, how = data.read(name, split, **settings, **(check["dataset_options"] or {}))
    check.total_rows = len(rows)
    step = max(1, len(rows) // LOOKED_AT)
    check.rows = rows.select(range(0, step * min(len(rows), LOOKED_AT), step))
    check.say(
        "pass", "rows", f"{name}, {split}: {len(rows):,} rows, read as {how}; {len(check.rows)} of them looked at"
    )


def template(check: Check) -> None:
    """What the prompt looks like to the model, and whether it has begun the thoughts already."""
    need(check, "tokenizer", "rows")
    text = _rows.prompt_texts([check.rows["prompt"][0]], check.tokenizer)[0]
    options = (check["reward_options"] or {}).get("think_format", {})
    prefilled = text.rstrip().endswith("<think>")
    if "think_format" in (check["rewards"] or {}) and prefilled != bool(options.get("prefilled_think", False)):
        raise ValueError(
            "the prompt ends in <think>, so no completion begins with it and think_format can never be 1: say reward_options: "
            "{think_format: {prefilled_think: true}}"
            if prefilled
            else "reward_options says prefilled_think: true, but the prompt doesn't end in <think>: leave it out"
        )
    said = "the tokenizer's chat template" if not isinstance(check.rows["prompt"][0], str) else "plain text, for a base"
    end = f"{said}; a prompt ends in {text[-40:]!r}"
    if not isinstance(check.rows["prompt"][0], str):
        turn = check.tokenizer.apply_chat_template(
            [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], tokenize=False
        )
        if check.tokenizer.eos_token not in turn.rpartition("a")[2]:
            check.say(
                "warn", "prompt", f"{end}; the template doesn't end a turn with the tokenizer's end token "
                f"{check.tokenizer.eos_token!r}: sampling goes by that token alone"
            )  # fmt: skip
            return
    check.say("pass", "prompt", end)


def usable(check: Check) -> None:
    """Which rows the run would leave out, and how long the others are."""
    need(check, "tokenizer", "rows")
    tokenizer, limit = check.tokenizer, check["max_length"]
    if check.recipe in ("grpo", "ppo"):
        options = check["reward_options"] or {}
        check.reward_funcs = {name: rewards.load(name, **options.get(name, {})) for name in check["rewards"]}
        try:
            rows, counts = _rows.usable_rows(
                check.rows, list(check.reward_funcs.values()), tokenizer, check["max_prompt_length"]
            )
        except rewards.RewardError as error:
            check.say("fail", f"reward {error.reward}", error)
            raise Skipped(f"the reward {error.reward} fails") from error
    elif check.recipe == "sft":
        rows, counts = _rows.usable_demonstrations(check.rows, tokenizer, limit)
    else:
        rows, counts = _rows.usable_pairs(check.rows, tokenizer, limit)
    prompts = [len(ids) for ids in _rows.prompt_ids(rows["prompt"], tokenizer)]
    columns = [
        rows[c] for c in ("completion", "chosen", "rejected") if c in rows.column_names and check.recipe != "grpo"
    ]
    answers = [max(map(len, ids)) for ids in zip(*(_rows.completion_ids(c, tokenizer) for c in columns), strict=True)]
    behind = check["max_completion_length"] if check.recipe == "grpo" else check["response_length"]
    check.lengths = max(prompts), behind if check.recipe in ("grpo", "ppo") else max(answers)
    check.rows = rows
    share = 1 - len(rows) / counts["rows"]
    said = f"prompts of {min(prompts)} to {max(prompts)} tokens, half of them up to {median(prompts):.0f}"
    said += f"; answers up to {max(answers)}" if answers and check.recipe not in ("grpo", "ppo") else ""
    said += f"; left out: {share:.1%}, {counts.said}" if counts.said else "; left out: none"
    status = "warn" if share > 0.1 else "pass"
    check.say(status, "lengths", said)
    room = getattr(check.config and check.config.get_text_config(), "max_position_embeddings", None)
    longest = sum(check.lengths)
    if room and longest > room:
        raise ValueError(
            f"{check.lengths[0]} tokens of prompt and {check.lengths[1]} behind it are {longest}, and the model has "
            f"{room} positions: lower max_prompt_length or max_completion_length"
        )


def graded(check: Check) -> None:
    """Gold as a perfect completion has to earn everything, junk and silence nothing."""
    if not check["rewards"]:
        return
    need(check, "rows", "lengths")
    rows = check.rows.select(range(min(GRADED, len(check.rows))))
    columns = _rows.reward_columns(rows)
    prefilled = (check["reward_options"] or {}).get("think_format", {}).get("prefilled_think", False)
    for i, (name, reward) in enumerate(check.reward_funcs.items()):
        best, scores = rewards.best_of(name), {}
        try:
            perfect = [_perfect.completion(row, prefilled, rewards.perfect_of(name)) for row in rows]
            for kind, texts in {"gold": perfect, "junk": [JUNK] * len(rows), "nothing": [""] * len(rows)}.items():
                known = [k for k, text in enumerate(texts) if text is not None]
                said = _rows.as_completions([texts[k] for k in known], rows)
                ids = check.tokenizer([texts[k] for k in known])["input_ids"] if check.tokenizer and known else None
                of_rows = {c: [values[k] for k in known] for c, values in columns.items()}
                scores[kind] = reward(completions=said, completion_ids=ids, **of_rows) if known else []
        except rewards.RewardError as error:
            check.say("fail", f"reward {name}", error)
            continue
        wrong = [k for k, score in enumerate(scores["gold"]) if score != best]
        most = {kind: max((v for v in scores[kind] if v is not None), default=0) for kind in ("junk", "nothing")}
        paid = {kind: value for kind, value in most.items() if value > 0}
        if wrong:
            first = [k for k, text in enumerate(perfect) if text is not None][wrong[0]]
            check.say(
                "fail", f"reward {name}", f"{len(wrong)} of {len(scores['gold'])} golds dressed as a perfect completion don't "
                f"earn {best:g}: the first is row {first}, {perfect[first][:160]!r}, which earns {scores['gold'][wrong[0]]}"
            )  # fmt: skip
        elif paid and (i == 0 or name == "think_format"):
            check.say("fail", f"reward {name}", f"it pays without merit: {paid}")
        elif paid:
            check.say(
                "warn", f"reward {name}", f"a reward of style: it pays {paid} without merit; keep its weight small"
            )
        elif not scores["gold"]:
            check.say(
                "skip", f"reward {name}", "these rows bring no gold that could be dressed; junk and silence earn 0"
            )
        else:
            check.say("pass", f"reward {name}", f"{len(scores['gold'])} golds earn {best:g}, junk and silence 0")


QUESTIONS = {
    "launch": launched,
    "precision": precision,
    "batch": batch,
    "sampling": generation,
    "tokens": tokens,
    "model": model_config,
    "rows": dataset,
    "prompt": template,
    "lengths": usable,
    "rewards": graded,
}
