"""An adapter merged into its base computes what both did, and is a model like any other; nothing is left half-written."""

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import forked
import pytest
import torch
from conftest import REPO, run_grpo, run_sft
from peft import AutoPeftModelForCausalLM
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from recipes import merge
from recipes.pipeline.stage import digest
from recipes.shared.cli import parse

KILLER = """
import os, runpy, signal, sys
from pathlib import Path
Path.rename = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
sys.argv[0] = "recipes/merge.py"
runpy.run_module("recipes.merge", run_name="__main__")
"""


def run_merge(*argv: str) -> None:
    merge.main(*parse((merge.Merge,), list(argv), doc=""))


@pytest.fixture(scope="module")
def adapter(base, tmp_path_factory) -> str:
    """Some steps of LoRA at a high rate: enough to move the logits far."""
    folder = str(tmp_path_factory.mktemp("adapter") / "run")
    os.chdir(REPO)
    run_sft(
        *("--config", "recipes/configs/sft/tiny.yaml", "--model_name_or_path", base, "--output_dir", folder),
        *(
            "--dataset_options",
            "{digits: 1, rows: 40}",
            "--held_out",
            "0",
            "--max_steps",
            "6",
            "--learning_rate",
            "1e-2",
        ),
        *("--use_peft", "--lora_target_modules", "all-linear"),
    )
    assert Path(folder, "adapter_config.json").exists() and not Path(folder, "model.safetensors").exists()
    return folder


@pytest.fixture(scope="module")
def merged(adapter, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("merged") / "model"
    os.chdir(REPO)
    run_merge("--model_name_or_path", adapter, "--output_dir", str(folder))
    return folder


def logits(model) -> torch.Tensor:
    ids = torch.tensor([[25, 40, 60, 99, 120, 7], [3, 2, 1, 90, 91, 92]])
    with torch.no_grad():
        return model.eval()(ids).logits


def test_the_merged_model_computes_what_base_and_adapter_do(base, adapter, merged):
    plain, whole = (AutoModelForCausalLM.from_pretrained(m, dtype=torch.float32) for m in (base, merged))
    both = logits(AutoPeftModelForCausalLM.from_pretrained(adapter, dtype=torch.float32))
    assert torch.allclose(logits(whole), both, atol=1e-4, rtol=0)
    assert (both - logits(plain)).abs().max() > 0.1, "the adapter does something"


def test_the_folder_is_a_model_with_a_tokenizer_and_says_what_it_was_made_from(base, adapter, merged):
    assert not (merged / "adapter_config.json").exists() and not list(merged.parent.glob("*.tmp"))
    weights = load_file(merged / "model.safetensors")
    assert not [name for name in weights if "lora" in name] and {w.dtype for w in weights.values()} == {torch.float32}
    summary = json.loads((merged / "summary.json").read_text())
    assert (summary["recipe"], summary["adapter"], summary["base"]) == ("merge", adapter, base)
    assert "git_commit" in summary and "peft" in summary["versions"]
    text = "What is 3 + 4?\n<think>3+4=7</think>"
    own, its = (AutoTokenizer.from_pretrained(m)(text)["input_ids"] for m in (base, str(merged)))
    assert own == its


def test_weights_are_rounded_once_to_the_dtype_asked_for(adapter, merged, tmp_path):
    run_merge("--model_name_or_path", adapter, "--output_dir", str(tmp_path / "half"), "--dtype", "bfloat16")
    exact, rounded = (load_file(folder / "model.safetensors") for folder in (merged, tmp_path / "half"))
    assert all(torch.equal(rounded[name], weight.to(torch.bfloat16)) for name, weight in exact.items())


def test_an_adapter_is_refused_as_a_model_to_train_and_what_is_merged_is_not(adapter, merged, tmp_path, capsys):
    for run, name in ((run_sft, "sft"), (run_grpo, "grpo")):
        argv = ["--config", f"recipes/configs/{name}/tiny.yaml", "--output_dir", str(tmp_path / name)]
        argv += ["--dataset_options", "{digits: 1, rows: 40}", "--held_out", "0", "--max_steps", "1"]
        argv += ["--per_device_train_batch_size", "8", "--max_completion_length", "8", "--report_to", "none"]
        with pytest.raises(SystemExit) as ended:
            run(*argv, "--model_name_or_path", adapter)
        assert ended.value.code == 2 and "is a LoRA adapter" in capsys.readouterr().err
        run(*argv, "--model_name_or_path", str(merged))
        assert json.loads((tmp_path / name / "summary.json").read_text())["steps"] == 1


@pytest.mark.parametrize(
    "argv, words",
    [
        (["--model_name_or_path", "BASE"], ["BASE", "holds no LoRA adapter", "adapter_config.json"]),
        (["--model_name_or_path", "HERE/nowhere"], ["HERE/nowhere", "holds no LoRA adapter"]),
        (["--output_dir", "HERE/mine"], ["HERE/mine", "already holds something"]),
        (["--output_dir", "HERE/mine/file"], ["HERE/mine/file", "already holds something"]),
        (["--output_dir", "ADAPTER"], ["ADAPTER", "already holds something"]),
        (["--dtype", "bfloat"], ["dtype='bfloat'", "'bfloat16'"]),
        (["--model_name_or_path", "HERE/orphan"], ["HERE/gone"]),
        (["--model", "x"], ["model is an unknown key"]),
    ],
)
def test_what_can_not_be_merged_is_refused_before_a_model_loads(
    base, adapter, tmp_path, capsys, monkeypatch, argv, words
):
    monkeypatch.setattr(merge.AutoPeftModelForCausalLM, "from_pretrained", lambda *_, **__: pytest.fail("it loads"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("mine\n")
    shutil.copytree(adapter, tmp_path / "orphan", ignore=shutil.ignore_patterns("checkpoint-*"))
    config = json.loads((tmp_path / "orphan" / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = str(tmp_path / "gone")  # its base was moved
    (tmp_path / "orphan" / "adapter_config.json").write_text(json.dumps(config))
    before = sorted(tmp_path.rglob("*"))

    def named(text):
        return text.replace("HERE", str(tmp_path)).replace("BASE", base).replace("ADAPTER", adapter)

    with pytest.raises(SystemExit) as ended:
        run_merge(*("--model_name_or_path", adapter, "--output_dir", str(tmp_path / "out")), *map(named, argv))
    lines = capsys.readouterr().err.strip().splitlines()
    assert ended.value.code == 2 and len(lines) == 1 and all(named(word) in lines[0] for word in words), lines
    assert sorted(tmp_path.rglob("*")) == before and (tmp_path / "mine" / "file").read_text() == "mine\n"


def test_killed_before_it_is_whole_it_leaves_no_model_and_starts_over(adapter, merged, tmp_path):
    """What lies beside is no part of the next attempt."""
    argv = ["--model_name_or_path", adapter, "--output_dir", str(tmp_path / "out")]
    command = [sys.executable, "-c", KILLER, *argv]
    done = forked.run(command)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    assert [p.name for p in tmp_path.iterdir()] == ["out.tmp"]
    (tmp_path / "out.tmp" / "chat_template.jinja").write_text("of another model")
    (tmp_path / "out").mkdir()  # an empty folder is free to use
    run_merge(*argv)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert {p.name for p in (tmp_path / "out").iterdir()} == {p.name for p in merged.iterdir()}
    exact, again = (load_file(folder / "model.safetensors") for folder in (merged, tmp_path / "out"))
    assert exact.keys() == again.keys() and all(torch.equal(again[name], weight) for name, weight in exact.items())


def scaled(adapter: str, folder: Path, by: float) -> Path:
    """The adapter with its change made smaller, on a base whose weights are bfloat16's."""
    shutil.copytree(adapter, folder / "adapter", ignore=shutil.ignore_patterns("checkpoint-*"))
    weights = load_file(folder / "adapter" / "adapter_model.safetensors")
    save_file(
        {k: v * by if "lora_B" in k else v for k, v in weights.items()}, folder / "adapter/adapter_model.safetensors"
    )
    settings = folder / "adapter" / "adapter_config.json"
    config = json.loads(settings.read_text())
    model = AutoModelForCausalLM.from_pretrained(config["base_model_name_or_path"], dtype=torch.bfloat16)
    model.save_pretrained(folder / "base")
    settings.write_text(json.dumps(config | {"base_model_name_or_path": str(folder / "base")}))
    return folder / "adapter"


def test_what_bfloat16_rounds_away_of_a_small_change_is_said(adapter, tmp_path, capsys):
    small = scaled(adapter, tmp_path, by=1e-3)
    lost = {}
    for dtype in ("bfloat16", "float32"):
        run_merge("--model_name_or_path", str(small), "--output_dir", str(tmp_path / dtype), "--dtype", dtype)
        lost[dtype] = json.loads((tmp_path / dtype / "summary.json").read_text())["rounded_away"]
        assert ("of what the adapter changes" in capsys.readouterr().out) == (dtype == "bfloat16")
    before, after = (load_file(tmp_path / m / "model.safetensors") for m in ("base", "bfloat16"))
    kept = [k for k in before if "proj" in k and torch.equal(before[k], after[k])]
    assert lost["float32"] < 0.01 and lost["bfloat16"] > 0.3 and kept, "whole matrices are as they were"


def test_merges_of_different_adapters_differ_in_their_summary(adapter, tmp_path):
    """By it recipes.r1 knows that what takes a merged model has to be made again."""
    made = []
    for by in (1.0, 0.5):
        adapter_ = scaled(adapter, tmp_path / "place", by)
        run_merge("--model_name_or_path", str(adapter_), "--output_dir", str(tmp_path / "merged"))
        made.append(digest(tmp_path / "merged"))
        for folder in ("place", "merged"):
            shutil.rmtree(tmp_path / folder)
    assert made[0] != made[1]


def test_engines_that_do_not_go_by_the_tokenizer_get_its_end_token(adapter, tmp_path):
    shutil.copytree(adapter, tmp_path / "adapter")
    tokenizer = AutoTokenizer.from_pretrained(adapter)
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(30)
    tokenizer.save_pretrained(tmp_path / "adapter")
    run_merge("--model_name_or_path", str(tmp_path / "adapter"), "--output_dir", str(tmp_path / "merged"))
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    declared = AutoModelForCausalLM.from_pretrained(adapter).generation_config.eos_token_id
    assert model.config.eos_token_id == 30 and model.generation_config.eos_token_id == [30, declared]
