"""A LoRA adapter merged into its base: one model folder that the other recipes can train on, and that any engine serves.

The base is the one that the adapter's own adapter_config.json names. Weights are merged in float32 and saved in `dtype`, or in
the base's own. Rounding is all that the merged model differs by, but in bfloat16 a small change is lost in it: of an adapter
trained at a low rate, as in RL, most may be. The summary has the share, and a line is said where it is over a tenth;
`--dtype float32` keeps all of it. The merged model's logits are compared with the adapter's, and its weights with
those that load again: what differs by more than rounding is refused.

Run: python -m recipes.merge --model_name_or_path outputs/<lora run> --output_dir outputs/<merged>
"""

import hashlib
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import torch
from peft import AutoPeftModelForCausalLM
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import ParamWrapper
from transformers import AutoConfig, AutoModelForCausalLM

from recipes.preflight.entry import start
from recipes.shared import model_loading, run_folder
from recipes.shared.run_config import RunConfig
from recipes.shared.terminal import refusing, say

WARN_FROM = 0.1
COMPARED = 64  # tokens
ROUNDING = 1e-3  # of the largest logit, in float32


@dataclass(kw_only=True)
class Merge:
    model_name_or_path: str = field(metadata={"help": "the folder of a LoRA run"})
    output_dir: str = field(metadata={"help": "folder to write; refused when it holds anything"})
    dtype: str | None = field(
        default=None,
        metadata={"help": "of the saved weights; null: the base's own", "choices": ("float32", "bfloat16", "float16")},
    )
    trust_remote_code: bool = field(default=False, metadata={"help": "run the model's own code from the hub"})


def rounded_away(model, dtype: torch.dtype) -> float:
    """|saved - exact| / |exact - base| over all merged weights: 0 where none of the adapter's change is lost."""
    lost = changed = 0.0
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, LoraLayer) and hasattr(layer, "get_delta_weight"):
                delta = layer.get_delta_weight(layer.active_adapters[0])
                of_experts = isinstance(layer, ParamWrapper)
                exact = delta + (layer.get_param() if of_experts else layer.get_base_layer().weight)
                lost += float((exact.to(dtype).float() - exact).square().sum())
                changed += float(delta.square().sum())
    return round((lost / changed) ** 0.5, 4) if changed else 0.0


@torch.inference_mode()
def logits(model) -> torch.Tensor:
    """The model's, (1, T, V), for tokens from all over its vocabulary."""
    size = model.get_input_embeddings().weight.shape[0]
    return model.eval()(input_ids=torch.linspace(0, size - 1, min(size, COMPARED)).long()[None]).logits.float()


def refuse_other(wanted: torch.Tensor, found: torch.Tensor) -> None:
    """Raises ValueError where the logits of the adapter and of what was merged differ by more than rounding."""
    apart, size = (found - wanted).abs().max().item(), wanted.abs().max().item()
    if not apart <= ROUNDING * size:
        raise ValueError(
            f"what was merged is another model: logits of up to {size:.3g} differ by up to {apart:.3g}; nothing is saved. PEFT can't merge this "
            "kind of adapter into this base: evaluate and serve the adapter itself"
        )


def loaded_differently(model, folder: Path, dtype: torch.dtype, trust_remote_code: bool) -> str | None:
    """The first weight that the saved folder gives another value, such as of a head that was untied."""
    saved = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, trust_remote_code=trust_remote_code).state_dict()
    weights = model.state_dict()
    return next((name for name in weights if name not in saved or not torch.equal(weights[name], saved[name])), None)


def main(args: Merge, _config: RunConfig) -> None:
    adapter, folder = Path(args.model_name_or_path).expanduser(), Path(args.output_dir)
    with refusing():
        if not model_loading.is_adapter(str(adapter)):
            raise ValueError(
                f"model_name_or_path={str(adapter)!r} holds no LoRA adapter (adapter_config.json): nothing to merge"
            )
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ValueError(f"output_dir={str(folder)!r} already holds something: name another folder")
        tokenizer = model_loading.load_tokenizer(str(adapter), trust_remote_code=args.trust_remote_code, adapter=True)
        adapter_config = json.loads((adapter / "adapter_config.json").read_text())
        base, revision = adapter_config["base_model_name_or_path"], adapter_config.get("revision") or "main"
        try:
            config = AutoConfig.from_pretrained(base, revision=revision, trust_remote_code=args.trust_remote_code)
        except (OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ValueError(
                f"{adapter}/adapter_config.json names the base {base!r}, which can't be loaded ({reason})"
            ) from error
    model = AutoPeftModelForCausalLM.from_pretrained(
        adapter, dtype=torch.float32, trust_remote_code=args.trust_remote_code
    )
    dtype = getattr(torch, args.dtype) if args.dtype else config.dtype or torch.float32
    lost = rounded_away(model, dtype)
    if lost > WARN_FROM:
        say(f"{dtype} rounds {lost:.0%} of what the adapter changes away: say --dtype float32 to keep it")
    of_adapter = logits(model)
    model = model.merge_and_unload()
    with refusing():
        refuse_other(of_adapter, logits(model))
    model = model.to(dtype)
    # for engines that don't go by the tokenizer
    model.config.eos_token_id, model.config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    ends = model_loading.end_tokens(tokenizer, model.generation_config)
    model.generation_config.eos_token_id = ends if len(ends) > 1 else ends[0]
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    # written to another folder and then renamed: output_dir exists only when it is complete
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)  # of a merge that was killed
    model.save_pretrained(temporary)
    tokenizer.save_pretrained(temporary)
    with refusing():
        if other := loaded_differently(model, temporary, dtype, args.trust_remote_code):
            shutil.rmtree(temporary)
            raise ValueError(
                f"{other} doesn't load as it was saved, so that the merged model would be another: nothing is saved"
            )
    weights = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in adapter.glob("adapter_model.*")}
    summary = {
        "recipe": "merge",
        "adapter": str(adapter),
        "adapter_sha256": weights,
        "base": base,
        "base_revision": revision,
        "rounded_away": lost,
    }
    run_folder.write_summary(str(temporary), summary | run_folder.provenance())
    if folder.exists():
        folder.rmdir()
    temporary.rename(folder)
    say(f"{adapter} merged into {base}: saved to {folder}/")


if __name__ == "__main__":
    start("merge", main, doc=__doc__)
