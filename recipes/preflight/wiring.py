"""The wiring of a run: questions about its launch, batch, tokens, prompts, rows and rewards."""

from importlib.metadata import version
from importlib.util import find_spec
from statistics import median

import data
import rewards
from data import _pass_rate
from recipes.preflight.findings import (
    Findings,
    Skipped,
    as_it_runs,
    mixed_precision,
    model_config_of,
    need,
    own_mixed_precision,
)
from recipes.preflight.reward_grading import graded
from recipes.shared import dataset_rows, model_loading, reward_models, tokens
from recipes.shared.arguments import load_rewards
from recipes.shared.run_config import RunConfig

USEFUL = 0.5  # of groups: with fewer, most of the sampling is for nothing
LOOKED_AT = 512  # rows, spread over the set


def launched(config: RunConfig, found: Findings) -> None:
    launch = config.launch
    names = {"none": "no sharding", "ddp": "DDP", "fsdp": "FSDP2"} | {
        f"zero{n}": f"DeepSpeed ZeRO-{n}" for n in (1, 2, 3)
    }
    text = f"{launch.name}: {launch.processes} process{'es' * (launch.processes > 1)}"
    text += f" on {launch.machines} machines" * (launch.machines > 1) + f", {names[launch.sharding]}"
    text += f", mixed precision {launch.mixed_precision}" * (launch.mixed_precision != "no")
    if launch.use_cpu and not config["use_cpu"]:
        raise ValueError(f"{launch.name} runs on the CPU, the config doesn't: say --use_cpu true")
    if config["use_cpu"] and launch.use_cpu is False and launch.sharding != "none":
        raise ValueError(f"the config says use_cpu: true, but {launch.name} is for GPUs")
    if launch.sharding.startswith("zero") and launch.mixed_precision != "no" and not own_mixed_precision(config):
        precision_ = launch.mixed_precision
        raise ValueError(
            f"{launch.name} says mixed_precision: {precision_}, the config {precision_}: false, and DeepSpeed refuses to "
            f"begin where they differ: say {precision_}: true, or launch with --mixed_precision no"
        )
    found.say("pass", "launch", text)


def precision(config: RunConfig, found: Findings) -> None:
    amp, dtype = mixed_precision(config), config["dtype"]
    text = f"weights {dtype}" + (f", computed in {amp}" if amp else "")
    if dtype in ("bfloat16", "float16") and not config["use_peft"] and not config.launch.sharding.startswith("zero"):
        found.say(
            "warn", "precision", f"{text}: all weights are trained in {dtype}, where steps of less than a 256th of a weight "
            "are lost; say dtype: float32 and bf16: true, or train through DeepSpeed, which keeps a float32 copy"
        )  # fmt: skip
    elif dtype in ("bfloat16", "float16") and config["use_peft"] and config["use_vllm"]:
        found.say(
            "warn", "precision", f"{text}: for vLLM, TRL adds the adapter to the weights and takes it out again at every step, which "
            f"{dtype} rounds each time, so that the frozen base drifts; say dtype: float32 and bf16: true"
        )  # fmt: skip
    elif config["load_in_4bit"] and dtype == "float32" and not config["use_cpu"]:
        found.say(
            "warn", "precision", f"{text}: 4-bit weights are computed with in float32, slowly; say dtype: bfloat16"
        )
    elif config["use_cpu"] and amp == "bfloat16":
        found.say("warn", "precision", f"{text}: slow on a CPU without instructions for bfloat16; say bf16: false")
    else:
        found.say("pass", "precision", text)


def batch(config: RunConfig, found: Findings) -> None:
    """The arithmetic, text in words. Whether it adds up, the recipe's own check has asked."""
    n, per_device = config.launch.processes, config["per_device_train_batch_size"]
    accumulation = config["gradient_accumulation_steps"] or 1
    unit = {"grpo": "completions", "ppo": "completions", "sft": "rows"}.get(config.recipe, "pairs")
    total = n * per_device * accumulation
    text = (
        f"{n} device{'s' * (n > 1)} x {per_device} each x {accumulation} accumulated = {total} {unit} an optimizer step"
    )
    if config.recipe == "grpo":
        group = config["num_generations"]
        steps = config["steps_per_generation"] or accumulation
        sampled = config["generation_batch_size"] or n * per_device * steps
        updates = sampled // total * (config["num_iterations"] or 1)
        found.prompts = sampled // group
        text += f"; sampled together: {sampled} = {sampled // group} prompts x a group of {group}, for {updates} step"
        text += "s" * (updates > 1)
    elif config.recipe == "ppo":
        epochs, minibatches, group = config["num_ppo_epochs"], config["num_mini_batches"], config["num_generations"]
        found.prompts = total * minibatches // group
        text += f"; sampled together: {total * minibatches}" + f", {group} a prompt" * (group > 1)
        text += f", for {epochs} epoch{'s' * (epochs > 1)} of {minibatches} mini-batch{'es' * (minibatches > 1)}"
    found.say("pass", "batch", text)


def generation(config: RunConfig, found: Findings) -> None:
    if config.recipe not in ("grpo", "ppo"):
        return
    if not config["use_vllm"]:
        found.say("pass", "sampling", "by transformers; vLLM is many times faster on a GPU: use_vllm")
    elif find_spec("vllm") is None:
        found.say(
            "warn", "sampling", "by vLLM, which isn't installed here: pip install -e '.[vllm]' where the run is to be"
        )
    else:
        found.say("pass", "sampling", f"by vLLM {version('vllm')}, {config['vllm_mode']}")
    mode = config["vllm_importance_sampling_mode"]
    if config["use_vllm"] and config["vllm_importance_sampling_correction"] and mode.startswith("sequence"):
        found.say(
            "warn",
            "correction",
            f"vllm_importance_sampling_mode={mode!r} multiplies a completion's ratios of trainer to vLLM, which for long ones leave "
            "every bound, so that they are dropped or cut to it: say token_truncate",
        )


def special_tokens(config: RunConfig, found: Findings) -> None:
    name = config["model_name_or_path"]
    trust = config["trust_remote_code"] or False
    revision = config["model_revision"] or "main"
    chat = found.rows is None or tokens.of_messages(found.rows)
    tokenizer = model_loading.load_tokenizer(name, revision, trust)
    own = tokenizer.eos_token
    options = config["eos_token"], config["chat_template_kwargs"], config["chat_template_path"]
    model_loading.prepare(tokenizer, name, revision, trust, chat, *options)
    found.tokenizer = tokenizer
    if config.recipe == "reward_model":
        model_loading.pad_apart(tokenizer, config["pad_token"])
    if (config["rewards"] or {}).keys() & {"think_format", "math_answer", "code_tests", "countdown"}:
        tokens.refuse_special_tags(tokenizer)
    declared = model_loading.generation_config_of(name, revision, trust)
    others = tokenizer.convert_ids_to_tokens(model_loading.end_tokens(tokenizer, declared)[1:])
    said = (
        "the key's"
        if config["eos_token"]
        else "the chat template's"
        if tokenizer.eos_token != own
        else "the tokenizer's"
    )
    text = f"an answer ends in {tokenizer.eos_token!r}, {said}; padding {tokenizer.pad_token!r}"
    text += f"; sampling ends at {', '.join(map(repr, others))} too" * bool(others)
    found.say("pass", "tokens", text)


def model_config(config: RunConfig, found: Findings) -> None:
    need(found, "tokenizer")
    of_model = model_config_of(config, "model_name_or_path", config["model_revision"] or "main")
    model_loading.refuse_lora(as_it_runs(config), of_model)
    if config.recipe == "reward_model" or (
        config.recipe == "ppo" and not (config["value_model"] or config["reward_model"])
    ):
        scores = reward_models.Kind(config["level"] or "response")
        reward_models.refuse_headless(of_model, scores, f"model_name_or_path={config['model_name_or_path']!r}")
    found.model_config = of_model
    kind = type(found.model_config).__name__.removesuffix("Config")
    found.say("pass", "model", f"{config['model_name_or_path']}: {kind}")


def dataset(config: RunConfig, found: Findings) -> None:
    name, split = config["dataset"], config["dataset_split"]
    template = config.given.get("template", config.defaults["template"])
    settings = {"template": template, "columns": config["columns"]}
    rows, how = data.read(name, split, **settings, **(config["dataset_options"] or {}))
    found.total_rows = len(rows)
    rates = rows[_pass_rate.COLUMN][:] if _pass_rate.COLUMN in rows.column_names else []
    found.pass_rates = [rate for rate in rates if isinstance(rate, int | float)]
    step = max(1, len(rows) // LOOKED_AT)
    looked_at = range(0, step * min(len(rows), LOOKED_AT), step)
    found.rows = rows.select(looked_at).add_column("_row", list(looked_at))
    found.say(
        "pass",
        "rows",
        f"{data.named(name)}, {split}: {len(rows):,} rows, read as {how}; {len(found.rows)} of them looked at",
    )


def useful(config: RunConfig, found: Findings) -> None:
    """How many groups have an advantage, where the rows bring pass rates."""
    if config.recipe != "grpo" or not found.pass_rates:
        return
    group = config["num_generations"]
    share = _pass_rate.useful_groups(found.pass_rates, group)
    text = f"{share:.0%} of groups of {group} would have an advantage, by the rows' pass rates, 1 - p^{group} - (1-p)^{group}"
    if share < USEFUL:
        found.say(
            "warn",
            "groups",
            f"{text}: dataset_options: {{pass_rate: [0.1, 0.9]}} leaves the prompts that teach something",
        )
    else:
        found.say("pass", "groups", text)


def template(config: RunConfig, found: Findings) -> None:
    """What the prompt looks like to the model, and whether it has begun the thoughts already."""
    need(found, "tokenizer", "rows")
    chat = tokens.of_messages(found.rows)
    text = tokens.prompt_texts([found.rows["prompt"][0]], found.tokenizer)[0]
    begun = tokens.begins_thoughts(found.rows["prompt"], found.tokenizer)
    prefilled = (config["reward_options"] or {}).get("think_format", {}).get("prefilled_think", begun)
    if prefilled != begun:
        ends = "ends" if begun else "doesn't end"
        raise ValueError(
            f"reward_options says prefilled_think: {str(prefilled).lower()}, but the prompt {ends} in <think>: leave it out"
        )
    said = "the tokenizer's chat template" if chat else "plain text, for a base"
    said += f"; a prompt ends in {text[-40:]!r}"
    said += ", so that completions begin inside the thoughts" * begun
    if chat and not tokens.takes_system(found.tokenizer):
        said += "; the template has no system role: what a system message says is put before the first question"
    options = config["chat_template_kwargs"] or {}
    if chat and "strftime_now" in found.tokenizer.chat_template and "date_string" not in options:
        found.say(
            "warn", "prompt", f"{said}: the template writes today's date, so that a run that is resumed another day has other prompts; "
            "chat_template_kwargs: {date_string: 26 Jul 2024} keeps one in Llama's"
        )  # fmt: skip
    elif text.rstrip().endswith("</think>"):
        found.say(
            "warn", "prompt", f"{said}: the template has ended the thoughts, so that an answer's own come after empty ones; "
            "chat_template_kwargs: {enable_thinking: true} leaves them to the model in many templates"
        )  # fmt: skip
    else:
        found.say("pass", "prompt", said)


def usable(config: RunConfig, found: Findings) -> None:
    """Which rows the run would leave out, and how long the others are."""
    need(found, "tokenizer", "rows")
    tokenizer, limit, sampled = found.tokenizer, config["max_length"], config.recipe in ("grpo", "ppo")
    if sampled:
        found.reward_funcs = load_rewards(config["rewards"], config["reward_options"])
        try:
            rows, counts = dataset_rows.usable_rows(
                found.rows, list(found.reward_funcs.values()), tokenizer, config["max_prompt_length"]
            )
        except rewards.RewardError as error:
            found.say("fail", f"reward {error.reward}", error)
            raise Skipped(f"the reward {error.reward} fails") from error
    elif config.recipe == "sft":
        rows, counts = dataset_rows.usable_demonstrations(found.rows, tokenizer, limit)
    else:
        rows, counts = dataset_rows.usable_pairs(found.rows, tokenizer, limit)
    prompts = [len(ids) for ids in tokens.prompt_ids(rows["prompt"], tokenizer)]
    columns = [c for c in ("completion_ids", "chosen_ids", "rejected_ids") if c in rows.column_names]
    answers = [max(of_row) for of_row in zip(*(tokens.lengths(rows, c) for c in columns), strict=True)]
    found.lengths = max(prompts), config["max_completion_length"] if sampled else max(answers)
    found.rows = rows
    dataset_rows.refuse_too_few(found.total_rows * len(rows) // counts["rows"], found.prompts)
    share = 1 - len(rows) / counts["rows"]
    text = f"prompts of {min(prompts)} to {max(prompts)} tokens, half of them up to {median(prompts):.0f}"
    text += f"; answers up to {max(answers)}" if answers and not sampled else ""
    text += f"; left out: {share:.1%}, {counts.reasons}" if counts.reasons else "; left out: none"
    wrapped = bool(config["packing"]) and config["packing_strategy"] == "wrapped"
    text += "; packing_strategy: wrapped cuts rows, and lets one read another: bfd does neither" * wrapped
    status = "warn" if share > 0.1 or wrapped else "pass"
    found.say(status, "lengths", text)
    room = getattr(found.model_config and found.model_config.get_text_config(), "max_position_embeddings", None)
    longest = sum(found.lengths)
    if room and longest > room:
        raise ValueError(
            f"{found.lengths[0]} tokens of prompt and {found.lengths[1]} after it are {longest}, and the model has "
            f"{room} positions: lower max_prompt_length or max_completion_length"
        )


QUESTIONS = {
    "launch": launched,
    "precision": precision,
    "batch": batch,
    "sampling": generation,
    "rows": dataset,
    "groups": useful,
    "tokens": special_tokens,
    "model": model_config,
    "prompt": template,
    "lengths": usable,
    "rewards": graded,
}
