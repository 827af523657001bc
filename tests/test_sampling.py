"""How completions are sampled where nothing trains: greedily too, with stop strings that stay, and JSON that is JSON."""

import json
import os
import re
import subprocess
import sys

import forked
import pytest
import torch
from conftest import REPO, run_grpo, run_ppo
from test_recipes import evaluated
from test_reward_contract import refused
from test_sample import read, run_sample
from transformers import AutoModelForCausalLM, AutoTokenizer

from recipes.measuring import sampler
from recipes.shared import tokens, vllm_options
from recipes.shared.run_config import RunConfig

TINY = "recipes/configs/grpo/tiny.yaml"


def test_temperature_0_is_the_likeliest_token_each_time(base, tmp_path, capsys):
    """Against a loop of one's own over the logits, and with a generation_config.json that wants to sample, as Qwen's does."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(base), AutoTokenizer.from_pretrained(base)
    model.generation_config.update(do_sample=True, temperature=0.7, top_p=0.8, top_k=20, repetition_penalty=1.05)
    prompts = ["What is 7 + 8?\n", "What is 5 + 4?\n"]
    greedy = sampler.sample(
        model, tokenizer, prompts, sampler.generation_config(24, 0.0, top_k=0, min_p=None), 2, seed=0
    )
    assert greedy == sampler.sample(model, tokenizer, prompts, sampler.generation_config(24, 0, top_p=0.9), 2, seed=1)
    for prompt, completion in zip(tokens.prompt_ids(prompts, tokenizer), greedy, strict=True):
        ids = list(prompt)
        with torch.inference_mode():
            while len(ids) < len(prompt) + 24 and tokenizer.eos_token_id not in ids[len(prompt) :]:
                ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
        assert ids[len(prompt) :] == completion.ids


def test_every_end_token_that_a_model_declares_ends_a_completion(base):
    """As in TRL's trainers: a model's turns may end with another token than its tokenizer's end token."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(base), AutoTokenizer.from_pretrained(base)
    greedy = sampler.generation_config(24, 0.0)
    [whole] = sampler.sample(model, tokenizer, ["What is 7 + 8?\n"], greedy, 1, seed=0)
    also = whole.ids[3]
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, also]
    [cut] = sampler.sample(model, tokenizer, ["What is 7 + 8?\n"], greedy, 1, seed=0)
    assert cut.ids == whole.ids[: whole.ids.index(also) + 1] and cut.finished
    model.generation_config.eos_token_id = also
    assert sampler.sample(model, tokenizer, ["What is 7 + 8?\n"], greedy, 1, seed=0) == [cut]


def test_greedy_evaluation_and_sampling_take_one_completion_a_prompt(base, tmp_path, capsys):
    argv = ["--config", TINY, "--model_name_or_path", base, "--dataset_options", "{digits: 1}", "--temperature", "0"]
    argv += ["--max_completion_length", "24", "--problems", "8"]
    result = evaluated(capsys, *argv)
    assert (
        result["samples"] == 1
        and result["temperature"] == 0
        and result == evaluated(capsys, *argv, "--seed", "7") | {key: result[key] for key in ("seed", "seconds")}
    )
    run_sample(*argv, "--keep", "all", "--output", str(tmp_path / "a.jsonl"))
    assert len(read(tmp_path / "a.jsonl")) == 8


@pytest.mark.parametrize(
    "argv, said",
    [
        (["--temperature", "0", "--samples", "4"], "samples=4: temperature=0 is greedy, and every sample the same"),
        (["--temperature", "-1"], "temperature=-1.0 must be at least 0"),
        (["--generation_kwargs", "{stop: ['x']}"], "is TRL's, for training, and not applied here"),
    ],
)
def test_what_cannot_be_sampled_is_refused(base, argv, said, tmp_path, capsys):
    argv = ["--config", TINY, "--model_name_or_path", base, *argv]
    assert said in refused(capsys, evaluated, capsys, *argv)
    assert said in refused(capsys, run_sample, *argv, "--output", str(tmp_path / "a.jsonl"))


def test_training_and_pairs_need_samples_that_differ(base, tmp_path, capsys):
    output = ["--output", str(tmp_path / "a.jsonl"), "--keep", "pairs", "--temperature", "0"]
    assert "of one greedy completion" in refused(capsys, run_sample, "--config", TINY, *output)
    for run, config in ((run_grpo, TINY), (run_ppo, "recipes/configs/ppo/tiny.yaml")):
        assert "temperature=0.0: " in refused(capsys, run, "--config", config, "--temperature", "0")


@pytest.mark.parametrize(
    "given, said",
    [
        ({"generation_kwargs": {"stop": ["</answer>"]}}, "transformers can't stop at text inside TRL's trainer"),
        ({"generation_kwargs": {"stop_strings": ["</answer>"]}}, "transformers can't stop at text"),
        (
            {"generation_kwargs": {"stop": ["</answer>"]}, "use_vllm": True},
            r"\{stop: \['</answer>'\], include_stop_str_in",
        ),
        (
            {"generation_kwargs": {"stop_strings": "x"}, "use_vllm": True},
            r"\{stop: 'x', include_stop_str_in_output: true\}",
        ),
        (
            {
                "generation_kwargs": {"stop": "x", "include_stop_str_in_output": True},
                "use_vllm": True,
                "mask_truncated_completions": True,
            },
            "would learn nothing from those that stopped",
        ),
        ({"generation_kwargs": {"seed": 1}, "held_out": 10}, "held-out completions are sampled without them"),
    ],
)
def test_stop_strings_that_no_reward_would_see_are_refused(given, said):
    assert re.search(said, "\n".join(stop_problems(given)))


def stop_problems(given: dict) -> list[str]:
    return list(vllm_options.stop_problems(RunConfig("grpo", given)))


def test_stop_strings_that_stay_are_taken(capsys):
    kept = {"stop": ["</answer>"], "include_stop_str_in_output": True}
    assert not stop_problems({"generation_kwargs": kept, "use_vllm": True})
    argv = ["--config", TINY, "--held_out", "0", "--generation_kwargs", "{stop: ['</answer>']}"]
    assert "transformers can't stop at text" in refused(capsys, run_grpo, *argv)


@pytest.mark.parametrize("command", ["evaluate", "sample", "check"])
def test_with_json_standard_output_is_json(base, tmp_path, command):
    """transformers says on standard output that W&B is offline, and a reward of one's own may print, or have it done."""
    reward = "import os\ndef mine(completions, **_):\n    print('hi')\n    os.system('echo ho')\n    return [0.0] * len(completions)\n"
    (tmp_path / "mine.py").write_text(reward)
    (tmp_path / "sitecustomize.py").write_text(f"import rewards\nrewards.__path__.append({str(tmp_path)!r})\n")
    argv = ["--config", TINY, "--model_name_or_path", base, "--rewards", "{math_answer: 1, mine: 1}", "--json"]
    argv += {"evaluate": ["--problems", "2"], "sample": ["--problems", "2", "--keep", "all"], "check": []}[command]
    argv += ["--output", str(tmp_path / "a.jsonl")] if command == "sample" else []
    environment = os.environ | {"WANDB_MODE": "offline", "PYTHONPATH": f"{tmp_path}:{REPO}"}
    done = subprocess.run(
        [sys.executable, "-m", f"recipes.{command}", *argv], cwd=REPO, env=environment, capture_output=True, text=True
    )
    result = json.loads(done.stdout)
    assert result and done.returncode == 2 * (command == "check"), done.stderr
    assert command != "evaluate" or result["problems"] == 2
    assert {"hi", "ho"} <= set(done.stderr.splitlines()) and "WANDB offline" in done.stderr


def test_without_json_standard_output_is_for_people(base):
    argv = ["--config", TINY, "--model_name_or_path", base, "--problems", "2"]
    done = forked.run([sys.executable, "-m", "recipes.evaluate", *argv])
    assert "pass@1" in done.stdout
