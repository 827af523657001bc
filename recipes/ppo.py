"""PPO (arXiv 1707.06347) for language models, as in InstructGPT (2203.02155): GRPO's trainer with a value model.

A completion's reward is a weighted sum of rule-based rewards, the same as GRPO's and by the same names, of a trained
reward model of either level, or of both; a reward of weight 0 is only logged. Its last token earns it, but for the steps of a
step level reward model, each of which is paid where it ends (Christiano et al. 2017); from every token goes kl_coef times the KL
to the frozen reference, estimated by log p - log p_reference. From that and from a value model, generalised advantage
estimation (1506.02438) makes advantages, and the policy takes clipped steps on them. The value model starts from the reward
model where there is one, else from the policy with a new head, and may be smaller than the policy: of another model of the same
tokens (value_model), or of its first layers alone (value_layers). With LoRA (use_peft) the base is the reference, and the value
model gets an adapter of its own.

TRL deleted its own PPO trainer in 1.13. So shared/ppo_trainer.py puts these advantages and the value loss into its GRPO trainer,
whose keys are the keys here.

Run: python -m recipes.ppo --config recipes/configs/ppo/tiny.yaml [--key value ...]
     accelerate launch --config_file accelerate_configs/zero2.yaml -m recipes.ppo --config recipes/configs/ppo/<run>.yaml
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from transformers import AutoConfig, set_seed
from trl import ModelConfig, get_quantization_config

from recipes.grpo import sampling_problems
from recipes.measuring.held_out import HeldOut
from recipes.measuring.sampler import generation_of
from recipes.preflight.entry import start
from recipes.shared import (
    arguments,
    curves,
    dataset_rows,
    fused_head,
    model_loading,
    reward_models,
    run_folder,
    tokens,
    tracking,
    vllm_options,
)
from recipes.shared.ppo_trainer import KLBound, PPOConfig, PPOTrainer
from recipes.shared.run_config import RunConfig, unknown_choices
from recipes.shared.terminal import REFUSALS, refusing

# keys of GRPO that say nothing here, or go by another name
REFUSED = {
    "beta": "the coefficient of the KL is kl_coef",
    "num_iterations": "the passes over a batch are num_ppo_epochs",
    "steps_per_generation": "the optimizer steps of a pass are num_mini_batches",
    "generation_batch_size": "the optimizer steps of a pass are num_mini_batches",
    "loss_type": "the loss is the mean over a step's tokens",
    "importance_sampling_level": "the ratio is that of each token",
    "scale_rewards": "it is for groups; the value model is what PPO compares with",
    "multi_objective_aggregation": "it is for groups; rewards are added by their weights",
    "use_liger_kernel": "its loss knows no values",
}
BATCH = ("per_device_train_batch_size", "gradient_accumulation_steps", "num_mini_batches")


@dataclass(kw_only=True)
class PPORecipe(arguments.RewardArgs):
    rewards: dict[str, float] = field(
        default_factory=dict, metadata={"help": "name -> weight, 0 to log only; the first one named is the accuracy"}
    )
    reward_model: str | None = field(default=None, metadata={"help": "a folder of recipes.reward_model, or a hub name"})
    reward_model_weight: float = field(default=1.0, metadata={"help": "weight of its score among the rewards"})
    step_rewards: Literal["dense", "return"] = field(
        default="dense",
        metadata={"help": "of a step level reward model: each where its step ends; or their return, at the last token"},
    )
    value_model: str | None = field(
        default=None, metadata={"help": "what the value model starts from; null: the reward model, or else the policy"}
    )
    value_layers: int | None = field(
        default=None, metadata={"help": "how many of its first layers the value model keeps; null: all"}
    )
    kl_bound: float | None = field(
        default=None, metadata={"help": "nats a completion: the run ends after the first batch over it"}
    )


def problems(config: RunConfig) -> Iterator[str]:
    """What can't work together, found before anything loads."""
    yield from arguments.training_problems(config)
    yield from sampling_problems(config, least=1)
    yield from unknown_choices(config, vllm_options.CHOICES)
    yield from vllm_options.vllm_problems(config)
    yield from vllm_options.stop_problems(config)
    for key in [key for key in REFUSED if key in config.given]:
        yield f"{key}={config.given[key]!r}: {REFUSED[key]}: leave {key} out"
    sizes = (config.launch.processes, *(config[key] for key in BATCH))
    if math.prod(sizes) == 1:
        yield f"one completion is no batch, and advantages are compared within one: raise one of {', '.join(BATCH)}"
    for key in ("reward_model", "value_model"):
        if config[key] and config.launch.sharding == "zero3" and model_loading.is_adapter(config[key]):
            yield (
                f"{key}={config[key]!r} is a LoRA adapter, and ZeRO-3 holds no complete base to merge it into: launch with "
                "accelerate_configs/zero2.yaml, or train the reward model without use_peft"
            )
    value_from = config["value_model"] or config["reward_model"]
    if config["value_layers"] is not None and value_from and model_loading.is_adapter(value_from):
        yield f"value_layers={config['value_layers']}: {value_from!r} is a LoRA adapter, for all layers of its base: leave it out"
    if config["temperature"] <= 0:
        yield f"temperature={config['temperature']}: PPO learns from samples, and divides by it: say 1.0"
    if config["rewards"] and not config["reward_model"] and not any(config["rewards"].values()):
        yield "every reward has weight 0 and there is no reward_model: nothing to learn from"
    if config["kl_bound"] is not None and config["kl_coef"] == 0:
        yield f"kl_bound={config['kl_bound']}: kl_coef is 0, so no reference is loaded to measure the KL to: say kl_coef: 1.0e-3"


def main(args: PPORecipe, training_args: PPOConfig, model_args: ModelConfig, config: RunConfig) -> None:
    model_loading.without_dropout(training_args, model_args, config)
    with refusing():
        vllm_options.need_vllm(training_args.use_vllm)
        reward_funcs = args.reward_funcs()
        rows = dataset_rows.load_rows(args)
        tokenizer = model_loading.tokenizer_of(args, model_args, training_args, rows)
        if "think_format" in args.rewards:
            tokens.refuse_special_tags(tokenizer)
        check_models(args, tokenizer, model_args, training_args)
        rows, counts = dataset_rows.usable_rows(rows, list(reward_funcs.values()), tokenizer, args.max_prompt_length)
        dataset_rows.refuse_too_few(len(rows), training_args.generation_batch_size // training_args.num_generations)
        held_out = HeldOut(args, reward_funcs, tokenizer, training_args, model_args, generation_of(training_args))
        checkpoint = run_folder.open_run(training_args, config)

    tracking.prepare_wandb(training_args)
    before = held_out.before()
    training_args.model_init_kwargs = model_loading.model_init_kwargs(model_args)
    quantization_config = get_quantization_config(model_args)
    to_load = (tokenizer, training_args.trust_remote_code)
    init_kwargs = training_args.model_init_kwargs | {"quantization_config": quantization_config}
    weights = dict(args.rewards)
    if args.reward_model:
        kind, weights["reward_model"] = reward_models.Kind.of(args.reward_model), args.reward_model_weight
        reward_funcs["reward_model"] = reward_models.ModelReward(
            reward_models.load(args.reward_model, kind, *to_load, **init_kwargs),
            *(kind, tokenizer, training_args.per_device_train_batch_size),
            dense=kind.level == "step" and args.step_rewards == "dense",
        )
    training_args.reward_weights = list(weights.values())
    vllm_options.stop_at_the_end(training_args, model_args, tokenizer)
    set_seed(training_args.seed)  # new heads and adapters are random, and made before the Trainer sets the seed
    value_from = args.value_model or args.reward_model or model_args.model_name_or_path
    kind = reward_models.Kind.of(value_from)
    value_model = reward_models.load(value_from, kind, *to_load, layers=args.value_layers, **init_kwargs)
    if peft_config := model_loading.peft_config(model_args):
        value_model = model_loading.with_adapter(value_model, peft_config)
    with refusing(REFUSALS):
        trainer = PPOTrainer(
            model=model_args.model_name_or_path,
            value_model=value_model,
            reward_funcs=list(reward_funcs.values()),
            args=training_args,
            train_dataset=rows,
            processing_class=tokenizer,
            quantization_config=quantization_config,
            peft_config=model_loading.peft_config(model_args),
        )
        fused_head.refuse_another(trainer, rows["prompt"][0], config.launch.sharding)
    model_loading.spare_copies(trainer.model)
    model_loading.keep_small_steps(trainer)
    shown = {"reward": "reward"} | {name: f"rewards/{name}/mean" for name in weights}
    shown |= {"kl": "objective/kl", "length": "completions/mean_length"}
    origin = tracking.follow(trainer, shown, args, model_args)
    trainer.add_callback(tracking.Rollouts(trainer, args.completions_to_log))
    if args.kl_bound is not None:
        trainer.add_callback(KLBound(trainer, args.kl_bound))

    seconds = run_folder.train_and_save(trainer, checkpoint)
    result = {"recipe": "ppo", "rows": counts, "train_seconds": seconds, "resumed_from": checkpoint}
    result |= {"before": before, "after": held_out.after(trainer)}
    batches = -(-trainer.state.global_step // (training_args.num_ppo_epochs * training_args.num_mini_batches))
    curves.finish(trainer, result | origin, weights, batches * training_args.generation_batch_size)


def check_models(args: PPORecipe, tokenizer, model_args: ModelConfig, training_args: PPOConfig) -> None:
    """Refuse models that don't speak the policy's tokens. Raises ValueError."""
    if args.reward_model:
        of_model = model_loading.load_tokenizer(
            args.reward_model, trust_remote_code=training_args.trust_remote_code, key="reward_model", adapter=True
        )
        reward_models.Kind.of(args.reward_model)
        reward_models.refuse_policy(args.reward_model, training_args.trust_remote_code)
        vocabulary, other = tokenizer.get_vocab(), of_model.get_vocab()
        different = [t for t in {**vocabulary, **other} if vocabulary.get(t) != other.get(t)]
        if different or tokenizer.eos_token_id != of_model.eos_token_id:
            first = f", {different[0]!r} the first" if different else ", the end token"
            raise ValueError(
                f"reward_model={args.reward_model!r} has another tokenizer than {model_args.model_name_or_path!r}: "
                f"{max(1, len(different))} tokens differ{first}; train it from a model of the policy's family"
            )
    value_from = args.value_model or args.reward_model or model_args.model_name_or_path
    try:
        config = AutoConfig.from_pretrained(value_from, trust_remote_code=training_args.trust_remote_code)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"value_model={value_from!r}: no such model can be loaded ({reason})") from error
    if args.value_model and config.vocab_size < len(tokenizer):
        raise ValueError(
            f"value_model={args.value_model!r} knows {config.vocab_size} tokens, the policy {len(tokenizer)}"
        )
    if not model_loading.is_adapter(value_from):
        reward_models.refuse_headless(config, reward_models.Kind.of(value_from), f"value_model={value_from!r}")
    reward_models.first_layers(config, args.value_layers)


if __name__ == "__main__":
    start("ppo", main, problems, __doc__)
