"""Random numbers of an epoch that depend on the seed and the epoch alone."""

import random

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner

from focal_retinanet.registry import HOOKS


@HOOKS.register_module()
class EpochSeedHook(Hook):
    """Seed every epoch by (seed, epoch, rank).

    So a run that is resumed goes on exactly as if it had never stopped. It
    needs ``persistent_workers=False`` in the training data loader: workers that
    outlive an epoch go on with random numbers that nothing can restore. (Where
    they do not, mmengine alone gives them the same numbers in every epoch.)
    """

    def before_train(self, runner: Runner) -> None:
        runner.train_dataloader.worker_init_fn = _seed_worker

    def before_train_epoch(self, runner: Runner) -> None:
        entropy = [runner.seed, runner.epoch, get_rank()]
        _seed_everything(int(np.random.SeedSequence(entropy).generate_state(1)[0]))


def _seed_worker(worker_id: int) -> None:
    # torch draws it from the main process's stream, anew for every epoch.
    _seed_everything(torch.initial_seed() % 2**32)


def _seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
