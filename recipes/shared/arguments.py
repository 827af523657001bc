"""The keys that several recipes share, and what those keys refuse in the same way in each of them."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Literal

import data
import rewards
from recipes.shared.run_config import RunConfig, refusal

TEMPLATE_HELP = "how a question becomes a prompt: data/_templates.py; null: messages as they are"
TRACKERS = ("wandb", "tensorboard", "trackio", "mlflow", "swanlab")  # of report_to, whose packages have the same names


@dataclass(kw_only=True)
class DatasetArgs:
    dataset: str | list[dict] = field(
        metadata={
            "help": "a module of data/, a hub name, a local .jsonl, .json, .csv or .parquet file; or a mixture, [{name: ..., weight: ...}, ...]"
        }
    )
    dataset_split: str = field(default="train", metadata={"help": "split to train on"})
    dataset_options: dict = field(
        default_factory=dict,
        metadata={"help": "what the dataset itself takes, and what all do: path, revision, pass_rate, decontaminate"},
    )
    columns: dict[str, str] | None = field(
        default=None,
        metadata={
            "help": "of a file or a hub set: {prompt: its question, answer: its gold}; null: found by their names"
        },
    )
    template: Literal["chat", "boxed", "r1_zero", "plain"] | None = field(
        default=None, metadata={"help": TEMPLATE_HELP}
    )
    eos_token: str | None = field(
        default=None,
        metadata={"help": "ends an answer; null: what ends a turn in the chat template, or else the tokenizer's own"},
    )
    chat_template_kwargs: dict | None = field(
        default=None, metadata={"help": "what the model's chat template takes, such as {enable_thinking: false}"}
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
        return load_rewards([name for name in (self.accuracy, "think_format") if name], None)


@dataclass(kw_only=True)
class RewardArgs(DatasetArgs):
    template: Literal["chat", "boxed", "r1_zero", "plain"] | None = field(
        default="chat", metadata={"help": TEMPLATE_HELP}
    )
    rewards: dict[str, float] = field(metadata={"help": "name -> weight; the first one named is the accuracy"})
    reward_options: dict[str, dict] = field(
        default_factory=dict,
        metadata={"help": "reward -> its options, such as {code_tests: {binary: true}}"},
    )
    max_prompt_length: int | None = field(
        default=None, metadata={"help": "rows with longer prompts, in tokens, are left out and counted"}
    )
    completions_to_log: int = field(default=4, metadata={"help": "completions kept of every rollout"})

    def reward_funcs(self, *more: str) -> dict:
        """The rewards, and those of these other names too, each with its options: name -> function. Raises ValueError."""
        return load_rewards((*self.rewards, *more), self.reward_options)


def load_rewards(names, options: dict[str, dict] | None) -> dict:
    """name -> reward function, each with its own options set. Raises ValueError for an unknown name or option."""
    return {name: rewards.load(name, **(options or {}).get(name, {})) for name in names}


def dataset_problems(config: RunConfig) -> Iterator[str]:
    """Names, splits and options of datasets that this project makes or knows, and that don't exist."""
    options = config["dataset_options"] or {}
    if config["dataset"]:
        of_dataset = config["dataset"], config.given.get("dataset_split"), config["columns"]
        yield from refusal(data.check, *of_dataset, **options)
    if config["held_out"] and (other := config["held_out_dataset"]):
        same = options if other == config["dataset"] else {}
        yield from refusal(data.check, other, config.given.get("held_out_split"), **same)


def training_problems(config: RunConfig) -> Iterator[str]:
    """What every training recipe refuses."""
    yield from dataset_problems(config)
    if (config["eval_strategy"] or "no") != "no":
        yield (
            f"eval_strategy={config['eval_strategy']!r}: the recipes don't evaluate while they train: say held_out, or run "
            "recipes.evaluate on a checkpoint"
        )
    if config["held_out"] and config.launch.sharding == "zero3":
        yield (
            f"held_out={config['held_out']}: ZeRO-3 holds no complete model to measure: say held_out: 0, and run "
            "recipes.evaluate on the checkpoint"
        )
    if config.launch.visible_gpus > 1 and config.launch.processes == 1 and not config["use_cpu"]:
        yield (
            f"{config.launch.visible_gpus} GPUs and one process: it would split each batch between them by DataParallel, for which these trainers aren't "
            "made: start with accelerate launch --config_file accelerate_configs/multi_gpu.yaml, or set CUDA_VISIBLE_DEVICES=0"
        )
    if config["save_on_each_node"]:
        yield (
            "save_on_each_node=True: output_dir is one folder that all machines share, where they would write over each other: "
            "leave it out"
        )
    reports = config.given.get("report_to") or []
    for name in [reports] if isinstance(reports, str) else reports:
        if name in TRACKERS and find_spec(name) is None:
            yield f"report_to={name!r}: {name} isn't installed: pip install {name}, or say report_to: none"


def reward_problems(config: RunConfig) -> Iterator[str]:
    """Reward keys that don't go together, options that a reward refuses, and files that can't be imported."""
    names, options = config["rewards"] or {}, config["reward_options"] or {}
    if not names:
        yield f"rewards is empty: name at least one of {', '.join(rewards.names())}, with its weight, 0 to log it only"
    for name in names:
        yield from refusal(_try, name, options.get(name, {}))
    for unused in sorted(set(options) - set(names)):
        yield f"reward_options names {unused!r}, which is not among the rewards"
    if config["completions_to_log"] is not None and config["completions_to_log"] < 1:
        yield f"completions_to_log={config['completions_to_log']} must be at least 1"


def _try(name: str, options: dict) -> None:
    reward = rewards.load(name, **options)
    if not rewards.columns_of(reward):
        reward(completions=[], prompts=[])  # says what is wrong with its options, such as a length that isn't set
