"""What a model does on held-out prompts: completions sampled as in training, scored by the same rewards."""

import gc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from datasets import Dataset
from peft import AutoPeftModelForCausalLM
from tqdm import tqdm
from transformers import AutoModelForCausalLM, GenerationConfig, set_seed
from transformers.integrations import is_deepspeed_zero3_enabled
from trl import ModelConfig, get_quantization_config
from trl.trainer.utils import selective_log_softmax

from recipes import _model, _rows
from recipes._config import refusing
from rewards import RewardError
from rewards.think_format import think_format


class Completion(NamedTuple):
    text: str
    ids: list[int]  # with the end token, if it was reached
    finished: bool


def sampling(max_completion_length: int, temperature: float = 1.0, **settings) -> GenerationConfig:
    """How completions are sampled; top_k, top_p and repetition_penalty are off unless named, whatever the model says.

    temperature 0 is greedy: the likeliest token each time, of which top_k, top_p and min_p would leave the same.
    """
    settings = {"top_k": 0, "top_p": 1.0, "repetition_penalty": 1.0} | settings
    if temperature == 0:
        penalty = settings["repetition_penalty"]
        return GenerationConfig(do_sample=False, max_new_tokens=max_completion_length, repetition_penalty=penalty)
    return GenerationConfig(do_sample=True, max_new_tokens=max_completion_length, temperature=temperature, **settings)


def check_samples(given: dict) -> None:
    """Refuse a temperature below 0, several samples a prompt of one that is greedy, and what isn't applied. Raises ValueError."""
    temperature = given.get("temperature", 1.0)
    if given.get("generation_kwargs"):
        raise ValueError(
            f"generation_kwargs={given['generation_kwargs']!r} is TRL's, for training, and not applied here: say "
            "--generation_kwargs null"
        )
    if temperature < 0:
        raise ValueError(f"temperature={temperature} must be at least 0, which is greedy")
    if temperature == 0 and (given.get("samples") or 1) > 1:
        raise ValueError(
            f"samples={given['samples']}: temperature=0 is greedy, and every sample the same: say samples: 1"
        )


class HeldOut:
    """A run's held-out rows, measured before training and after. Nothing is measured when the run has none."""

    def __init__(
        self,
        args: _rows.DatasetArgs,
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
        self.reward_funcs = reward_funcs | {"think_format": reward_funcs.get("think_format") or think_format}
        self.generation, self.rows = generation, None
        if args.held_out and is_deepspeed_zero3_enabled():
            raise ValueError(
                f"held_out={args.held_out}: ZeRO-3 holds no whole model to measure; say held_out: 0, and run "
                "recipes.evaluate on the checkpoint"
            )
        if args.held_out:
            limit = getattr(args, "max_prompt_length", None)
            rows = _rows.load_held_out(args)
            try:
                self.rows, _ = _rows.usable_rows(rows, list(self.reward_funcs.values()), tokenizer, limit)
                self.pairs = None
                if beta is not None and {"chosen", "rejected"} <= set(rows.column_names):
                    self.pairs, _ = _rows.usable_pairs(rows, tokenizer, training_args.max_length)
            except ValueError as error:
                raise ValueError(f"held_out={args.held_out}: {error}") from error

    def before(self) -> dict | None:
        """The metrics of the model that training starts from."""
        return self.rows and self._measured(load_model(self.model_args, self.training_args), None)

    def after(self, trainer, started_from_a_model: bool = True) -> dict | None:
        """The metrics of what was saved, with its KL from the model it started from; the trainer can't go on after this."""
        if self.rows is None:
            return None
        trainer.optimizer = trainer.lr_scheduler = None  # the models to load need the room of its states
        trainer.accelerator.free_memory()
        trained = replace(self.model_args, model_name_or_path=self.training_args.output_dir)
        reference = load_model(self.reference, self.training_args) if started_from_a_model else None
        return self._measured(load_model(trained, self.training_args), reference)

    def _measured(self, model, reference) -> dict:
        batch_size, seed = self.training_args.per_device_eval_batch_size, self.training_args.seed
        scored_at_a_time = self.training_args.per_device_train_batch_size  # all logits of them are held, as in training
        completions = sample(model, self.tokenizer, self.rows["prompt"], self.generation, batch_size, seed)
        result = score(completions, self.rows, self.reward_funcs)
        if reference is not None:
            prompts = _rows.prompt_ids(self.rows["prompt"], self.tokenizer)
            ids, temperature = [c.ids for c in completions], self.generation.temperature
            result["kl"] = kl(model, reference, prompts, ids, temperature, scored_at_a_time)
            if self.beta is not None and self.pairs is not None:
                result |= implicit_rewards(model, reference, self.pairs, self.tokenizer, self.beta, scored_at_a_time)
        del model, reference
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return {key: round(v, 4) if isinstance(v, float) else v for key, v in result.items()}


def load_model(model_args: ModelConfig, training_args):
    """The model in evaluation mode, on the GPU where there is one: base, fine-tuned, or a LoRA adapter on its base."""
    name = model_args.model_name_or_path
    adapter = (Path(name) / "adapter_config.json").is_file()
    model = (AutoPeftModelForCausalLM if adapter else AutoModelForCausalLM).from_pretrained(
        name,
        trust_remote_code=training_args.trust_remote_code,
        quantization_config=get_quantization_config(model_args),
        **_model.model_init_kwargs(model_args),
    )
    _model.spare_copies(model)
    return model.to(training_args.device).eval()


def sample(
    model, tokenizer, prompts: list, generation: GenerationConfig, batch_size: int, seed: int
) -> list[Completion]:
    """One completion a prompt, in their order; the processes of a launch share the work, and all get all of it."""
    generation = GenerationConfig.from_dict(generation.to_dict())
    generation.pad_token_id, generation.eos_token_id = tokenizer.pad_token_id, tokenizer.eos_token_id
    set_seed(seed + PartialState().process_index)
    done = []
    with PartialState().split_between_processes(_rows.prompt_ids(prompts, tokenizer)) as mine:
        for start in tqdm(range(0, len(mine), batch_size), desc="sampling", disable=None, leave=False):
            batch = {"input_ids": mine[start : start + batch_size]}
            inputs = tokenizer.pad(batch, padding_side="left", return_tensors="pt").to(model.device)
            with torch.inference_mode():
                ids = model.generate(**inputs, generation_config=generation)[:, inputs["input_ids"].shape[1] :]
            for row in ids.tolist():
                finished = tokenizer.eos_token_id in row
                row = row[: row.index(tokenizer.eos_token_id) + 1] if finished else row
                done.append(Completion(tokenizer.decode(row, skip_special_tokens=True), row, finished))
    return gather_object(done)


def grades(
    completions: list[Completion], rows: Dataset, reward_funcs: dict[str, Callable]
) -> dict[str, list[float | None]]:
    """What each reward pays for one completion a row. One that breaks its contract ends the program with one line."""
    given = _rows.reward_columns(rows) | {"completions": _rows.as_completions([c.text for c in completions], rows)}
    with refusing(RewardError):
        return {
            name: reward(**given, completion_ids=[c.ids for c in completions]) for name, reward in reward_funcs.items()
        }


def score(completions: list[Completion], rows: Dataset, reward_funcs: dict[str, Callable]) -> dict:
    """Metrics of one completion a row. The first reward is the accuracy: the share of completions that it pays in full.

    A completion that the reward gave None for is none of them.
    """
    scores = grades(completions, rows, reward_funcs)
    result = {"rows": len(rows)}
    first = next(iter(reward_funcs))
    if first != "think_format":
        right = [float(value == 1.0) for value in scores[first]]
        result |= {"accuracy": fmean(right), "stderr": stdev(right) / len(right) ** 0.5 if len(right) > 1 else None}
    return result | {
        "format_rate": fmean(scores["think_format"]),
        "mean_length": fmean(len(c.ids) for c in completions),
        "truncation_rate": fmean(not c.finished for c in completions),
    }


def implicit_rewards(model, reference, pairs: Dataset, tokenizer, beta: float, batch_size: int = 16) -> dict:
    """Of DPO's implicit reward, beta (log model - log reference): pair accuracy (a tie counts half), mean margin."""
    prompts = _rows.prompt_ids(pairs["prompt"], tokenizer)
    rewards = []
    for column in ("chosen", "rejected"):
        answers = _rows.completion_ids(pairs[column], tokenizer)
        of = [log_probs(m, prompts, answers, batch_size=batch_size) for m in (model, reference)]
        rewards.append([beta * (a - b) for a, b in zip(*of, strict=True)])
    margins = [chosen - rejected for chosen, rejected in zip(*rewards, strict=True)]
    return {"pair_accuracy": fmean((m > 0) + 0.5 * (m == 0) for m in margins), "margin": fmean(margins)}


def kl(
    model, reference, prompts: list[list[int]], completions: list[list[int]], temperature: float, batch_size: int = 16
) -> float:
    """Mean over completions, sampled from `model`, of the sum over tokens of log model - log reference, in nats.

    An unbiased estimate of the KL divergence of the two as distributions over completions (the k1 estimator), at the
    temperature they were sampled at; biased where top_p, top_k, min_p or a repetition penalty narrowed the sampling.
    """
    of = [log_probs(m, prompts, completions, temperature, batch_size) for m in (model, reference)]
    return fmean(a - b for a, b in zip(*of, strict=True))


@torch.inference_mode()
def log_probs(
    model, prompts: list[list[int]], completions: list[list[int]], temperature: float = 1.0, batch_size: int = 16
) -> list[float]:
    """log p(completion | prompt) of each pair, in nats. Every process of a launch computes its share and gets all."""
    done = []
    with PartialState().split_between_processes(list(zip(prompts, completions, strict=True))) as mine:
        for start in range(0, len(mine), batch_size):
            batch = mine[start : start + batch_size]
            rows = [torch.tensor(p + c) for p, c in batch]
            ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(model.device)
            sampled = torch.zeros_like(ids, dtype=torch.bool)
            for i, (p, c) in enumerate(batch):
                sampled[i, len(p) : len(p) + len(c)] = True
            # padding is on the right, where nothing that counts attends to it
            logits = model(input_ids=ids, use_cache=False).logits[:, :-1].float() / temperature
            of_tokens = selective_log_softmax(logits, ids[:, 1:])
            done += (of_tokens * sampled[:, 1:]).sum(1).tolist()
    return gather_object(done)
