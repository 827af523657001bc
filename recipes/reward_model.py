"""Reward models from preferences, at two levels.

level: response  one score r for the complete response, and the loss -log sigmoid(r_chosen - r_rejected), as in InstructGPT
                 (arXiv 2203.02155, eq. 1);
level: step      Christiano et al. 2017 (arXiv 1706.03741, eq. 1): a score for each step of the completion, a token or a
                 line, whose sum is its return; P(chosen) is the softmax of the two returns, and the loss its cross-entropy.
                 Sums grow with length; step_return: mean takes that away, and with it the paper's meaning. Held-out
                 metrics show how far scores follow length. What both answers share cancels in their difference, and so
                 may be scored at will: with `segments` parts of answers are compared, as the paper compares clips of
                 trajectories, and `step_l2` pulls scores to zero, so that a low one means a bad step. Cutting
                 takes the better answer for the better one as far as each cut, which data may not bear out.
Different from that paper: no ensemble, no 10 % of random answers, pairs that are given rather than asked for.

Run: python -m recipes.reward_model --config recipes/configs/reward_model/tiny-step.yaml [--key value ...]
"""

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from datasets import Dataset
from transformers import set_seed
from trl import ModelConfig, RewardConfig, RewardTrainer, get_quantization_config
from trl.trainer.reward_trainer import DataCollatorForPreference

from recipes.measuring import reward_quality
from recipes.preflight.entry import start
from recipes.shared import arguments, dataset_rows, model_loading, reward_models, run_folder, tracking
from recipes.shared.run_config import RunConfig
from recipes.shared.terminal import REFUSALS, refusing, say


@dataclass(kw_only=True)
class RewardModelRecipe(arguments.DatasetArgs):
    level: Literal["response", "step"] = field(metadata={"help": "one score a response, or one a step"})
    step_unit: Literal["token", "line"] = field(default="token", metadata={"help": "what a step is"})
    step_return: Literal["sum", "mean"] = field(default="sum", metadata={"help": "a response's return from its steps"})
    segments: bool = field(
        default=False, metadata={"help": "cut both answers of a pair at one random token behind their first difference"}
    )
    step_l2: float = field(default=0.0, metadata={"help": "weight of the mean squared score of a step in the loss"})


class StepCollator(DataCollatorForPreference):
    """TRL's batch (the chosen first, then the rejected), and which of its tokens are the completion's, (2B, T)."""

    def torch_call(self, examples: list[dict]) -> dict:
        batch = super().torch_call(examples)
        prompts = batch["input_ids"].new_tensor([e["prompt_length"] for e in examples] * 2)
        positions = batch["attention_mask"].cumsum(1) - 1
        batch["completion_mask"] = (positions >= prompts[:, None]) & batch["attention_mask"].bool()
        return batch


class StepRewardTrainer(RewardTrainer):
    """RewardTrainer on returns: for two of them, the softmax's cross-entropy is -log sigmoid of their difference."""

    def __init__(self, *args, kind: reward_models.Kind | None = None, l2: float = 0.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.mean, self.l2 = kind is not None and kind.step_return == "mean", l2
        self.ends_line = kind and reward_models.line_ends(self.processing_class, kind)

    def compute_loss(self, model, inputs, **kwargs):
        mask = reward_models.step_mask(inputs["input_ids"], inputs.pop("completion_mask"), self.ends_line)

        def returns(**tokens):
            nonlocal penalty
            outputs = model(**tokens)
            scores = outputs.logits.squeeze(-1)
            penalty = self.l2 * reward_models.trajectory_return(scores**2, mask, mean=True).mean()
            outputs.logits = reward_models.trajectory_return(scores, mask, self.mean)
            return outputs

        penalty = 0.0
        loss = super().compute_loss(returns, inputs, **kwargs)
        return (loss[0] + penalty, loss[1]) if isinstance(loss, tuple) else loss + penalty


def problems(config: RunConfig) -> Iterator[str]:
    """What can't work together, found before anything loads."""
    yield from arguments.training_problems(config)
    if config["pad_to_multiple_of"] not in (None, "auto"):
        yield f"pad_to_multiple_of={config['pad_to_multiple_of']!r}: this recipe pads to the longest"
    if config["segments"] and config["step_unit"] == "line":
        yield "segments: cuts fall in the middle of lines, which then end nowhere: leave it out"
    for key in ("step_unit", "step_return", "segments", "step_l2") if config["level"] == "response" else ():
        if config[key] != config.defaults[key]:
            yield f"{key}={config[key]!r} is for level: step; with level: response leave it out"


def main(args: RewardModelRecipe, training_args: RewardConfig, model_args: ModelConfig, config: RunConfig) -> None:
    with refusing():
        rows = dataset_rows.load_rows(args)
        tokenizer = model_loading.tokenizer_of(args, model_args, training_args, rows)
        model_loading.pad_apart(tokenizer, training_args.pad_token)
        kind = reward_models.Kind(args.level, args.step_unit, args.step_return)
        name, revision = model_args.model_name_or_path, model_args.model_revision
        config_of_model = model_loading.config_of(name, revision, training_args.trust_remote_code)
        reward_models.refuse_headless(config_of_model, kind, f"model_name_or_path={name!r}")
        rows, counts = dataset_rows.usable_pairs(rows, tokenizer, training_args.max_length)
        held_out = dataset_rows.load_held_out(args) if args.held_out else None
        if held_out is not None:
            held_out, _ = dataset_rows.usable_pairs(held_out, tokenizer, training_args.max_length)
        checkpoint = run_folder.open_run(training_args, config)

    tracking.prepare_wandb(training_args)
    set_seed(training_args.seed)  # the head is new
    init_kwargs = model_loading.model_init_kwargs(model_args) | {
        "quantization_config": get_quantization_config(model_args)
    }
    model = reward_models.load(
        model_args.model_name_or_path, kind, tokenizer, training_args.trust_remote_code, **init_kwargs
    )
    if peft_config := model_loading.peft_config(model_args):
        peft_config.task_type = "SEQ_CLS" if args.level == "response" else "TOKEN_CLS"
        # the new head is trained without an adapter, and saved
        peft_config.modules_to_save, peft_config.exclude_modules = (
            [*(peft_config.modules_to_save or []), "score"],
            ["score"],
        )
    training_args.remove_unused_columns = False
    step = {"kind": kind, "l2": args.step_l2, "data_collator": StepCollator(tokenizer.pad_token_id)}
    step = step if args.level == "step" else {}
    with refusing(REFUSALS):
        trainer = (StepRewardTrainer if step else RewardTrainer)(
            model=model,
            args=training_args,
            train_dataset=sequences(rows, training_args.seed if args.segments else None),
            processing_class=tokenizer,
            peft_config=peft_config,
            **step,
        )
    model_loading.keep_small_steps(trainer)
    shown = {"loss": "loss", "pair accuracy": "accuracy", "margin": "margin"}
    origin = tracking.follow(trainer, shown, args, model_args)

    def quality(model) -> dict | None:
        batch_size = training_args.per_device_eval_batch_size
        return held_out and reward_quality.quality(model, kind, held_out, tokenizer, batch_size)

    before = quality(trainer.accelerator.unwrap_model(trainer.model).to(training_args.device))
    if trainer.accelerator.is_main_process:
        kind.save(training_args.output_dir)
    seconds = run_folder.train_and_save(trainer, checkpoint)
    after = None
    if held_out is not None:  # under ZeRO-3 nothing is, and an adapter on a sharded base couldn't be merged
        saved = reward_models.load(
            training_args.output_dir, kind, tokenizer, training_args.trust_remote_code, **init_kwargs
        )
        after = quality(saved.to(training_args.device))
    result = {"recipe": "reward_model", "rows": counts, "train_seconds": seconds, "resumed_from": checkpoint}
    result |= {"steps": trainer.state.global_step, "before": before, "after": after}
    run_folder.write_summary(training_args.output_dir, result | origin)
    say(f"{trainer.state.global_step} steps in {seconds:.0f} s: saved to {training_args.output_dir}/")
    for key in after or {}:
        say(f"  {key:<26} {before[key]} -> {after[key]}")


def sequences(rows: Dataset, cut: int | None = None) -> Dataset:
    """Prompt and answer of each side as one sequence of tokens, `chosen_ids` and `rejected_ids`, and `prompt_length`.

    cut: a seed, to keep of both answers of a pair the same random number of tokens, past their first difference.
    """
    rng = random.Random(cut)

    def row_of(row: dict) -> dict:
        prompt, chosen, rejected = (row[f"{side}_ids"] for side in ("prompt", "chosen", "rejected"))
        longest = max(len(chosen), len(rejected))
        n = longest if cut is None else rng.randint(first_difference(chosen, rejected) + 1, longest)
        return {"chosen_ids": prompt + chosen[:n], "rejected_ids": prompt + rejected[:n], "prompt_length": len(prompt)}

    return Dataset.from_list([row_of(row) for row in rows.select_columns(["prompt_ids", "chosen_ids", "rejected_ids"])])


def first_difference(a: list[int], b: list[int]) -> int:
    return next(i for i, pair in enumerate(itertools.zip_longest(a, b)) if pair[0] != pair[1])


if __name__ == "__main__":
    start("reward_model", main, problems, __doc__)
