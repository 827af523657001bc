"""TRL's GRPOTrainer on the recipes' own tokens, resumed as the same run: after its first epoch, and while completions are still being trained on."""

from pathlib import Path

import torch
from accelerate.utils import send_to_device
from trl import GRPOTrainer

from recipes.shared import model_loading, tokens


class ResumableGRPOTrainer(GRPOTrainer):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        model_loading.sample_by_the_run_alone(self.model)
        if self.args.disable_dropout:
            model_loading.no_dropout(self.model)

    def _tokenize_prompts(self, prompts: list):
        """The tokens that every recipe gives these prompts."""
        return tokens.prompt_ids(prompts, self.processing_class), None, {}

    def _generate(self, prompts: list):
        """TRL takes the thoughts out of completions where the tokenizer says how; rewards read all of them."""
        kept = {name: getattr(self._tokenizer, name, None) for name in ("response_template", "response_schema")}
        for name in kept:
            setattr(self._tokenizer, name, None)
        try:
            return super()._generate(prompts)
        finally:
            for name, value in kept.items():
                setattr(self._tokenizer, name, value)

    def _get_train_sampler(self, dataset=None):
        """TRL's order in the first epoch; later epochs are seeded by their number, since a resumed run starts in the middle of one."""
        sampler = super()._get_train_sampler(dataset)
        if sampler.shuffle:
            sampler.set_epoch = lambda epoch: sampler.generator.manual_seed(sampler.seed + epoch)
        return sampler

    @property
    def _rollout_file(self) -> str:
        return f"rollout_{self.accelerator.process_index}.pt"

    def _save_checkpoint(self, model, trial):
        """Completions that are sampled for several steps are kept with a checkpoint between those steps."""
        if self._step % (self.args.steps_per_generation * self.num_iterations):
            folder = Path(self._get_output_dir(trial)) / f"checkpoint-{self.state.global_step}"
            folder.mkdir(parents=True, exist_ok=True)
            torch.save(self._buffered_inputs, folder / self._rollout_file)
        super()._save_checkpoint(model, trial)

    def _load_optimizer_and_scheduler(self, checkpoint):
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            self._step = int(Path(checkpoint).name.split("-")[-1]) * self.args.gradient_accumulation_steps
            if (file := Path(checkpoint) / self._rollout_file).is_file():
                kept = torch.load(file, map_location="cpu", weights_only=True)
                self._buffered_inputs = send_to_device(kept, self.args.device)
