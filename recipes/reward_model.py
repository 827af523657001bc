"""Reward models from preferences, at two levels.

level: response  one score r for the whole response, and the loss -log sigmoid(r_chosen - r_rejected), as in InstructGPT
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
from dataclasses import dataclass, field
from typing import Literal

from datasets import Dataset
from transformers import set_seed
from transformers.integrations import is_deepspeed_zero3_enabled
from trl import ModelConfig, RewardConfig, RewardTrainer, get_quantization_config
from trl.trainer.reward_trainer import DataCollatorForPreference

from recipes import _common as common
from recipes import _model, _rows, _scores
from recipes import _tracking as tracking
from recipes._config import parse, refusing
from recipes._scores import trajectory_return


@dataclass(kw_only=True)
class RewardModelRecipe(_rows.DatasetArgs):
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

    def __init__(self, *args, kind: _scores.Kind | None = None, l2: float = 0.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.mean, self.l2 = kind is not None and kind.step_return == "mean", l2
        self.ends_line = kind and _scores.line_ends(self.processing_class, kind)

    def compute_loss(self, model, inputs, **kwargs):
        mask = _scores.step_mask(inputs["input_ids"], inputs.pop("completion_mask"), self.ends_line)

        def returns(**tokens):
            nonlocal penalty
            outputs = model(**tokens)
            scores = outputs.logits.squeeze(-1)
            penalty = self.l2 * trajectory_return(scores**2, mask, mean=True).mean()
            outputs.logits = trajectory_return(scores, mask, self.mean)
            return outputs

        penalty = 0.0
        loss = super().compute_loss(returns, inputs, **kwargs)
        return (loss[0] + penalty, loss[1]) if isinstance(loss, tuple) else loss + penalty


def check(given: dict) -> None:
    """Refuse, before anything loads, what can't work together. Raises ValueError."""
    _rows.check_dataset(given)
    for key in ("eos_token", "chat_template_path", "pad_to_multiple_of"):
        if given.get(key) is not None:
            raise ValueError(f"{key}={given[key]!r}: this recipe takes the tokenizer as it is, and pads to the longest")
    if given.get("eval_strategy", "no") != "no":
        raise ValueError("eval_strategy: this recipe doesn't evaluate while it trains; say held_out")
    if given.get("segments") and given.get("step_unit") == "line":
        raise ValueError("segments: cuts fall in the middle of lines, which then end nowhere: leave it out")
    of_steps = {"step_unit": "token", "step_return": "sum", "segments": False, "step_l2": 0.0}
    for key, default in of_steps.items():
        if given.get("level") == "response" and given.get(key, default) != default:
            raise ValueError(f"{key}={given[key]!r} is for level: step; with level: response leave it out")


def main(args: RewardModelRecipe, training_args: RewardConfig, model_args: ModelConfig, given: dict) -> None:
    with refusing():
        if args.held_out and is_deepspeed_zero3_enabled():
            raise ValueError(f"held_out={args.held_out}: ZeRO-3 holds no whole model to measure; say held_out: 0")
        rows = _rows.load(args)
        tokenizer = _model.load_tokenizer(
            model_args.model_name_or_path, model_args.model_revision, training_args.trust_remote_code
        )
        _model.pad_apart(tokenizer, training_args.pad_token)
        rows, counts = _rows.usable_pairs(rows, tokenizer, training_args.max_length)
        held_out = _rows.load_held_out(args) if args.held_out else None
        if held_out is not None:
            held_out, _ = _rows.usable_pairs(held_out, tokenizer, training_args.max_length)
        checkpoint = common.open_run(training_args, given)

    tracking.prepare_wandb(training_args)
    kind = _scores.Kind(args.level, args.step_unit, args.step_return)
    set_seed(training_args.seed)  # the head is new
    init_kwargs = _model.model_init_kwargs(model_args) | {"quantization_config": get_quantization_config(model_args)}
    model = _scores.load(model_args.model_name_or_path, kind, tokenizer, training_args.trust_remote_code, **init_kwargs)
    if peft_config := _model.peft_config(model_args):
        peft_config.task_type = "SEQ_CLS" if args.level == "response" else "TOKEN_CLS"
        # the new head is trained whole, and saved
        peft_config.modules_to_save, peft_config.exclude_modules = (
            [*(peft_config.modules_to_save or []), "score"],
            ["score"],
        )
    training_args.remove_unused_columns = False
    step = {"kind": kind, "l2": args.step_l2, "data_collator": StepCollator(tokenizer.pad_token_id)}
    step = step if args.level == "step" else {}
    trainer = (StepRewardTrainer if step else RewardTrainer)(
        model=model,
        args=training_args,
        train_dataset=tokenized(rows, tokenizer, training_args.seed if args.segments else None),
        processing_class=tokenizer,
        peft_config=peft_config,
        **step,
    )
    _model.keep_small_steps(trainer)
    shown = {"loss": "loss", "pair accuracy": "accuracy", "margin": "margin"}
    origin = tracking.follow(trainer, shown, args, model_args)

    def quality(model) -> dict | None:
        batch_size = training_args.per_device_eval_batch_size
        return held_out and _scores.quality(model, kind, held_out, tokenizer, batch_size)

    before = quality(trainer.accelerator.unwrap_model(trainer.model).to(training_args.device))
    if trainer.accelerator.is_main_process:
        kind.save(training_args.output_dir)
    seconds = common.train_and_save(trainer, checkpoint)
    after = None
    if held_out is not None:  # under ZeRO-3 nothing is, and an adapter on a sharded base couldn't be merged
        saved = _scores.load(training_args.output_dir, kind, tokenizer, training_args.trust_remote_code, **init_kwargs)
        after = quality(saved.to(training_args.device))
    result = {"recipe": "reward_model", "rows": counts, "train_seconds": seconds, "resumed_from": checkpoint}
    result |= {"steps": trainer.state.global_step, "before": before, "after": after}
    common.write_summary(training_args.output_dir, result | origin)
    common.say(f"{trainer.state.global_step} steps in {seconds:.0f} s: saved to {training_args.output_dir}/")
    for key in after or {}:
        common.say(f"  {key:<26} {before[key]} -> {after[key]}")


def tokenized(rows: Dataset, tokenizer, cut: int | None = None) -> Dataset:
    """Prompt and answer as a policy would have sampled them: the answer's own tokens after the prompt's, then the end.

    cut: a seed, to keep of both answers of a pair the same random number of tokens, past their first difference.
    """
    prompts = _rows.prompt_ids(rows["prompt"], tokenizer)
    pairs = list(zip(*(_rows.completion_ids(rows[c], tokenizer) for c in ("chosen", "rejected")), strict=True))
    if cut is not None:
        rng = random.Random(cut)
        pairs = [
            (c[:n], r[:n]) for c, r in pairs for n in [rng.randint(first_difference(c, r) + 1, max(len(c), len(r)))]
        ]
    columns = {
        f"{name}_ids": [p + pair[side] for p, pair in zip(prompts, pairs, strict=True)]
        for side, name in enumerate(("chosen", "rejected"))
    }
    return Dataset.from_dict(columns | {"prompt_length": [len(p) for p in prompts]})


def first_difference(a: list[int], b: list[int]) -> int:
    return next(i for i, pair in enumerate(itertools.zip_longest(a, b)) if pair[0] != pair[1])


if __name__ == "__main__":
    main(*parse((RewardModelRecipe, RewardConfig, ModelConfig), doc=__doc__, check=check))
    common.leave()
