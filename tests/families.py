"""Tiny models in the style of the families that people fine-tune: the chat templates that TRL ships, which are the models' own, over a
tokenizer of bytes whose special tokens are those that the template writes."""

import re
from pathlib import Path

import torch
import trl
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedTokenizerFast, Qwen2Config

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
