"""GRPO with verifiable rewards on a base model, as in DeepSeek-R1-Zero (arXiv 2501.12948); GRPO itself is 2402.03300.

A group of completions is sampled for each prompt, rule-based rewards score them, and a completion's advantage is its
reward less the group's mean, over the group's standard deviation. The loss is PPO's clipped one on those advantages, with
a KL term to the starting model when beta > 0. Differences from the paper, all of them TRL's defaults: beta is 0, and the
loss is averaged over the tokens of the batch (loss_type dapo, 2503.14476) rather than per completion (loss_type grpo).
Completions come from transformers, or many times faster from vLLM (use_vllm), inside the trainer or from a server: _generation.py.

Run: python -m recipes.grpo --config recipes/configs/grpo/tiny.yaml [--key value ...]
     accelerate launch --config_file accelerate_configs/zero2.yaml -m recipes.grpo --config recipes/configs/grpo/<run>.yaml
"""

import os
from dataclasses import dataclass

from transformers import set_seed
from trl import GRPOConfig, GRPOTrainer, ModelConfig, get_quantization_config

import rewards
from recipes import _common as common
from recipes import _generation, _model, _rows, report
from recipes import _tracking as tracking
from recipes._config import check_choices, parse, refusing
from recipes._measure import HeldOut, sampling

# TRL takes any string here, and finds out at the first step
CHOICES = {
    "loss_type": ("grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo", "luspo", "vespo"),
    "scale_rewards": ("group", "batch", "none"),
    "importance_sampling_level": ("token", "sequence"),
    "multi_objective_aggregation": ("sum_then_normalize", "normalize_then_sum"),
    **_generation.CHOICES,
}


@dataclass(kw_only=True)
class GRPORecipe(_rows.RewardArgs):
    """The keys beside GRPOConfig's and ModelConfig's."""


def check(given: dict) -> None:
    """Refuse, before anything loads, what can't work together. Raises ValueError with the nearest choice that can."""
    _rows.check_dataset(given)
    check_choices(given, CHOICES)
    group, per_device = given.get("num_generations", 8), given.get("per_device_train_batch_size", 8)
    processes = int(os.environ.get("WORLD_SIZE", 1))
    steps = given.get("steps_per_generation") or given.get("gradient_accumulation_steps", 1)
    batch = given.get("generation_batch_size") or per_device * processes * steps
    if group < 2 or batch % group:
        fits = [n for n in range(2, batch + 1) if batch % n == 0]
        nearest = min(fits, key=lambda n: abs(n - group), default=2)
        raise ValueError(
            f"num_generations={group} does not divide the {batch} completions that are sampled together "
            f"({per_device} per device x {processes} processes x {steps} steps): nearest that does is {nearest}"
        )
    if given.get("temperature", 1.0) <= 0:
        raise ValueError(f"temperature={given['temperature']}: a group of equal completions teaches nothing: say 1.0")
    _generation.check(given, processes)
    _generation.check_kwargs(given)
    if not given.get("rewards"):
        raise ValueError(f"rewards is empty: name at least one of {', '.join(rewards.names())}, with its weight")
    _rows.check_rewards(given)
    if given.get("reward_weights") is not None:
        raise ValueError("reward_weights: give each weight in rewards, as 'name: weight'")
    if given.get("eval_strategy", "no") != "no":
        raise ValueError(
            "eval_strategy: this recipe doesn't evaluate while it trains; run recipes.evaluate on a checkpoint"
        )


def main(args: GRPORecipe, training_args: GRPOConfig, model_args: ModelConfig, given: dict) -> None:
    with refusing():
        _generation.need_vllm(training_args.use_vllm)
        reward_funcs = {name: rewards.load(name, **args.reward_options.get(name, {})) for name in args.rewards}
        rows = _rows.load(args)
        tokenizer = _model.load_tokenizer(
            model_args.model_name_or_path, model_args.model_revision, training_args.trust_remote_code
        )
        rows, counts = _rows.usable_rows(rows, list(reward_funcs.values()), tokenizer, args.max_prompt_length)
        held_out = HeldOut(args, reward_funcs, tokenizer, training_args, model_args, generation(training_args))
        checkpoint = common.open_run(training_args, given)

    tracking.prepare_wandb(training_args)
    before = held_out.before()
    training_args.reward_weights = list(args.rewards.values())
    training_args.model_init_kwargs = _model.model_init_kwargs(model_args)
    set_seed(training_args.seed)  # a LoRA adapter's start is random, and made before the Trainer sets the seed
    trainer = GRPOTrainer(
        model=model_args.model_name_or_path,
        reward_funcs=list(reward_funcs.values()),
        args=training_args,
        train_dataset=rows,
        processing_class=tokenizer,
        quantization_config=get_quantization_config(model_args),
        peft_config=_model.peft_config(model_args),
    )
    _model.spare_copies(trainer.model)
    _model.keep_small_steps(trainer)
    names = ["accuracy", *list(args.rewards)[1:]]
    shown = {name: f"rewards/{reward}/mean" for name, reward in zip(names, args.rewards, strict=True)}
    shown = {"reward": "reward"} | shown | {"length": "completions/mean_length"}
    origin = tracking.follow(trainer, shown, args, model_args)
    trainer.add_callback(tracking.Rollouts(trainer, args.completions_to_log))

    seconds = common.train_and_save(trainer, checkpoint)
    result = {"recipe": "grpo", "rows": counts, "train_seconds": seconds, "resumed_from": checkpoint}
    result |= {"before": before, "after": held_out.after(trainer)}
    steps = trainer.state.global_step
    completions = steps * training_args.generation_batch_size // training_args.steps_per_generation
    report.finish(trainer, result | origin, args.rewards, completions)


def generation(training_args: GRPOConfig):
    """How the run samples its completions."""
    return sampling(
        training_args.max_completion_length,
        training_args.temperature,
        top_p=training_args.top_p,
        top_k=training_args.top_k,
        min_p=training_args.min_p,
        repetition_penalty=training_args.repetition_penalty,
    )


if __name__ == "__main__":
    main(*parse((GRPORecipe, GRPOConfig, ModelConfig), doc=__doc__, check=check))
    common.leave()
