"""The check before a run: what is right passes, what would go wrong fails with the way out, and nothing is loaded for it."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import forked
import pytest
import torch
import yaml
from conftest import REPO, run_grpo
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, Gemma3TextConfig

from recipes import check
from recipes.check import recipe_of
from recipes.preflight import memory, perfect_answers
from recipes.preflight.model_shapes import Workload
from recipes.preflight.questions import examine
from recipes.shared.launch import Launch
from recipes.shared.run_config import TRAINING
from rewards.countdown import score

TINY = "recipes/configs/grpo/tiny.yaml"
CONFIGS = sorted(p for p in Path(REPO, "recipes/configs").glob("*/*.yaml") if p.parent.name in TRAINING)
MADE = ("arithmetic_text", "cold_start", "preferences", "word_sums")  # sets of as many rows as are asked for
LAUNCHES = sorted(Path(REPO, "accelerate_configs").glob("*.yaml"))
CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|endoftext|>\n{% endfor %}"
CHATML += "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"


@pytest.fixture(scope="session")
def chatty(untrained, tmp_path_factory) -> str:
    """The embedded base with a chat template, in place of instruction-tuned models that aren't there."""
    return with_template(untrained, tmp_path_factory.mktemp("chatty"), CHATML)


def with_template(untrained: str, folder: Path, template: str) -> str:
    for file in Path(untrained).iterdir():
        if file.is_file():
            (folder / file.name).write_bytes(file.read_bytes())
    (folder / "chat_template.jinja").write_text(template)
    return str(folder)


def look(*argv: str, recipe: str = "grpo", launch: Launch | None = None, device_gb: float | None = None):
    """The tiny run is looked at with few rows and a small batch, unless the test says otherwise."""
    few = {"--dataset_options": "{digits: 1}", "--per_device_train_batch_size": "32"} if TINY in argv else {}
    few = [] if "--dataset" in argv else [word for key, v in few.items() if key not in argv for word in (key, v)]
    return examine(recipe, [*argv, *few], launch or Launch(), device_gb)


def found(report, status: str) -> dict[str, str]:
    return {what: said for s, what, said in report.lines if s == status}


def launch_of(path: Path) -> Launch:
    """What a config's own launch line says."""
    (line,) = re.findall(r"^# Launch: (.*)$", path.read_text(), re.M)
    words = shlex.split(line)
    launch = Launch.of_file(words[words.index("--config_file") + 1]) if "--config_file" in words else Launch()
    if "--num_processes" in words:
        launch.processes = int(words[words.index("--num_processes") + 1])
    return launch


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_every_config_passes_under_its_own_launch_line(path, untrained, chatty):
    """Models that other runs make are stood in for; what is on the hub is skipped without a network, and said to be."""
    content = yaml.safe_load(path.read_text())
    made_here = content["model_name_or_path"].startswith("outputs/")
    model = ["--model_name_or_path", chatty if content.get("template") == "chat" else untrained] if made_here else []
    models = [word for key in ("reward_model", "value_model") if key in content for word in (f"--{key}", untrained)]
    options = content.get("dataset_options") or {}
    few = ["--dataset_options", json.dumps(options | {"rows": 600})] if content["dataset"] in MADE else []
    report = look("--config", str(path), *model, *models, *few, recipe=path.parent.name, launch=launch_of(path))
    assert not found(report, "fail")
    skipped = found(report, "skip")
    hub = {"tokens", "rows"} & skipped.keys()
    assert all("the hub can't be reached" in skipped[what] for what in hub)
    assert bool(skipped) == bool(hub), "what is skipped depends on the hub, and nothing is without one"
    if not skipped:
        asked = set() if path.parent.name not in ("grpo", "ppo") else {f"reward {n}" for n in content["rewards"]}
        assert {"keys", "launch", "batch", "tokens", "rows", "lengths", "length", "memory", "disk"} | asked <= {
            what for _, what, _ in report.lines
        }


@pytest.mark.parametrize("path", LAUNCHES, ids=lambda p: p.stem)
def test_every_launch_file_passes_with_the_tiny_run(path, untrained):
    """GPUs where it is for them; a run that adds up on 16 devices does on fewer."""
    launch = Launch.of_file(str(path))
    on_cpu = launch.use_cpu or path.stem.startswith("cpu_")
    where = ["--use_cpu", "true" if on_cpu else "false"]
    where += ["--bf16", "true"] if launch.mixed_precision == "bf16" else []
    report = look("--config", TINY, "--model_name_or_path", untrained, "--held_out", "0", *where, launch=launch)
    assert not found(report, "fail") and not found(report, "skip")
    assert f"{launch.processes} process" in found(report, "pass")["launch"]
    first = path.read_text().splitlines()[0]
    assert first.startswith("# "), "opens with what it is for"


@pytest.mark.parametrize("processes, sharding", [(1, "none"), (4, "ddp")])
def test_zero_stage_0_shards_nothing(tmp_path, monkeypatch, processes, sharding):
    content = {"distributed_type": "DEEPSPEED", "num_processes": processes, "deepspeed_config": {"zero_stage": 0}}
    (tmp_path / "launch.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    in_keys = Launch.of_environment().with_keys({"deepspeed": {"zero_optimization": {"stage": 0}}})
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", "0")
    launches = [Launch.of_file(str(tmp_path / "launch.yaml")), Launch.of_environment(), in_keys]
    assert [launch.sharding for launch in launches] == [sharding] * 3


def test_the_arithmetic_is_said_in_words(untrained):
    launch = Launch(name="x.yaml", processes=4, sharding="zero2", use_cpu=True)
    argv = ["--per_device_train_batch_size", "8", "--gradient_accumulation_steps", "2", "--steps_per_generation", "4"]
    said = found(look("--config", TINY, "--model_name_or_path", untrained, *argv, launch=launch), "pass")
    assert "4 devices x 8 each x 2 accumulated = 64 completions an optimizer step" in said["batch"]
    assert "128 = 16 prompts x a group of 8, for 2 steps" in said["batch"]
    assert "250 optimizer steps, 16,000 completions" in said["length"]


@pytest.mark.parametrize(
    "argv, launch, what, words",
    [
        (["--num_generations", "7"], {}, "keys", ["num_generations=7", "nearest"]),
        (["--lerning_rate", "1"], {}, "keys", ["lerning_rate", "'learning_rate'"]),
        (["--use_cpu", "false"], {"use_cpu": True}, "launch", ["say --use_cpu true"]),
        ([], {"sharding": "ddp", "processes": 2}, "launch", ["x.yaml is for GPUs"]),
        (["--held_out", "9"], {"sharding": "zero3", "use_cpu": True}, "keys", ["held_out=9", "ZeRO-3"]),
        (
            ["--held_out", "0"],
            {"sharding": "zero2", "use_cpu": True, "mixed_precision": "bf16"},
            "launch",
            ["bf16: false", "say bf16: true"],
        ),
        (["--dataset", "nowhere.jsonl", "--dataset_options", "{}"], {}, "rows", ["nowhere.jsonl"]),
        (["--max_completion_length", "5000"], {}, "lengths", ["positions", "max_completion_length"]),
        (["--max_prompt_length", "2"], {}, "lengths", ["no row is left"]),
        (["--rewards", "{countdown: 1}"], {}, "lengths", ["'countdown' needs the column 'target'"]),
        (["--lora_target_modules", "query", "--use_peft", "true"], {}, "memory", ["query"]),
    ],
)
def test_what_would_go_wrong_fails_with_the_way_out(untrained, argv, launch, what, words):
    report = look("--config", TINY, "--model_name_or_path", untrained, *argv, launch=Launch(name="x.yaml", **launch))
    failed = found(report, "fail")
    assert set(failed) == {what} and all(word in failed[what] for word in words), failed


@pytest.mark.parametrize(
    "options, end, failing",
    [
        ("{}", "<|im_start|>assistant\n", None),
        ("{}", "<|im_start|>assistant\n<think>\n", None),
        (
            "{think_format: {prefilled_think: false}}",
            "<|im_start|>assistant\n<think>\n",
            "ends in <think>: leave it out",
        ),
        ("{think_format: {prefilled_think: true}}", "<|im_start|>assistant\n<think>\n", None),
        ("{think_format: {prefilled_think: true}}", "<|im_start|>assistant\n", "doesn't end in <think>"),
    ],
)
def test_a_template_that_begins_the_thoughts_sets_the_option_by_itself(untrained, tmp_path, options, end, failing):
    model = with_template(untrained, tmp_path, CHATML.replace("<|im_start|>assistant\n", end))
    report = look(
        *("--config", TINY, "--model_name_or_path", model, "--template", "chat", "--reward_options", options),
    )
    failed = found(report, "fail")
    if failing is None:
        assert not failed
        assert "golds earn 1, junk and silence 0" in found(report, "pass")["reward think_format"]
    else:
        assert failing in failed["prompt"]


def test_fewer_rows_than_a_batch_of_prompts_are_refused_by_check_and_run(untrained, tmp_path, capsys):
    """TRL drops what doesn't fill a batch, and a run of nothing would end at step 0 without an error."""
    argv = ["--config", TINY, "--model_name_or_path", untrained, "--dataset_options", "{digits: 1}"]
    argv += ["--per_device_train_batch_size", "276", "--num_generations", "4", "--held_out", "0", "--report_to", "none"]
    said = "68 rows are fewer than the 69 prompts"
    assert said in found(look(*argv), "fail")["lengths"]
    with pytest.raises(SystemExit):
        run_grpo(*argv, "--output_dir", str(tmp_path / "run"))
    assert said in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_what_a_recipe_refuses_of_a_launch_fails(monkeypatch):
    monkeypatch.delenv("ACCELERATE_USE_DEEPSPEED", raising=False)
    zero3 = Launch.of_file("accelerate_configs/zero3.yaml")
    report = look("--config", "recipes/configs/ppo/tiny.yaml", "--use_cpu", "false", recipe="ppo", launch=zero3)
    assert "ZeRO-3" in found(report, "fail")["keys"] and "ACCELERATE_USE_DEEPSPEED" not in os.environ


@pytest.mark.parametrize("engine", ["zero2", "zero3"])
def test_what_is_offloaded_is_in_main_memory_instead(engine, untrained):
    argv = [
        "--config",
        TINY,
        "--model_name_or_path",
        untrained,
        "--use_cpu",
        "false",
        "--bf16",
        "true",
        "--held_out",
        "0",
    ]
    kept, offloaded = (
        look(*argv, launch=Launch.of_file(f"accelerate_configs/{name}.yaml")).estimate
        for name in (engine, f"{engine}_offload")
    )
    assert kept.host == 0 and offloaded.host > 0
    for moment, parts in offloaded.moments.items():
        assert not parts["optimizer"] and not parts["gradients"], moment
        assert set(kept.moments[moment] - parts) <= {"optimizer", "gradients", "weights"}


def test_broken_gold_is_counted_and_gold_that_earns_nothing_fails(untrained, tmp_path):
    rows = [{"question": f"{i} + 1?", "answer": f"so #### {i + 1}"} for i in range(20)]
    rows[3]["answer"], rows[4]["answer"], rows[5]["answer"] = "none", "none", "none"
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    argv = ["--config", TINY, "--model_name_or_path", untrained, "--held_out", "0", "--dataset_options", "{}"]
    report = look(*argv, "--dataset", str(file))
    assert "left out: 15.0%, 3 have no answer" in found(report, "warn")["lengths"] and not found(report, "fail")


def test_the_best_of_a_penalty_is_0(untrained):
    """The gold takes some 35 tokens of the embedded untrained, about one a character."""
    for limit, failed in ((60, set()), (30, {"reward overlong"})):
        options = f"{{overlong: {{max_length: {limit}, cache: 8}}}}"
        rewards = ("--rewards", "{math_answer: 1, overlong: 0.5}", "--reward_options", options)
        report = look("--config", TINY, "--model_name_or_path", untrained, *rewards)
        assert set(found(report, "fail")) == failed


def test_a_reward_that_pays_without_merit_is_found(untrained, monkeypatch):
    """The first reward must not; one of style may, and is said to."""
    argv = ["--config", TINY, "--model_name_or_path", untrained]
    style = look(*argv, "--rewards", "{math_answer: 1, language_consistency: 0.1}")
    assert not found(style, "fail") and "keep its weight small" in found(style, "warn")["reward language_consistency"]
    first = look(*argv, "--rewards", "{language_consistency: 1}")
    assert "pays without merit" in found(first, "fail")["reward language_consistency"]


def test_gold_that_the_reward_refuses_fails(untrained, monkeypatch):
    monkeypatch.setattr(perfect_answers, "completion", lambda row, *_: f"<answer>{row['answer']}</answer>")
    failed = found(look("--config", TINY, "--model_name_or_path", untrained), "fail")
    assert set(failed) == {"reward think_format"} and "32 of 32 golds" in failed["reward think_format"]


@pytest.mark.parametrize("nums, target", [([44, 19, 35], 98), ([3, 3, 8, 8], 24), ([5, 7], 12), ([1, 2, 3], 1)])
def test_a_perfect_countdown_answer_is_one(nums, target):
    text = perfect_answers.completion({"nums": nums, "target": target})
    assert score(text, target, nums) == 1.0


def test_a_countdown_without_solution_has_no_perfect_answer():
    assert perfect_answers.completion({"nums": [1, 1], "target": 99}) is None


def test_more_memory_than_there_is_fails_and_just_enough_is_warned_of(untrained):
    argv = ["--config", TINY, "--model_name_or_path", untrained]
    report = look(*argv)
    need_gb = report.estimate.peak / 1e9
    assert "memory" in found(look(*argv, device_gb=2 * need_gb), "pass")
    assert "memory" in found(look(*argv, device_gb=need_gb / 0.9), "warn")
    failed = found(look(*argv, device_gb=0.9 * need_gb), "fail")["memory"]
    assert "111% of" in failed and "per_device_train_batch_size" in failed


def command(*argv: str, module: str = "check") -> subprocess.CompletedProcess:
    return forked.run([sys.executable, "-m", f"recipes.{module}", *argv])


@pytest.mark.launches
def test_json_is_json_and_a_failure_exits_with_2(untrained):
    argv = ["--config", TINY, "--model_name_or_path", untrained, "--json"]
    done = command(*argv)
    report = json.loads(done.stdout)
    assert done.returncode == 0 and {row["status"] for row in report["findings"]} == {"pass"}
    assert set(report["memory"]) == {"training", "updating", "sampling"}
    done = command(*argv, "--num_generations", "7")
    assert done.returncode == 2 and json.loads(done.stdout)["findings"][0]["status"] == "fail"


@pytest.mark.launches
@pytest.mark.parametrize("recipe", TRAINING)
def test_dry_run_looks_and_stops(recipe, untrained, tmp_path):
    done = command(
        *("--config", f"recipes/configs/{recipe}/tiny.yaml", "--model_name_or_path", untrained, "--dry_run"),
        *("--output_dir", str(tmp_path / "run")),
        module=recipe,
    )
    assert done.returncode == 0 and done.stdout.splitlines()[-1] in ("all pass", "1 warn"), done.stdout + done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.launches
def test_dry_run_sees_how_it_was_launched(untrained):
    """Two processes by torchrun: one looks, with the arithmetic of two."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    argv = ["-m", "recipes.grpo", "--config", TINY, "--model_name_or_path", untrained, "--dry_run"]
    done = forked.run([*launch, *argv])
    assert done.returncode == 0 and done.stdout.count("2 devices x 128 each") == 1, done.stderr[-2000:]


def test_no_weights_are_loaded(untrained, monkeypatch, tmp_path):
    empty = with_template(untrained, tmp_path, CHATML)
    (Path(empty) / "model.safetensors").unlink()
    assert not found(look("--config", TINY, "--model_name_or_path", empty), "fail")


@pytest.mark.launches
def test_a_launch_file_that_is_none_is_refused(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("just words\n")
    done = command("--config", TINY, "--launch", str(path))
    assert done.returncode == 2 and "isn't an accelerate config" in done.stderr


@pytest.mark.parametrize(
    "text, recipe",
    [
        ("# Launch: python -m recipes.dpo --config dpo.yaml\ndataset: a.jsonl\n", "dpo"),
        ("dataset: a.jsonl\nrewards: {math_answer: 1}\nnum_generations: 4\n", "grpo"),
        ("dataset: a.jsonl\nreward_model: outputs/x\n", "ppo"),
        ("dataset: a.jsonl\nlevel: step\n", "reward_model"),
    ],
)
def test_the_recipe_of_a_config_that_lies_anywhere(tmp_path, text, recipe):
    (tmp_path / "mine.yaml").write_text(text)
    assert recipe_of(str(tmp_path / "mine.yaml")) == recipe


def test_a_config_of_several_recipes_has_to_be_said_which(tmp_path):
    (tmp_path / "mine.yaml").write_text("dataset: a.jsonl\n")
    with pytest.raises(ValueError, match=r"fits sft and reward_model.* by its keys: say --recipe"):
        recipe_of(str(tmp_path / "mine.yaml"))


def test_the_number_of_processes_and_the_last_checkpoint_count(untrained, capsys):
    argv = ["--config", TINY, "--model_name_or_path", untrained, "--dataset_options", "{digits: 1}"]
    argv += ["--per_device_train_batch_size", "8", "--max_steps", "25", "--save_steps", "10", "--save_total_limit", "9"]
    with pytest.raises(SystemExit) as ended:
        check.main([*argv, "--num_processes", "2", "--held_out", "0", "--launch", "accelerate_configs/cpu_zero2.yaml"])
    out = " ".join(capsys.readouterr().out.split())
    assert ended.value.code == 0 and "2 devices x 8 each" in out and "GB: 3 checkpoints of" in out, out


def test_keys_of_the_run_can_shard_it_too(untrained, tmp_path):
    (tmp_path / "ds.json").write_text('{"zero_optimization": {"stage": 3}}')
    argv = [
        "--config",
        TINY,
        "--model_name_or_path",
        untrained,
        "--deepspeed",
        str(tmp_path / "ds.json"),
        "--held_out",
        "9",
    ]
    failed = found(look(*argv), "fail")
    assert set(failed) == {"keys"} and "ZeRO-3 holds no complete model" in failed["keys"]
    argv[argv.index(str(tmp_path / "ds.json"))] = str(tmp_path / "none.json")
    assert "isn't a DeepSpeed config" in found(look(*argv), "fail")["keys"]


@pytest.mark.parametrize("recipe", TRAINING)
def test_lora_is_estimated_in_every_recipe(recipe, untrained):
    """As few weights as it trains, it needs less memory than all of them."""
    argv = ["--config", f"recipes/configs/{recipe}/tiny.yaml", "--model_name_or_path", untrained, "--held_out", "0"]
    argv += [
        "--dataset_options",
        "{digits: 1, rows: 40}" if recipe in ("sft", "reward_model", "dpo") else "{digits: 1}",
    ]
    argv += ["--num_mini_batches", "1"] if recipe == "ppo" else []
    lora = ("--use_peft", "true", "--lora_target_modules", "all-linear", "--lora_r", "4")
    full, adapted = look(*argv, recipe=recipe), look(*argv, *lora, recipe=recipe)
    assert not found(full, "fail") and not found(adapted, "fail")
    assert adapted.estimate.trainable < full.estimate.trainable / 4
    parts = [report.estimate.moments["updating"].total() for report in (adapted, full)]
    assert parts[0] < parts[1]


# github.com/huggingface/trl/releases/tag/v1.15.0: GiB at 8,192 tokens with gemma-3-1b in bfloat16, batch size 1, gradient
# checkpointing, sdpa, on one GPU
MEASURED_BY_TRL = {"grpo": 10.30, "dpo": 12.00, "sft": 8.87}


@pytest.mark.parametrize("recipe", MEASURED_BY_TRL)
def test_the_estimate_is_near_what_trl_measured_on_a_gpu(recipe):
    shape = {"hidden_size": 1152, "intermediate_size": 6912, "num_hidden_layers": 26, "vocab_size": 262144}
    shape |= {"num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256}
    work = Workload(
        recipe=recipe,
        config=Gemma3TextConfig(**shape),
        prompt=128,
        completion=8064,
        batch=1,
        sampled=1,
        dtype=torch.bfloat16,
        checkpointing=True,
        reference=recipe == "dpo",
        vllm="server",
    )
    assert memory.estimate(work).peak / memory.GIB == pytest.approx(MEASURED_BY_TRL[recipe], rel=0.25)


def test_vllm_in_the_trainer_has_to_hold_the_model_and_one_completion(untrained):
    """Of the embedded base, one layer: 4 heads of 32 keys and 32 values, of 2 bytes, are 512 bytes a token."""
    a_token = 512
    weights = 2 * AutoModelForCausalLM.from_pretrained(untrained).num_parameters()
    argv = ["--config", TINY, "--model_name_or_path", untrained, "--held_out", "0", "--use_vllm", "true"]
    argv += ["--vllm_max_model_length", "512", "--vllm_gpu_memory_utilization", "0.5"]
    just = 2 * (weights + 512 * a_token)
    said = found(look(*argv, device_gb=(just + 10) / 1e9), "pass")["vLLM"]
    assert "samples 1 of them at a time, of 32 a device" in said
    failed = found(look(*argv, device_gb=(just - 10) / 1e9), "fail")["vLLM"]
    assert "vllm_gpu_memory_utilization=0.5" in failed and "raise it to 0.56" in failed
    assert "say --device_gb" in found(look(*argv), "pass")["vLLM"]
    assert "vLLM" not in found(look(*argv, "--use_vllm", "false"), "pass")


def test_a_correction_that_drops_long_completions_is_warned_of(untrained):
    argv = ["--config", TINY, "--model_name_or_path", untrained, "--held_out", "0", "--use_vllm", "true"]
    assert "say token_truncate" in found(look(*argv), "warn")["correction"]
    for others in (("mode", "token_truncate"), ("correction", "false")):
        assert "correction" not in found(look(*argv, f"--vllm_importance_sampling_{others[0]}", others[1]), "warn")


def test_half_precision_weights_that_an_adapter_is_merged_into_at_every_step_are_warned_of(untrained):
    """What the warning says, measured: after ten steps a float32 base is what it was, and a bfloat16 one is not."""
    argv = ["--config", TINY, "--model_name_or_path", untrained, "--held_out", "0", "--use_peft", "true"]
    argv += ["--lora_target_modules", "all-linear", "--use_vllm", "true", "--dtype"]
    assert "frozen base drifts" in found(look(*argv, "bfloat16"), "warn")["precision"]
    assert "precision" not in found(look(*argv, "float32"), "warn")
    moved = {}
    for dtype in (torch.float32, torch.bfloat16):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_pretrained(untrained, dtype=dtype)
        model = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear"))
        weights = {name: p for name, p in model.named_parameters() if "base_layer" in name}
        before = {name: p.clone() for name, p in weights.items()}
        for _ in range(10):
            for name, p in model.named_parameters():
                if "lora_" in name:
                    p.data += 1e-2 * torch.randn_like(p)
            model.merge_adapter(), model.unmerge_adapter()
        moved[dtype] = max((p - before[name]).abs().mean() / before[name].abs().mean() for name, p in weights.items())
    assert moved[torch.float32] < 1e-6 and moved[torch.bfloat16] > 1e-3
