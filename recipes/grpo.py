"""GRPO with verifiable rewards on a base model, as in DeepSeek-R1-Zero (arXiv 2501.12948); GRPO itself is 2402.03300.

A group of completions is sampled for each prompt, rule-based rewards score them, and a completion's advantage is its
reward less the group's mean, over the group's standard deviation. The loss is PPO's clipped one on those advantages, with
a KL term to the starting model when beta > 0. Differences from the paper, all of them TRL's defaults: beta is 0, and the
loss is averaged over the tokens of the batch (loss_type dapo, 2503.14476) rather than per completion (loss_type grpo).
Completions come from transformers, or many times faster from vLLM (use_vllm), inside the trainer or from a server: vllm_options.py.

Run: python -m recipes.grpo --config recipes/configs/grpo/tiny.yaml [--key value ...]
     accelerate launch --config_file accelerate_configs/zero2.yaml -m recipes.grpo --config recipes/configs/grpo/<run>.yaml
"""

from collections.abc import Iterator
from dataclasses import dataclass

from transformers import set_seed
from trl import GRPOConfig, ModelConfig, get_quantization_config

from recipes.measuring.held_out import HeldOut
from recipes.measuring.sampler import generation_of
from recipes.preflight.entry import start
from recipes.shared import (
    arguments,
    curves,
    dataset_rows,
    fused_head,
    model_loading,
    run_folder,
    tokens,
    tracking,
    vllm_options,
)
from recipes.shared.grpo_trainer import ResumableGRPOTrainer
from recipes.shared.run_config import RunConfig, unknown_choices
from recipes.shared.terminal import REFUSALS, refusing

# TRL takes any string here, and finds out at the first step
CHOICES = {
    "loss_type": ("grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo", "luspo", "vespo"),
    "scale_rewards": ("group", "batch", "none"),
    "importance_sampling_level": ("token", "sequence"),
    "multi_objective_aggregation": ("sum_then_normalize", "normalize_then_sum"),
    **vllm_options.CHOICES,
}


@dataclass(kw_only=True)
class GRPORecipe(arguments.RewardArgs):
    """The keys in addition to GRPOConfig's and ModelConfig's."""


def problems(config: RunConfig) -> Iterator[str]:
    """What can't work together, found before anything loads, each with the nearest choice that can."""
    yield from arguments.training_problems(config)
    yield from sampling_problems(config)
    yield from vllm_options.vllm_problems(config)
    yield from vllm_options.stop_problems(config)
    if config["temperature"] <= 0:
        yield f"temperature={config['temperature']}: a group of equal completions teaches nothing: say 1.0"


def sampling_problems(config: RunConfig, least: int = 2) -> Iterator[str]:
    """What concerns groups, of at least so many completions, and their rewards, whoever samples them."""
    yield from unknown_choices(config, CHOICES)
    group, processes = config["num_generations"], config.launch.processes
    per_device = config["per_device_train_batch_size"]
    steps = config["steps_per_generation"] or config["gradient_accumulation_steps"] * (config["num_mini_batches"] or 1)
    batch = config["generation_batch_size"] or per_device * processes * steps
    if group < least or batch % group:
        divisors = [n for n in range(least, batch + 1) if batch % n == 0]
        closest = min(divisors, key=lambda n: abs(n - group), default=least)
        yield (
            f"num_generations={group} does not divide the {batch} completions that are sampled together "
            f"({per_device} per device x {processes} processes x {steps} steps): the nearest num_generations that does is {closest}"
        )
    yield from arguments.reward_problems(config)
    if config.given.get("lora_dropout") and config.given.get("disable_dropout", True):
        yield (
            f"lora_dropout={config['lora_dropout']}: with dropout, the ratios of equal weights differ from 1, so that it is off: leave "
            "it out, or say disable_dropout: false"
        )
    if config["reward_weights"] is not None:
        yield "reward_weights: give each weight in rewards, as 'name: weight'"


def main(args: GRPORecipe, training_args: GRPOConfig, model_args: ModelConfig, config: RunConfig) -> None:
    model_loading.without_dropout(training_args, model_args, config)
    with refusing():
        vllm_options.need_vllm(training_args.use_vllm)
        reward_funcs = args.reward_funcs()
        rows = dataset_rows.load_rows(args)
        tokenizer = model_loading.tokenizer_of(args, model_args, training_args, rows)
        if "think_format" in args.rewards:
            tokens.refuse_special_tags(tokenizer)
        rows, counts = dataset_rows.usable_rows(rows, list(reward_funcs.values()), tokenizer, args.max_prompt_length)
        dataset_rows.refuse_too_few(len(rows), training_args.generation_batch_size // training_args.num_generations)
        held_out = HeldOut(args, reward_funcs, tokenizer, training_args, model_args, generation_of(training_args))
        checkpoint = run_folder.open_run(training_args, config)

    tracking.prepare_wandb(training_args)
    before = held_out.before()
    training_args.reward_weights = list(args.rewards.values())
    training_args.model_init_kwargs = model_loading.model_init_kwargs(model_args)
    vllm_options.stop_at_the_end(training_args, model_args, tokenizer)
    set_seed(training_args.seed)  # a LoRA adapter's start is random, and made before the Trainer sets the seed
    with refusing(REFUSALS):
        trainer = ResumableGRPOTrainer(
            model=model_args.model_name_or_path,
            reward_funcs=list(reward_funcs.values()),
            args=training_args,
            train_dataset=rows,
            processing_class=tokenizer,
            quantization_config=get_quantization_config(model_args),
            peft_config=model_loading.peft_config(model_args),
        )
        fused_head.refuse_another(trainer, rows["prompt"][0], config.launch.sharding)
    model_loading.spare_copies(trainer.model)
    model_loading.keep_small_steps(trainer)
    names = ["accuracy", *list(args.rewards)[1:]]
    shown = {name: f"rewards/{reward}/mean" for name, reward in zip(names, args.rewards, strict=True)}
    shown = {"reward": "reward"} | shown | {"length": "completions/mean_length"}
    origin = tracking.follow(trainer, shown, args, model_args)
    trainer.add_callback(tracking.Rollouts(trainer, args.completions_to_log))

    seconds = run_folder.train_and_save(trainer, checkpoint)
    result = {"recipe": "grpo", "rows": counts, "train_seconds": seconds, "resumed_from": checkpoint}
    result |= {"before": before, "after": held_out.after(trainer)}
    steps = trainer.state.global_step
    completions = steps * training_args.generation_batch_size // training_args.steps_per_generation
    curves.finish(trainer, result | origin, args.rewards, completions)


if __name__ == "__main__":
    start("grpo", main, problems, __doc__)
