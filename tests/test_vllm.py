"""GRPO, PPO, sampling and evaluation with a real vLLM, in its CPU build: `make test-vllm`. Elsewhere these tests are left out.

One after the other: on a CPU every run would take the same port. Not here: a server, and sleep mode, which take a GPU.
"""

import json
import os
import signal
import sys
from pathlib import Path

import forked
import pytest
from test_recipes import KILLER, log_of, summary
from test_sample import read

pytest.importorskip("vllm", reason="needs vLLM: make test-vllm")

pytestmark = [pytest.mark.trains, pytest.mark.launches]

# 1 GiB of KV cache; vLLM binds no cores; its engine runs in the process that vllm_on_cpu has patched
os.environ |= {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
}
COLOCATE = ("--use_vllm", "true", "--vllm_mode", "colocate", "--vllm_max_model_length", "96")
COLOCATE += ("--vllm_gpu_memory_utilization", "0.3")
LORA = ("--use_peft", "true", "--lora_r", "16", "--lora_target_modules", "all-linear", "--lora_dropout", "0")
DIGITS = ("--dataset_options", "{digits: 1}", "--max_completion_length", "24")


def arguments(recipe, base, folder) -> list[str]:
    return [
        *("--config", f"recipes/configs/{recipe}/tiny.yaml", "--model_name_or_path", base, *DIGITS, *COLOCATE),
        *("--per_device_train_batch_size", "64", "--held_out", "0", "--report_to", "none", "--logging_steps", "1"),
        *("--output_dir", str(folder)),
    ]


def train(recipe, base, folder, *argv) -> list[dict]:
    """A run's logged rewards and what else stands with them."""
    done = forked.run([sys.executable, "-m", f"recipes.{recipe}", *arguments(recipe, base, folder), *argv])
    assert done.returncode == 0, done.stderr[-3000:]
    return [row for row in log_of(folder) if "reward" in row]


def gained(log, steps=6) -> float:
    return sum(row["reward"] for row in log[-steps:]) / steps - sum(row["reward"] for row in log[:steps]) / steps


@pytest.fixture(scope="module")
def trained(base, tmp_path_factory) -> Path:
    """Runs of GRPO whose completions are vLLM's: full weights, and LoRA."""
    folder = tmp_path_factory.mktemp("trained")
    train("grpo", base, folder / "full", "--max_steps", "24", "--vllm_importance_sampling_mode", "token_truncate")
    train("grpo", base, folder / "lora", "--max_steps", "24", "--learning_rate", "2e-3", *LORA)
    return folder


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_grpo_learns_from_completions_of_vllm(trained, kind):
    log = [row for row in log_of(trained / kind) if "reward" in row]
    assert gained(log) > 0.1
    # what vLLM samples with is what is trained: its log-probabilities are the trainer's, but for bfloat16's rounding, to the end
    assert max(row["sampling/sampling_logp_difference/mean"] for row in log) < 0.01


def test_ppo_trains_and_its_value_model_stays_out(base, tmp_path):
    """vLLM refuses a weight that it doesn't know, so that a run in which the value model reached it would fail."""
    steps = ("--max_steps", "128", "--per_device_train_batch_size", "16", "--num_mini_batches", "4")
    log = train("ppo", base, tmp_path / "run", *steps)
    assert len(log) == 32 and gained(log, steps=4) > 0.1
    assert (
        max(
            row["sampling/sampling_logp_difference/mean"]
            for row in log
            if "sampling/sampling_logp_difference/mean" in row
        )
        < 0.01
    )


def test_a_killed_run_goes_on_with_the_weights_of_its_checkpoint(base, tmp_path):
    folder, steps = tmp_path / "run", ("--max_steps", "12", "--save_steps", "4", "--learning_rate", "2e-3")
    killed = forked.run([sys.executable, "-c", KILLER, "step", "grpo", *arguments("grpo", base, folder), *steps])
    assert killed.returncode == -signal.SIGKILL and (folder / "checkpoint-8").is_dir()
    log = train("grpo", base, folder, *steps, "--resume_from_checkpoint", "true")
    assert [row["step"] for row in log] == list(range(1, 13))
    assert summary(folder)["resumed_from"].endswith("checkpoint-8")
    assert max(row["sampling/sampling_logp_difference/mean"] for row in log) < 0.01


@pytest.mark.parametrize("model", ["base", "full", "lora"])
def test_greedy_completions_and_verdicts_are_those_of_transformers(base, trained, tmp_path, model):
    """In float32, which is how both load it here."""
    name = base if model == "base" else str(trained / model)
    argv = ("--config", "recipes/configs/grpo/tiny.yaml", "--model_name_or_path", name, *DIGITS, "--temperature", "0")
    kept, evaluated = {}, {}
    for engine in ("vllm", "transformers"):
        which = ("--use_vllm", str(engine == "vllm").lower(), "--problems", "100", "--json")
        output = tmp_path / f"{engine}.jsonl"
        done = forked.run(
            [sys.executable, "-m", "recipes.sample", *argv, *which, "--keep", "all", "--output", str(output)]
        )
        assert done.returncode == 0, done.stderr[-3000:]
        assert json.loads(done.stdout)["engine"] == engine
        kept[engine] = [(row["prompt"], row["completion"], row["rewards"]) for row in read(output)]
        done = forked.run([sys.executable, "-m", "recipes.evaluate", *argv, *which])
        assert done.returncode == 0, done.stderr[-3000:]
        evaluated[engine] = json.loads(done.stdout)
    assert kept["vllm"] == kept["transformers"]
    assert evaluated["vllm"].pop("engine") == "vllm" and evaluated["transformers"].pop("engine") == "transformers"
    assert {key: v for key, v in evaluated["vllm"].items() if key != "seconds"} == {
        key: v for key, v in evaluated["transformers"].items() if key != "seconds"
    }


def test_it_stops_at_an_end_that_the_model_s_files_do_not_name(base, tmp_path):
    """As with a chat template that ends a turn in a token of its own."""
    keys = ("--max_steps", "1", "--eos_token", "<answer>", "--completions_to_log", "64")
    (row,) = train("grpo", base, tmp_path / "run", *keys)
    texts = [kept["completion"] for kept in read(tmp_path / "run" / "completions.jsonl")]
    answered = sum("</answer>" in text for text in texts) / len(texts)
    assert answered < 0.3 and row["completions/clipped_ratio"] < 0.5, "those that write no <answer> go on; most do"
