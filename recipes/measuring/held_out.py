"""Held-out rows, measured before training and after it by the run's own rewards."""

import gc
from collections.abc import Callable
from dataclasses import replace

import torch
from transformers import GenerationConfig
from trl import ModelConfig

from recipes.measuring import sampler
from recipes.measuring.divergence import implicit_rewards, kl
from recipes.measuring.metrics import grades, metrics
from recipes.shared import dataset_rows, tokens
from recipes.shared.arguments import DatasetArgs
from rewards.think_format import think_format


class HeldOut:
    """A run's held-out rows, measured before training and after. Nothing is measured when the run has none."""

    def __init__(
        self,
        args: DatasetArgs,
        reward_funcs: dict[str, Callable],
        tokenizer,
        training_args,
        model_args: ModelConfig,
        generation: GenerationConfig,
        reference: ModelConfig | None = None,
        beta: float | None = None,
    ):
        """reward_funcs: the first is the accuracy; the format is always reported. Raises ValueError for bad rows.

        reference: what KL is taken from; None: the model that training starts from. With beta, the rows' pairs are
        measured too, by DPO's implicit reward.
        """
        self.tokenizer, self.model_args, self.training_args = tokenizer, model_args, training_args
        self.reference, self.beta = reference or model_args, beta
        first = next(iter(reward_funcs))
        self.accuracy = None if first == "think_format" else first
        self.reward_funcs = reward_funcs | {"think_format": reward_funcs.get("think_format") or think_format}
        self.generation, self.rows = generation, None
        if args.held_out:
            limit = getattr(args, "max_prompt_length", None)
            rows = dataset_rows.load_held_out(args)
            try:
                self.rows, _ = dataset_rows.usable_rows(rows, list(self.reward_funcs.values()), tokenizer, limit)
                self.pairs = None
                if beta is not None and {"chosen", "rejected"} <= set(rows.column_names):
                    self.pairs, _ = dataset_rows.usable_pairs(rows, tokenizer, training_args.max_length)
            except ValueError as error:
                raise ValueError(f"held_out={args.held_out}: {error}") from error

    def before(self) -> dict | None:
        """The metrics of the model that training starts from."""
        return self.rows and self._measured(sampler.load_model(self.model_args, self.training_args), None)

    def after(self, trainer, started_from_a_model: bool = True) -> dict | None:
        """The metrics of what was saved, with its KL from the model it started from; the trainer can't be used after this."""
        if self.rows is None:
            return None
        trainer.optimizer = trainer.lr_scheduler = None  # the models to load need the room of its states
        trainer.accelerator.free_memory()
        trained = replace(self.model_args, model_name_or_path=self.training_args.output_dir)
        reference = sampler.load_model(self.reference, self.training_args) if started_from_a_model else None
        return self._measured(sampler.load_model(trained, self.training_args), reference)

    def _measured(self, model, reference) -> dict:
        batch_size, seed = self.training_args.per_device_eval_batch_size, self.training_args.seed
        scored_at_a_time = self.training_args.per_device_train_batch_size  # all logits of them are held, as in training
        completions = sampler.sample(model, self.tokenizer, self.rows["prompt"], self.generation, batch_size, seed)
        scores = grades(completions, self.rows, self.reward_funcs)
        result = {"rows": len(self.rows)} | metrics(completions, scores, self.accuracy)
        if reference is not None:
            prompts = tokens.prompt_ids(self.rows["prompt"], self.tokenizer)
            ids, temperature = [c.ids for c in completions], self.generation.temperature
            result["kl"] = kl(model, reference, prompts, ids, temperature, scored_at_a_time)
            if self.beta is not None and self.pairs is not None:
                result |= implicit_rewards(model, reference, self.pairs, self.tokenizer, self.beta, scored_at_a_time)
        del model, reference
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return {key: round(v, 4) if isinstance(v, float) else v for key, v in result.items()}
