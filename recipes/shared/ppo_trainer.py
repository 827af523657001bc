"""PPO (arXiv 1707.06347) on TRL's GRPOTrainer: a value model, and an advantage for each token in the place of a group's mean.

Sampling, rule-based rewards, the clipped policy loss, LoRA, vLLM, checkpoints and logging are TRL's. What is here: what each token
earns, generalised advantage estimation (1506.02438), the clipped value loss, and the value model, which is a part of the policy's
module, so that one optimizer, one wrapper (DDP, ZeRO) and one checkpoint hold both.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback
from trl import GRPOConfig
from trl.models.utils import prepare_deepspeed, prepare_fsdp
from trl.trainer.utils import FusedCausalLMOutput

from recipes.shared import model_loading, reward_models
from recipes.shared.grpo_trainer import ResumableGRPOTrainer
from recipes.shared.terminal import say

VALUE = "value_model"  # the attribute of the policy that holds it, and its folder in a checkpoint


@dataclass
class PPOConfig(GRPOConfig):
    """GRPOConfig with PPO's keys.

    A batch is processes x per_device_train_batch_size x gradient_accumulation_steps x num_mini_batches completions, and
    num_ppo_epochs x num_mini_batches optimizer steps.
    """

    num_generations: int = field(default=1, metadata={"help": "completions a prompt"})
    kl_coef: float = field(
        default=0.05,
        metadata={
            "help": "times the KL to the reference is subtracted from each token's reward; 0: no reference is loaded"
        },
    )
    gamma: float = field(default=1.0, metadata={"help": "discount"})
    lam: float = field(default=0.95, metadata={"help": "lambda of generalised advantage estimation"})
    vf_coef: float = field(default=0.1, metadata={"help": "weight of the value loss"})
    cliprange_value: float = field(default=0.2, metadata={"help": "how far a value may go from that of the rollout"})
    value_learning_rate: float | None = field(
        default=None, metadata={"help": "of the value model; null: learning_rate"}
    )
    num_ppo_epochs: int = field(default=4, metadata={"help": "passes over each batch of completions"})
    num_mini_batches: int = field(default=1, metadata={"help": "optimizer steps a pass"})

    def __post_init__(self):
        self.num_iterations, self.beta, self.loss_type = self.num_ppo_epochs, self.kl_coef, "dapo"
        self.steps_per_generation = self.num_mini_batches * self.gradient_accumulation_steps
        completions = self.num_generations
        if completions == 1:  # GRPOConfig asks for a group that divides the batch: the batch itself
            processes = int(os.environ.get("WORLD_SIZE", "1"))
            self.num_generations = processes * self.per_device_train_batch_size * self.steps_per_generation
        super().__post_init__()
        self.num_generations = completions


@dataclass
class PolicyOutput(FusedCausalLMOutput):
    """With the values, without which DDP would take their weights for unused."""

    token_values: torch.Tensor | None = None


def advantages_of(rewards, values, mask, gamma: float, lam: float):
    """Generalised advantage estimation (1506.02438, equation 16), (B, T), of tokens' rewards and values, (B, T); 0 behind mask.

    advantage_t = sum_k (gamma lam)^k delta_(t+k), with delta_t = reward_t + gamma value_(t+1) - value_t.
    """
    values = values * mask
    advantages, following, running = torch.zeros_like(values), 0.0, 0.0
    for t in reversed(range(values.size(1))):
        delta = rewards[:, t] + gamma * following - values[:, t]
        running = (delta + gamma * lam * running) * mask[:, t]
        advantages[:, t], following = running, values[:, t]
    return advantages


def value_losses(values, old, returns, clip: float):
    """Half the squared error, (B, T): the larger one of the value's and of the value's kept within clip of the old one."""
    clipped = old + (values - old).clamp(-clip, clip)
    return 0.5 * torch.max((values - returns) ** 2, (clipped - returns) ** 2)


def whitened(values, mask, accelerator):
    """Less their mean, over their standard deviation (torch.var's), of all processes' tokens, (B, T); 0 behind mask."""
    sums = torch.stack([mask.sum(), (values * mask).sum(), (values**2 * mask).sum()]).double()
    count, total, squares = accelerator.reduce(sums, reduction="sum")
    mean = total / count
    variance = (squares / count - mean**2).clamp(min=0) * count / (count - 1).clamp(min=1)
    return ((values - mean) * torch.rsqrt(variance + 1e-8) * mask).float()


class PPOTrainer(ResumableGRPOTrainer):
    """GRPOTrainer's arguments, args a PPOConfig; reward functions may be reward_models.ModelReward. It doesn't evaluate.

    value_model: a model with a `score` head of one output, for the policy's tokens.
    """

    def __init__(self, *args, value_model, **kwargs):
        super().__init__(*args, **kwargs)
        self._wanted = self._reading = False
        self.kl = 0.0  # of the last rollout, nats a completion
        if self.args.disable_dropout:
            model_loading.no_dropout(value_model)
        if self.args.gradient_checkpointing:
            value_model.gradient_checkpointing_enable(self.args.gradient_checkpointing_kwargs)
            value_model.enable_input_require_grads()
        for parameter in value_model.score.parameters():
            parameter.requires_grad_(True)
        setattr(self.model, VALUE, self._placed(value_model))
        self.model.register_forward_hook(self._read_values, with_kwargs=True)
        for reward in self.reward_funcs:
            if isinstance(reward, reward_models.ModelReward):
                reward.model = self._prepared(reward.model)
        if self.use_vllm:
            sync = self.vllm_generation.sync_weights
            self.vllm_generation.sync_weights = lambda: self._without_value_model(sync)

    def _placed(self, model):
        quantized = getattr(model, "is_loaded_in_4bit", False) or getattr(model, "is_loaded_in_8bit", False)
        return model if quantized or self.is_deepspeed_enabled else model.to(self.args.device)

    def _prepared(self, frozen):
        """A model that only scores, as TRL prepares its reference."""
        if self.is_deepspeed_enabled:
            return prepare_deepspeed(frozen, self.accelerator)
        return prepare_fsdp(frozen, self.accelerator) if self.is_fsdp_enabled else self._placed(frozen)

    def _without_value_model(self, sync) -> None:
        """vLLM gets every parameter of the policy's module, and knows none of the value model's."""
        value_model = self.model._modules.pop(VALUE)
        try:
            sync()
        finally:
            setattr(self.model, VALUE, value_model)

    # values: read in the policy's own forward pass, so that whatever wraps it sees both

    def _read_values(self, module, args, kwargs, output):
        if self._reading:
            self._values.append(self._values_at(kwargs["input_ids"], kwargs["attention_mask"]))
            output = PolicyOutput(**output, token_values=self._values[-1])
        return output

    def _values_at(self, input_ids, attention_mask):
        """What the value model says behind each token, (B, L)."""
        critic = getattr(self.model, VALUE)
        with self.accelerator.autocast():
            backbone = getattr(critic, critic.base_model_prefix)
            hidden = backbone(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).last_hidden_state
            return critic.score(hidden).squeeze(-1).float()

    def _get_per_token_logps_and_entropies(self, model, input_ids, attention_mask, logits_to_keep, *args, **kwargs):
        """Where values are wanted, self.values too, (B, T): what is expected at each token, before it is chosen."""
        self._reading, self._values = self._wanted and model is not self.ref_model, []
        try:
            result = super()._get_per_token_logps_and_entropies(
                model, input_ids, attention_mask, logits_to_keep, *args, **kwargs
            )
        finally:
            self._reading = False
        if self._values:
            self.values, self._wanted = torch.cat(self._values)[:, -logits_to_keep - 1 : -1], False
        return result

    # a rollout: rewards and advantages

    def _calculate_rewards(self, *args, **kwargs):
        self._rewards = super()._calculate_rewards(*args, **kwargs)
        return self._rewards

    def _token_rewards(self, mask):
        """What each token earns, (B, T), but for the KL: a step what its reward model gives it, the last token all the rest."""
        rows, last = torch.arange(len(mask), device=mask.device), (mask.sum(1).long() - 1).clamp(min=0)
        rewards, weights = torch.zeros_like(mask), self.reward_weights.to(mask.device)
        of_completions = self._here(self._rewards).nan_to_num()  # None earns nothing
        for i, reward in enumerate(self.reward_funcs):
            if isinstance(reward, reward_models.ModelReward) and reward.dense:
                rewards += weights[i] * reward.at_steps(mask)
            else:
                rewards[rows, last] += weights[i] * of_completions[:, i]
        return rewards

    def _here(self, of_all):
        """This process's part."""
        return of_all.chunk(self.accelerator.num_processes)[self.accelerator.process_index]

    @torch.no_grad()
    def _generate_and_score_completions(self, inputs):
        self._wanted = True
        rollout = super()._generate_and_score_completions(inputs)
        self._logs["advantages"].clear(), self._metrics["train"].pop("frac_reward_zero_std")  # of groups
        mask = rollout["completion_mask"].float()
        if "old_per_token_logps" not in rollout:  # TRL had no need of them: there is one step
            length, at_once, self._wanted = mask.size(1), self.args.per_device_train_batch_size, True
            sequences = [torch.cat([rollout[f"prompt_{x}"], rollout[f"completion_{x}"]], 1) for x in ("ids", "mask")]
            if "ref_per_token_logps" in rollout or self.is_fsdp_enabled:
                logps = self._get_per_token_logps_and_entropies(self.model, *sequences, length, at_once)[0]
                rollout["old_per_token_logps"] = logps
            else:  # nor have we: the value model alone is asked (FSDP has its parts within a forward pass of the policy only)
                parts = zip(*(rows.split(at_once) for rows in sequences), strict=True)
                self.values = torch.cat([self._values_at(*part)[:, -length - 1 : -1] for part in parts])
        values, rewards = self.values * mask, self._token_rewards(mask)
        if "ref_per_token_logps" in rollout:
            kl = (rollout["old_per_token_logps"] - rollout["ref_per_token_logps"]) * mask
            rewards -= self.args.kl_coef * kl
            self.kl = self._note("objective/kl", kl.sum(1))
        learnable = mask * ~self._here(self._rewards).isnan().all(1, keepdim=True)
        advantages = advantages_of(rewards, values, learnable, self.args.gamma, self.args.lam)
        returns = advantages + values
        explained = 1 - advantages[learnable > 0].var() / returns[learnable > 0].var().clamp(min=1e-8)
        self._note("val/explained_variance", explained[None])
        advantages = whitened(advantages, learnable, self.accelerator)
        return rollout | {"values": values, "returns": returns, "advantages": advantages}

    def _note(self, name: str, values) -> float:
        """Log the mean of all processes' values."""
        mean = self.accelerator.gather(values.detach()).float().nanmean().item()
        self._metrics["train"][name].append(mean)
        return mean

    # an update

    def _compute_loss(self, model, inputs):
        self._wanted, beta, self.beta = True, self.beta, 0.0  # the KL is in the rewards
        try:
            loss = super()._compute_loss(model, inputs)
        finally:
            self.beta = beta
        old, mask, clip = inputs["values"], inputs["completion_mask"], self.args.cliprange_value
        losses = value_losses(self.values, old, inputs["returns"], clip)
        # the mean over the tokens of an optimizer step, as TRL's policy loss is
        tokens = inputs["num_items_in_batch"].clamp(min=1.0) / self.accelerator.num_processes
        tokens = tokens * self.current_gradient_accumulation_steps / self.args.steps_per_generation
        value_loss = (losses * mask).sum() / tokens
        scale = self.current_gradient_accumulation_steps  # of a step, of which this is a part
        self._note("loss/policy_avg", scale * loss[None])
        self._note("loss/value_avg", scale * value_loss[None])
        clipped = ((self.values - old).abs() > clip).float() * mask
        self._note("val/clipfrac_avg", (clipped.sum() / mask.sum().clamp(min=1))[None])
        return loss + self.args.vf_coef * value_loss

    def create_optimizer(self, *args):
        """The value model's parameters in groups of their own; no group is empty, which DeepSpeed would drop and TRL would count."""
        optimizer = super().create_optimizer(*args)
        of_value = {id(p) for p in getattr(self.model, VALUE).parameters()}
        rate = self.args.learning_rate if self.args.value_learning_rate is None else self.args.value_learning_rate
        groups = []
        for group in optimizer.param_groups:
            policy = [p for p in group["params"] if id(p) not in of_value]
            value = [p for p in group["params"] if id(p) in of_value]
            groups += [group | {"params": policy}, group | {"params": value, "lr": rate}]
        optimizer.param_groups[:] = [group for group in groups if group["params"]]
        return optimizer

    # what is kept: the policy, as any engine loads it; in a checkpoint the value model too, in a folder of its own

    def _save(self, output_dir=None, state_dict=None):
        folder, prefix = Path(output_dir or self.args.output_dir), f"{VALUE}."
        state = self.model.state_dict() if state_dict is None else state_dict
        super()._save(str(folder), {name: value for name, value in state.items() if not name.startswith(prefix)})
        if self.args.should_save and folder.name.startswith("checkpoint-"):
            trained = {name for name, p in self.model.named_parameters() if p.requires_grad and name.startswith(prefix)}
            (folder / VALUE).mkdir(exist_ok=True)
            kept = {name.removeprefix(prefix): state[name].contiguous() for name in trained}
            save_file(kept, folder / VALUE / "model.safetensors", metadata={"format": "pt"})
            getattr(self.model, VALUE).config.save_pretrained(folder / VALUE)

    def _load_from_checkpoint(self, checkpoint, model=None):
        super()._load_from_checkpoint(checkpoint, model)
        kept = load_file(Path(checkpoint) / VALUE / "model.safetensors")
        getattr(self.model, VALUE).load_state_dict(kept, strict=False)


class KLBound(TrainerCallback):
    """Ends the run after the first batch whose mean KL, in nats a completion, is over the bound."""

    def __init__(self, trainer: PPOTrainer, bound: float):
        self.trainer, self.bound = trainer, bound

    def on_step_end(self, args, state, control, **kwargs):
        if self.trainer.kl > self.bound:
            say(f"step {state.global_step}: KL {self.trainer.kl:.2f} is over kl_bound={self.bound:g}: ended here")
            control.should_training_stop = True
