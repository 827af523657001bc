"""Reward models of both levels: what they learn, what their figures mean, and which rows are no preferences."""

import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import run_in_processes, run_reward_model
from datasets import Dataset
from safetensors.torch import load_file
from transformers import set_seed

import data
from data import preferences
from recipes.measuring import reward_quality
from recipes.reward_model import StepCollator, sequences
from recipes.shared import dataset_rows, model_loading, reward_models, tokens

TINY = "recipes/configs/sft/tiny-base"


def summary(folder) -> dict:
    return json.loads((Path(folder) / "summary.json").read_text())


def write(path, rows) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture(scope="module")
def tokenizer():
    return model_loading.load_tokenizer(TINY)


class Table(torch.nn.Module):
    """A reward model that gives each token the score that a table holds, wherever it stands."""

    def __init__(self, scores: dict[int, float]):
        super().__init__()
        self.config, self.device, self.scores = SimpleNamespace(pad_token_id=1), torch.device("cpu"), scores

    def forward(self, input_ids, attention_mask):
        logits = torch.tensor([[self.scores.get(int(i), 0.0) for i in row] for row in input_ids])
        return SimpleNamespace(logits=logits[..., None])


def pairs(*rows) -> Dataset:
    """(prompt, chosen, rejected, first_error) each."""
    return Dataset.from_list([dict(zip(("prompt", "chosen", "rejected", "first_error"), r, strict=True)) for r in rows])


def test_the_figures_of_a_reward_model_by_hand(tokenizer):
    """a scores 1, b -1, c -3, the prompt's z -100 and the end token 0, so that the returns are
    aa 2 against ab 0: right, by 2;  ab 0 against ba 0: a tie;  b -1 against aa 2: wrong, by -3;  a 1 against ac -2: right, by 3.
    pair accuracy (1 + 0.5 + 0 + 1) / 4 = 0.625, margin (2 + 0 - 3 + 3) / 4 = 0.5.
    How sure: 0.8808, 0.5, 0.9526, 0.9526, so in ten bins of 0.05 the last two share one: gaps |0.8808 - 1|, |0.5 - 0.5| for
    the tie and, in the shared one, |0.9526 - 0.5| twice: (0.1192 + 0 + 2 * 0.4526) / 4 = 0.2561.
    Lowest token of the rejected: ab -> b at 1, the first wrong (1): hit; ba -> b at 0, but 1 is the first wrong: miss;
    aa -> the end token at 2, where the text stops too early (2): hit; ac -> c at 1, 1: hit. By chance 1/3 each.
    """
    a, b, c, z = (tokenizer(x)["input_ids"][0] for x in "abcz")
    model = Table({a: 1.0, b: -1.0, c: -3.0, z: -100.0})
    rows = pairs(("z", "aa", "ab", 1), ("z", "ab", "ba", 1), ("zz", "b", "aa", 2), ("z", "a", "ac", 1))
    result = reward_quality.quality(model, reward_models.Kind("step"), rows, tokenizer, batch_size=3)
    assert result["pair_accuracy"] == 0.625 and result["margin"] == 0.5 and result["rows"] == 4
    assert result["calibration_error"] == pytest.approx(0.2561, abs=1e-4)
    assert result["first_error_hit_rate"] == 0.75 and result["first_error_chance"] == pytest.approx(1 / 3, abs=1e-4)
    # tokens with the end: chosen 3 3 2 2, rejected 3 3 3 3; returns 2 0 -1 1 and 0 0 2 -2. Means 2.75 and 0.25; products of
    # the differences sum to 0.25 * 0.5 + 0.75 * 0.5 = 0.5, their squares to 1.5 and 13.5: 0.5 / sqrt(1.5 * 13.5) = 1/9
    assert result["score_length_correlation"] == pytest.approx(1 / 9, abs=1e-4)
    assert result["length_label_correlation"] == pytest.approx(-1 / math.sqrt(3), abs=1e-4)


def test_a_mean_return_is_the_sum_over_the_steps_less_their_number(tokenizer):
    a = tokenizer("a")["input_ids"][0]
    model, prompt, completions = Table({a: 3.0}), [[a]], [[a, a, 0]]
    assert reward_models.score(model, reward_models.Kind("step"), None, prompt, completions, 1)[0] == [6.0]
    assert reward_models.score(model, reward_models.Kind("step", "token", "mean"), None, prompt, completions, 1)[0] == [
        2.0
    ]


def test_a_line_is_scored_at_its_last_token(tokenizer):
    """Of "b\\na\\n", line breaks and the end token count (2 + 2 + 5); a and b don't, nor does the prompt's line break."""
    kind = reward_models.Kind("step", "line")
    a, b, n = (tokenizer(x)["input_ids"][0] for x in ("a", "b", "\n"))
    model, ends = Table({a: 1.0, b: 1.0, n: 2.0, 0: 5.0}), reward_models.line_ends(tokenizer, kind)
    returns, steps = reward_models.score(model, kind, ends, [[a, n]], [[b, n, a, n, 0]], 1)
    assert returns == [9.0] and steps == [[(1, 2.0), (3, 2.0), (4, 5.0)]]
    assert reward_models.line_ends(tokenizer, reward_models.Kind("step", "token")) is None


@pytest.mark.parametrize("level", ["response", "step"])
def test_a_score_does_not_depend_on_its_batch(base, level):
    tokenizer, kind = model_loading.load_tokenizer(base), reward_models.Kind(level)
    torch.manual_seed(0)
    model = reward_models.load(base, kind, tokenizer).eval()
    prompts = tokenizer(["What is 1 + 2?\n", "What is 30 + 45?\n", "?"])["input_ids"]
    completions = [[*ids, 0] for ids in tokenizer(["3", "<think>0+5</think><answer>75</answer>", ""])["input_ids"]]
    together = reward_models.score(model, kind, None, prompts, completions, 3)[0]
    alone = [
        reward_models.score(model, kind, None, [p], [c], 1)[0][0] for p, c in zip(prompts, completions, strict=True)
    ]
    assert together == pytest.approx(alone, abs=1e-4) and len(set(together)) == 3


def test_the_mask_is_the_completion_and_its_end(tokenizer):
    rows = tokens.with_ids(pairs(("ab", "c", "cde", 1), ("a", "bcd", "e", 0)), tokenizer, "chosen", "rejected")
    rows = sequences(rows)
    batch = StepCollator(tokenizer.pad_token_id)(rows.to_list())
    texts = [
        tokenizer.decode(ids[mask]) for ids, mask in zip(batch["input_ids"], batch["completion_mask"], strict=True)
    ]
    assert texts == [f"{t}<|endoftext|>" for t in ("c", "bcd", "cde", "e")]


def test_both_answers_of_a_pair_are_cut_at_one_place_behind_their_first_difference(tokenizer):
    rows = tokens.with_ids(pairs(*[("p", "abcdef", "abXY", 2)] * 200), tokenizer, "chosen", "rejected")
    cut, again, other = (sequences(rows, seed).to_list() for seed in (0, 0, 1))
    assert cut == again != other
    chosen, rejected = ([tokenizer.decode(row[f"{side}_ids"][1:]) for row in cut] for side in ("chosen", "rejected"))
    end = "<|endoftext|>"
    assert set(zip(chosen, rejected, strict=True)) == {
        ("abc", "abX"),
        ("abcd", "abXY"),
        ("abcde", f"abXY{end}"),
        ("abcdef", f"abXY{end}"),
        (f"abcdef{end}", f"abXY{end}"),
    }


def test_the_penalty_is_the_mean_squared_score_of_a_completion_s_steps(base, tmp_path):
    """At the first step, with and without step_l2 = 2: the difference is twice the mean over the batch's answers of the mean
    of their steps' squared scores, by the untrained model."""
    argv = ["--max_steps", "1", "--logging_steps", "1", "--segments", "false", "--held_out", "0", "--save_steps", "1"]
    argv += ["--dataset_options", "{digits: 1, rows: 64}"]
    losses = []
    for l2 in ("0", "2"):
        run_reward_model(*arguments("tiny-step", base, tmp_path / l2), *argv, "--step_l2", l2)
        state = json.loads((tmp_path / l2 / "checkpoint-1" / "trainer_state.json").read_text())
        losses.append(state["log_history"][0]["loss"])
    tokenizer = model_loading.load_tokenizer(base)
    set_seed(42)  # the head of the run
    model = reward_models.load(base, reward_models.Kind("step"), tokenizer).eval()
    rows = data.load("preferences", "train", template="plain", digits=1, rows=64)
    prompts = tokens.prompt_ids(rows["prompt"], tokenizer)
    means = []
    for side in ("chosen", "rejected"):
        completions = tokens.completion_ids(rows[side], rows["prompt"], tokenizer)
        _, steps = reward_models.score(model, reward_models.Kind("step"), None, prompts, completions, 64)
        means += [sum(value**2 for _, value in row) / len(row) for row in steps]
    assert losses[1] - losses[0] == pytest.approx(2 * sum(means) / len(means), rel=1e-3) and sum(means) > 1


# five seeds of each: pair accuracy 0.90 to 0.98 from 0.45 to 0.64, and with an adapter 0.90 to 0.95
STEPS = ("--max_steps", "200", "--dataset_options", "{digits: 1, rows: 2000}", "--per_device_train_batch_size", "32")
STEPS += ("--learning_rate", "4e-4", "--lr_scheduler_type", "linear", "--lr_scheduler_kwargs", "null")
STEPS += ("--warmup_steps", "0", "--save_steps", "1000")


def arguments(config: str, base: str, folder) -> list[str]:
    path = f"recipes/configs/reward_model/{config}.yaml"
    return ["--config", path, "--model_name_or_path", base, "--output_dir", str(folder)]


@pytest.fixture(scope="module")
def other_answers(tmp_path_factory) -> str:
    """Other answers to the sums trained on: from 68 one-digit sums nothing this small learns to check the rest."""
    rows = preferences.load("train", digits=1, rows=300, seed=1)
    rows = rows.select_columns(["prompt", "chosen", "rejected", "first_error"]).to_list()
    return write(tmp_path_factory.mktemp("rows") / "others.jsonl", rows)


@pytest.mark.parametrize("config", ["tiny", "tiny-step"])
def test_a_reward_model_learns(base, other_answers, tmp_path, config):
    run_reward_model(*arguments(config, base, tmp_path / "run"), *STEPS, "--held_out_dataset", other_answers)
    before, after = summary(tmp_path / "run")["before"], summary(tmp_path / "run")["after"]
    assert before["rows"] == after["rows"] == 300
    assert 0.3 < before["pair_accuracy"] < 0.7 and after["pair_accuracy"] > 0.85
    assert after["margin"] > 1 > abs(before["margin"])
    if config == "tiny-step":
        assert after["first_error_hit_rate"] > 3 * after["first_error_chance"]


@pytest.mark.parametrize("config", ["tiny", "tiny-step"])
def test_an_adapter_and_its_head_are_saved_and_score_as_trained(base, other_answers, tmp_path, config):
    """What is measured after training is the saved adapter, loaded anew."""
    lora = ("--use_peft", "true", "--lora_r", "8", "--lora_target_modules", "all-linear", "--learning_rate", "2e-3")
    lora += ("--max_steps", "120", "--dataset_options", "{digits: 1, rows: 1000}", "--held_out_dataset", other_answers)
    run_reward_model(*arguments(config, base, tmp_path / "run"), *STEPS, *lora)
    run = tmp_path / "run"
    saved = load_file(run / "adapter_model.safetensors")
    assert any("lora_A" in key for key in saved) and any(key.endswith("score.weight") for key in saved)
    before, after = summary(run)["before"], summary(run)["after"]
    assert after["pair_accuracy"] > before["pair_accuracy"] + 0.15 and after["margin"] > 1


def test_two_processes_share_the_pairs_and_write_one_summary(base, tmp_path):
    options = ("--dataset_options", "{digits: 1, rows: 400}", "--held_out", "101", "--max_steps", "3")
    run_in_processes("recipes.reward_model", *arguments("tiny-step", base, tmp_path / "two"), *options)
    run_reward_model(*arguments("tiny-step", base, tmp_path / "one"), *options)
    one, two = (summary(tmp_path / run) for run in ("one", "two"))
    assert one["before"] == two["before"] and two["after"]["rows"] == 101 and two["steps"] == 3


def test_an_adapter_scores_with_its_run_s_padding(base, tmp_path):
    """Qwen's configs have no pad token, and a head that pads with None ends the run after hours."""
    unpadded = tmp_path / "unpadded"
    shutil.copytree(base, unpadded, ignore=shutil.ignore_patterns("checkpoint-*"))
    config = json.loads((unpadded / "config.json").read_text()) | {"pad_token_id": None}
    (unpadded / "config.json").write_text(json.dumps(config))
    lora = ("--use_peft", "true", "--lora_target_modules", "all-linear", "--max_steps", "2", "--held_out", "13")
    lora += ("--dataset_options", "{digits: 1, rows: 200}")
    run_reward_model(*arguments("tiny", str(unpadded), tmp_path / "run"), *lora)
    assert summary(tmp_path / "run")["after"]["rows"] == 13


def test_a_resumed_run_ends_with_the_same_weights(base, tmp_path):
    argv = ["--max_steps", "6", "--save_steps", "3", "--held_out", "0", "--dataset_options", "{digits: 1, rows: 600}"]
    run_reward_model(*arguments("tiny-step", base, tmp_path / "a"), *argv)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    (tmp_path / "b" / "checkpoint-6" / "trainer_state.json").unlink()  # as if killed while it was written
    (tmp_path / "b" / "model.safetensors").unlink()
    run_reward_model(*arguments("tiny-step", base, tmp_path / "b"), *argv, "--resume_from_checkpoint", "true")
    a, b = (load_file(tmp_path / run / "model.safetensors") for run in "ab")
    assert all(torch.equal(a[key], b[key]) for key in a) and summary(tmp_path / "b")["resumed_from"]


PAIR = {"prompt": "What is 1 + 1?", "chosen": "2", "rejected": "3"}


def test_pairs_that_prefer_nothing_are_counted_and_left_out(tmp_path, tokenizer, capsys):
    rows = [PAIR, PAIR | {"rejected": "2"}, PAIR | {"chosen": ""}, PAIR | {"rejected": "3" * 99}, PAIR]
    rows = data.load(write(tmp_path / "pairs.jsonl", rows), template="plain")
    kept, counts = dataset_rows.usable_pairs(rows, tokenizer, max_length=64)
    assert counts == {"rows": 5, "broken": 1, "equal": 1, "too_long": 1} and len(kept) == 2
    assert (
        "left out 3 of 5 rows: 1 have no two answers to one prompt (row 2), 1 have equal answers"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    "rows, argv, words",
    [
        ([PAIR | {"rejected": "2"}], [], ["no row is left of 1", "1 have equal answers"]),
        ([{"prompt": "a", "chosen": "b"}], [], ["needs the column 'rejected'", "the dataset has prompt, chosen"]),
        ([{"question": "a", "answer": "#### 2"}], [], ["needs the column 'chosen'", "choose another dataset"]),
        ([PAIR], ["--held_out", "5"], ["held_out=5", "is what the run trains on", "held_out: 0"]),
        ([PAIR], ["--level", "token"], ["level='token'", "response", "step"]),
        ([PAIR], ["--step_unit", "line"], ["step_unit='line'", "level: step"]),
        ([PAIR], ["--pad_token", "<|endoftext|>"], ["pads with its end token", "set pad_token"]),
        ([PAIR], ["--eval_strategy", "steps"], ["eval_strategy", "held_out"]),
        ([PAIR], ["--max_length", "4"], ["1 are longer than max_length=4 tokens"]),
    ],
)
def test_rows_that_are_no_preferences_are_refused_in_one_line(tmp_path, base, capsys, rows, argv, words):
    path = write(tmp_path / "rows.jsonl", rows)
    with pytest.raises(SystemExit) as ended:
        run_reward_model(
            *arguments("tiny", base, tmp_path / "run"),
            *("--dataset", path, "--dataset_options", "{}", "--held_out", "0", *argv),
        )
    lines = capsys.readouterr().err.strip().splitlines()
    assert ended.value.code == 2 and len(lines) == 1 and all(word in lines[0] for word in words), lines
    assert not (tmp_path / "run").exists()
