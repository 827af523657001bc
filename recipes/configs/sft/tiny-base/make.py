"""Write the architecture and the tokenizer of the embedded base beside this file: `python recipes/configs/sft/tiny-base/make.py`.

Qwen2's architecture, 0.67 million parameters. The tokenizer is Qwen2's byte-level kind without merges: one token a byte,
and one for each of the four tags. The tags are not special tokens, or decoding would hide them from the format reward.
"""

from pathlib import Path

from tokenizers import AddedToken
from tokenizers.pre_tokenizers import ByteLevel
from transformers import Qwen2Config, Qwen2Tokenizer

HERE = Path(__file__).parent

vocabulary = ["<|endoftext|>", "<|pad|>", *sorted(ByteLevel.alphabet())]
tokenizer = Qwen2Tokenizer(
    vocab={token: i for i, token in enumerate(vocabulary)},
    merges=[],
    unk_token=None,
    eos_token="<|endoftext|>",
    pad_token="<|pad|>",
    model_max_length=512,
)
tags = ("<think>", "</think>", "<answer>", "</answer>")
tokenizer.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in tags])
tokenizer.save_pretrained(HERE)
Qwen2Config(
    architectures=["Qwen2ForCausalLM"],
    vocab_size=len(tokenizer),
    hidden_size=128,
    intermediate_size=384,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=4,
    max_position_embeddings=512,
    tie_word_embeddings=True,
    bos_token_id=None,
    eos_token_id=tokenizer.eos_token_id,
    pad_token_id=tokenizer.pad_token_id,
).save_pretrained(HERE)
