"""Completions sampled by transformers, or where it is installed by vLLM, with the settings of training."""

import importlib
from importlib.util import find_spec
from typing import NamedTuple

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from peft import AutoPeftModelForCausalLM
from tqdm import tqdm
from transformers import AutoModelForCausalLM, GenerationConfig, set_seed
from trl import ModelConfig, get_quantization_config

from recipes.shared import model_loading, tokens


class Completion(NamedTuple):
    text: str
    ids: list[int]  # with the end token, if it was reached
    finished: bool


def generation_config(max_completion_length: int, temperature: float = 1.0, **settings) -> GenerationConfig:
    """How completions are sampled; top_k, top_p and repetition_penalty are off unless named, whatever the model says.

    temperature 0 is greedy: the likeliest token each time, of which top_k, top_p and min_p would leave the same.
    """
    settings = {"top_k": 0, "top_p": 1.0, "repetition_penalty": 1.0} | settings
    if temperature == 0:
        penalty = settings["repetition_penalty"]
        return GenerationConfig(do_sample=False, max_new_tokens=max_completion_length, repetition_penalty=penalty)
    return GenerationConfig(do_sample=True, max_new_tokens=max_completion_length, temperature=temperature, **settings)


def completion(ids: list[int], ends: list[int], tokenizer) -> Completion:
    """What was sampled, up to the first end token."""
    length = next((i for i, token in enumerate(ids, 1) if token in ends), None)
    return Completion(tokenizer.decode(ids[:length], skip_special_tokens=True), ids[:length], length is not None)


def generation_of(training_args) -> GenerationConfig:
    """How a GRPO or PPO run samples its completions."""
    return generation_config(
        training_args.max_completion_length,
        training_args.temperature,
        top_p=training_args.top_p,
        top_k=training_args.top_k,
        min_p=training_args.min_p,
        repetition_penalty=training_args.repetition_penalty,
    )


def engine_for(model_args: ModelConfig, training_args, use_vllm: bool | None) -> str:
    """vllm where it is installed and can do what is asked, and use_vllm isn't False; else transformers.

    It takes one process, on a device that this vLLM was built for, unquantised weights, and on a GPU an adapter in half precision.
    """
    adapter = model_loading.is_adapter(model_args.model_name_or_path)
    adapters_fit = model_args.dtype in ("bfloat16", "float16") or training_args.device.type == "cpu"
    possible = PartialState().num_processes == 1 and not (model_args.load_in_4bit or model_args.load_in_8bit)
    if use_vllm is False or not possible or (adapter and not adapters_fit) or not find_spec("vllm"):
        return "transformers"
    from vllm.platforms import current_platform

    return "vllm" if current_platform.device_type == training_args.device.type else "transformers"


def of_engine(engine: str):
    """The module whose load_model and sample are those of the engine."""
    return importlib.import_module("recipes.measuring." + ("vllm_sampler" if engine == "vllm" else "sampler"))


def load_model(model_args: ModelConfig, training_args):
    """The model in evaluation mode, on the GPU where there is one: base, fine-tuned, or a LoRA adapter on its base."""
    name = model_args.model_name_or_path
    auto = AutoPeftModelForCausalLM if model_loading.is_adapter(name) else AutoModelForCausalLM
    model = auto.from_pretrained(
        name,
        trust_remote_code=training_args.trust_remote_code,
        quantization_config=get_quantization_config(model_args),
        **model_loading.model_init_kwargs(model_args),
    )
    model_loading.spare_copies(model)
    model_loading.sample_by_the_run_alone(model)
    return model.to(training_args.device).eval()


def sample(
    model, tokenizer, prompts: list, generation: GenerationConfig, batch_size: int, seed: int
) -> list[Completion]:
    """One completion a prompt, in their order; the processes of a launch share the work, and all get all of it."""
    generation = GenerationConfig.from_dict(generation.to_dict())
    ends = model_loading.end_tokens(tokenizer, model.generation_config)
    generation.pad_token_id, generation.eos_token_id = tokenizer.pad_token_id, ends
    set_seed(seed + PartialState().process_index)
    done = []
    with PartialState().split_between_processes(tokens.prompt_ids(prompts, tokenizer)) as mine:
        for start in tqdm(range(0, len(mine), batch_size), desc="sampling", disable=None, leave=False):
            batch = {"input_ids": mine[start : start + batch_size]}
            inputs = tokenizer.pad(batch, padding_side="left", return_tensors="pt").to(model.device)
            with torch.inference_mode():
                ids = model.generate(**inputs, generation_config=generation)[:, inputs["input_ids"].shape[1] :]
            done += [completion(row, ends, tokenizer) for row in ids.tolist()]
    return gather_object(done)
