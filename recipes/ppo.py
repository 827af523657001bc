"""PPO (arXiv 1707.06347) for language models, as in InstructGPT (2203.02155): TRL's PPOTrainer with rewards of your choice.

A completion's reward is a weighted sum of rule-based rewards, the same as GRPO's and by the same names, of a trained
reward model of either level, or of both; a reward of weight 0 is only logged. From it, less kl_coef times the KL to the
frozen reference at each token, and from a value model, generalised advantage estimation (1506.02438) makes advantages, and
the policy takes clipped steps on them. The value model starts from the reward model where there is one, else from the
policy with a new head. With LoRA (use_peft) the base is the reference, and the value model gets an adapter of its own.

Different from the paper, and from GRPO here, all of it TRL's: one score a completion, so a step level reward model counts by
its return; no gradient clipping; a fixed KL coefficient; generation by transformers, without vLLM; no resume; no FSDP. All
logits of a process's completions are kept until they are scored: completions x response_length x vocabulary x 4 bytes, for a
moment three times over. 64 x 1024 x 151,936 x 4 are 37 GiB: lower per_device_train_batch_size; gradient_accumulation_steps
multiply what is kept.

Run: python -m recipes.ppo --config recipes/configs/ppo/tiny.yaml [--key value ...]
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from accelerate import PartialState
from datasets import Dataset
from peft import inject_adapter_in_model
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, set_seed
from trl import ModelConfig, get_quantization_config
from trl.experimental.ppo import PPOConfig

from recipes.measuring.held_out import HeldOut
from recipes.measuring.sampler import generation_config
from recipes.preflight.entry import start
from recipes.shared import arguments, curves, dataset_rows, model_loading, reward_models, run_folder, tracking
from recipes.shared.ppo_trainer import KLBound, ModelReward, PromptCollator, RewardedPPOTrainer, Scorer
from recipes.shared.run_config import RunConfig
from recipes.shared.terminal import refusing

# keys that PPOTrainer would take and ignore
REFUSED = {
    "resume_from_checkpoint": "PPOTrainer can't resume: start again with another output_dir",
    "max_steps": "PPOTrainer counts completions: say total_episodes",
    "max_grad_norm": "PPOTrainer doesn't clip gradients: leave it out",
    "eval_strategy": "PPOTrainer doesn't evaluate: say held_out, or run recipes.evaluate on a checkpoint",
    "num_sample_generations": "completions.jsonl keeps samples of every step: see completions_to_log",
    "sft_model_path": "the policy is model_name_or_path",
    "reward_model_path": "the reward model is reward_model",
    "stop_token": "a completion ends at the tokenizer's end token",
    "stop_token_id": "a completion ends at the tokenizer's end token",
    "bf16": "PPOTrainer has no mixed precision of its own: say dtype: bfloat16, or accelerate launch --mixed_precision bf16",
    "fp16": "PPOTrainer has no mixed precision of its own: say accelerate launch --mixed_precision fp16",
    "data_seed": "PPOTrainer shuffles by seed",
    "neftune_noise_alpha": "PPOTrainer doesn't support noise",
    "ref_adapter_name": "the base without its adapter is the reference",
    "model_adapter_name": "there is one adapter",
}
COMPUTED = ("batch_size", "mini_batch_size", "local_batch_size", "local_mini_batch_size", "micro_batch_size")
COMPUTED += ("num_total_batches", "world_size")


@dataclass(kw_only=True)
class PPORecipe(arguments.RewardArgs):
    rewards: dict[str, float] = field(
        default_factory=dict, metadata={"help": "name -> weight, 0 to log only; the first one named is the accuracy"}
    )
    reward_model: str | None = field(default=None, metadata={"help": "a folder of recipes.reward_model, or a hub name"})
    reward_model_weight: float = field(default=1.0, metadata={"help": "weight of its score among the rewards"})
    value_model: str | None = field(
        default=None, metadata={"help": "what the value model starts from; null: the reward model, or else the policy"}
    )
    pad_token: str | None = field(
        default=None, metadata={"help": "a token that no text holds, where the tokenizer pads with its end token"}
    )
    kl_bound: float | None = field(
        default=None, metadata={"help": "nats a completion: the run ends at the first step over it"}
    )
    trust_remote_code: bool = field(default=False, metadata={"help": "run the model's own code from the hub"})


def problems(config: RunConfig) -> Iterator[str]:
    """What can't work together, found before anything loads."""
    yield from arguments.training_problems(config.without("eval_strategy"))
    if config.launch.sharding == "fsdp":
        yield (
            "FSDP: PPOTrainer calls the policy and the value model past the module that FSDP wraps, where it holds shards: "
            "launch with accelerate_configs/zero3.yaml"
        )
    for key in ("reward_model", "value_model"):
        if config[key] and config.launch.sharding == "zero3" and model_loading.is_adapter(config[key]):
            yield (
                f"{key}={config[key]!r} is a LoRA adapter, and ZeRO-3 holds no complete base to merge it into: launch with "
                "accelerate_configs/zero2.yaml, or train the reward model without use_peft"
            )
    for key, value in config.given.items():
        if key in REFUSED and value not in (None, False, "no", "false", "none"):
            yield f"{key}={value!r}: {REFUSED[key]}"
        if key in COMPUTED or key.startswith("dataloader_"):
            yield f"{key}={value!r}: PPOTrainer sets it by itself, from per_device_train_batch_size and others"
    if config.given.get("logging_steps", 1) != 1:
        yield f"logging_steps={config['logging_steps']!r}: PPOTrainer logs every step; say 1"
    if config["temperature"] <= 0:
        yield f"temperature={config['temperature']}: PPO learns from samples, and divides by it: say 1.0"
    yield from arguments.reward_problems(config)
    if config["rewards"] and not config["reward_model"] and not any(config["rewards"].values()):
        yield "every reward has weight 0 and there is no reward_model: nothing to learn from"
    minibatches, accumulation = config["num_mini_batches"], config["gradient_accumulation_steps"] or 1
    if minibatches > 1 and accumulation > 1:
        yield (
            f"num_mini_batches={minibatches} with gradient_accumulation_steps={accumulation}: PPOTrainer steps once in so "
            "many micro-batches, whatever the mini-batches; say gradient_accumulation_steps: 1"
        )
    if config["per_device_train_batch_size"] % minibatches:
        yield (
            f"num_mini_batches={minibatches} doesn't divide "
            f"per_device_train_batch_size={config['per_device_train_batch_size']}"
        )


def main(args: PPORecipe, training_args: PPOConfig, model_args: ModelConfig, config: RunConfig) -> None:
    training_args.trust_remote_code = args.trust_remote_code  # the other trainers' configs have it
    with refusing():
        reward_funcs = args.reward_funcs()
        rows = dataset_rows.load_rows(args)
        tokenizer = model_loading.tokenizer_of(model_args, training_args)
        check_tokens(args, tokenizer, model_args, training_args)
        rows, counts = dataset_rows.usable_rows(rows, list(reward_funcs.values()), tokenizer, args.max_prompt_length)
        batch = training_args.per_device_train_batch_size * training_args.gradient_accumulation_steps
        if len(rows) < batch * PartialState().num_processes:
            raise ValueError(
                f"{len(rows)} rows are fewer than a batch, {batch} completions a process x {PartialState().num_processes}: "
                "PPOTrainer would wait for more forever; lower per_device_train_batch_size"
            )
        generation = generation_config(training_args.response_length, training_args.temperature)
        held_out = HeldOut(args, reward_funcs, tokenizer, training_args, model_args, generation)
        run_folder.open_run(training_args, config)

    tracking.prepare_wandb(training_args)
    before = held_out.before()
    set_seed(training_args.seed)
    name, trust = model_args.model_name_or_path, args.trust_remote_code
    peft_config = model_loading.peft_config(model_args)
    init_kwargs = model_loading.model_init_kwargs(model_args)
    init_kwargs["quantization_config"] = get_quantization_config(model_args)
    policy, reference = policy_and_reference(name, trust, tokenizer, init_kwargs, with_lora=peft_config is not None)
    batch_size = training_args.local_rollout_forward_batch_size
    reward_funcs, weights = all_rewards(args, reward_funcs, tokenizer, init_kwargs, batch_size)
    scorer = Scorer(dataset_rows.reward_columns(rows), tokenizer, reward_funcs, weights)
    value = value_model(args.value_model or args.reward_model or name, trust, tokenizer, init_kwargs, peft_config)
    if training_args.gradient_checkpointing:
        for model in (policy, value):
            model.gradient_checkpointing_enable(training_args.gradient_checkpointing_kwargs)
            if peft_config:
                model.enable_input_require_grads()
    training_args.stop_token, training_args.num_sample_generations = "eos", 0
    prompts = dataset_rows.prompt_ids(rows["prompt"], tokenizer)
    trainer = RewardedPPOTrainer(
        args=training_args,
        processing_class=tokenizer,
        model=policy,
        ref_model=reference,
        reward_model=scorer,
        value_model=value,
        train_dataset=Dataset.from_dict({"input_ids": prompts, "row": range(len(prompts))}),
        data_collator=PromptCollator(tokenizer),
        peft_config=model_loading.peft_config(model_args),
    )
    shown = {"reward": "reward"} | {name: f"rewards/{name}/mean" for name in scorer.rewards}
    shown |= {"kl": "objective/kl", "length": "completions/mean_length"}
    origin = tracking.follow(trainer, shown, args, model_args)
    trainer.add_callback(tracking.Rollouts(trainer, args.completions_to_log))
    if args.kl_bound is not None:
        trainer.add_callback(KLBound(args.kl_bound))

    seconds = run_folder.train_and_save(trainer, None)
    result = {
        "recipe": "ppo",
        "rows": counts,
        "train_seconds": seconds,
        "before": before,
        "after": held_out.after(trainer),
    }
    curves.finish(trainer, result | origin, scorer.rewards, trainer.state.episode)


def check_tokens(args: PPORecipe, tokenizer, model_args: ModelConfig, training_args: PPOConfig) -> None:
    """Refuse models that don't speak the policy's tokens, and a pad token that would hide the end. Raises ValueError."""
    model_loading.pad_apart(tokenizer, args.pad_token)
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
    if args.value_model:
        try:
            size = AutoConfig.from_pretrained(args.value_model).vocab_size
        except (OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ValueError(f"value_model={args.value_model!r}: no such model can be loaded ({reason})") from error
        if size < len(tokenizer):
            raise ValueError(f"value_model={args.value_model!r} knows {size} tokens, the policy {len(tokenizer)}")


def policy_and_reference(name: str, trust: bool, tokenizer, init_kwargs: dict, with_lora: bool):
    """The policy and its frozen copy, the reference; None under LoRA, where the base without the adapter is the reference."""
    policy = AutoModelForCausalLM.from_pretrained(name, trust_remote_code=trust, **init_kwargs)
    # other settings of the model's own generation config would change the samples, but not the log-probabilities
    policy.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id
    )
    if with_lora:
        return policy, None
    return policy, AutoModelForCausalLM.from_pretrained(name, trust_remote_code=trust, **init_kwargs)


def value_model(start: str, trust: bool, tokenizer, init_kwargs: dict, peft_config):
    """The value model, from a reward model or from a policy with a new head; under LoRA with an adapter and the head trained."""
    value = reward_models.load(start, reward_models.Kind.of(start), tokenizer, trust, **init_kwargs)
    if peft_config:
        peft_config.exclude_modules = ["score"]
        value = inject_adapter_in_model(peft_config, value)
        value.score.requires_grad_(True)
        for parameter in value.parameters():
            if parameter.requires_grad:  # as PEFT does with the policy's: small steps are lost in bfloat16
                parameter.data = parameter.data.float()
    return value


def all_rewards(
    args: PPORecipe, reward_funcs: dict, tokenizer, init_kwargs: dict, batch_size: int
) -> tuple[dict, dict]:
    """The rule-based rewards and the reward model, if there is one, by name, and their weights."""
    if not args.reward_model:
        return reward_funcs, args.rewards
    kind = reward_models.Kind.of(args.reward_model)
    model = reward_models.load(args.reward_model, kind, tokenizer, args.trust_remote_code, **init_kwargs)
    of_model = {"reward_model": ModelReward(model, kind, tokenizer, batch_size)}
    return reward_funcs | of_model, args.rewards | {"reward_model": args.reward_model_weight}


if __name__ == "__main__":
    start("ppo", main, problems, __doc__)
