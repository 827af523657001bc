"""TRL's GRPOTrainer, resumed after its first epoch with the prompts that an uninterrupted run would have."""

from trl import GRPOTrainer


class ResumableGRPOTrainer(GRPOTrainer):
    def _get_train_sampler(self, dataset=None):
        """TRL's order in the first epoch; later epochs are seeded by their number, since a resumed run starts in the middle of one."""
        sampler = super()._get_train_sampler(dataset)
        if sampler.shuffle:
            sampler.set_epoch = lambda epoch: sampler.generator.manual_seed(sampler.seed + epoch)
        return sampler
