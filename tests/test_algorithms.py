"""The algorithms of the pinned TRL, and our PPO on its GRPO trainer, on numbers that a pocket calculator reproduces from papers.

Each docstring works its expected values out; the test then reads the same quantity out of the trainer. The models
are real ones, set so that the arithmetic is known: a bigram model, whose next-token probabilities are a given table of
the token before, and a head that gives each token a chosen number. If TRL is upgraded, this file says what changed.
"""

import json
import math
from types import SimpleNamespace

import pytest
import torch
from cases import ppo_of_trl
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2ForSequenceClassification,
    Qwen2ForTokenClassification,
)
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, RewardConfig, RewardTrainer
from trl.trainer.utils import add_fused_lm_head

from recipes.shared import reward_models
from recipes.shared.ppo_trainer import PPOConfig, PPOTrainer

STARTS = [f"q{i}" for i in range(32)]  # prompts of one token
WORDS = ["<pad>", "<eos>", "a", "b", "c", "d", "x", "y", *STARTS]
ID = {word: i for i, word in enumerate(WORDS)}
QUIET = {"use_cpu": True, "bf16": False, "report_to": "none", "gradient_checkpointing": False, "disable_tqdm": True}
ONE_STEP = {"max_steps": 1, "logging_steps": 1, "learning_rate": 0.0, "per_device_train_batch_size": 4, **QUIET}


def ids(text: str) -> list[int]:
    return [ID[word] for word in text.split()]


def tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(WordLevel(ID, unk_token="<pad>"))
    words.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="<eos>", padding_side="left", model_max_length=64
    )


def of_last_token(kind, **config):
    """A Qwen2 whose final hidden state is the one-hot vector of the token read: all between adds nothing."""
    size = len(WORDS)
    model = kind(
        Qwen2Config(
            **{"vocab_size": size, "hidden_size": size, "intermediate_size": 4, "num_hidden_layers": 1},
            **{"num_attention_heads": 1, "num_key_value_heads": 1, "max_position_embeddings": 64},
            **{"tie_word_embeddings": False, "rms_norm_eps": 1e-12, "bos_token_id": None},
            **{"eos_token_id": ID["<eos>"], "pad_token_id": ID["<pad>"], **config},
        )
    )
    body = model.model
    with torch.no_grad():
        body.embed_tokens.weight.copy_(torch.eye(size))
        body.layers[0].self_attn.o_proj.weight.zero_()
        body.layers[0].mlp.down_proj.weight.zero_()
        body.norm.weight.fill_(size**-0.5)  # RMSNorm makes a one-hot vector sqrt(size) long
    return model


def set_next(model: Qwen2ForCausalLM, table: dict[str, dict[str, float]]) -> None:
    """Let the token after `word` have the probabilities table[word], or table["*"]; everything else is uniform."""
    with torch.no_grad():
        model.lm_head.weight.fill_(-math.log(len(WORDS)))
        for i, word in enumerate(WORDS):
            if row := table.get(word, table.get("*")):
                assert sum(row.values()) == pytest.approx(1)
                model.lm_head.weight[:, i] = -100.0  # e^-100 is 0 beside any probability here
                for after, p in row.items():
                    model.lm_head.weight[ID[after], i] = math.log(p)
        seen = model(torch.arange(len(WORDS))[None]).logits[0].softmax(-1)
    for i, word in enumerate(WORDS):
        for after, p in table.get(word, table.get("*", {})).items():
            assert seen[i, ID[after]] == pytest.approx(p, abs=1e-6)


def bigram(table: dict[str, dict[str, float]]) -> Qwen2ForCausalLM:
    model = of_last_token(Qwen2ForCausalLM)
    set_next(model, table)
    return model


def head(numbers: dict[str, float], kind=Qwen2ForSequenceClassification):
    """A reward or value model that gives each token its number, and 0 where none is given."""
    model = of_last_token(kind, num_labels=1)
    with torch.no_grad():
        model.score.weight.copy_(torch.tensor([[numbers.get(word, 0.0) for word in WORDS]]))
    return model


def near(want, within=1e-5):
    return pytest.approx(want, abs=within)


# GRPO


def chosen(name: str, numbers: list):
    def reward(completions, **_):
        assert len(completions) == len(numbers)
        return numbers

    reward.__name__ = name
    return reward


def grpo_trainer(folder, model, rewards=lambda completions, **_: [0.0] * len(completions), **config) -> GRPOTrainer:
    config = {"per_device_train_batch_size": 8, "num_generations": 4, "max_completion_length": 4} | config
    return GRPOTrainer(
        model=model,
        reward_funcs=rewards,
        args=GRPOConfig(output_dir=str(folder), max_steps=1, **QUIET, **config),
        train_dataset=Dataset.from_dict({"prompt": ["x", "y"]}),
        processing_class=tokenizer(),
    )


@pytest.mark.trains
@pytest.mark.parametrize(
    "scale_rewards, weights, rewards, want",
    [
        ("group", [1], [[1, 0, 0, 0, 1, 1, 1, 1]], [1.499700, -0.499900, -0.499900, -0.499900, 0, 0, 0, 0]),
        ("none", [1], [[1, 0, 0, 0, 1, 1, 1, 1]], [0.75, -0.25, -0.25, -0.25, 0, 0, 0, 0]),
        ("batch", [1], [[1, 0, 0, 0, 1, 1, 1, 1]], [1.448858, -0.482953, -0.482953, -0.482953, 0, 0, 0, 0]),
        (
            "group",
            [1, 0.5],
            [[1, 0, 0, 0, 3, 3, 0, 0], [0, 1, 0, 1, 0, 0, 6, 6]],
            [1.224445, 0, -1.224445, 0, 0, 0, 0, 0],
        ),
        (
            "group",
            [1],
            [[1, None, 0, 0, None, None, None, None]],
            [1.154501, 0, -0.577250, -0.577250, 0, 0, 0, 0],
        ),
    ],
    ids=["group", "none", "batch", "two rewards", "ungradable"],
)
def test_advantages_of_a_group(tmp_path, scale_rewards, weights, rewards, want):
    """2402.03300, 4.1.2: A_i = (r_i - mean(r)) / std(r), over the group of a prompt; here two groups of four.

    TRL's std is the sample's (n - 1), and 0.0001 is added to it: the paper says neither.
    group  1 0 0 0: mean 1/4, squares (3/4)^2 + 3 (1/4)^2 = 3/4, std sqrt(3/4 / 3) = 0.5; 0.75/0.5001 = 1.499700 and
           -0.25/0.5001 = -0.499900. All equal: no deviation, 0 over 0.0001 = 0.
    none   (Dr. GRPO, 2503.20783) the deviations themselves.
    batch  the std of all eight, five 1 and three 0: mean 5/8, squares 5 (3/8)^2 + 3 (5/8)^2 = 15/8, std
           sqrt(15/8 / 7) = 0.517549; 0.75/0.517649 = 1.448858, -0.25/0.517649 = -0.482953. The mean is the group's.
    two    1 x (1 0 0 0) + 0.5 x (0 1 0 1) = 1, 0.5, 0, 0.5: mean 0.5, std sqrt(0.5 / 3) = 0.408248;
           0.5/0.408348 = 1.224445. The second group adds up to 3 each.
    ungradable  None is in neither mean nor std, and gets 0. 1 0 0: mean 1/3, std sqrt((4/9 + 2/9) / 2) = 0.577350;
           (2/3)/0.577450 = 1.154501, (-1/3)/0.577450 = -0.577250.
    """
    trainer = grpo_trainer(
        *(tmp_path, bigram({}), [chosen(f"r{i}", numbers) for i, numbers in enumerate(rewards)]),
        **{"reward_weights": [float(w) for w in weights], "scale_rewards": scale_rewards},
    )
    trainer.train()
    assert list(trainer._logs["advantages"]) == near(want)


def grpo_loss(trainer: GRPOTrainer, prompt: str, completions: list[str], advantages: list[float], **more) -> float:
    """TRL's loss of these completions, as in training, and its gradient left in the model."""
    length = max(len(ids(completion)) for completion in completions)
    padded = [ids(completion) + [ID["<pad>"]] * (length - len(ids(completion))) for completion in completions]
    completion_ids = torch.tensor(padded)
    mask = (completion_ids != ID["<pad>"]).long()
    prompt_ids = torch.tensor([ids(prompt)] * len(completions))
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1  # train() sets it
    loss = trainer._compute_loss(
        trainer.model,
        {"prompt_ids": prompt_ids, "prompt_mask": torch.ones_like(prompt_ids), "completion_ids": completion_ids}
        | {"completion_mask": mask, "advantages": torch.tensor(advantages), "num_items_in_batch": mask.sum()}
        | more,
    )
    loss.backward()
    return loss.item()


def slope(model: Qwen2ForCausalLM, word: str, after: str) -> float:
    """The loss's derivative by the logit of `word` behind `after`: the one-hot hidden state makes it a weight's own."""
    return model.lm_head.weight.grad[ID[word], ID[after]].item()


@pytest.mark.parametrize(
    "advantage, old, want, slope_of_a",
    [
        (1.0, 0.4, -1.2, 0.0),
        (1.0, 0.625, -0.96, -0.384),
        (1.0, 0.8, -0.75, -0.3),
        (-1.0, 0.4, 1.5, 0.6),
        (-1.0, 0.625, 0.96, 0.384),
        (-1.0, 0.8, 0.8, 0.0),
    ],
    ids=["up, above: clipped", "up, inside", "up, below", "down, above", "down, inside", "down, below: clipped"],
)
def test_the_clipped_objective_in_grpo(tmp_path, advantage, old, want, slope_of_a):
    """1707.06347, eq. 7: L = min(ratio A, clip(ratio, 0.8, 1.2) A), and the loss is -L. One token a, p(a) = 0.6.

    old 0.4: ratio 1.5; 0.625: 0.96; 0.8: 0.75. With A = 1: min(1.5, 1.2), min(0.96, 0.96), min(0.75, 0.8). With
    A = -1: min(-1.5, -1.2), min(-0.96, -0.96), min(-0.75, -0.8). Where the clipped term is the smaller one the gradient
    is 0. Elsewhere it is that of -ratio A by the logit of a: -ratio A (1 - 0.6), and by b's, p(b) = 0.4, the opposite.
    """
    trainer = grpo_trainer(tmp_path, bigram({"x": {"a": 0.6, "b": 0.4}}))
    loss = grpo_loss(trainer, "x", ["a"], [advantage], old_per_token_logps=torch.tensor([[math.log(old)]]))
    assert loss == near(want)
    assert slope(trainer.model, "a", after="x") == near(slope_of_a)
    assert slope(trainer.model, "b", after="x") == near(-slope_of_a)
    if slope_of_a == 0:
        assert not trainer.model.lm_head.weight.grad.any()
    clipped = trainer._metrics["train"]["clip_ratio/low_mean"] + trainer._metrics["train"]["clip_ratio/high_mean"]
    assert clipped == [float(slope_of_a == 0 and advantage < 0), float(slope_of_a == 0 and advantage > 0)]


@pytest.mark.parametrize("loss_type, want", [("grpo", -0.25), ("dapo", 0.125), ("dr_grpo", 0.0625)])
def test_the_averages_over_tokens(tmp_path, loss_type, want):
    """Completions of 1 and 3 tokens, advantages 1 and -0.5, ratios 1: the tokens' losses are -1 and 0.5, 0.5, 0.5.

    grpo     (2402.03300, eq. 3: 1/G sum of 1/|o_i|)  the mean of -1 and 0.5.
    dapo     (2503.14476, and TRL's default)  their sum, 0.5, over 4 tokens.
    dr_grpo  (2503.20783)  0.5 over 2 completions of at most 4 tokens.
    """
    trainer = grpo_trainer(tmp_path, bigram({"*": {"a": 0.6, "b": 0.4}}), loss_type=loss_type)
    assert grpo_loss(trainer, "x", ["a", "b a b"], [1.0, -0.5]) == near(want)


@pytest.mark.parametrize(
    "corrected, slope_of_a, slope_of_b", [(False, -0.08125, -0.7), (True, -0.0765, -0.583258)], ids=["paper's", "TRL's"]
)
def test_the_kl_term_of_grpo(tmp_path, corrected, slope_of_a, slope_of_b):
    """2402.03300, eq. 4: k3 = ref/p - ln(ref/p) - 1 a token, times beta, here 0.5. p(a) = 0.8, ref(a) = 0.5.

    a: 0.625 - ln 0.625 - 1 = 0.095004; b: 2.5 - ln 2.5 - 1 = 0.583709; their mean is 0.339357, and the loss of the
    completion "a b" with ratios and advantage 1 is -1 + 0.5 x 0.339357 = -0.830322.
    k3's derivative by ln p is 1 - ref/p: 0.375 for a, -1.5 for b. So the loss's by the logit of a behind x is
    (-1 + 0.5 x 0.375) / 2 x (1 - 0.8) = -0.08125, and by that of b behind a (-1 - 0.5 x 1.5) / 2 x (1 - 0.2) = -0.7.

    TRL by default (use_bias_correction_kl, 2512.02556) multiplies k3 by the ratio. At ratio 1 that leaves its value and
    adds k3 to its derivative, which becomes ln(p/ref): ln 1.6 = 0.470004 for a, ln 0.4 = -0.916291 for b. Then it is
    (-1 + 0.235002) / 2 x 0.2 = -0.076500 and (-1 - 0.458145) / 2 x 0.8 = -0.583258.
    """
    bigram({"*": {"a": 0.5, "b": 0.5}}).save_pretrained(tmp_path / "start")
    config = {"beta": 0.5} if corrected else {"beta": 0.5, "use_bias_correction_kl": False}
    trainer = grpo_trainer(tmp_path, str(tmp_path / "start"), **config)
    set_next(trainer.model, {"*": {"a": 0.8, "b": 0.2}})  # as if trained: the reference is still the start
    everything = torch.tensor([ids("x a b")])
    ref, *_ = trainer._get_per_token_logps_and_entropies(trainer.ref_model, everything, torch.ones_like(everything), 2)
    assert ref[0].tolist() == near([-0.693147, -0.693147])
    assert grpo_loss(trainer, "x", ["a b"], [1.0], ref_per_token_logps=ref) == near(-0.830322)
    assert trainer._metrics["train"]["kl"] == near([0.339357])
    assert slope(trainer.model, "a", after="x") == near(slope_of_a)
    assert slope(trainer.model, "b", after="a") == near(slope_of_b)


# PPO


class Scripted(torch.optim.Optimizer):
    """Keeps the gradient of each step and, instead of stepping, does what the test says."""

    def __init__(self, model, then=lambda: None):
        super().__init__(model.parameters(), {"lr": 0.0})
        self.model, self.then, self.gradients = model, then, []

    def step(self, closure=None):
        self.gradients.append(self.model.lm_head.weight.grad.clone())
        self.then()


def ppo(folder, prompts, policy, ref, value, scores: dict, then=lambda: None, **config) -> SimpleNamespace:
    """One update of PPO: each prompt's response and advantages, before and after whitening; metrics; gradients.

    scores: of a response, by its last word.
    """
    optimizer, schedule = Scripted(policy, then), torch.optim.lr_scheduler.LambdaLR
    kl_coef, epochs = config.pop("kl_coef", 0.0), config.get("num_ppo_epochs", 1)
    trainer = PPOTrainer(
        model=policy,
        value_model=value,
        reward_funcs=lambda completions, **_: [scores.get(c[-1:], 0.0) for c in completions],
        args=PPOConfig(
            **{"output_dir": str(folder), "max_steps": epochs, "num_ppo_epochs": 1, "save_strategy": "no"}
            | QUIET
            | config,
            **{"per_device_train_batch_size": len(prompts), "kl_coef": 0.0, "max_grad_norm": 0.0, "logging_steps": 1},
        ),
        train_dataset=Dataset.from_dict({"prompt": prompts}),
        processing_class=tokenizer(),
        optimizers=(optimizer, schedule(optimizer, lambda _: 1.0)),
    )
    trainer.args.kl_coef = trainer.beta = kl_coef  # it would load the reference from a folder
    trainer.ref_model = ref
    add_fused_lm_head(ref)
    trainer.train()
    (kept,) = trainer._buffered_inputs
    asked = [WORDS[row[0]] for row in kept["prompt_ids"]]

    def by_prompt(rows) -> dict:
        masks = kept["completion_mask"].bool()
        return {prompt: row[mask].tolist() for prompt, row, mask in zip(asked, rows, masks, strict=True)}

    return SimpleNamespace(
        responses={prompt: [WORDS[i] for i in row] for prompt, row in by_prompt(kept["completion_ids"]).items()},
        advantages=by_prompt(kept["returns"] - kept["values"]),
        whitened=by_prompt(kept["advantages"]),
        steps=[row for row in trainer.state.log_history if "loss/value_avg" in row],
        gradients=optimizer.gradients,
    )


CHAIN = {"x": {"a": 1.0}, "a": {"b": 1.0}, "b": {"<eos>": 1.0}, "y": {"c": 1.0}, "c": {"d": 1.0}, "d": {"c": 1.0}}


@pytest.mark.trains
def test_gae_on_a_response_that_fills_its_length(tmp_path):
    """1506.02438, eqs. 11 and 16: A_t = delta_t + gamma lambda A_t+1, delta_t = r_t + gamma V_t+1 - V_t.

    y, then c d c: V_t is the value behind the token before, V(y) = 0.5, V(c) = 0.2, V(d) = -0.4. The score 1 is the
    last action's reward, and the episode ends with it. gamma = 0.9, lambda = 0.5, so gamma lambda = 0.45.
    delta_2 = 1 + 0.4 = 1.4                    A_2 = 1.4
    delta_1 = 0.9 x -0.4 - 0.2 = -0.56         A_1 = -0.56 + 0.45 x 1.4 = 0.07
    delta_0 = 0.9 x 0.2 - 0.5 = -0.32          A_0 = -0.32 + 0.45 x 0.07 = -0.2885
    The value's loss is half the mean of (V - (A + V))^2 = A^2: (1.96 + 0.0049 + 0.083232) / 6 = 0.341355, of both prompts.
    Whitening: mean 1.1815/3 = 0.393833, sample variance 2 ((1.006167)^2 + (0.323833)^2 + (0.682333)^2) / 5 = 0.633126,
    std 0.795692: 1.264518, -0.406983, -0.857534. Their mean is 0, and so is the policy's loss while all ratios are 1.
    """
    policy, ref, value = bigram(CHAIN), bigram(CHAIN), head({"y": 0.5, "c": 0.2, "d": -0.4})
    run = ppo(
        *(tmp_path, ["y", "y"], policy, ref, value, {"c": 1.0}),
        **{"max_completion_length": 3, "gamma": 0.9, "lam": 0.5},
    )
    assert run.responses == {"y": ["c", "d", "c"]}
    assert run.advantages["y"] == near([-0.2885, 0.07, 1.4])
    assert run.whitened["y"] == near([-0.857534, -0.406983, 1.264518])
    assert run.steps[0]["loss/value_avg"] == near(0.341355)
    assert run.steps[0]["loss/policy_avg"] == near(0)
    assert run.steps[0]["reward"] == near(1)


@pytest.mark.trains
@pytest.mark.parametrize("prompts", [["x", "x"], ["x", "y"]], ids=["alone", "beside a longer one"])
def test_gae_on_a_response_that_ends_by_itself(tmp_path, prompts):
    """The end token is the last action, and earns the score, whatever else is in the batch.

    x, then a b <eos>. V(x) = 0.5, V(a) = 0.2, V(b) = -0.4, V(<eos>) = 0.3; the score is 1; gamma = 0.9, lambda = 0.5.
    Each token's reward is -0.1 (ln p - ln ref): the policy is certain, the reference gives a 1/2, b 1/4 and
    <eos> 1/2, so it is -0.0693147, -0.1386294, -0.0693147.

    A_2 = -0.0693147 + 1 + 0.4 = 1.3306853
    A_1 = -0.1386294 + 0.9 x -0.4 - 0.2 + 0.45 x 1.3306853 = -0.6986294 + 0.5988084 = -0.0998210
    A_0 = -0.0693147 + 0.9 x 0.2 - 0.5 + 0.45 x -0.0998210 = -0.3893147 - 0.0449195 = -0.4342342

    TRL's PPOTrainer paid one position behind <eos> where a longer response left room for it, with V(<eos>) for a value and no
    action: A_3 = 1 - 0.3 = 0.7, A_2 = -0.0693147 + 0.9 x 0.3 + 0.4 + 0.45 x 0.7 = 0.9156853, A_1 = -0.2865710, A_0 = -0.5182717.
    It trained the value there, too. With gamma = lambda = 1 that changes neither the advantages nor the returns.
    """
    ref = bigram({**CHAIN, "x": {"a": 0.5, "c": 0.5}, "a": {"b": 0.25, "c": 0.75}, "b": {"<eos>": 0.5, "c": 0.5}})
    value = head({"x": 0.5, "a": 0.2, "b": -0.4, "<eos>": 0.3})
    run = ppo(
        *(tmp_path, prompts, bigram(CHAIN), ref, value, {"b": 1.0}),
        **{"max_completion_length": 5, "gamma": 0.9, "lam": 0.5, "kl_coef": 0.1},
    )
    assert run.responses["x"] == ["a", "b", "<eos>"]
    assert run.advantages["x"] == near([-0.4342342, -0.0998210, 1.3306853])


@pytest.mark.trains
def test_the_kl_penalty_of_ppo(tmp_path):
    """http://joschu.net/blog/kl-approx.html: k1 = ln(p/ref), and -kl_coef k1 is the reward.

    p = 0.6 a, 0.2 b, 0.2 <eos>; ref = 0.3, 0.4, 0.3; so p/ref = 2, 1/2, 2/3, and ln(p/ref) = 0.693147, -0.693147,
    -0.405465. Behind <eos> there is nothing to pay for. With gamma = 0 and values of 0, a token's advantage is its own
    reward; scores are 0, and kl_coef is 0.5. objective/kl is the sum over a response, averaged over responses.
    """
    want = {"a": 0.693147, "b": -0.693147, "<eos>": -0.405465}
    policy, ref = bigram({"*": {"a": 0.6, "b": 0.2, "<eos>": 0.2}}), bigram({"*": {"a": 0.3, "b": 0.4, "<eos>": 0.3}})
    run = ppo(
        *(tmp_path, STARTS, policy, ref, head({}), {}),
        **{"max_completion_length": 6, "gamma": 0.0, "kl_coef": 0.5},
    )
    assert {word for response in run.responses.values() for word in response} == set(want)
    for start, response in run.responses.items():
        assert run.advantages[start] == near([-0.5 * want[word] for word in response])
    mean = sum(want[word] for response in run.responses.values() for word in response) / len(STARTS)
    assert run.steps[0]["objective/kl"] == near(mean)


@pytest.mark.trains
def test_a_completion_that_no_reward_can_judge_teaches_nothing(tmp_path):
    """x's a b <eos> has no reward: advantages of 0, and no part in the whitening of y's c d c, which is the one of it alone.

    gamma = lambda = 1 and values of 0.25: y's advantages are 1 - 0.25 = 0.75 at each token, whose deviation is 0, so that whitened
    they are 0 as well. With kl_coef 0 nothing else is paid, and x's returns are its values.
    """
    policy, value = bigram(CHAIN), head(dict.fromkeys(WORDS, 0.25))
    run = ppo(
        *(tmp_path, ["x", "y"], policy, bigram(CHAIN), value, {"b": None, "c": 1.0}),
        **{"max_completion_length": 3, "gamma": 1.0, "lam": 1.0},
    )
    assert run.advantages == {"x": near([0, 0, 0]), "y": near([0.75, 0.75, 0.75])}
    assert run.whitened == {"x": near([0, 0, 0]), "y": near([0, 0, 0])}
    assert run.steps[0]["reward"] == near(1)


def two_choices(p: float) -> dict[str, dict[str, float]]:
    return {q: {"a": p, "b": 1 - p} for q in STARTS[:16]} | {q: {"c": p, "d": 1 - p} for q in STARTS[16:]}


@pytest.mark.trains
@pytest.mark.parametrize(
    "p, losses, slopes, clipped",
    [
        (0.55, {"a": -1.1, "b": -0.9, "c": 1.1, "d": 0.9}, {"a": -0.495, "b": -0.495, "c": 0.495, "d": 0.495}, ""),
        (0.65, {"a": -1.2, "b": -0.7, "c": 1.3, "d": 0.8}, {"a": 0, "b": -0.455, "c": 0.455, "d": 0}, "ad"),
    ],
    ids=["inside", "outside"],
)
def test_the_clipped_objective_in_ppo(tmp_path, p, losses, slopes, clipped):
    """1707.06347, eq. 7, over two epochs; between them the policy moves as if the optimizer had moved it.

    16 prompts are followed by a or b, with score 1, and 16 by c or d, with -1, each at p = 0.5. Values are 0, so those
    are the advantages; whitened, with the sample variance 32/31, they are 1 and -1 times A = sqrt(31/32) = 0.984251.
    First epoch: ratios 1, and the mean loss 0. Then a and c get p, b and d get 1 - p.
    inside   0.55: ratios 1.1 and 0.9, losses -1.1 A and -0.9 A, and 1.1 A and 0.9 A for c and d.
    outside  0.65: ratios 1.3 and 0.7. a: -min(1.3, 1.2) A, b: -min(0.7, 0.8) A, c: -min(-1.3, -1.2) A,
             d: -min(-0.7, -0.8) A. Gradients vanish for a and d, the clipped ones.
    The slope by the sampled word's logit is -advantage ratio (1 - its probability) / 32, where it isn't clipped:
    a: 1.1 x 0.45 = 0.495, b: 0.9 x 0.55 = 0.495; outside, b: 0.7 x 0.65 = 0.455, c: 1.3 x 0.35 = 0.455.

    The values are clipped too (not in the paper): from 0 to 0.5 counts as 0.2, if that is the larger error. First epoch:
    (0 - 1)^2 / 2 = 0.5. Second: return 1: max(0.5^2, 0.8^2) = 0.64, -1: max(1.5^2, 1.2^2) = 2.25; their mean is 1.445,
    half of it 0.7225.
    """
    policy, ref, value = bigram(two_choices(0.5)), bigram(two_choices(0.5)), head({})

    def move():
        set_next(policy, two_choices(p))
        value.score.weight.data.fill_(0.5)

    run = ppo(
        *(tmp_path, STARTS, policy, ref, value, {"a": 1.0, "b": 1.0, "c": -1.0, "d": -1.0}, move),
        **{"max_completion_length": 1, "num_ppo_epochs": 2},
    )
    sampled = {start: word for start, (word,) in run.responses.items()}
    assert set(sampled.values()) == set("abcd")
    mean = 0.984251 * sum(losses[word] for word in sampled.values()) / 32
    assert [row["loss/policy_avg"] for row in run.steps] == near([0, mean])
    share = sum(word in clipped for word in sampled.values()) / 32
    assert [row["clip_ratio/region_mean"] for row in run.steps] == near([0, share])
    for start, word in sampled.items():
        gradient = run.gradients[1][:, ID[start]]
        assert gradient[ID[word]].item() == near(0.984251 * slopes[word] / 32, within=1e-6)
        assert bool(gradient.any()) == (word not in clipped)
    assert [row["loss/value_avg"] for row in run.steps] == near([0.5, 0.7225])
    assert [row["val/clipfrac_avg"] for row in run.steps] == [0, 1]


@pytest.mark.trains
@pytest.mark.parametrize("step_return, share", [("sum", 1.0), ("mean", 1 / 3)])
@pytest.mark.parametrize("dense", [True, False])
def test_what_the_steps_of_a_reward_model_are_paid(tmp_path, dense, step_return, share):
    """1706.03741, eq. 1: a trajectory's return is the sum of its steps' rewards, or here their mean.

    x, then a b <eos>, which score 1, -2 and 0.5: the return is -0.5, or -1/6. With gamma = 0 and values of 0, a token's advantage
    is what it is paid: dense its own score (a third of it for the mean), else the last token all of the return.
    """
    model = head({"a": 1.0, "b": -2.0, "<eos>": 0.5}, Qwen2ForTokenClassification)
    reward = reward_models.ModelReward(
        model, reward_models.Kind("step", "token", step_return), tokenizer(), batch_size=2, dense=dense
    )
    trainer = PPOTrainer(
        model=bigram(CHAIN),
        value_model=head({}),
        reward_funcs=reward,
        args=PPOConfig(
            str(tmp_path), **ONE_STEP | {"kl_coef": 0.0, "gamma": 0.0, "num_ppo_epochs": 1, "save_strategy": "no"}
        ),
        train_dataset=Dataset.from_dict({"prompt": ["x"] * 4}),
        processing_class=tokenizer(),
    )
    trainer.train()
    paid = [1.0, -2.0, 0.5] if dense else [0.0, 0.0, -0.5]
    assert trainer._buffered_inputs[0]["returns"][0].tolist() == near([share * one for one in paid])
    assert trainer.state.log_history[0]["reward"] == near(-0.5 * share)


@pytest.mark.trains
@pytest.mark.parametrize("name", ppo_of_trl.CASES)
def test_ppo_is_that_of_trl(tmp_path, monkeypatch, name):
    """Its PPOTrainer, deleted in 1.13, on the same weights, prompts, completions and rewards: tests/cases/ppo_of_trl.py."""
    case, want = ppo_of_trl.CASES[name], json.loads(ppo_of_trl.NUMBERS.read_text())[name]
    policy, reference, value = ppo_of_trl.models()
    policy.save_pretrained(tmp_path / "model")
    prompts = [" ".join(f"w{i}" for i in prompt) for prompt in ppo_of_trl.PROMPTS]
    of_prompt = dict(zip(prompts, case["completions"], strict=True))
    monkeypatch.setattr(
        PPOTrainer,
        "_generate_single_turn",
        lambda self, prompt_ids, *_: ([of_prompt[self.processing_class.decode(ids)] for ids in prompt_ids], None),
    )
    settings = ppo_of_trl.SETTINGS | ppo_of_trl.QUIET | {"gamma": case["gamma"], "lam": case["lam"]}
    settings |= {"max_steps": 2, "per_device_train_batch_size": 8, "max_grad_norm": 0.0, "logging_steps": 1}
    trainer = PPOTrainer(
        model=str(tmp_path / "model"),
        value_model=value,
        reward_funcs=lambda prompts, **_: [ppo_of_trl.SCORES[list(of_prompt).index(p)] for p in prompts],
        args=PPOConfig(str(tmp_path), model_init_kwargs={"dtype": "float32"}, **settings),
        train_dataset=Dataset.from_dict({"prompt": prompts}),
        processing_class=ppo_of_trl.tokenizer(),
    )
    trainer.ref_model.load_state_dict(reference.state_dict())
    trainer.train()
    (kept,) = trainer._buffered_inputs
    texts = trainer.processing_class.batch_decode(kept["prompt_ids"], skip_special_tokens=True)
    for i, (text, mask) in enumerate(zip(texts, kept["completion_mask"].bool(), strict=True)):
        n = prompts.index(text)
        assert kept["advantages"][i][mask].tolist() == near(want["whitened"][n])
        assert kept["returns"][i][mask].tolist() == near(want["returns"][n])
        assert (kept["returns"] - kept["values"])[i][mask].tolist() == near(want["advantages"][n])
    steps = [row for row in trainer.state.log_history if "loss/value_avg" in row]
    assert steps[0]["objective/kl"] == near(sum(map(sum, want["kl"])) / len(prompts))
    assert [row["loss/policy_avg"] for row in steps] == near(want["policy_losses"])
    if name == "full":  # else TRL's is the mean over positions behind the end token too
        assert [row["loss/value_avg"] for row in steps] == near(want["value_losses"])


# preferences


@pytest.mark.trains
def test_the_loss_of_a_reward_model(tmp_path):
    """Bradley and Terry's, as in 2203.02155, eq. 1: -ln sigmoid(r_chosen - r_rejected); r is the last token's.

    a 2, b 0.5, c -1, d 1. a over b: ln(1 + e^-1.5) = 0.201413. c over d, wrongly: ln(1 + e^2) = 2.126928. The mean is
    1.164171; margins 1.5 and -2, mean -0.25; one of two is right. The shorter ones are padded, which must not matter.
    """
    model = head({"a": 2.0, "b": 0.5, "c": -1.0, "d": 1.0, "<pad>": 9.0, "x": 9.0})
    pairs = {"chosen_ids": [ids("x a"), ids("x x c")], "rejected_ids": [ids("x x b"), ids("x d")]}
    trainer = RewardTrainer(
        model=model,
        args=RewardConfig(output_dir=str(tmp_path), **ONE_STEP),
        train_dataset=Dataset.from_dict(pairs),
        processing_class=tokenizer(),
    )
    trainer.train()
    log = trainer.state.log_history[0]
    assert [log[key] for key in ("loss", "margin", "accuracy")] == near([1.164171, -0.25, 0.5])


def test_the_return_of_a_trajectory():
    """1706.03741, eq. 1: what is compared is the sum of a trajectory's rewards: 1 + 3 = 4, 5 - 2 + 0.5 = 3.5."""
    from recipes.shared.reward_models import trajectory_return

    scores = torch.tensor([[9.0, 1.0, 3.0, 9.0], [9.0, 5.0, -2.0, 0.5]])
    mask = torch.tensor([[False, True, True, False], [False, True, True, True]])
    assert trajectory_return(scores, mask).tolist() == near([4.0, 3.5])
    assert trajectory_return(scores, mask, mean=True).tolist() == near([2.0, 1.166667])


def test_the_loss_of_a_step_reward_model(tmp_path):
    """1706.03741, eq. 1: P[1 > 2] = e^(sum r_1) / (e^(sum r_1) + e^(sum r_2)), and the loss is -ln P of the preferred.

    a 0.5, b 1, c 0.25; x and the padding 9, which must not count.
    a b over c: 1.5 and 0.25; P = e^1.5 / (e^1.5 + e^0.25) = 4.481689 / 5.765714 = 0.777300, -ln P = 0.251929.
    c over a b a: 0.25 and 2; P = 1.284025 / (1.284025 + 7.389056) = 0.148047, -ln P = 1.910225. The mean is 1.081077.
    """
    from recipes.reward_model import StepRewardTrainer

    trainer = StepRewardTrainer(
        model=head({"a": 0.5, "b": 1.0, "c": 0.25, "x": 9.0, "<pad>": 9.0}, Qwen2ForTokenClassification),
        args=RewardConfig(output_dir=str(tmp_path), **ONE_STEP),
        train_dataset=Dataset.from_dict({"chosen_ids": [ids("x a")], "rejected_ids": [ids("x b")]}),
        processing_class=tokenizer(),
    )
    rows = ["x a b <pad>", "x c <pad> <pad>", "x c <pad> <pad>", "x a b a"]
    input_ids = torch.tensor([ids(row) for row in rows])
    mask = input_ids != ID["<pad>"]
    inputs = {"input_ids": input_ids, "attention_mask": mask.long(), "completion_mask": mask & (input_ids != ID["x"])}
    assert trainer.compute_loss(trainer.model, inputs).item() == near(1.081077)


@pytest.mark.trains
def test_the_loss_of_dpo(tmp_path):
    """2305.18290, eq. 7: -ln sigmoid(beta D), D = ln(p/ref)(chosen) - ln(p/ref)(rejected), of the completion's tokens.

    Behind x: p(a) = 0.8, p(b) = 0.2, ref 0.5 each. <eos> behind a: p 0.6, ref 0.3; behind b: 0.9 each.
    a: ln(1.6 x 2) = ln 3.2 = 1.163151; b: ln(0.4 x 1) = -0.916291; D = ln 8 for a over b and -ln 8 for b over a.
    beta = 0.5, and 8^0.5 = 2.828427: ln(1 + 1/2.828427) = 0.302733 and ln(1 + 2.828427) = 1.342454, mean 0.822593.
    Rewards are beta ln(p/ref). With a chosen in two of three pairs: the loss is (2 x 0.302733 + 1.342454) / 3 = 0.649307,
    chosen (2 x 1.163151 - 0.916291) / 6 = 0.235002, rejected (1.163151 - 2 x 0.916291) / 6 = -0.111572, margins their
    difference, 0.346574, and accuracies 2/3. ln p: a ln 0.48 = -0.733969, b ln 0.18 = -1.714798; y x costs nothing.
    The gradient by the logit of a behind x: D grows by 1 with it, so it is -beta / (1 + 8^0.5) = -0.130602 twice
    and beta 8^0.5 / (1 + 8^0.5) = 0.369398 once, on average 0.036065.
    """
    tables = [
        {"y": {"x": 0.7, "y": 0.3}, "x": {"a": 0.8, "b": 0.2}, "a": {"<eos>": 0.6, "c": 0.4}},
        {"y": {"x": 0.1, "y": 0.9}, "x": {"a": 0.5, "b": 0.5}, "a": {"<eos>": 0.3, "c": 0.7}},
    ]
    policy, ref = (bigram({**table, "b": {"<eos>": 0.9, "c": 0.1}}) for table in tables)
    gradients = []
    policy.lm_head.weight.register_hook(gradients.append)
    trainer = DPOTrainer(
        model=policy,
        ref_model=ref,
        args=DPOConfig(output_dir=str(tmp_path), beta=0.5, **ONE_STEP),
        train_dataset=Dataset.from_dict(
            {"prompt": ["y x"] * 3, "chosen": [" a", " a", " b"], "rejected": [" b", " b", " a"]}
        ),
        processing_class=tokenizer(),
    )
    trainer.train()
    log = trainer.state.log_history[0]
    assert log["loss"] == near(0.649307)
    assert [log[f"rewards/{key}"] for key in ("chosen", "rejected")] == near([0.235002, -0.111572])
    assert [log[f"rewards/{key}"] for key in ("margins", "accuracies")] == near([0.346574, 2 / 3])
    assert log["logps/chosen"] == near((2 * -0.733969 - 1.714798) / 3)
    (gradient,) = gradients
    assert gradient[ID["a"], ID["x"]].item() == near(0.036065)
