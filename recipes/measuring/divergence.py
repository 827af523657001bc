"""The divergence of a policy from its reference: log-probabilities, KL, and DPO's implicit rewards."""

from statistics import fmean

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from datasets import Dataset
from trl.trainer.utils import selective_log_softmax

from recipes.shared import tokens


def kl(
    model, reference, prompts: list[list[int]], completions: list[list[int]], temperature: float, batch_size: int = 16
) -> float:
    """Mean over completions, sampled from `model`, of the sum over tokens of log model - log reference, in nats.

    An unbiased estimate of the KL divergence of the two as distributions over completions (the k1 estimator), at the
    temperature they were sampled at; biased where top_p, top_k, min_p or a repetition penalty narrowed the sampling.
    """
    logps = [log_probs(m, prompts, completions, temperature, batch_size) for m in (model, reference)]
    return fmean(a - b for a, b in zip(*logps, strict=True))


def implicit_rewards(model, reference, pairs: Dataset, tokenizer, beta: float, batch_size: int = 16) -> dict:
    """Of DPO's implicit reward, beta (log model - log reference): pair accuracy (a tie counts half), mean margin."""
    prompts = tokens.prompt_ids(pairs["prompt"], tokenizer)
    rewards = []
    for column in ("chosen", "rejected"):
        answers = tokens.completion_ids(pairs[column], pairs["prompt"], tokenizer)
        logps = [log_probs(m, prompts, answers, batch_size=batch_size) for m in (model, reference)]
        rewards.append([beta * (a - b) for a, b in zip(*logps, strict=True)])
    margins = [chosen - rejected for chosen, rejected in zip(*rewards, strict=True)]
    return {"pair_accuracy": fmean((m > 0) + 0.5 * (m == 0) for m in margins), "margin": fmean(margins)}


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
