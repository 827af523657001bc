"""What stands between TRL's PPOTrainer and this project's rewards: which row a completion belongs to, and what it earns.

PPOTrainer asks a reward *model* for a score: it calls the model's backbone on tokens, in micro-batches, then its `score` head,
and reads one value at each completion's last token. Scorer answers in that form, with rule-based rewards, a trained reward
model, or a weighted sum of both; one score a completion is all that the trainer takes, so a step level reward model gives
its return, and its dense rewards are not used as such.
"""

import gc
import math
from collections import defaultdict
from statistics import fmean, pstdev
from types import SimpleNamespace

import torch
from accelerate.utils import gather_object
from transformers import TrainerCallback
from trl.experimental.ppo import PPOTrainer

from recipes.shared import reward_models, terminal


class PromptCollator:
    """A batch of prompts, {"input_ids": (B, T), padded on the left, "row": (B,), where each is in the dataset}."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def __call__(self, rows: list[dict]) -> dict:
        ids = {"input_ids": [row["input_ids"] for row in rows]}
        batch = self.tokenizer.pad(ids, padding_side="left", return_tensors="pt", return_attention_mask=False)
        return {"input_ids": batch["input_ids"], "row": torch.tensor([row["row"] for row in rows])}


class Batches:
    """A dataloader that remembers the batch it gave last: it may have fetched others ahead."""

    def __init__(self, loader):
        self.loader, self.current = loader, None

    def __iter__(self):
        for batch in self.loader:
            self.current = batch
            yield batch


class Scorer(torch.nn.Module):
    """A reward model to PPOTrainer; inside, rewards by name and weight, each given its own row's columns."""

    base_model_prefix = "backbone"

    def __init__(self, columns: dict[str, list], tokenizer, rewards: dict, weights: dict[str, float]):
        """columns: of all rows of the dataset. rewards: name -> reward function, or a ModelReward. weights: of the same names.

        A None isn't a reward: 0 in the sum, and left out of its reward's mean, as GRPOTrainer has it.
        """
        super().__init__()
        self.columns, self.tokenizer, self.rewards, self.weights = columns, tokenizer, rewards, weights
        self.chat = not isinstance(columns["prompts"][0], str)
        models = [r for r in rewards.values() if isinstance(r, torch.nn.Module)]
        self.models = torch.nn.ModuleList(models)  # so that the trainer moves them, or shards them
        self.batches, self.batch = None, None
        self.anchor = torch.nn.Parameter(torch.zeros(1), requires_grad=False)  # ZeRO-3 takes its dtype from a parameter
        self.config = SimpleNamespace()  # DeepSpeed's preparation looks for a hidden size in it

    def backbone(self, input_ids, attention_mask, **_):
        """Hidden states, (B, T, 1): the scores of B completions, (B,), at each of their tokens."""
        scores = self.scores(input_ids, attention_mask.bool())
        hidden = scores.to(input_ids.device)[:, None, None].expand(*input_ids.shape, 1)
        return SimpleNamespace(hidden_states=(hidden,))

    def score(self, hidden):
        return hidden

    def scores(self, input_ids, attention_mask) -> torch.Tensor:
        if self.batches.current is not self.batch:
            self.batch, self.done, self.logs, self.metrics = (
                self.batches.current,
                0,
                defaultdict(list),
                defaultdict(list),
            )
        prompts, rows = self.batch["input_ids"], self.batch["row"]
        context, here = prompts.shape[1], slice(self.done, self.done + len(input_ids))
        asked = torch.where(prompts[here] == self.tokenizer.pad_token_id, 0, prompts[here])
        if not torch.equal(asked, input_ids[:, :context]):
            raise RuntimeError("PPOTrainer scored other prompts than those of its batch: their rows can't be known")
        self.done = here.stop
        # what follows the first padding is none of the completion, even where the policy sampled the pad token itself
        lengths = attention_mask[:, context:].long().cumprod(1).sum(1).tolist()
        completions = [ids[:n].tolist() for ids, n in zip(input_ids[:, context:], lengths, strict=True)]
        prompts = [
            ids[mask].tolist() for ids, mask in zip(input_ids[:, :context], attention_mask[:, :context], strict=True)
        ]
        texts = self.tokenizer.batch_decode(completions, skip_special_tokens=True)
        columns = {name: [values[i] for i in rows[here].tolist()] for name, values in self.columns.items()}

        total = torch.zeros(len(completions))
        for name, reward in self.rewards.items():
            if isinstance(reward, ModelReward):
                values = reward(prompts, completions)
            else:
                answers = [[{"role": "assistant", "content": text}] for text in texts] if self.chat else texts
                sampled = {"completions": answers, "completion_ids": completions}
                values = reward(**sampled, **columns, log_metric=lambda k, v: self.metrics[k].append(v))
            self.logs[name] += values
            total += self.weights[name] * torch.tensor([v or 0.0 for v in values], dtype=torch.float32)
        self.logs["prompt"] += self.tokenizer.batch_decode(prompts, skip_special_tokens=True)
        self.logs["completion"] += texts
        self.logs["length"] += lengths
        self.logs["reward"] += total.tolist()
        return total

    def summary(self) -> dict[str, float]:
        """Means and spreads of the last rollout over all processes, under the names that GRPOTrainer logs."""
        gathered = {name: gather_object(self.logs[name]) for name in ("reward", "length", *self.rewards)}
        result = {"reward": fmean(gathered["reward"]), "completions/mean_length": fmean(gathered["length"])}
        for name in self.rewards:
            values = [value for value in gathered[name] if value is not None] or [math.nan]
            result[f"rewards/{name}/mean"] = fmean(values)
            result[f"rewards/{name}/std"] = pstdev(values)
        return result | {name: fmean(gather_object(values)) for name, values in self.metrics.items()}


class ModelReward(torch.nn.Module):
    """A trained reward model of the policy's vocabulary, with its return as the reward."""

    def __init__(self, model, kind: reward_models.Kind, tokenizer, batch_size: int):
        super().__init__()
        self.model, self.kind, self.batch_size = model.eval().requires_grad_(False), kind, batch_size
        self.ends_line = reward_models.line_ends(tokenizer, kind)

    def forward(self, prompts: list[list[int]], completions: list[list[int]]) -> list[float]:
        """The return of each completion, scored as it was in the reward model's own training."""
        return reward_models.score(self.model, self.kind, self.ends_line, prompts, completions, self.batch_size)[0]


class BoundReached(Exception):
    """The policy is as far from the reference as the run allows."""


class KLBound(TrainerCallback):
    """Ends the run when a step's mean KL, in nats a completion, has passed the bound. PPOTrainer heeds no other way."""

    def __init__(self, bound: float):
        self.bound, self.reached = bound, None

    def on_log(self, args, state, control, logs=None, **kwargs):
        value = (logs or {}).get("objective/kl", 0.0)
        self.reached = value if value > self.bound else None

    def on_step_end(self, args, state, control, **kwargs):
        if self.reached is not None:
            raise BoundReached(
                f"step {state.global_step}: KL {self.reached:.2f} is over kl_bound={self.bound:g}: ended here"
            )


class RewardedPPOTrainer(PPOTrainer):
    """PPOTrainer with a Scorer; what it learns, and how, is TRL's."""

    can_resume = False
    is_distributed_loading_by_transformers = False  # PPOTrainer leaves out Trainer's __init__, which would say so

    def __init__(self, *args, reward_model: Scorer, **kwargs):
        super().__init__(*args, reward_model=reward_model, **kwargs)
        self.scorer = reward_model
        self.dataloader = self.scorer.batches = Batches(self.dataloader)
        if isinstance(self.model, torch.nn.parallel.DistributedDataParallel):
            # TRL reads both through DDP, which hides them: a checkpoint fails, and policy and value are saved as one
            self.model.__dict__ |= {"policy": self.model.module.policy, "config": self.model.module.config}

    def create_optimizer(self, *args):
        """Without empty groups, such as LoRA's without decay: DeepSpeed drops them, and TRL's schedule still counts them."""
        optimizer = super().create_optimizer(*args)
        optimizer.param_groups[:] = [group for group in optimizer.param_groups if group["params"]]
        return optimizer

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Only the policy; TRL's own way to it fails under DeepSpeed, where it puts the policy in the engine's place."""
        if not self.is_deepspeed_enabled:
            return super().save_model(output_dir, _internal_call)
        state, engine = self.accelerator.get_state_dict(self.model), self.model  # gathers: every process takes part
        if self.args.should_save:
            policy = {k.removeprefix("policy."): v for k, v in state.items() if k.startswith("policy.")}
            self.model = self.accelerator.unwrap_model(engine).policy
            self._save(output_dir, state_dict=policy)
            self.model = engine

    def train(self, resume_from_checkpoint=None):
        """TRL's, with its two garbage collections a step kept from what was there before, such as every import."""
        self.accelerator.print = lambda *_, **__: None  # it says "===training policy==="
        gc.collect()
        gc.freeze()
        try:
            super().train()
        except BoundReached as end:
            terminal.say(str(end))
            self.control = self.callback_handler.on_train_end(self.args, self.state, self.control)
        finally:
            gc.unfreeze()

    def log(self, logs: dict, start_time: float | None = None) -> None:
        super().log(logs | self.scorer.summary(), start_time)

    @property
    def _logs(self) -> dict:
        """The last rollout of this process, in the form that GRPOTrainer keeps it in."""
        rewards = {name: self.scorer.logs[name] for name in self.scorer.rewards}
        return {key: self.scorer.logs[key] for key in ("prompt", "completion")} | {"rewards": rewards, "advantages": []}
