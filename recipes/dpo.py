"""Direct preference optimisation (arXiv 2305.18290): preferences without a reward model and without sampling.

The loss is -log sigmoid of beta times how much more the policy has raised the chosen answer's log-probability over the
reference's than the rejected one's (eq. 7); `loss_type` names TRL's variants. The reference is the starting model: a frozen
copy, or with LoRA the same weights with the adapter off; `reference` names another one.

Run: python -m recipes.dpo --config recipes/configs/dpo/tiny.yaml [--key value ...]
Pairs from rewards: python -m recipes.sample --pairs, then --dataset <the file it wrote>.
"""

from dataclasses import dataclass, field, replace

from trl import DPOConfig, DPOTrainer, ModelConfig, get_peft_config, get_quantization_config

from recipes import _common as common
from recipes import _rows
from recipes import _tracking as tracking
from recipes._config import parse, refusing
from recipes._measure import HeldOut, load_model, sampling


@dataclass(kw_only=True)
class DPORecipe(_rows.SampledArgs, _rows.DatasetArgs):
    reference: str | None = field(
        default=None, metadata={"help": "the reference model; null: the starting model, without the adapter under LoRA"}
    )


def check(given: dict) -> None:
    """Refuse, before anything loads, what can't work together. Raises ValueError."""
    if given.get("reference") and given.get("use_peft"):
        raise ValueError(
            "reference: with use_peft the base without its adapter is the reference; leave one of them out"
        )


def main(args: DPORecipe, training_args: DPOConfig, model_args: ModelConfig, given: dict) -> None:
    with refusing():
        rows = _rows.load(args)
        tokenizer = common.load_tokenizer(
            model_args.model_name_or_path, model_args.model_revision, training_args.trust_remote_code
        )
        rows, counts = _rows.usable_pairs(rows, tokenizer, training_args.max_length)
        reference = replace(model_args, model_name_or_path=args.reference or model_args.model_name_or_path)
        held_out = HeldOut(
            args,
            args.measures(),
            tokenizer,
            training_args,
            model_args,
            sampling(args.max_completion_length),
            reference=reference,
            beta=training_args.beta,
        )
        checkpoint = common.open_run(training_args, given)

    tracking.prepare_wandb(training_args)
    before = held_out.before()
    training_args.model_init_kwargs = common.model_init_kwargs(model_args)
    trainer = DPOTrainer(
        model=model_args.model_name_or_path,
        ref_model=load_model(reference, training_args) if args.reference else None,
        args=training_args,
        train_dataset=rows.select_columns(["prompt", "chosen", "rejected"]),
        processing_class=tokenizer,
        quantization_config=get_quantization_config(model_args),
        peft_config=get_peft_config(model_args),
    )
    shown = {"loss": "loss", "pair accuracy": "rewards/accuracies", "margin": "rewards/margins"}
    origin = tracking.follow(trainer, shown, args, model_args)

    seconds = common.train_and_save(trainer, checkpoint)
    result = {"recipe": "dpo", "rows": counts, "train_seconds": seconds, "resumed_from": checkpoint}
    result |= {"steps": trainer.state.global_step, "before": before, "after": held_out.after(trainer)}
    common.write_summary(training_args.output_dir, result | origin)
    common.say(f"{trainer.state.global_step} steps in {seconds:.0f} s: saved to {training_args.output_dir}/")


if __name__ == "__main__":
    main(*parse((DPORecipe, DPOConfig, ModelConfig), doc=__doc__, check=check))
