"""Completions sampled by vLLM, in the form of sampler.py: many times faster on a GPU. Not yet run on one."""

import vllm
from peft import PeftConfig
from transformers import GenerationConfig
from vllm.lora.request import LoRARequest

from recipes.measuring.sampler import Completion, completion
from recipes.shared import model_loading, tokens

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # those of adapters that vLLM has kernels for


class Engine:
    """A vLLM engine, and the LoRA adapter that it samples with, if there is one."""

    def __init__(self, model_args, training_args):
        name = model_args.model_name_or_path
        adapter = PeftConfig.from_pretrained(name) if model_loading.is_adapter(name) else None
        rank = {"enable_lora": True, "max_lora_rank": min(r for r in RANKS if r >= adapter.r)} if adapter else {}
        self.lora = LoRARequest("adapter", 1, name) if adapter else None
        base, revision = name, model_args.model_revision
        if adapter:
            base, revision = adapter.base_model_name_or_path, adapter.revision
        trust = training_args.trust_remote_code
        self.generation_config = model_loading.generation_config_of(base, revision or "main", trust)
        self.llm = vllm.LLM(
            model=base,
            revision=revision,
            dtype=str(model_args.dtype or "auto"),
            trust_remote_code=trust,
            gpu_memory_utilization=0.9,  # the config's value leaves room for a trainer on the same GPU; here there is none
            max_model_len=training_args.vllm_max_model_length,
            tensor_parallel_size=training_args.vllm_tensor_parallel_size,
            seed=training_args.seed,
            **rank,
        )


def load_model(model_args, training_args) -> Engine:
    return Engine(model_args, training_args)


def sample(
    engine: Engine, tokenizer, prompts: list, generation: GenerationConfig, batch_size: int, seed: int
) -> list[Completion]:
    """One completion a prompt, in their order. vLLM makes its own batches: `batch_size` has no part in it."""
    ends = model_loading.end_tokens(tokenizer, engine.generation_config)
    settings = vllm.SamplingParams(
        max_tokens=generation.max_new_tokens,
        temperature=generation.temperature if generation.do_sample else 0.0,
        top_p=generation.top_p if generation.top_p is not None else 1.0,
        top_k=generation.top_k or -1,  # 0 is off here, -1 there
        min_p=generation.min_p or 0.0,
        repetition_penalty=generation.repetition_penalty if generation.repetition_penalty is not None else 1.0,
        stop_token_ids=ends,
        detokenize=False,
        ignore_eos=True,  # else vLLM goes by the end tokens of the model's files alone
    )
    each = [settings.clone() for _ in prompts]
    for i, of_prompt in enumerate(each):
        of_prompt.seed = seed * 1_000_003 + i  # equal prompts of one request would get equal completions
    tokenized = [{"prompt_token_ids": ids} for ids in tokens.prompt_ids(prompts, tokenizer)]
    done = []
    for answer in engine.llm.generate(tokenized, each, lora_request=engine.lora, use_tqdm=False):
        ids, stopped = list(answer.outputs[0].token_ids), answer.outputs[0].finish_reason == "stop"
        if stopped and not set(ids) & set(ends):  # the token that stopped it may be left out
            ids.append(answer.outputs[0].stop_reason)
        done.append(completion(ids, ends, tokenizer))
    return done
