"""A wrong configuration ends with one line, exit code 2, and before any model loads."""

import dataclasses
import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import REPO, arguments, run_grpo

from recipes import evaluate, grpo, sample
from recipes.preflight.entry import start
from recipes.shared import arguments as shared_arguments
from recipes.shared import dataset_rows, model_loading, vllm_options
from recipes.shared.cli import classes_of, parse
from recipes.shared.launch import Launch
from recipes.shared.run_config import RunConfig

TINY = "recipes/configs/grpo/tiny.yaml"
VLLM = ("--use_vllm", "true")
REQUIRED = "dataset: arithmetic\nrewards: {math_answer: 1}\n"
CONFIGS = sorted(Path(REPO, "recipes/configs").glob("*/*.yaml"))


def read(*argv, config=TINY):
    return arguments(grpo, "--config", str(config), *argv)


def refused(capsys, function, *argv) -> str:
    """The one line that a refused run leaves on standard error."""
    with pytest.raises(SystemExit) as ended:
        function(*argv)
    assert ended.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), lines
    return lines[0]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_every_config_parses_and_adds_up(path):
    recipe = importlib.import_module(f"recipes.{path.parent.name}")
    fields = {f.name for c in classes_of(recipe.main) for f in dataclasses.fields(c)}
    on_cpu = (
        ["--use_cpu", "true"] if "use_cpu" in fields else []
    )  # bf16 is refused where there is neither a GPU nor this
    *made, config = arguments(recipe, "--config", str(path), *on_cpu)
    folders = {config["output_dir"], *(args.output_dir for args in made if hasattr(args, "output_dir"))}
    assert folders == {f"outputs/{path.parent.name}-{path.stem}"}
    assert path.read_text().count("Launch:") == 1, "opens with what it needs and how it is launched"


def test_swapping_the_base_model_is_one_line():
    smollm2, qwen = (
        yaml.safe_load(Path(REPO, f"recipes/configs/grpo/{name}-gsm8k-lora.yaml").read_text())
        for name in ("smollm2-135m", "qwen2.5-0.5b")
    )
    assert [key for key in smollm2 if smollm2[key] != qwen[key]] == [
        "model_name_or_path"
    ] and smollm2.keys() == qwen.keys()


def test_command_line_wins_over_the_file_and_reads_every_type():
    args, training_args, model_args, config = read(
        *("--learning_rate", "1e-4", "--rewards", "{think_format: 1}", "--use_peft", "--lora_target_modules", "q_proj"),
        *("--max-steps=7", "--completions_to_log", "2", "--resume_from_checkpoint", "true", "--run_name", "7"),
    )
    assert (training_args.learning_rate, training_args.max_steps, training_args.run_name) == (1e-4, 7, "7")
    assert (args.rewards, args.completions_to_log, args.template) == ({"think_format": 1.0}, 2, "plain")
    assert (model_args.use_peft, model_args.lora_target_modules) == (True, "q_proj")
    assert (training_args.resume_from_checkpoint, config["num_generations"]) == ("true", 8)


@pytest.mark.parametrize("text, want", [("1e-4", 1e-4), ("1.0e-4", 1e-4), ("3", 3.0)])
def test_rates_are_numbers_however_yaml_reads_them(tmp_path, text, want):
    path = tmp_path / "c.yaml"
    path.write_text(Path(REPO, TINY).read_text().replace("learning_rate: 5.0e-4", f"learning_rate: {text}"))
    assert read(config=path)[1].learning_rate == want


@pytest.mark.parametrize(
    "argv, words",
    [
        (["--learnin_rate", "1e-4"], ["learnin_rate is an unknown key", "'learning_rate'"]),
        (["--datasett", "gsm8k"], ["datasett is an unknown key", "'dataset'"]),
        (["--learning_rate", "fast"], ["learning_rate='fast'", "number"]),
        (["--max_steps", "2.5"], ["max_steps='2.5'", "int"]),
        (["--max_steps", "true"], ["max_steps='true'", "int"]),
        (["--use_peft", "perhaps"], ["use_peft='perhaps'", "bool"]),
        (["--rewards", "[math_answer]"], ["rewards=", "dict"]),
        (["--rewards", "{math_answer: much}"], ["rewards=", "number"]),
        (["--rewards", "{}"], ["rewards is empty", "math_answer"]),
        (
            ["--reward_options", "{code_tests: {binary: true}}"],
            ["reward_options", "'code_tests'", "not among the rewards"],
        ),
        (["--template", "r1zero"], ["template='r1zero'", "'r1_zero'"]),
        (["--dtype", "bfloat"], ["dtype='bfloat'", "'bfloat16'"]),
        (["--loss_type", "dr-grpo"], ["loss_type='dr-grpo'", "'dr_grpo'"]),
        (["--scale_rewards", "groups"], ["scale_rewards='groups'", "'group'"]),
        (["--lr_scheduler_type", "liner"], ["liner", "linear"]),
        (
            ["--num_generations", "13"],
            ["num_generations=13", "128 completions", "nearest num_generations that does is 16"],
        ),
        (["--num_generations", "1"], ["num_generations=1", "num_generations that does is 2"]),
        (["--completions_to_log", "0"], ["completions_to_log=0", "at least 1"]),
        (["--reward_weights", "[1, 1]"], ["reward_weights", "rewards"]),
        (["--eval_strategy", "steps"], ["eval_strategy", "recipes.evaluate"]),
        (["tiny.yaml"], ["'tiny.yaml' follows no --key"]),
        (["--vllm_gpu_memory_utilization", "0.3"], ["vllm_gpu_memory_utilization=0.3", "say use_vllm: true"]),
        ([*VLLM, "--vllm_mode", "servr"], ["vllm_mode='servr'", "'server'"]),
        ([*VLLM, "--vllm_importance_sampling_mode", "token"], ["'token'", "'token_mask'"]),
        ([*VLLM, "--vllm_mode", "server"], ["without a server", "vllm_server_host"]),
        ([*VLLM, "--vllm_mode", "server", "--vllm_server_host", "0.0.0.0"], ["without a server", "vllm_server_host"]),
        (
            [*VLLM, "--vllm_mode", "server", "--vllm_server_host", "gpu3", "--vllm_max_model_length", "99"],
            ["vllm_max_model_length=99 is for vllm_mode colocate", "trl vllm-serve --max_model_len"],
        ),
        ([*VLLM, "--vllm_server_host", "gpu3"], ["vllm_server_host='gpu3'", "vllm_mode is 'colocate'"]),
        (
            [*VLLM, "--vllm_tensor_parallel_size", "3"],
            ["vllm_tensor_parallel_size=3", "1 processes", "vllm_tensor_parallel_size that does is 1"],
        ),
        (
            [*VLLM, "--max_prompt_length", "16", "--vllm_max_model_length", "63"],
            ["vllm_max_model_length=63", "max_prompt_length=16", "max_completion_length=48"],
        ),
        ([*VLLM, "--load_in_4bit", "true"], ["load_in_4bit", "use_vllm: false"]),
        ([*VLLM, "--ds3_gather_for_generation", "false"], ["ds3_gather_for_generation", "leave it out"]),
    ],
)
def test_bad_values_are_refused_in_one_line(capsys, argv, words):
    line = refused(capsys, read, *argv)
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    "text, words",
    [
        (f"{REQUIRED}learnin_rate: 1.0e-4\n", ["learnin_rate is an unknown key", "'learning_rate'"]),
        (f"{REQUIRED}max_steps: ten\n", ["max_steps='ten'", "int"]),
        (f"{REQUIRED}max_steps: true\n", ["max_steps=True", "int"]),
        (f"{REQUIRED}run_name: 7\n", ["run_name=7", "string"]),
        (f"{REQUIRED}template: r1zero\n", ["template='r1zero'"]),
        ("max_steps: [1\n", ["is not YAML"]),
        ("max_steps: 1\nmax_steps: 2\n", ["max_steps is given twice", "line 1"]),
        ("just words\n", ["must hold 'key: value' lines"]),
        ("rewards: {math_answer: 1}\n", ["dataset is not set"]),
    ],
)
def test_bad_files_are_refused_in_one_line(capsys, tmp_path, text, words):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(SystemExit) as ended:
        read(config=path)
    line = capsys.readouterr().err.strip()
    assert ended.value.code == 2 and "\n" not in line and all(word in line for word in words), line


def test_a_missing_config_names_the_nearest(capsys):
    with pytest.raises(SystemExit) as ended:
        read(config="recipes/configs/grpo/tinny.yaml")
    line = capsys.readouterr().err
    assert ended.value.code == 2 and "No such file" in line and TINY in line


@pytest.mark.parametrize(
    "argv, words",
    [
        (["--rewards", "{math_anser: 1}"], ["reward 'math_anser' is unknown", "'math_answer'"]),
        (["--dataset", "arithmetics"], ["dataset 'arithmetics' is unknown", "'arithmetic'"]),
        (["--dataset", "nowhere.jsonl"], ["nowhere.jsonl", "no such file"]),
        (["--dataset_split", "tests"], ["split 'tests'", "'test'"]),
        (["--dataset_options", "{digit: 1}"], ["no option 'digit'", "'digits'"]),
        (["--rewards", "{countdown: 1}"], ["reward 'countdown' needs the column 'target'", "prompt, answer"]),
        (["--model_name_or_path", "outputs/no-such-model"], ["outputs/no-such-model", "no such folder"]),
        (["--template", "chat"], ["no chat template", "plain"]),
    ],
)
def test_unknown_names_are_refused_before_a_model_loads(capsys, monkeypatch, untrained, tmp_path, argv, words):
    def load(*_, **__):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(grpo, "ResumableGRPOTrainer", load)
    base_argv = [
        "--config",
        TINY,
        "--model_name_or_path",
        untrained,
        "--output_dir",
        str(tmp_path / "run"),
        "--max_prompt_length",
        "99",
    ]
    line = refused(capsys, run_grpo, *base_argv, *argv)
    assert all(word in line for word in words), line
    assert not (tmp_path / "run").exists(), "a refused run leaves nothing behind"


def test_a_prompt_without_its_chat_template_is_refused_before_a_model_loads(capsys, monkeypatch, untrained, tmp_path):
    monkeypatch.setattr(grpo, "ResumableGRPOTrainer", lambda *_, **__: pytest.fail("a model loads"))
    argv = ["--config", TINY, "--model_name_or_path", untrained, "--template", "chat", "--held_out", "0"]
    line = refused(capsys, run_grpo, *argv, "--output_dir", str(tmp_path / "run"))
    assert "no chat template" in line and not (tmp_path / "run").exists()


def test_a_tracker_that_is_not_installed_is_refused(capsys, monkeypatch):
    monkeypatch.setattr(shared_arguments, "find_spec", lambda name: None)
    assert "report_to='trackio': trackio isn't installed" in refused(capsys, read, "--report_to", "trackio")


def test_without_a_gpu_the_way_out_is_named(capsys, tmp_path):
    (tmp_path / "four.yaml").write_text(f"{REQUIRED}model_name_or_path: m\ntemplate: plain\n")
    assert "add use_cpu: true and bf16: false" in refused(capsys, lambda: read(config=tmp_path / "four.yaml"))
    read("--use_cpu", "true", config=tmp_path / "four.yaml")


def test_several_gpus_and_one_process_are_refused(capsys, monkeypatch):
    """The Trainer would split each batch by DataParallel, under which a group and its rewards come apart."""
    monkeypatch.setattr("torch.cuda.device_count", lambda: 8)
    line = refused(capsys, read, "--use_cpu", "false")
    assert "8 GPUs and one process" in line and "multi_gpu.yaml" in line and "CUDA_VISIBLE_DEVICES=0" in line
    read("--use_cpu", "true")
    launched = RunConfig("grpo", launch=Launch(processes=8, visible_gpus=8))
    assert not [problem for problem in shared_arguments.training_problems(launched) if "GPUs" in problem]


COLOCATE = [*VLLM, "--max_prompt_length", "16", "--vllm_max_model_length", "64", "--vllm_gpu_memory_utilization", "0.3"]
SERVER = [*VLLM, "--vllm_mode", "server", "--vllm_server_host", "gpu3", "--vllm_group_port", "51217"]


@pytest.mark.parametrize("argv", [COLOCATE, [*COLOCATE, "--use_vllm=false"], SERVER])
def test_vllm_options_that_go_together_are_taken(argv):
    read(*argv)


def test_a_run_that_needs_vllm_is_refused_first_where_there_is_none(capsys, monkeypatch, tmp_path):
    def load(*_, **__):
        raise AssertionError("something was loaded")

    monkeypatch.setattr(vllm_options, "find_spec", lambda name: None)
    for module, name in (
        (dataset_rows, "load_rows"),
        (model_loading, "load_tokenizer"),
        (grpo, "ResumableGRPOTrainer"),
    ):
        monkeypatch.setattr(module, name, load)
    line = refused(capsys, run_grpo, "--config", TINY, "--output_dir", str(tmp_path / "run"), *COLOCATE)
    assert "vLLM isn't installed" in line and "pip install -e '.[vllm]'" in line and "--use_vllm false" in line
    assert not (tmp_path / "run").exists(), "a refused run leaves nothing behind"


@pytest.mark.parametrize("recipe", [evaluate, sample])
def test_how_a_run_samples_while_it_trains_is_no_matter_to_who_samples_by_itself(recipe, tmp_path):
    """One process can read the config of a run whose vLLM spans four, or that has a server."""
    output = ("--output", str(tmp_path / "x.jsonl")) if recipe is sample else ()
    for argv in ([*COLOCATE, "--vllm_tensor_parallel_size", "4"], SERVER[:-4]):
        arguments(recipe, "--config", TINY, *argv, *output)


@pytest.mark.parametrize("module", ["grpo", "evaluate", "sft", "reward_model", "ppo", "dpo", "sample", "merge", "r1"])
def test_the_command_exits_with_2_and_names_the_unknown_key(module, capsys):
    recipe = importlib.import_module(f"recipes.{module}")
    with pytest.raises(SystemExit) as ended:
        start(module, recipe.main, getattr(recipe, "problems", None), argv=["--learnin_rate", "1"])
    out, err = capsys.readouterr()
    assert ended.value.code == 2 and out == "" and "learnin_rate is an unknown key" in err
    assert all(line.startswith("error: ") for line in err.splitlines())


@pytest.mark.launches
def test_the_command_itself_exits_with_2_and_one_line():
    command = [sys.executable, "-m", "recipes.grpo", "--config", TINY, "--learnin_rate", "1"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPO)
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and "unknown key" in done.stderr


def test_all_mistakes_are_listed_at_once(capsys, tmp_path):
    """Unknown keys, wrong types and what doesn't go together, each with its place; nothing that only follows from another."""
    (tmp_path / "c.yaml").write_text(
        f"{REQUIRED}learnin_rate: 1\nnum_generations: many\nper_device_train_batch_size: 12\n"
    )
    argv = ["--config", str(tmp_path / "c.yaml"), "--loss_type", "gpro", "--temperature", "0", "--max_step", "3"]
    with pytest.raises(SystemExit) as ended:
        arguments(grpo, *argv)
    lines = capsys.readouterr().err.splitlines()
    wanted = ["learnin_rate is an", "num_generations='many'", "--max_step is an", "loss_type='gpro'", "temperature=0"]
    assert ended.value.code == 2 and len(lines) == len(wanted), lines
    assert all(any(words in line for line in lines) for words in wanted), lines


def test_help_names_our_fields(capsys):
    with pytest.raises(SystemExit) as ended:
        parse((evaluate.Evaluation, grpo.GRPORecipe, grpo.GRPOConfig), ["--help"], doc=evaluate.__doc__)
    text = capsys.readouterr().out
    assert ended.value.code == 0 and "--samples (int | None, default None)" in text and "GRPOConfig" in text
