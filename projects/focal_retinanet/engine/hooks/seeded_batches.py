"""Random numbers of a batch that depend on its place in the training alone."""

import copy
import random
from collections.abc import Iterator

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.registry import DATA_SAMPLERS
from torch.utils.data import BatchSampler, DataLoader, Sampler

#: What random numbers are for; without it a model's could be a batch's.
BATCH, MODEL = 0, 1


def seed_everything(*place: int) -> None:
    """Seed Python, numpy and torch by some numbers that are not negative."""
    seed = int(np.random.SeedSequence(place).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


class SeededBatch:
    """Indices of a batch's samples, and the seed that they are drawn with.

    torch goes through the indices where it loads the samples, in a worker or in
    the main process; there the random numbers are seeded.
    """

    def __init__(self, indices: list, place: tuple[int, ...]) -> None:
        self.indices = indices
        self.place = place

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator:
        seed_everything(*self.place)
        return iter(self.indices)


class SeededBatchSampler:
    """A batch sampler whose batches have their random numbers with them.

    Those depend on the seed, the rank, the epoch and the number of the batch in
    it: neither on the number of workers, nor on what a worker or the main process
    has drawn before.

    Args:
        batch_sampler: gives the indices.
        seed: the run's.

    Attributes:
        epoch: number of the next pass; each pass that ends adds 1.
        drawn: number of batches that were given, over all passes.
        skip: number of batches that are left out, from the next on.
    """

    def __init__(self, batch_sampler: BatchSampler, seed: int) -> None:
        self.batch_sampler = batch_sampler
        self.seed = seed
        self.epoch = 0
        self.drawn = 0
        self.skip = 0

    @property
    def sampler(self) -> Sampler:
        return self.batch_sampler.sampler

    @property
    def batch_size(self) -> int:
        return self.batch_sampler.batch_size

    @property
    def drop_last(self) -> bool:
        return self.batch_sampler.drop_last

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[SeededBatch]:
        epoch = self.epoch
        for number, indices in enumerate(self.batch_sampler):
            if self.skip:
                self.skip -= 1
                continue
            self.drawn += 1
            yield SeededBatch(indices, (self.seed, get_rank(), BATCH, epoch, number))
        self.epoch = epoch + 1


def with_seeded_batches(dataloader: DataLoader | dict, seed: int) -> DataLoader | dict:
    """A data loader's config whose batches are seeded; one that is built stays."""
    if not isinstance(dataloader, dict):
        return dataloader
    dataloader = copy.copy(dataloader)
    batch_sampler = dataloader.pop('batch_sampler', None)
    if batch_sampler is None:  # what torch makes of the others
        drop_last = dataloader.pop('drop_last', False)
        batch_sampler = dict(type=BatchSampler, drop_last=drop_last)
    dataloader['batch_sampler'] = dict(
        type=_build, batch_sampler=batch_sampler, seed=seed
    )
    return dataloader


def _build(
    sampler: Sampler, batch_size: int, batch_sampler: dict, seed: int
) -> SeededBatchSampler:
    """With the arguments that mmengine gives to every batch sampler."""
    arguments = dict(sampler=sampler, batch_size=batch_size)
    return SeededBatchSampler(
        DATA_SAMPLERS.build(batch_sampler, default_args=arguments), seed
    )
