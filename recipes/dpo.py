"""Direct preference optimisation (arXiv 2305.18290): preferences without a reward model and without sampling.

The loss is -log sigmoid of beta times how much more the policy has raised the chosen answer's log-probability over the
reference's than the rejected one's (eq. 7); `loss_type` names TRL's variants. The reference is the starting model: a frozen
copy, or with LoRA the same weights with the adapter off; `reference` names another one.

Run: python -m recipes.dpo --config recipes/configs/dpo/tiny.yaml [--key value ...]
Pairs from rewards: python -m recipes.sample --keep pairs, then --dataset <the file it wrote> --held_out_dataset <another>.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from transformers import set_seed
from trl import DPOConfig, DPOTrainer, ModelConfig, get_quantization_config

from recipes.measuring.held_out import HeldOut
from recipes.measuring.sampler import generation_config, load_model
from recipes.preflight.entry import start
from recipes.shared import arguments, dataset_rows, fused_head, model_loading, run_folder, tracking
from recipes.shared.run_config import RunConfig, unknown_choices
from recipes.shared.terminal import REFUSALS, refusing, say

# TRL takes any string here, and finds out at the first step
CHOICES = {
    "loss_type": (
        *("sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot", "aot_unpaired"),
        *("apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm"),
    ),
    "f_divergence_type": ("reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"),
}
SMOOTHED = ("robust", "exo_pair", "aot", "aot_unpaired")  # the losses that label_smoothing is in


@dataclass(kw_only=True)
class DPORecipe(arguments.SampledArgs, arguments.DatasetArgs):
    reference: str | None = field(
        default=None, metadata={"help": "the reference model; null: the starting model, without the adapter under LoRA"}
    )


class TokenizedDPOTrainer(DPOTrainer):
    """DPOTrainer on pairs that are tokens already: `prompt_ids`, `chosen_ids` and `rejected_ids`."""

    def _prepare_dataset(self, dataset, *_, **__):
        return dataset


def problems(config: RunConfig) -> Iterator[str]:
    """What can't work together, found before anything loads, each with the nearest choice that can."""
    yield from arguments.training_problems(config)
    yield from unknown_choices(config, CHOICES)
    if config["label_smoothing"] and not set(config["loss_type"]) & set(SMOOTHED):
        yield (
            f"label_smoothing={config['label_smoothing']}: loss_type {', '.join(config['loss_type'])} doesn't use it: leave it out, or "
            f"say one of {', '.join(SMOOTHED)}"
        )


def main(args: DPORecipe, training_args: DPOConfig, model_args: ModelConfig, config: RunConfig) -> None:
    with refusing():
        rows = dataset_rows.load_rows(args)
        tokenizer = model_loading.tokenizer_of(args, model_args, training_args, rows)
        reference = reference_of(args, tokenizer, training_args, model_args)
        rows, counts = dataset_rows.usable_pairs(rows, tokenizer, training_args.max_length)
        held_out = HeldOut(
            args,
            args.measures(),
            tokenizer,
            training_args,
            model_args,
            generation_config(args.max_completion_length),
            reference=reference,
            beta=training_args.beta,
        )
        checkpoint = run_folder.open_run(training_args, config)

    tracking.prepare_wandb(training_args)
    before = held_out.before()
    training_args.model_init_kwargs = model_loading.model_init_kwargs(model_args)
    set_seed(training_args.seed)  # a LoRA adapter's start is random, and made before the Trainer sets the seed
    with refusing(REFUSALS):
        trainer = TokenizedDPOTrainer(
            model=model_args.model_name_or_path,
            ref_model=load_model(reference, training_args) if reference else None,
            args=training_args,
            train_dataset=rows.select_columns(["prompt_ids", "chosen_ids", "rejected_ids"]),
            processing_class=tokenizer,
            quantization_config=get_quantization_config(model_args),
            peft_config=model_loading.peft_config(model_args),
        )
        fused_head.refuse_another(trainer, rows["prompt"][0], config.launch.sharding)
    model_loading.keep_small_steps(trainer)
    if training_args.disable_dropout:
        model_loading.no_dropout(trainer.model)
    shown = {"loss": "loss", "pair accuracy": "rewards/accuracies", "margin": "rewards/margins"}
    origin = tracking.follow(trainer, shown, args, model_args)

    seconds = run_folder.train_and_save(trainer, checkpoint)
    after = held_out.after(trainer)
    result = {"recipe": "dpo", "rows": counts, "train_seconds": seconds, "resumed_from": checkpoint}
    result |= {"steps": trainer.state.global_step, "before": before, "after": after}
    run_folder.write_summary(training_args.output_dir, result | origin)
    say(f"{trainer.state.global_step} steps in {seconds:.0f} s: saved to {training_args.output_dir}/")
    for key in (key for key in after or {} if key not in ("rows", "stderr")):
        say(f"  {key:<16} {f'{before[key]} -> ' if key in before else ''}{after[key]}")


def reference_of(args: DPORecipe, tokenizer, training_args: DPOConfig, model_args: ModelConfig) -> ModelConfig | None:
    """The reference that is named, if one is. Raises ValueError where its log-probabilities would be of other tokens."""
    if args.reference is None:
        return None
    other = model_loading.load_tokenizer(args.reference, "main", training_args.trust_remote_code, "reference")
    if other.get_vocab() != tokenizer.get_vocab():
        raise ValueError(
            f"reference={args.reference!r} has another tokenizer than {model_args.model_name_or_path!r}: name a model of "
            "its family, or leave reference out"
        )
    return replace(model_args, model_name_or_path=args.reference, model_revision="main")


if __name__ == "__main__":
    start("dpo", main, problems, __doc__)
