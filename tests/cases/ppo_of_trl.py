"""What TRL 1.12's PPOTrainer, the last there was, makes of two small rollouts: the numbers of ppo_of_trl.json.

The weights come from a sine, so that any version of torch has the same. Two epochs, with a step of gradient descent
after the first.

Run (with trl==1.12.0 installed): python tests/cases/ppo_of_trl.py
"""

import json
import sys
import tempfile
from pathlib import Path
from unittest import mock

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM, Qwen2ForTokenClassification

NUMBERS = Path(__file__).with_suffix(".json")
VOCABULARY = {"<pad>": 0, "<eos>": 1} | {f"w{i}": i for i in range(2, 24)}
PROMPTS = [[2, 3], [4], [5, 6, 7], [8, 2], [9], [10, 11, 12], [13, 4], [14]]
SCORES = [1.0, -0.5, 0.0, 2.0, 0.25, -1.0, 1.5, 0.75]
LONG = [[2, 9, 4, 17, 5], [3, 3, 8, 21, 12], [16, 7, 2, 2, 19], [4, 11, 6, 5, 23]]
LONG += [[20, 2, 13, 8, 8], [7, 18, 9, 3, 10], [15, 5, 5, 22, 6], [12, 4, 14, 2, 11]]
CASES = {
    # every completion fills its length: TRL's and the textbook's are the same
    "full": {"gamma": 0.9, "lam": 0.8, "completions": LONG},
    # some end before: TRL pays them one position behind the end token, with a value of its own, which adds up to the same for
    # gamma = lambda = 1 alone
    "ended": {
        "gamma": 1.0,
        "lam": 1.0,
        "completions": [c[: 1 + i % 5] + [1] * (i % 5 < 4) for i, c in enumerate(LONG)],
    },
}
SETTINGS = {"kl_coef": 0.1, "vf_coef": 0.3, "cliprange_value": 0.05, "num_ppo_epochs": 2}
QUIET = {"use_cpu": True, "bf16": False, "report_to": "none", "gradient_checkpointing": False, "disable_tqdm": True}
QUIET |= {
    "save_strategy": "no",
    "lr_scheduler_type": "constant",
    "temperature": 1.0,
    "optim": "sgd",
    "learning_rate": 0.5,
}


def tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(WordLevel(VOCABULARY, unk_token="<pad>"))
    words.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="<eos>", padding_side="left", model_max_length=64
    )


def model(phase: float, kind=Qwen2ForCausalLM):
    made = kind(
        Qwen2Config(
            **{"vocab_size": len(VOCABULARY), "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1},
            **{"num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 32, "num_labels": 1},
            **{"tie_word_embeddings": False, "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0},
            **{"classifier_dropout": 0.0},
        )
    )
    with torch.no_grad():
        for n, (name, p) in enumerate(made.named_parameters()):
            wave = torch.sin(torch.arange(p.numel(), dtype=torch.float64) * (n + 2.5) + phase).view(p.shape)
            p.copy_(1 + 0.1 * wave if "norm" in name else 0.4 * wave)
    return made


def models() -> tuple:
    """The policy, its reference, and the value model."""
    return model(0.0), model(0.05), model(2.0, Qwen2ForTokenClassification)


class Score(torch.nn.Module):
    """A reward model to PPOTrainer, which knows the score of each prompt."""

    base_model_prefix = "body"

    def body(self, input_ids, **_):
        asked = [[i for i in row[:3] if i != 0] for row in input_ids.tolist()]
        scores = torch.tensor([SCORES[PROMPTS.index(prompt)] for prompt in asked])
        return mock.Mock(hidden_states=[scores[:, None, None].expand(*input_ids.shape, 1)])

    def score(self, hidden):
        return hidden


def of_trl(completions: list[list[int]], gamma: float, lam: float) -> dict:
    """By prompt, in the order of PROMPTS: advantages, whitened ones and returns of its tokens, its KL; losses by epoch."""
    from datasets import Dataset
    from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer

    order, found, means = [], {}, []
    width, original, original_mean = max(map(len, completions)), ppo_trainer.masked_whiten, ppo_trainer.masked_mean

    def generated(policy, queries, *_):
        order.extend(PROMPTS.index([i for i in row if i != 0]) for row in queries.tolist())
        rows = torch.tensor([(completions[i] + [0] * width)[:width] for i in order])
        sequences = torch.cat([queries, rows], 1)
        mask = sequences != 0
        position = mask.cumsum(1) - mask.long()
        logits = policy(torch.where(mask, sequences, 0), attention_mask=mask, position_ids=position).logits
        return sequences, logits[:, queries.shape[1] - 1 : -1]

    def whiten(values, mask, shift_mean=True):
        there, white = sys._getframe(1).f_locals, original(values, mask, shift_mean)
        for name, rows in (
            ("advantages", values),
            ("whitened", white),
            ("returns", there["returns"]),
            ("kl", there["kl"]),
        ):
            found[name] = {i: [round(x, 7) for x in rows[k][mask[k]].tolist()] for k, i in enumerate(order)}
        means.clear()  # those of whitening itself
        return white

    def mean(values, mask, **kwargs):
        means.append(original_mean(values, mask, **kwargs))
        return means[-1]

    policy, reference, value = models()
    parts = {"batch_generation": generated, "masked_whiten": whiten, "masked_mean": mean}
    settings = SETTINGS | {"gamma": gamma, "lam": lam, "response_length": width, "per_device_train_batch_size": 8}
    with mock.patch.multiple(ppo_trainer, **parts), tempfile.TemporaryDirectory() as folder:
        trainer = PPOTrainer(
            args=PPOConfig(folder, total_episodes=8, num_sample_generations=0, stop_token="eos", **settings, **QUIET),
            processing_class=tokenizer(),
            model=policy,
            ref_model=reference,
            reward_model=Score(),
            value_model=value,
            train_dataset=Dataset.from_dict({"input_ids": PROMPTS}),
        )
        trainer.train()
    values, policies = means[0::4], means[2::4]  # beside how often each is clipped
    losses = {"value_losses": [0.5 * x.item() for x in values], "policy_losses": [x.item() for x in policies]}
    return {name: [rows[i] for i in range(len(PROMPTS))] for name, rows in found.items()} | losses


if __name__ == "__main__":
    NUMBERS.write_text(json.dumps({name: of_trl(**case) for name, case in CASES.items()}) + "\n")
    print(NUMBERS.read_text()[:2000])
