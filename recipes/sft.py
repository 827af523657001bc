"""Supervised fine-tuning on demonstrations; with `from_scratch`, training of a new model.

The loss is cross-entropy, only on the completion's tokens. In DeepSeek-R1 (arXiv 2501.12948, section 2.3.1) this is the cold
start on some thousands of chains of thought, before GRPO; R1-Zero does without. With `packing`, several short rows fill one
sequence. Here it also builds the embedded base model.

Run: python -m recipes.sft --config recipes/configs/sft/tiny.yaml [--key value ...]
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from datasets import Dataset, Features
from transformers import AutoConfig, AutoModelForCausalLM, set_seed
from trl import ModelConfig, SFTConfig, SFTTrainer, get_quantization_config

from recipes.measuring.held_out import HeldOut
from recipes.measuring.sampler import generation_config
from recipes.preflight.entry import start
from recipes.shared import arguments, dataset_rows, fused_head, model_loading, run_folder, tracking
from recipes.shared.run_config import RunConfig
from recipes.shared.terminal import REFUSALS, refusing, say


@dataclass(kw_only=True)
class SFTRecipe(arguments.SampledArgs, arguments.DatasetArgs):
    from_scratch: bool = field(
        default=False, metadata={"help": "random weights in the shape of model_name_or_path's config.json"}
    )


def problems(config: RunConfig) -> Iterator[str]:
    """What can't work together, found before anything loads."""
    yield from arguments.training_problems(config)
    if config["completion_only_loss"] is False:
        yield "completion_only_loss=False: this recipe learns only from the completion"
    if config["assistant_only_loss"]:
        yield "assistant_only_loss=True: this recipe learns a row's completion, and no earlier turn: leave it out"


def main(args: SFTRecipe, training_args: SFTConfig, model_args: ModelConfig, config: RunConfig) -> None:
    with refusing():
        rows = dataset_rows.load_rows(args)
        tokenizer = model_loading.tokenizer_of(args, model_args, training_args, rows)
        rows, counts = dataset_rows.usable_demonstrations(rows, tokenizer, training_args.max_length)
        generation = generation_config(args.max_completion_length)
        held_out = HeldOut(args, args.measures(), tokenizer, training_args, model_args, generation)
        checkpoint = run_folder.open_run(training_args, config)

    tracking.prepare_wandb(training_args)
    before = None if args.from_scratch else held_out.before()
    model = model_args.model_name_or_path
    if args.from_scratch:
        set_seed(training_args.seed)
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model), dtype=torch.float32)
    else:
        training_args.model_init_kwargs = model_loading.model_init_kwargs(model_args)
    set_seed(training_args.seed)  # a LoRA adapter's start is random, and made before the Trainer sets the seed
    with refusing(REFUSALS):
        trainer = SFTTrainer(
            model=model,
            args=training_args,
            train_dataset=labelled(rows),
            processing_class=tokenizer,
            quantization_config=get_quantization_config(model_args),
            peft_config=model_loading.peft_config(model_args),
        )
        fused_head.refuse_another(trainer, rows["prompt"][0], config.launch.sharding)
    model_loading.keep_small_steps(trainer)
    origin = tracking.follow(trainer, {"loss": "loss", "token accuracy": "mean_token_accuracy"}, args, model_args)

    seconds = run_folder.train_and_save(trainer, checkpoint)
    losses = [float(row["loss"]) for row in trainer.state.log_history if "loss" in row]
    result = {"recipe": "sft", "rows": counts, "train_seconds": seconds, "resumed_from": checkpoint}
    result |= {"steps": trainer.state.global_step, "loss": {"first": losses[0], "last": losses[-1]} if losses else None}
    result |= {"before": before, "after": held_out.after(trainer, started_from_a_model=not args.from_scratch)}
    run_folder.write_summary(training_args.output_dir, result | origin)
    shown = f", loss {losses[0]:.3g} -> {losses[-1]:.3g}" if losses else ""
    say(f"{trainer.state.global_step} steps in {seconds:.0f} s{shown}: saved to {training_args.output_dir}/")


def labelled(rows: Dataset) -> Dataset:
    """The sequences as SFTTrainer takes them: `input_ids`, and `labels`, which are -100 on the prompt."""

    def row_of(row: dict) -> dict:
        prompt, completion = row["prompt_ids"], row["completion_ids"]
        return {"input_ids": prompt + completion, "labels": [-100] * len(prompt) + completion}

    features = Features(dict.fromkeys(("input_ids", "labels"), rows.features["prompt_ids"]))
    return rows.map(row_of, remove_columns=rows.column_names, features=features, desc="labels")


if __name__ == "__main__":
    start("sft", main, problems, __doc__)
