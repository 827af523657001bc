"""Completions of GRPO and PPO by vLLM, through TRL's own options: which of them can't work together, or would silently do nothing.

colocate: vLLM runs inside each training process and shares its GPU. server: the completions come from a vLLM of its own, on
other GPUs or another node, to which the trainer sends its weights after every step:

    trl vllm-serve --model <the run's> --tensor_parallel_size 4 --max_model_len <prompt and completion, tokens>
"""

from collections.abc import Iterator
from importlib.util import find_spec

import yaml

from recipes.shared import model_loading
from recipes.shared.run_config import RunConfig

CHOICES = {
    "vllm_mode": ("colocate", "server"),
    "vllm_model_impl": ("vllm", "transformers"),
    "vllm_importance_sampling_mode": ("token_truncate", "token_mask", "sequence_truncate", "sequence_mask"),
}
SERVER = ("vllm_server_base_url", "vllm_server_host", "vllm_server_port", "vllm_server_timeout", "vllm_group_port")
# keys that TRL hands to the engine inside the trainer; a server has its own, on its command line
COLOCATE = {
    "vllm_gpu_memory_utilization": "gpu_memory_utilization",
    "vllm_max_model_length": "max_model_len",
    "vllm_tensor_parallel_size": "tensor_parallel_size",
    "vllm_model_impl": "vllm_model_impl",
    "vllm_enable_sleep_mode": None,
}


def vllm_problems(config: RunConfig) -> Iterator[str]:
    """vLLM options that can't work together, or would do nothing, each with the way out."""
    given, mode = config.given, config["vllm_mode"]
    keys = [key for key in given if key.startswith("vllm_")]
    if "use_vllm" not in given:
        for key in keys:
            yield f"{key}={given[key]!r} does nothing without use_vllm: say use_vllm: true, or leave it out"
    if not given.get("use_vllm"):
        return  # `--use_vllm false` runs a config without vLLM, as it is
    if mode == "server":
        for key in [key for key in COLOCATE if key in given]:
            there = f"give it to the server (trl vllm-serve --{COLOCATE[key]})" if COLOCATE[key] else "leave it out"
            yield f"{key}={given[key]!r} is for vllm_mode colocate: {there}"
        if not config["vllm_server_base_url"] and config["vllm_server_host"] == "0.0.0.0":
            yield "vllm_mode='server' without a server: set vllm_server_host to its node, or vllm_server_base_url"
    for key in [key for key in SERVER if key in given] if mode == "colocate" else []:
        yield f"{key}={given[key]!r} is for vllm_mode server, and vllm_mode is {mode!r}"
    parallel, processes = config["vllm_tensor_parallel_size"], config.launch.processes
    if parallel < 1 or processes % parallel:
        divisors = [n for n in range(1, processes + 1) if processes % n == 0]
        closest = min(divisors, key=lambda n: abs(n - parallel))
        yield (
            f"vllm_tensor_parallel_size={parallel} does not divide {processes} processes: the nearest "
            f"vllm_tensor_parallel_size that does is {closest}"
        )
    context, longest = config["vllm_max_model_length"], config["max_completion_length"]
    if context is not None and context < longest + (config["max_prompt_length"] or 1):
        yield (
            f"vllm_max_model_length={context} is shorter than max_prompt_length={config['max_prompt_length']} and "
            f"max_completion_length={longest} together: raise it, or lower them"
        )
    for key in ("load_in_4bit", "load_in_8bit"):
        # huggingface/trl#3466 and #4973, both open with 1.12: merged weights don't fit vLLM's packed ones
        if config[key]:
            yield f"{key} with use_vllm: TRL can't send quantised weights to vLLM; say use_vllm: false"
    if given.get("ds3_gather_for_generation") is False:
        yield "ds3_gather_for_generation=False with use_vllm: vLLM takes gathered weights; leave it out"


def stop_problems(config: RunConfig) -> Iterator[str]:
    """Stop strings that would be lost, or fail at the first step, each with what to say instead."""
    kwargs = config["generation_kwargs"] or {}
    kwargs = yaml.safe_load(kwargs) if isinstance(kwargs, str) else kwargs  # as the command line gives it
    if kwargs and config["held_out"]:
        yield f"generation_kwargs={kwargs!r}: the held-out completions are sampled without them: say held_out: 0"
    stop = {key: value for key, value in kwargs.items() if key in ("stop", "stop_strings") and value}
    if not stop:
        return
    key, value = next(iter(stop.items()))
    setting = f"generation_kwargs: {{{key}: {value!r}}}"
    if not config["use_vllm"]:
        yield (
            f"{setting}: transformers can't stop at text inside TRL's trainer: leave it out (a completion ends with the end "
            "token), or say use_vllm: true and generation_kwargs: {stop: ..., include_stop_str_in_output: true}"
        )
    elif key == "stop_strings" or not kwargs.get("include_stop_str_in_output"):
        yield (
            f"{setting}: vLLM leaves the stop string out of the completion, where no reward would find it: say "
            f"generation_kwargs: {{stop: {value!r}, include_stop_str_in_output: true}}"
        )
    elif config["mask_truncated_completions"]:
        yield (
            f"{setting} with mask_truncated_completions: TRL takes a completion without its end token for cut off, and would "
            "learn nothing from those that stopped: say mask_truncated_completions: false"
        )


def stop_at_the_end(training_args, model_args, tokenizer) -> None:
    """Have vLLM stop where an answer ends; by itself it goes by the end tokens that the model's files declare."""
    if not training_args.use_vllm:
        return
    model, revision = model_args.model_name_or_path, model_args.model_revision
    declared = model_loading.generation_config_of(model, revision, training_args.trust_remote_code)
    ends = model_loading.end_tokens(tokenizer, declared)
    kwargs = training_args.generation_kwargs or {}
    training_args.generation_kwargs = kwargs | {"stop_token_ids": [*kwargs.get("stop_token_ids", []), *ends]}


def need_vllm(use_vllm: bool) -> None:
    """Refuse to begin where vLLM is wanted and not installed. Raises ValueError."""
    if use_vllm and find_spec("vllm") is None:
        raise ValueError("use_vllm=True, but vLLM isn't installed: pip install -e '.[vllm]', or say --use_vllm false")
