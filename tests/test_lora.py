"""LoRA and QLoRA by configuration alone, in every recipe: what is trained, kept and resumed, and that there is one base."""

import gc
import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import arguments, run, run_grpo
from peft import AutoPeftModelForCausalLM
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, TrainerCallback
from trl import GRPOTrainer

from recipes import dpo, grpo, merge, ppo, reward_model, sft
from recipes.shared import model_loading
from recipes.shared.cli import parse
from recipes.shared.ppo_trainer import PPOTrainer

LORA = ("--use_peft", "--lora_r", "4", "--lora_dropout", "0.0", "--lora_target_modules", "all-linear")
QLORA = (*LORA, "--load_in_4bit", "--bnb_4bit_quant_type", "nf4", "--use_bnb_nested_quant")
RECIPES = {
    sft: ("--dataset_options", "{digits: 1, rows: 40}", "--per_device_train_batch_size", "8"),
    reward_model: ("--dataset_options", "{digits: 1, rows: 40}", "--per_device_train_batch_size", "8"),
    dpo: ("--dataset_options", "{digits: 1, rows: 40}", "--per_device_train_batch_size", "8"),
    grpo: ("--dataset_options", "{digits: 1}", "--per_device_train_batch_size", "8", "--max_completion_length", "12"),
    ppo: (
        *("--dataset_options", "{digits: 1}", "--per_device_train_batch_size", "8", "--max_completion_length", "12"),
        *("--num_mini_batches", "1", "--num_ppo_epochs", "2", "--value_layers", "null"),
    ),
}
NAMES = {recipe: recipe.__name__.rpartition(".")[2] for recipe in RECIPES}


def argv(recipe, base: str, folder: Path, *more: str) -> list[str]:
    length = ("--max_steps", "4", "--save_steps", "2")
    own = ("--config", f"recipes/configs/{NAMES[recipe]}/tiny.yaml", "--model_name_or_path", base)
    own += ("--held_out", "0", "--report_to", "none", "--output_dir", str(folder), "--learning_rate", "1e-3")
    return [*own, *RECIPES[recipe], *length, *more]


def adapter(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


@pytest.mark.parametrize("recipe", RECIPES, ids=NAMES.values())
def test_qlora_trains_and_keeps_the_adapter_alone_and_resumes(recipe, base, tmp_path):
    run(recipe, *argv(recipe, base, tmp_path / "whole", *QLORA))
    whole = adapter(tmp_path / "whole")
    head = {name for name in whole if "score" in name}
    assert bool(head) == (recipe is reward_model)
    assert {name for name in whole if "lora" not in name} == head
    assert not (tmp_path / "whole" / "model.safetensors").exists()
    # B starts at zero; the last layer's query and key get no gradient from some losses at so few steps
    moved = [v.abs().sum() > 0 for name, v in whole.items() if "lora_B" in name]
    assert sum(moved) > len(moved) / 2
    kept = json.loads((tmp_path / "whole" / "adapter_config.json").read_text())
    task = {reward_model: "SEQ_CLS"}.get(recipe, "CAUSAL_LM")
    assert (kept["task_type"], kept["base_model_name_or_path"], kept["revision"]) == (task, base, "main")
    shutil.copytree(tmp_path / "whole", tmp_path / "resumed")  # as it was behind its second step
    shutil.rmtree(tmp_path / "resumed" / "checkpoint-4")
    for file in ("summary.json", "adapter_model.safetensors"):
        (tmp_path / "resumed" / file).unlink()
    run(recipe, *argv(recipe, base, tmp_path / "resumed", *QLORA, "--resume_from_checkpoint", "true"))
    resumed = adapter(tmp_path / "resumed")
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


@pytest.mark.parametrize("recipe", RECIPES, ids=NAMES.values())
def test_an_adapter_keeps_the_revision_of_its_base(recipe):
    _, _, model_args, _ = arguments(recipe, *argv(recipe, "some/base", Path("x"), *LORA, "--model_revision", "v1"))
    assert model_loading.peft_config(model_args).revision == "v1"


class Held(TrainerCallback):
    """The bytes of all weights in memory after a step: of every module there is, each storage once."""

    bytes = None

    def on_step_end(self, *_, **__):
        gc.collect()
        modules = [m for m in gc.get_objects() if isinstance(m, torch.nn.Module)]
        storages = {
            p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for m in modules for p in m.parameters()
        }
        Held.bytes = sum(storages.values())


def held_by(recipe, trainer, monkeypatch, *more: str) -> int:
    begin = trainer.__init__

    def with_callback(self, *args, **kwargs):
        begin(self, *args, **kwargs)
        self.add_callback(Held())

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "__init__", with_callback)
        run(recipe, *more)
    gc.collect()
    return Held.bytes


@pytest.mark.parametrize(
    "recipe, trainer, keys",
    [
        (grpo, GRPOTrainer, ("--beta", "0.1", "--max_steps", "1")),
        (dpo, dpo.DPOTrainer, ("--max_steps", "1")),
        (ppo, PPOTrainer, ("--max_steps", "1", "--kl_coef", "0.1")),
    ],
    ids=["grpo", "dpo", "ppo"],
)
def test_the_reference_under_lora_is_the_base_and_no_second_copy(recipe, trainer, keys, base, tmp_path, monkeypatch):
    """Measured, with what other tests left in memory taken off: a full run holds one model more than a LoRA run does."""
    size = sum(p.numel() * p.element_size() for p in AutoModelForCausalLM.from_pretrained(base).parameters())
    full = held_by(recipe, trainer, monkeypatch, *argv(recipe, base, tmp_path / "full", *keys))
    lora = held_by(recipe, trainer, monkeypatch, *argv(recipe, base, tmp_path / "lora", *LORA, *keys))
    adapters = sum(v.numel() * 4 for v in adapter(tmp_path / "lora").values())
    assert full - lora == pytest.approx(size - adapters * (2 if recipe is ppo else 1), rel=0.05)


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-4), ("bfloat16", 0.1)])
def test_a_merged_model_answers_as_base_and_adapter_do(base, grpo_arguments, tmp_path, dtype, tolerance):
    """To 1e-4 of a logit in float32; bfloat16 rounds each weight to 3 digits, and the logits of this model to 0.1."""
    run_grpo(*grpo_arguments, "--max_steps", "4", *LORA, "--learning_rate", "1e-2")
    merged = ("--model_name_or_path", str(tmp_path / "run"), "--output_dir", str(tmp_path / "merged"), "--dtype", dtype)
    merge.main(*parse((merge.Merge,), list(merged), doc=""))
    ids = torch.tensor([[25, 40, 60, 99, 120, 7]])
    both = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "run").eval()
    alone = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32).eval()
    plain = AutoModelForCausalLM.from_pretrained(base).eval()
    with torch.no_grad():
        wanted, given, without = both(ids).logits, alone(ids).logits, plain(ids).logits
    assert (wanted - given).abs().max() < tolerance < (wanted - without).abs().max()
