"""Tiny models in the style of the families that people fine-tune: the chat templates that TRL ships, which are the models' own, over a
tokenizer of bytes whose special tokens are those that the template writes."""

import re
from pathlib import Path

import torch
import trl
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    FalconH1Config,
    Gemma2Config,
    Gemma3TextConfig,
    GenerationConfig,
    Glm4Config,
    GptOssConfig,
    GraniteConfig,
    HyperCLOVAXConfig,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    Olmo2Config,
    Phi3Config,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3_5TextConfig,
    Qwen3Config,
    Qwen3MoeConfig,
    SmolLM3Config,
)  # fmt: skip

TEMPLATES = {p.stem: p.read_text() for p in (Path(trl.__file__).parent / "chat_templates").glob("*.jinja")}
TEMPLATES = {name: text for name, text in sorted(TEMPLATES.items()) if not name.endswith("_training")}
TAGS = ("<think>", "</think>", "<answer>", "</answer>")
SPECIAL = re.compile(
    r"<[|｜][^<>'\"{}\s]*?[|｜]>|<(?:start|end)_of_turn>|<turn\|>|<\|turn>|</?s>|<bos>|<eos>|\[gMASK\]|<sop>"
)
SMALL = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
}


def tokenizer_of(
    template: str | None = None, eos="</s>", bos="<s>", pad="<|pad|>", adds=(False, False), merges=()
) -> PreTrainedTokenizerFast:
    """A tokenizer of bytes with this template of TRL's, or one given as text.

    adds: whether it writes a start token before text, and an end token behind it. merges: pairs of bytes that are one token.
    """
    text = template and TEMPLATES.get(template, template)
    special = dict.fromkeys(["<|endoftext|>", pad, bos, eos, *sorted(set(SPECIAL.findall(text or "")))])
    words = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet()), *(a + b for a, b in merges)]
    made = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=list(merges)))
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in special])
    if not merges:
        made.add_tokens([AddedToken(word, special=False, normalized=False) for word in TAGS])
    if any(adds):
        frame = f"{bos} " * adds[0] + "$A" + f" {eos}" * adds[1]
        ids = [(word, made.token_to_id(word)) for word in (bos, eos)]
        made.post_processor = processors.TemplateProcessing(
            single=frame, pair=f"{frame} $B:1", special_tokens=ids[not adds[0] : 1 + adds[1]]
        )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, eos_token=eos, pad_token=pad, bos_token=bos)
    tokenizer.chat_template = text
    return tokenizer


def model_of(folder, tokenizer, config=Qwen2Config, generation: dict | None = None, init=0.08, **settings) -> str:
    """A model of two layers of random weights for the tokenizer, saved; `generation`: its generation_config.json."""
    torch.manual_seed(0)
    ids = {f"{key}_token_id": getattr(tokenizer, f"{key}_token_id") for key in ("bos", "eos", "pad")}
    settings = SMALL | {"vocab_size": len(tokenizer), "initializer_range": init} | ids | settings
    model = AutoModelForCausalLM.from_config(config(**settings), dtype=torch.float32)
    if generation is not None:
        model.generation_config = GenerationConfig(**generation)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


# those whose logits have a scale or a cap of their own, whose attention slides, whose layers are of two kinds, or have experts
ARCHITECTURES = {
    "Qwen2": (Qwen2Config, {}),
    "Qwen3": (Qwen3Config, {"head_dim": 8}),
    "Llama": (LlamaConfig, {}),
    "Gemma 2": (Gemma2Config, {"head_dim": 8, "final_logit_softcapping": 2.0, "sliding_window": 16}),
    "Gemma 3": (Gemma3TextConfig, {"head_dim": 8}),
    "Granite": (GraniteConfig, {"logits_scaling": 8.0, "embedding_multiplier": 12.0, "residual_multiplier": 0.22}),
    "Cohere": (CohereConfig, {"logit_scale": 0.0625}),
    "Phi-3": (Phi3Config, {}),
    "Mistral": (MistralConfig, {"sliding_window": 16}),
    "OLMo 2": (Olmo2Config, {}),
    "SmolLM3": (SmolLM3Config, {}),
    "GLM-4": (Glm4Config, {"head_dim": 8}),
    "HyperCLOVA X": (HyperCLOVAXConfig, {"logits_scaling": 4.0}),
    "Falcon-H1": (
        FalconH1Config,
        {"lm_head_multiplier": 0.3, "mamba_d_ssm": 64, "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 16,
         "mamba_n_groups": 1, "mamba_chunk_size": 16},
    ),
    "Qwen3.5": (
        Qwen3_5TextConfig,
        {"head_dim": 8, "layer_types": ["linear_attention", "full_attention"], "linear_num_key_heads": 2,
         "linear_num_value_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8},
    ),
    "Qwen3-MoE": (Qwen3MoeConfig, {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "head_dim": 8}),
    "Mixtral": (MixtralConfig, {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "gpt-oss": (GptOssConfig, {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 8}),
}  # fmt: skip
EXPERTS = ("Qwen3-MoE", "Mixtral", "gpt-oss")

# templates that TRL doesn't ship, as their models have them
MISTRAL = """{{ bos_token }}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation \
roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}\
{% elif m['role'] == 'assistant' %}{{ m['content'] + eos_token }}{% else %}{{ raise_exception('Only user and assistant roles are \
supported!') }}{% endif %}{% endfor %}"""
OLMO = """{{ bos_token }}{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] }}{% if m['role'] == 'assistant' %}{{ eos_token }}\
{% endif %}{% if not loop.last %}{{ '\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '\n<|assistant|>\n' }}{% endif %}"""
GRANITE = """{% for m in messages %}{{ '<|start_of_role|>' + m['role'] + '<|end_of_role|>' + m['content'] + '<|end_of_text|>\n' }}{% endfor %}\
{% if add_generation_prompt %}{{ '<|start_of_role|>assistant<|end_of_role|>' }}{% endif %}"""
PHI_4 = """{% for m in messages %}{{ '<|im_start|>' + m['role'] + '<|im_sep|>' + m['content'] + '<|im_end|>' }}{% endfor %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_sep|>' }}{% endif %}"""
# family -> its chat template, and its architecture
FAMILIES = {
    "Qwen2.5": ("qwen2_5", "Qwen2"),
    "Qwen3": ("qwen3", "Qwen3"),
    "Qwen3 Instruct 2507": ("qwen3_instruct_2507", "Qwen3"),
    "Qwen3-MoE": ("qwen3", "Qwen3-MoE"),
    "Qwen3.5, thinking": ("qwen3_5_think", "Qwen3.5"),
    "Qwen3.5, not thinking": ("qwen3_5_nothink", "Qwen3.5"),
    "DeepSeek-R1-Distill": ("deepseek_r1_distill", "Qwen2"),
    "Llama 3": ("llama3", "Llama"),
    "Llama 3.2": ("llama3_2", "Llama"),
    "Gemma 2": ("gemma", "Gemma 2"),
    "Gemma 3": ("gemma3", "Gemma 3"),
    "Phi-3": ("phi3", "Phi-3"),
    "Phi-4": (PHI_4, "Phi-3"),
    "Mistral": (MISTRAL, "Mistral"),
    "Mixtral": (MISTRAL, "Mixtral"),
    "OLMo 2": (OLMO, "OLMo 2"),
    "SmolLM3, Qwen3's template": ("qwen3", "SmolLM3"),
    "Granite 3": (GRANITE, "Granite"),
    "Cohere": ("cohere", "Cohere"),
    "GLM-4.5": ("glm4moe", "GLM-4"),
    "gpt-oss": ("gptoss", "gpt-oss"),
}
