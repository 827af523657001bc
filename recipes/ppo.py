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

from dataclasses import dataclass, field
from pathlib import Path

from accelerate import PartialState
from datasets import Dataset
from peft import inject_adapter_in_model
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, set_seed
from transformers.integrations import is_deepspeed_zero3_enabled
from trl import ModelConfig, get_quantization_config
from trl.experimental.ppo import PPOConfig

import rewards
from recipes import _common as common
from recipes import _model, _rows, _scores, report
from recipes import _tracking as tracking
from recipes._config import parse, refusing
from recipes._measure import HeldOut, sampling
from recipes._ppo import KLBound, ModelReward, PromptCollator, RewardedPPOTrainer, Scorer

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
    "neftune_noise_alpha": "PPOTrainer knows no noise",
    "ref_adapter_name": "the base without its adapter is the reference",
    "model_adapter_name": "there is one adapter",
}
COMPUTED = ("batch_size", "mini_batch_size", "local_batch_size", "local_mini_batch_size", "micro_batch_size")
COMPUTED += ("num_total_batches", "world_size")


@dataclass(kw_only=True)
class PPORecipe(_rows.RewardArgs):
    rewards: dict[str, float] = field(
        default_factory=dict, metadata={"help": "name -> weight, 0 to log only; the first one named is the accuracy"}
    )
    reward_model: str | None = field(default=None, metadata={"help": "a folder of recipes.reward_model, or a hub name"})
    reward_model_weight: float = field(default=1.0, metadata={"help": "weight of its score beside the rewards"})
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


def check(given: dict) -> None:
    """Refuse, before anything loads, what can't work together. Raises ValueError."""
    _rows.check_dataset(given)
    if common.engine() == "FSDP":
        raise ValueError(
            "FSDP: PPOTrainer calls the policy and the value model past the module that FSDP wraps, where it holds shards: "
            "launch with accelerate_configs/zero3.yaml"
        )
    for key, why in REFUSED.items():
        if given.get(key) not in (None, False, "no", "false", "none"):
            raise ValueError(f"{key}={given[key]!r}: {why}")
    for key in given:
        if key in COMPUTED or key.startswith("dataloader_"):
            raise ValueError(
                f"{key}={given[key]!r}: PPOTrainer sets it by itself, from per_device_train_batch_size and others"
            )
    if given.get("logging_steps", 1) != 1:
        raise ValueError(f"logging_steps={given['logging_steps']!r}: PPOTrainer logs every step; say 1")
    if given.get("temperature", 1.0) <= 0:
        raise ValueError(f"temperature={given['temperature']}: PPO learns from samples, and divides by it: say 1.0")
    if not given.get("rewards"):
        raise ValueError(
            f"rewards is empty: name at least one of {', '.join(rewards.names())}, with its weight, or 0 to log it beside "
            "a reward_model"
        )
    _rows.check_rewards(given)
    if not given.get("reward_model") and not any(given["rewards"].values()):
        raise ValueError("every reward has weight 0 and there is no reward_model: nothing to learn from")
    minibatches, accumulation = given.get("num_mini_batches", 1), given.get("gradient_accumulation_steps", 1)
    per_device = given.get("per_device_train_batch_size", 8)
    if minibatches > 1 and accumulation > 1:
        raise ValueError(
            f"num_mini_batches={minibatches} with gradient_accumulation_steps={accumulation}: PPOTrainer steps once in so "
            "many micro-batches, whatever the mini-batches; say gradient_accumulation_steps: 1"
        )
    if per_device % minibatches:
        raise ValueError(f"num_mini_batches={minibatches} doesn't divide per_device_train_batch_size={per_device}")


def main(args: PPORecipe, training_args: PPOConfig, model_args: ModelConfig, given: dict) -> None:
    training_args.trust_remote_code = args.trust_remote_code  # the other trainers' configs have it
    with refusing():
        reward_funcs = {name: rewards.load(name, **args.reward_options.get(name, {})) for name in args.rewards}
        rows = _rows.load(args)
        tokenizer = _model.load_tokenizer(
            model_args.model_name_or_path, model_args.model_revision, training_args.trust_remote_code
        )
        check_tokens(args, tokenizer, model_args, training_args)
        rows, counts = _rows.usable_rows(rows, list(reward_funcs.values()), tokenizer, args.max_prompt_length)
        batch = training_args.per_device_train_batch_size * training_args.gradient_accumulation_steps
        if len(rows) < batch * PartialState().num_processes:
            raise ValueError(
                f"{len(rows)} rows are fewer than a batch, {batch} completions a process x {PartialState().num_processes}: "
                "PPOTrainer would wait for more forever; lower per_device_train_batch_size"
            )
        generation = sampling(training_args.response_length, training_args.temperature)
        held_out = HeldOut(args, reward_funcs, tokenizer, training_args, model_args, generation)
        common.open_run(training_args, given)

    tracking.prepare_wandb(training_args)
    before = held_out.before()
    set_seed(training_args.seed)
    policy, reference, value, scorer = models(args, training_args, model_args, tokenizer, rows, reward_funcs)
    training_args.stop_token, training_args.num_sample_generations = "eos", 0
    prompts = _rows.prompt_ids(rows["prompt"], tokenizer)
    trainer = RewardedPPOTrainer(
        args=training_args,
        processing_class=tokenizer,
        model=policy,
        ref_model=reference,
        reward_model=scorer,
        value_model=value,
        train_dataset=Dataset.from_dict({"input_ids": prompts, "row": range(len(prompts))}),
        data_collator=PromptCollator(tokenizer),
        peft_config=_model.peft_config(model_args),
    )
    shown = {"reward": "reward"} | {name: f"rewards/{name}/mean" for name in scorer.rewards}
    shown |= {"kl": "objective/kl", "length": "completions/mean_length"}
    origin = tracking.follow(trainer, shown, args, model_args)
    trainer.add_callback(tracking.Rollouts(trainer, args.completions_to_log))
    if args.kl_bound is not None:
        trainer.add_callback(KLBound(args.kl_bound))

    seconds = common.train_and_save(trainer, None)
    result = {
        "recipe": "ppo",
        "rows": counts,
        "train_seconds": seconds,
        "before": before,
        "after": held_out.after(trainer),
    }
    report.finish(trainer, result | origin, scorer.rewards, trainer.state.episode)


def check_tokens(args: PPORecipe, tokenizer, model_args: ModelConfig, training_args: PPOConfig) -> None:
    """Refuse models that don't speak the policy's tokens, and a pad token that would hide the end. Raises ValueError."""
    _model.pad_apart(tokenizer, args.pad_token)
    for key in ("reward_model", "value_model"):
        name = getattr(args, key)
        if name and is_deepspeed_zero3_enabled() and (Path(name) / "adapter_config.json").is_file():
            raise ValueError(
                f"{key}={name!r} is a LoRA adapter, and ZeRO-3 holds no whole base to merge it into: launch with "
                "accelerate_configs/zero2.yaml, or train the reward model without use_peft"
            )
    if args.reward_model:
        of_model = _model.load_tokenizer(
            args.reward_model, trust_remote_code=training_args.trust_remote_code, key="reward_model", adapter=True
        )
        _scores.Kind.of(args.reward_model)
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


def models(args: PPORecipe, training_args: PPOConfig, model_args: ModelConfig, tokenizer, rows, reward_funcs: dict):
    """The policy, the frozen reference (None under LoRA: the base is it), the value model, and the Scorer."""
    init_kwargs = _model.model_init_kwargs(model_args) | {"quantization_config": get_quantization_config(model_args)}
    trust = training_args.trust_remote_code
    name, peft_config = model_args.model_name_or_path, _model.peft_config(model_args)
    policy = AutoModelForCausalLM.from_pretrained(name, trust_remote_code=trust, **init_kwargs)
    reference = (
        None if peft_config else AutoModelForCausalLM.from_pretrained(name, trust_remote_code=trust, **init_kwargs)
    )
    # what the model's own generation config says beside would change the samples, but not the log-probabilities
    policy.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id
    )
    weights = dict(args.rewards)
    scored = dict(reward_funcs)
    if args.reward_model:
        kind = _scores.Kind.of(args.reward_model)
        model = _scores.load(args.reward_model, kind, tokenizer, trust, **init_kwargs)
        batch_size = training_args.local_rollout_forward_batch_size
        scored["reward_model"] = ModelReward(model, kind, tokenizer, batch_size)
        weights["reward_model"] = args.reward_model_weight
    start = args.value_model or args.reward_model or name
    value = _scores.load(start, _scores.Kind.of(start), tokenizer, trust, **init_kwargs)
    if peft_config:
        peft_config.exclude_modules = ["score"]
        value = inject_adapter_in_model(peft_config, value)
        value.score.requires_grad_(True)
        for parameter in value.parameters():
            if parameter.requires_grad:
                parameter.data = (
                    parameter.data.float()
                )  # as PEFT does with the policy's: small steps are lost in bfloat16
    if training_args.gradient_checkpointing:
        for model in (policy, value):
            model.gradient_checkpointing_enable(training_args.gradient_checkpointing_kwargs)
            if peft_config:
                model.enable_input_require_grads()
    return policy, reference, value, Scorer(_rows.reward_columns(rows), tokenizer, scored, weights)


if __name__ == "__main__":
    main(*parse((PPORecipe, PPOConfig, ModelConfig), doc=__doc__, check=check))
    common.leave()
