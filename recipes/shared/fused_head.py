"""TRL's head, by which its trainers make log-probabilities without logits, against the model's own."""

import torch
from trl.trainer.utils import selective_log_softmax

from recipes.shared import tokens

# what a model multiplies its logits by, or bends them with, which TRL's head has to know by name
SCALES = (
    "logits_scaling",
    "logit_scale",
    "logits_scale",
    "lm_head_multiplier",
    "final_logit_softcapping",
    "output_multiplier",
)
COMPARED = 64  # tokens
APART = 0.05  # nats, in the mean over tokens: above what bfloat16 rounds


@torch.no_grad()
def refuse_another(trainer, prompt: str | list[dict], sharding: str) -> None:
    """Raises ValueError where TRL's log-probabilities of a prompt's tokens aren't those of the model's logits, which have a scale.

    It would train on another loss in silence, as TRL did before 1.15 with Granite, Falcon-H1 and HyperCLOVA X (huggingface/trl#5575).
    Where the weights are sharded or not yet on their device, nothing is looked at.
    """
    model = trainer.model
    config = model.config.get_text_config()
    scale = next((name for name in SCALES if getattr(config, name, None) not in (None, 1, 1.0)), None)
    if scale is None or sharding in ("zero3", "fsdp") or model.device != trainer.args.device:
        return
    (of_prompt,) = tokens.prompt_ids([prompt], trainer.processing_class)
    ids = torch.tensor([(of_prompt * 2)[:COMPARED]], device=model.device)
    training = model.training
    model.eval()
    with trainer.compute_loss_context_manager():
        fused = model(input_ids=ids, labels=ids, fused_lm_head=True, use_cache=False).log_probs
        logits = model(input_ids=ids, use_cache=False).logits
    model.train(training)
    plain = selective_log_softmax(logits[:, :-1].float() / getattr(trainer, "temperature", 1.0), ids[:, 1:])
    apart = abs(fused.sum().item() - plain.sum().item()) / plain.numel()
    if not apart <= APART:
        raise ValueError(
            f"{scale}={getattr(config, scale)}: this TRL doesn't know how {config.model_type} scales its logits, and would train on other "
            f"probabilities, {apart:.2g} nats a token apart: name a model of another family"
        )
