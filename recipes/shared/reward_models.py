"""Reward models at work: a score for each response, or for each of its steps.

A response level model reads one score at the end. A step level model scores every token (or every line, at its last token):
a response's return is the sum, as in Christiano et al. 2017 (arXiv 1706.03741, eq. 1), or the mean over its steps.
"""

import copy
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from peft import AutoPeftModelForSequenceClassification, AutoPeftModelForTokenClassification
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoModelForTokenClassification

from recipes.shared import model_loading, run_folder, tokens

KIND = "reward_model.json"


@dataclass
class Kind:
    """What a reward model's scores mean; kept in the folder of its weights."""

    level: str = "response"
    step_unit: str = "token"
    step_return: str = "sum"

    def save(self, folder: str) -> None:
        run_folder.write_atomically(Path(folder) / KIND, json.dumps(asdict(self)) + "\n")

    @classmethod
    def of(cls, folder: str) -> "Kind":
        """Of a run's folder or one of its checkpoints; a model without the file is taken for one with a score a response.

        Raises ValueError for one that scores tokens, but doesn't say how they add up.
        """
        for path in (Path(folder) / KIND, Path(folder).parent / KIND):
            if path.is_file() and (path.parent == Path(folder) or Path(folder).name.startswith("checkpoint-")):
                return cls(**json.loads(path.read_text()))
        config = Path(folder) / "config.json"
        if config.is_file() and "ForTokenClassification" in config.read_text():
            raise ValueError(f"{folder!r} scores tokens, but has no {KIND}: copy it from the run that trained it")
        return cls()


def refuse_policy(name: str, trust_remote_code: bool = False) -> None:
    """Raises ValueError for a model that has no score head: it would be given a random one."""
    if model_loading.is_adapter(name):
        kind = json.loads((Path(name).expanduser() / "adapter_config.json").read_text()).get("task_type")
        policy = kind == "CAUSAL_LM"
    else:
        try:
            architectures = AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code).architectures
        except (OSError, ValueError) as error:
            raise ValueError(
                f"reward_model={name!r}: its config.json can't be read ({str(error).splitlines()[0]})"
            ) from error
        kind = ", ".join(architectures or [])
        policy = kind.endswith(("ForCausalLM", "LMHeadModel"))
    if policy:
        raise ValueError(
            f"reward_model={name!r} is a language model ({kind}), whose score head would be random: train one with "
            "python -m recipes.reward_model, and name its folder"
        )


def trajectory_return(scores: torch.Tensor, mask: torch.Tensor, mean: bool = False) -> torch.Tensor:
    """The return of each trajectory, (B,), from scores of its tokens, (B, T): their sum where mask is true, or mean."""
    total = (scores * mask).sum(1)
    return total / mask.sum(1).clamp(min=1) if mean else total


def step_mask(input_ids: torch.Tensor, completion_mask: torch.Tensor, ends_line: torch.Tensor | None) -> torch.Tensor:
    """Where a step ends, (B, T): at every token of the completion, or at the last one of each of its lines.

    ends_line: (N,) the tokens that end a line; None: every token is a step.
    """
    if ends_line is None:
        return completion_mask
    following = torch.nn.functional.pad(completion_mask[:, 1:], (0, 1))
    return completion_mask & (torch.isin(input_ids, ends_line.to(input_ids.device)) | ~following)


def line_ends(tokenizer, kind: Kind) -> torch.Tensor | None:
    """The tokens that hold a line break, (N,); None where every token is a step."""
    if kind.level != "step" or kind.step_unit == "token":
        return None
    texts = tokenizer.batch_decode([[i] for i in range(len(tokenizer))])
    return torch.tensor([i for i, text in enumerate(texts) if "\n" in text])


def refuse_headless(config, kind: Kind, key: str) -> None:
    """Raises ValueError where transformers has no score head for this kind of model: Granite, Cohere and Falcon-H1 have none."""
    auto = AutoModelForSequenceClassification if kind.level == "response" else AutoModelForTokenClassification
    if type(config) not in auto._model_mapping and auto.__name__ not in getattr(config, "auto_map", {}):
        other = AutoModelForTokenClassification if kind.level == "response" else AutoModelForSequenceClassification
        others = "step" if kind.level == "response" else "response"
        way_out = f"say level: {others}, or " if type(config) in other._model_mapping else ""
        raise ValueError(
            f"{key}: transformers has no {auto.__name__.removeprefix('AutoModel')} for {config.model_type}, so that it can't score: {way_out}"
            "name a model of another family"
        )


def first_layers(config, layers: int | None):
    """The config of a model of the first so many layers; None: of all. Raises ValueError where there aren't so many."""
    if layers is not None:
        if not 1 <= layers <= config.num_hidden_layers:
            raise ValueError(
                f"value_layers={layers}: the value model has {config.num_hidden_layers} layers: say 1 to that"
            )
        config = copy.deepcopy(config)
        config.num_hidden_layers = layers
        if getattr(config, "layer_types", None):
            config.layer_types = config.layer_types[:layers]
    return config


def load(name: str, kind: Kind, tokenizer, trust_remote_code: bool = False, layers: int | None = None, **init_kwargs):
    """A model with one output a response or a token; its head is new where the checkpoint has none. Adapters are merged.

    layers: keep the first so many; of an adapter's model all are kept.
    """
    response = kind.level == "response"
    auto = AutoModelForSequenceClassification if response else AutoModelForTokenClassification
    if model_loading.is_adapter(name):
        auto = AutoPeftModelForSequenceClassification if response else AutoPeftModelForTokenClassification
        init_kwargs["trust_remote_code"] = trust_remote_code
        model = auto.from_pretrained(name, num_labels=1, **init_kwargs).merge_and_unload()
        model.config.pad_token_id = tokenizer.pad_token_id
        return model
    config = AutoConfig.from_pretrained(
        name, num_labels=1, revision=init_kwargs.get("revision"), trust_remote_code=trust_remote_code
    )
    config.classifier_dropout = 0.0  # 0.1 where the config says nothing, which would make each token's score noisy
    config.pad_token_id = tokenizer.pad_token_id
    config = first_layers(config, layers)
    return auto.from_pretrained(name, config=config, trust_remote_code=trust_remote_code, **init_kwargs)


@torch.inference_mode()
def score(model, kind: Kind, ends_line, prompts: list[list[int]], completions: list[list[int]], batch_size: int):
    """The return of each completion, and the scores of its steps with the tokens they end at, [(index, score), ...].

    Padded on the right as in training, so that a score never depends on the batch. Each process does all that it is given.
    """
    returns, steps = [], []
    pad = getattr(model, "module", model).config.pad_token_id  # DeepSpeed's engine has a config of its own
    for start in range(0, len(prompts), batch_size):
        batch = list(zip(prompts, completions, strict=True))[start : start + batch_size]
        rows = [torch.tensor(p + c) for p, c in batch]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad).to(model.device)
        lengths = torch.tensor([[len(p), len(p) + len(c)] for p, c in batch], device=ids.device)
        positions = torch.arange(ids.shape[1], device=ids.device)
        logits = model(input_ids=ids, attention_mask=(positions < lengths[:, 1:]).long()).logits.squeeze(-1).float()
        if kind.level == "response":
            returns += logits.tolist()
            continue
        mask = step_mask(ids, (positions >= lengths[:, :1]) & (positions < lengths[:, 1:]), ends_line)
        returns += trajectory_return(logits, mask, kind.step_return == "mean").tolist()
        for row, marks, (p, _) in zip(logits, mask, batch, strict=True):
            steps.append([(int(i) - len(p), float(row[i])) for i in marks.nonzero().squeeze(1)])
    return returns, steps


class ModelReward:
    """A trained reward model as a reward function: called as TRL calls one, it gives each completion's return.

    dense: at_steps() has something to give, the scores of the steps, of which the return is the sum.
    """

    __name__ = "reward_model"

    def __init__(self, model, kind: Kind, tokenizer, batch_size: int, dense: bool = False):
        self.model, self.kind, self.tokenizer = model.eval().requires_grad_(False), kind, tokenizer
        self.batch_size, self.dense, self.steps = batch_size, dense, []
        self.ends_line = line_ends(tokenizer, kind)

    def __call__(self, prompts: list, completion_ids: list[list[int]], **_) -> list[float]:
        prompts = tokens.prompt_ids(prompts, self.tokenizer)
        returns, self.steps = score(self.model, self.kind, self.ends_line, prompts, completion_ids, self.batch_size)
        return returns

    def at_steps(self, mask: torch.Tensor) -> torch.Tensor:
        """What the steps of the completions scored last earn, where they end: (B, T), as the mask; a row's sum is its return."""
        rewards = torch.zeros_like(mask, dtype=torch.float32)
        for row, steps in zip(rewards, self.steps, strict=True):
            share = len(steps) if self.kind.step_return == "mean" else 1
            for index, value in steps:
                row[index] = value / share
        return rewards
