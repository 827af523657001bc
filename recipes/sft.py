"""Supervised fine-tuning on prompts and completions; with `from_scratch`, training of a new model.

The loss is cross-entropy on the completion's tokens alone. In DeepSeek-R1 (arXiv 2501.12948) this is the cold start on
chain-of-thought demonstrations, before GRPO; R1-Zero does without. Here it also builds the embedded base model.

Run: python -m recipes.sft --config recipes/configs/sft/tiny-base.yaml [--key value ...]
"""

from dataclasses import asdict, dataclass, field
from typing import Literal

import torch
from transformers import AutoConfig, AutoModelForCausalLM, set_seed
from trl import ModelConfig, SFTConfig, SFTTrainer, get_peft_config, get_quantization_config

import data
from recipes import _common as common
from recipes import _tracking as tracking
from recipes._config import parse, refusing


@dataclass
class SFTRecipe:
    dataset: str = field(metadata={"help": "a module of data/ whose rows have a prompt and a completion"})
    dataset_split: str = field(default="train", metadata={"help": "split to train on"})
    dataset_options: dict = field(default_factory=dict, metadata={"help": "what the dataset's own load() takes"})
    template: Literal["chat", "r1_zero", "plain"] = field(
        default="chat", metadata={"help": "how a question becomes a prompt: data/_templates.py"}
    )
    from_scratch: bool = field(
        default=False, metadata={"help": "random weights in the shape of model_name_or_path's config.json"}
    )


def main(args: SFTRecipe, training_args: SFTConfig, model_args: ModelConfig, given: dict) -> None:
    with refusing():
        rows = data.load(args.dataset, args.dataset_split, template=args.template, **args.dataset_options)
        if "completion" not in rows.column_names:
            raise ValueError(
                f"dataset {args.dataset!r} has no completions to learn from: {', '.join(rows.column_names)}"
            )
        tokenizer = common.load_tokenizer(
            model_args.model_name_or_path, model_args.model_revision, training_args.trust_remote_code
        )
        checkpoint = common.open_run(training_args, given)

    tracking.prepare_wandb(training_args)
    model = model_args.model_name_or_path
    if args.from_scratch:
        set_seed(training_args.seed)
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model), dtype=torch.float32)
    else:
        training_args.model_init_kwargs = common.model_init_kwargs(model_args)
    trainer = SFTTrainer(
        model=model,
        args=training_args,
        train_dataset=rows,
        processing_class=tokenizer,
        quantization_config=get_quantization_config(model_args),
        peft_config=get_peft_config(model_args),
    )
    tracking.Progress.replace(trainer, {"loss": "loss", "token accuracy": "mean_token_accuracy"})
    origin = common.provenance()
    trainer.add_callback(tracking.WandbConfig({"recipe": asdict(args), "model_args": asdict(model_args)} | origin))

    seconds = common.train_and_save(trainer, checkpoint)
    losses = [float(row["loss"]) for row in trainer.state.log_history if "loss" in row]
    result = {
        "recipe": "sft",
        "rows": {"rows": len(rows)},
        "train_seconds": round(seconds, 1),
        "resumed_from": checkpoint,
    }
    result |= {"steps": trainer.state.global_step, "loss": {"first": losses[0], "last": losses[-1]} if losses else None}
    common.write_summary(training_args.output_dir, result | origin)
    common.say(f"{trainer.state.global_step} steps in {seconds:.0f} s: saved to {training_args.output_dir}/")


if __name__ == "__main__":
    main(*parse((SFTRecipe, SFTConfig, ModelConfig), doc=__doc__))
