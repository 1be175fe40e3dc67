"""Random numbers of each iteration, so that a resumed run goes on exactly.

The numbers of a batch and of the model's step depend on the seed, the rank and the
iteration alone: neither on the number of workers, nor on where a run was stopped.
"""

import random
from collections.abc import Iterator
from itertools import chain, islice, repeat
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import DATA_SAMPLERS
from mmengine.runner import IterBasedTrainLoop, Runner
from torch.utils.data import BatchSampler, DataLoader, Sampler

from focal_retinanet.registry import HOOKS

#: Part of every seed, so that batch and model never draw the same numbers.
_BATCH, _MODEL = 0, 1


@HOOKS.register_module(name=['IterationSeedHook', 'EpochSeedHook'])
class IterationSeedHook(Hook):
    """Seed the model's step and the batch of every iteration.

    The hook seeds the model's step; :class:`SeededBatchSampler` seeds each batch
    where it is loaded. A resumed run by iterations skips the batches that it has
    trained on, where mmengine would load all of them again.

    mmengine starts the workers of a run by iterations before any hook is called, so
    only the ``Runner`` of this package can seed their batches.
    """

    def before_train(self, runner: Runner) -> None:
        loop, loader = runner.train_loop, runner.train_dataloader
        is_by_iterations = isinstance(loop, IterBasedTrainLoop)
        if not isinstance(loader.batch_sampler, SeededBatchSampler):
            if is_by_iterations or loader.batch_sampler is None:
                runner.logger.warning(
                    'the random numbers of the batches are not seeded, so that a '
                    'resumed run will differ: seeding needs the Runner of '
                    'focal_retinanet.engine.runner and a data loader that it builds'
                )
                return
            # DataLoader forbids a new batch sampler, although it is not in use yet.
            batch_sampler = SeededBatchSampler(loader.batch_sampler, runner.seed)
            object.__setattr__(loader, 'batch_sampler', batch_sampler)
        if is_by_iterations:
            _skip(loop, loader.batch_sampler)

    def before_train_epoch(self, runner: Runner) -> None:
        batch_sampler = runner.train_dataloader.batch_sampler
        is_by_iterations = isinstance(runner.train_loop, IterBasedTrainLoop)
        if isinstance(batch_sampler, SeededBatchSampler) and not is_by_iterations:
            batch_sampler.epoch = runner.epoch

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        _seed_everything(runner.seed, get_rank(), _MODEL, runner.iter)


class SeededBatchSampler:
    """A batch sampler whose batches carry their seeds.

    Args:
        batch_sampler: Sampler of the indices. Other attributes, such as ``sampler``
            and ``batch_size``, are taken from it.
        seed: Seed of the run.

    Attributes:
        epoch: Number of the next pass; each completed pass adds 1. The sampler is set
            to it, since mmengine counts no pass that is skipped as a whole.
        drawn: Number of batches drawn so far, over all passes.
        skip: Number of the next batches to leave out.
    """

    def __init__(self, batch_sampler: BatchSampler, seed: int) -> None:
        self.batch_sampler = batch_sampler
        self.seed = seed
        self.epoch = 0
        self.drawn = 0
        self.skip = 0

    def __getattr__(self, name: str) -> Any:
        if name == 'batch_sampler':  # not set yet, in a copy
            raise AttributeError(name)
        return getattr(self.batch_sampler, name)

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator['SeededBatch']:
        is_skipped = True
        while is_skipped:  # a pass without a batch would end the iteration
            epoch, is_skipped = self.epoch, False
            if hasattr(getattr(self.batch_sampler, 'sampler', None), 'set_epoch'):
                self.batch_sampler.sampler.set_epoch(epoch)
            for number, indices in enumerate(self.batch_sampler):
                if self.skip:
                    self.skip -= 1
                    is_skipped = True
                    continue
                is_skipped = False
                self.drawn += 1
                place = (self.seed, get_rank(), _BATCH, epoch, number)
                yield SeededBatch(indices, place)
            self.epoch = epoch + 1


class SeededBatch:
    """The indices of a batch, and the numbers that make up its seed.

    torch iterates over the indices where it loads the samples, in a worker or in the
    main process, and the iteration seeds the random numbers there.
    """

    def __init__(self, indices: list, place: tuple[int, ...]) -> None:
        self.indices = indices
        self.place = place

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator:
        _seed_everything(*self.place)
        return iter(self.indices)


def with_seeded_batches(dataloader: DataLoader | dict, seed: int) -> DataLoader | dict:
    """Return a data loader's config with seeded batches; a built loader stays."""
    if not isinstance(dataloader, dict):
        return dataloader
    dataloader = dataloader.copy()
    batch_sampler = dataloader.pop('batch_sampler', None)
    if batch_sampler is None:  # what DataLoader itself would build
        drop_last = dataloader.pop('drop_last', False)
        batch_sampler = dict(type=BatchSampler, drop_last=drop_last)
    dataloader['batch_sampler'] = dict(
        type=_build, batch_sampler=batch_sampler, seed=seed
    )
    return dataloader


def _build(
    sampler: Sampler, batch_size: int, batch_sampler: dict, seed: int
) -> SeededBatchSampler:
    """Build from the arguments that mmengine gives to every batch sampler."""
    arguments = dict(sampler=sampler, batch_size=batch_size)
    return SeededBatchSampler(
        DATA_SAMPLERS.build(batch_sampler, default_args=arguments), seed
    )


def _seed_everything(*place: int) -> None:
    """Seed Python, numpy and torch from non-negative integers."""
    seed = int(np.random.SeedSequence(place).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _skip(loop: IterBasedTrainLoop, batch_sampler: SeededBatchSampler) -> None:
    """Skip the batches that were trained on before the checkpoint."""
    if loop.iter <= batch_sampler.drawn:  # few, which are being loaded already
        return
    drawn = batch_sampler.drawn
    batch_sampler.skip = loop.iter - drawn
    # mmengine's loop asks for each of them, and ignores what it gets.
    loop.dataloader_iterator = _Batches(
        chain(
            islice(loop.dataloader_iterator, drawn),
            repeat(None, batch_sampler.skip),
            loop.dataloader_iterator,
        )
    )


class _Batches:
    """An iterator with the method that mmengine's maintained fork calls."""

    def __init__(self, batches: Iterator) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator:
        return self

    def __next__(self) -> object:
        return next(self._batches)

    def skip_iter(self, number: int) -> None:
        """Skip batches, as older loops do one by one."""
        for _ in range(number):
            next(self)
