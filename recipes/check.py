"""The check before a run: whether it fits, adds up and is wired right, from its config, its launch file and a few rows.

No weights are loaded. Each line of the table is one question:
  pass  it is right
  warn  it may be meant, but read it
  fail  the run would end with an error, or learn nothing, or run out of memory; what to change is said
  skip  it could not be looked at here, such as a model on the hub without a network
Ends with exit code 2 where anything fails.

Run: python -m recipes.check --config recipes/configs/grpo/tiny.yaml [--launch accelerate_configs/zero2.yaml]
         [--recipe grpo] [--device_gb 24] [--json] [--key value ...]
     or any recipe's own command with --dry_run behind it; through accelerate it is checked as it was launched.
"""

import argparse
import contextlib
import importlib
import json
import os
import re
import shutil
import sys
import textwrap
from dataclasses import MISSING, asdict, dataclass, field, fields
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import torch
import yaml
from transformers import AutoConfig
from trl import ModelConfig

import data
import rewards
from recipes import _common as common
from recipes import _memory as memory
from recipes import _perfect, _rows
from recipes._config import TRAINING, classes_of, merged

LOOKED_AT = 512  # rows, spread over the set
GRADED = 32  # rows whose gold is graded as a perfect completion
FULL, TIGHT = 0.95, 0.85  # shares of a device: the CUDA context and fragmentation are not in the estimate
SAVED_EVERY = ("torch", "transformers", "trl", "peft", "accelerate", "deepspeed", "datasets", "bitsandbytes")
JUNK = "I don't know. Maybe 7? Or \\boxed{nothing} at all."


@dataclass
class Launch:
    """How a run is started: what of an accelerate file, or of a launched process's environment, matters here."""

    name: str = "one process, started by python"
    processes: int = 1
    machines: int = 1
    engine: str = "none"
    mixed_precision: str = "no"
    use_cpu: bool | None = False  # None: it isn't said
    offload_optimizer: bool = False
    offload_params: bool = False

    @classmethod
    def of_file(cls, path: str) -> "Launch":
        """Raises ValueError where it is no accelerate config."""
        try:
            content = yaml.safe_load(Path(path).read_text())
            kind = content["distributed_type"]
        except (OSError, KeyError, TypeError, yaml.YAMLError) as error:
            raise ValueError(f"launch={path!r} is no accelerate config ({error!r})") from error
        deepspeed, count = content.get("deepspeed_config") or {}, content.get("num_processes", 1)
        engine = {"DEEPSPEED": f"zero{deepspeed.get('zero_stage')}", "FSDP": "fsdp"}.get(
            kind, "ddp" if count > 1 else "none"
        )
        return cls(
            name=path,
            processes=count,
            machines=content.get("num_machines", 1),
            engine=engine,
            mixed_precision=str(content.get("mixed_precision", "no")),
            use_cpu=bool(content.get("use_cpu")),
            offload_optimizer=deepspeed.get("offload_optimizer_device", "none") != "none",
            offload_params=deepspeed.get("offload_param_device", "none") != "none",
        )

    @classmethod
    def of_environment(cls) -> "Launch":
        """As accelerate launch, or torchrun, has started this process."""
        env, count = os.environ, int(os.environ.get("WORLD_SIZE", 1))
        on = lambda name: env.get(name, "false").lower() in ("true", "1")  # noqa: E731
        engine = "ddp" if count > 1 else "none"
        if on("ACCELERATE_USE_DEEPSPEED"):
            engine = f"zero{env.get('ACCELERATE_DEEPSPEED_ZERO_STAGE')}"
        elif on("ACCELERATE_USE_FSDP"):
            engine = "fsdp"
        return cls(
            name="as launched" if count > 1 else cls.name,
            processes=count,
            machines=max(1, count // int(env.get("LOCAL_WORLD_SIZE", count))),
            engine=engine,
            mixed_precision=env.get("ACCELERATE_MIXED_PRECISION", "no"),
            use_cpu=on("ACCELERATE_USE_CPU") if "ACCELERATE_USE_CPU" in env else None,
            offload_optimizer=env.get("ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE", "none") != "none",
            offload_params=env.get("ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE", "none") != "none",
        )


class Skipped(Exception):
    """It can't be looked at here."""


@dataclass
class Check:
    """The run's keys, what was found, and what one question leaves to the next."""

    recipe: str
    argv: list[str]
    launch: Launch
    device_gb: float | None = None
    given: dict = field(default_factory=dict)
    defaults: dict = field(default_factory=dict)
    findings: list[tuple[str, str, str]] = field(default_factory=list)
    tokenizer: object = None
    config: object = None
    rows: object = None
    total_rows: int = 0
    lengths: tuple[int, int] | None = None  # the longest prompt, and the longest completion or row behind it

    def __getitem__(self, key: str):
        return self.given[key] if self.given.get(key) is not None else self.defaults.get(key)

    def say(self, status: str, what: str, text: str) -> None:
        self.findings.append((status, what, " ".join(str(text).split())))

    @contextlib.contextmanager
    def question(self, what: str):
        """A ValueError inside is a failure, an unreachable hub a skip."""
        try:
            with contextlib.redirect_stdout(sys.stderr):  # rows left out are said by _rows, and counted here
                yield
        except Skipped as reason:
            self.say("skip", what, reason)
        except ValueError as error:
            reached = not unreachable(error)
            self.say("fail" if reached else "skip", what, error if reached else f"the hub can't be reached: {error}")


def unreachable(error: BaseException | None) -> bool:
    """Whether it came from a hub that can't be reached, rather than from a name that isn't there."""
    while error is not None:
        if isinstance(error, ConnectionError) or "couldn't connect" in str(error).lower():
            return True
        error = error.__cause__
    return False


def run(recipe: str, argv: list[str], launch: Launch, device_gb: float | None = None) -> Check:
    """Ask everything. Nothing is raised for what is wrong with the run: it is in `findings`."""
    check = Check(recipe, argv, launch, device_gb)
    module = importlib.import_module(f"recipes.{recipe}")
    for c in classes_of(module.main):
        for f in fields(c):
            check.defaults[f.name] = f.default if f.default is not MISSING else None
    before = os.environ.get("WORLD_SIZE")
    os.environ["WORLD_SIZE"] = str(launch.processes)  # a recipe's own check looks for it there
    try:
        check.given = merged(classes_of(module.main), argv, module.check)
        check.say("pass", "keys", f"{len(check.given)} keys, all known, of the right types, and they go together")
    except ValueError as error:
        check.say("fail", "keys", error)
        return check
    finally:
        os.environ.pop("WORLD_SIZE") if before is None else os.environ.__setitem__("WORLD_SIZE", before)
    for what, ask in QUESTIONS.items():
        with check.question(what):
            ask(check)
    return check


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


def mixed_here(check: Check) -> str | None:
    """The mixed precision that the config itself asks for; TRL's configs say bf16 where nothing is said."""
    bf16 = check.given.get("bf16")
    if bf16 is None:
        bf16 = check.recipe != "ppo" and not check["fp16"]
    return "fp16" if check["fp16"] else "bf16" if bf16 else None


def mixed(check: Check) -> str | None:
    """The dtype of autocast, or under DeepSpeed of the whole model."""
    return {"bf16": "bfloat16", "fp16": "float16"}.get(mixed_here(check) or check.launch.mixed_precision)


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


def tokens(check: Check) -> None:
    name = check["model_name_or_path"]
    trust = check["trust_remote_code"] or False
    check.tokenizer = common.load_tokenizer(name, check["model_revision"] or "main", trust)
    if check["eos_token"]:
        check.tokenizer.eos_token = check["eos_token"]
    tokenizer = check.tokenizer
    said = f"end {tokenizer.eos_token!r}, padding {tokenizer.pad_token!r}"
    if tokenizer.eos_token is None:
        raise ValueError(f"model_name_or_path={name!r}: its tokenizer has no end token, so nothing would ever end")
    if check.recipe in ("ppo", "reward_model"):
        common.pad_apart(tokenizer, check["pad_token"])
        said = f"end {tokenizer.eos_token!r}, padding {tokenizer.pad_token!r}"
    tagged = "<think>a</think><answer>b</answer>"
    seen = tokenizer.decode(tokenizer(tagged, add_special_tokens=False)["input_ids"], skip_special_tokens=True)
    if (check["rewards"] or {}).keys() & {"think_format", "math_answer", "code_tests", "countdown"} and not all(
        tag in seen for tag in ("<think>", "</think>", "<answer>", "</answer>")
    ):
        raise ValueError(
            f"the tags are special tokens of this tokenizer, and are left out of what the rewards read: {seen!r}"
        )
    check.say("pass", "tokens", said)


def model_config(check: Check) -> None:
    need(check, "tokenizer")
    check.config = config_of(check, "model_name_or_path", check["model_revision"] or "main")
    kind = type(check.config).__name__.removesuffix("Config")
    check.say("pass", "model", f"{check['model_name_or_path']}: {kind}")


def config_of(check: Check, key: str, revision: str = "main"):
    """The config.json of the model that a key names, None where it names none. Raises ValueError where it can't be read."""
    if not check[key]:
        return None
    try:
        return AutoConfig.from_pretrained(
            check[key], revision=revision, trust_remote_code=check["trust_remote_code"] or False
        )
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"{key}={check[key]!r}: its config.json can't be read ({reason})") from error


def dataset(check: Check) -> None:
    name, split = check["dataset"], check["dataset_split"]
    template = check.given.get("template", check.defaults["template"])
    rows = data.load(name, split, template=template, **(check["dataset_options"] or {}))
    check.total_rows = len(rows)
    step = max(1, len(rows) // LOOKED_AT)
    check.rows = rows.select(range(0, step * min(len(rows), LOOKED_AT), step))
    check.say("pass", "rows", f"{name}, {split}: {len(rows):,} rows, {len(check.rows)} of them looked at")


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
        funcs = [rewards.load(name, **(check["reward_options"] or {}).get(name, {})) for name in check["rewards"]]
        rows, counts = _rows.usable_rows(check.rows, funcs, tokenizer, check["max_prompt_length"])
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
    out = {name: n / counts["rows"] for name, n in counts.items() if name != "rows" and n}
    said = f"prompts of {min(prompts)} to {max(prompts)} tokens, half of them up to {median(prompts):.0f}"
    said += f"; answers up to {max(answers)}" if answers and check.recipe not in ("grpo", "ppo") else ""
    said += "; left out: " + (
        ", ".join(f"{share:.1%} {name.replace('_', ' ')}" for name, share in out.items()) or "none"
    )
    status = "warn" if sum(out.values()) > 0.1 else "pass"
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
    columns = {c: rows[c] for c in rows.column_names if c != "prompt"}
    chat = not isinstance(rows["prompt"][0], str)
    prefilled = (check["reward_options"] or {}).get("think_format", {}).get("prefilled_think", False)
    perfect = [_perfect.completion(row, prefilled) for row in rows]
    for i, name in enumerate(check["rewards"]):
        reward = rewards.load(name, **(check["reward_options"] or {}).get(name, {}))
        best = getattr(importlib.import_module(f"rewards.{name}"), "BEST", 1.0)
        scores = {}
        for kind, texts in {"gold": perfect, "junk": [JUNK] * len(rows), "nothing": [""] * len(rows)}.items():
            known = [k for k, text in enumerate(texts) if text is not None]
            said = [[{"role": "assistant", "content": texts[k]}] if chat else texts[k] for k in known]
            ids = check.tokenizer([texts[k] for k in known])["input_ids"] if check.tokenizer and known else None
            of_rows = {c: [values[k] for k in known] for c, values in columns.items()}
            scores[kind] = reward(completions=said, completion_ids=ids, **of_rows) if known else []
        wrong = [k for k, score in enumerate(scores["gold"]) if score != best]
        paid = {kind: max(scores[kind]) for kind in ("junk", "nothing") if scores[kind] and max(scores[kind]) > 0}
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


def length_of_run(check: Check) -> None:
    n, per_device = check.launch.processes, check["per_device_train_batch_size"]
    batch_size = n * per_device * (check["gradient_accumulation_steps"] or 1)
    steps, epochs = check["max_steps"] or -1, check["num_train_epochs"] or 1
    if check.recipe == "ppo":
        episodes = check["total_episodes"] or epochs * check.total_rows
        steps, completions = -(-int(episodes) // batch_size), int(episodes)
    else:
        repeat = check["num_generations"] if check.recipe == "grpo" else 1
        if steps <= 0:
            need(check, "rows")
            steps = int(epochs * -(-check.total_rows * repeat // batch_size)) * (check["num_iterations"] or 1)
        completions = steps * batch_size // (check["num_iterations"] or 1)
    said = f"{steps:,} optimizer steps, {completions:,} "
    said += {"grpo": "completions", "ppo": "completions", "sft": "rows"}.get(check.recipe, "pairs")
    if check.total_rows:
        seen = completions / (check["num_generations"] if check.recipe == "grpo" else 1) / check.total_rows
        said += f", {seen:.2g} epochs"
    if check.lengths:
        tokens_ = completions * sum(check.lengths) * (1 if check.recipe in ("grpo", "ppo", "sft") else 2)
        said += f", {tokens_:,} tokens at most"
    check.steps = steps
    check.say("pass", "length", said)


def memory_of(check: Check) -> memory.Run:
    """Raises Skipped while the model or the rows are unknown."""
    need(check, "config", "lengths")
    per_device, accumulation = check["per_device_train_batch_size"], check["gradient_accumulation_steps"] or 1
    model_args = ModelConfig(**{f.name: check.given[f.name] for f in fields(ModelConfig) if f.name in check.given})
    peft_config = common.peft_config(model_args)
    prompt, completion = check.lengths
    if check.recipe == "sft" and check["packing"]:
        prompt, completion = 0, check["max_length"]
    sampled = check["generation_batch_size"] or check.launch.processes * per_device * (
        check["steps_per_generation"] or accumulation
    )
    nested = memory.NF4_NESTED if check["use_bnb_nested_quant"] else memory.NF4
    vllm = check["vllm_mode"] if check["use_vllm"] else None
    vllm = "asleep" if vllm == "colocate" and check["vllm_enable_sleep_mode"] else vllm
    amp, dtype = mixed(check), check["dtype"]
    dtype = (check.config.dtype or torch.float32) if dtype in (None, "auto") else getattr(torch, dtype)
    return memory.Run(
        recipe=check.recipe,
        config=check.config,
        prompt=prompt,
        completion=completion,
        batch=per_device,
        accumulation=accumulation,
        sampled=sampled // check.launch.processes if check.recipe == "grpo" else per_device * accumulation,
        forward_batch=check["local_rollout_forward_batch_size"] if check.recipe == "ppo" else 0,
        dtype=dtype,
        amp=amp and getattr(torch, amp),
        peft_config=peft_config,
        quantized=nested if check["load_in_4bit"] else 1.0 if check["load_in_8bit"] else None,
        checkpointing=bool(check["gradient_checkpointing"]),
        value_model=config_of(check, "value_model"),
        reward_model=config_of(check, "reward_model"),
        reference=check.recipe in ("dpo", "ppo") or (check.recipe == "grpo" and (check["beta"] or 0) > 0),
        step_level=check["level"] == "step",
        vllm=vllm,
        vllm_bytes=int((check["vllm_gpu_memory_utilization"] or 0) * (device_bytes(check) or 0)),
        engine=check.launch.engine,
        processes=check.launch.processes,
        offload_optimizer=check.launch.offload_optimizer,
        offload_params=check.launch.offload_params,
        on_cpu=bool(check["use_cpu"]),
    )


def device_bytes(check: Check) -> float | None:
    """The size of one device's memory, as it was said or found; None where neither is known."""
    if check.device_gb or check["use_cpu"] or not torch.cuda.is_available():
        return check.device_gb and check.device_gb * 1e9
    return torch.cuda.get_device_properties(0).total_memory


def fits(check: Check) -> None:
    run = memory_of(check)
    estimate = memory.estimate(run)
    size = device_bytes(check)
    moment, parts = estimate.worst
    need_gib = parts.total() / memory.GIB
    said = f"{need_gib:.2f} GiB a device, most of all while {moment} ("
    said += ", ".join(
        f"{name.replace('_', ' ')} {n / memory.GIB:.2f}" for name, n in parts.most_common() if n >= 0.005 * memory.GIB
    )
    said += f"); {estimate.parameters / 1e6:,.0f}M parameters, {estimate.trainable / 1e6:,.1f}M of them trained"
    if estimate.host:
        said += f"; on each machine {estimate.host * run.processes / check.launch.machines / memory.GIB:.1f} GiB beside"
    check.estimate = estimate
    if size is None:
        check.say("pass", "memory", f"{said}; compare with your device, or say --device_gb")
        return
    share = parts.total() / size
    said += f"; {share:.0%} of {size / 1e9:.0f} GB"
    if share > FULL:
        raise ValueError(f"{said}: lower per_device_train_batch_size, say gradient_checkpointing: true, or shard")
    check.say("warn" if share > TIGHT else "pass", "memory", said)


def disk(check: Check) -> None:
    if not hasattr(check, "estimate"):
        raise Skipped("the size of the model is not known")
    run, estimate = memory_of(check), check.estimate
    width = 4 if run.engine.startswith("zero") else run.dtype.itemsize
    model = estimate.trainable * width if run.peft_config else estimate.parameters * run.dtype.itemsize
    states = estimate.trainable * width * (3 if run.engine.startswith("zero") else 2)
    every, limit = check["save_steps"] or 500, check["save_total_limit"]
    count = 0 if check["save_strategy"] == "no" else int(getattr(check, "steps", 0) // every)
    count = min(count, limit + 1) if limit else count  # the oldest goes when the newest is whole
    size = count * (model + states) + model
    folder = Path(check["output_dir"] or ".").resolve()
    folder = next(p for p in (folder, *folder.parents) if p.exists())
    free = shutil.disk_usage(folder).free
    said = f"{size / 1e9:.2f} GB: {count} checkpoints of {(model + states) / 1e9:.2f} GB and the result; {free / 1e9:,.0f} GB are free"
    if size > free:
        raise ValueError(f"{said}: lower save_total_limit, or name another output_dir")
    check.say("pass", "disk", said)


def tracking(check: Check) -> None:
    if "wandb" not in (check["report_to"] or "none"):
        check.say("pass", "tracking", f"report_to: {check['report_to'] or 'none'}; no W&B run")
        return
    mode = os.environ.get("WANDB_MODE", "online")
    key = os.environ.get("WANDB_API_KEY") or "api.wandb.ai" in _text(Path.home() / ".netrc")
    said = mode if mode != "online" else "online, if it can be reached" if key else "offline: there is no API key"
    check.say("pass", "tracking", f"W&B {said}")


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


def versions(check: Check) -> None:
    tested = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", _text(common.REPO / "constraints.txt"), re.MULTILINE))
    different = []
    for package in SAVED_EVERY:
        with contextlib.suppress(PackageNotFoundError):
            if (found := version(package).partition("+")[0]) != tested.get(package):
                different.append(f"{package} {found} (tested: {tested.get(package)})")
    if different:
        check.say("warn", "versions", f"not those of constraints.txt: {', '.join(different)}")
    else:
        check.say("pass", "versions", "those of constraints.txt")


def need(check: Check, *names: str) -> None:
    if missing := [name for name in names if getattr(check, name) is None]:
        raise Skipped(f"the {missing[0]} could not be had")


def _text(path: Path) -> str:
    return path.read_text() if path.is_file() else ""


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
    "length": length_of_run,
    "memory": fits,
    "disk": disk,
    "tracking": tracking,
    "versions": versions,
}


def show(check: Check, as_json: bool) -> None:
    if as_json:
        rows = [dict(zip(("status", "what", "said"), finding, strict=True)) for finding in check.findings]
        report = {"recipe": check.recipe, "launch": asdict(check.launch), "findings": rows}
        if hasattr(check, "estimate"):
            report["memory"] = {moment: dict(parts) for moment, parts in check.estimate.moments.items()}
        print(json.dumps(report, indent=2))
        return
    width = max(len(what) for _, what, _ in check.findings)
    columns = max(60, shutil.get_terminal_size((120, 0)).columns) - width - 8
    for status, what, said in check.findings:
        lines = textwrap.wrap(said, columns) or [""]
        print(f"{status}  {what:<{width}}  {lines[0]}")
        for line in lines[1:]:
            print(" " * (width + 8) + line)
    counts = {s: sum(status == s for status, _, _ in check.findings) for s in ("fail", "warn", "skip")}
    print(", ".join(f"{n} {s}" for s, n in counts.items() if n) or "all pass")


def dry_run(recipe: str, argv: list[str]) -> None:
    """What `--dry_run` does behind a recipe's command. One process of a launch looks; the others have nothing to do."""
    if os.environ.get("RANK", "0") != "0":
        sys.exit(0)
    finish(run(recipe, argv, Launch.of_environment()), as_json=False)


def finish(check: Check, as_json: bool) -> None:
    show(check, as_json)
    sys.exit(2 if any(status == "fail" for status, _, _ in check.findings) else 0)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--recipe", choices=TRAINING, help="default: the folder that the config is in")
    parser.add_argument("--config", help="a run's YAML file; without one, --recipe and keys")
    parser.add_argument("--launch", help="an accelerate config; default: one process")
    parser.add_argument("--device_gb", type=float, help="memory of one device, in units of 10^9 bytes, as it is sold")
    parser.add_argument("--json", action="store_true")
    own, rest = parser.parse_known_args(argv)
    recipe = own.recipe or (own.config and Path(own.config).resolve().parent.name)
    if recipe not in TRAINING:
        parser.error(f"config={own.config!r} is in no recipe's folder: say --recipe, one of {', '.join(TRAINING)}")
    try:
        launch = Launch.of_file(own.launch) if own.launch else Launch()
    except ValueError as error:
        parser.error(str(error))
    config = ["--config", own.config] if own.config else []
    finish(run(recipe, [*config, *rest], launch, own.device_gb), own.json)


if __name__ == "__main__":
    main()
