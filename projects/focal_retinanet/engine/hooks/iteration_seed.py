"""A resumed run that goes on exactly as if it had never stopped."""

from collections.abc import Iterator
from itertools import chain, islice, repeat

from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner

from focal_retinanet.engine.hooks.seeded_batches import (
    MODEL,
    SeededBatchSampler,
    seed_everything,
)
from focal_retinanet.registry import HOOKS


@HOOKS.register_module(name=['IterationSeedHook', 'EpochSeedHook'])
class IterationSeedHook(Hook):
    """Seed every iteration by (seed, rank, iteration), and its batch likewise.

    The model's random numbers are seeded here, those of the batch where it is
    loaded, see :class:`SeededBatchSampler`. So weights do not depend on where a
    run was stopped, nor on the number of workers, which may be persistent.

    A run by iterations that is resumed does not load again what it has trained:
    mmengine would go through all of it.

    mmengine starts the workers of a run by iterations before any hook, so only
    the ``Runner`` of this package can seed their batches.
    """

    def before_train(self, runner: Runner) -> None:
        loop, loader = runner.train_loop, runner.train_dataloader
        is_by_iterations = isinstance(loop, IterBasedTrainLoop)
        if not isinstance(loader.batch_sampler, SeededBatchSampler):
            if is_by_iterations or loader.batch_sampler is None:
                runner.logger.warning(
                    'the random numbers of the batches are not seeded, so that a '
                    'resumed run will differ: that needs the Runner of '
                    'focal_retinanet.engine.runner and a data loader that it builds'
                )
                return
            # torch's lock on it is for loaders that have begun.
            object.__setattr__(
                loader,
                'batch_sampler',
                SeededBatchSampler(loader.batch_sampler, runner.seed),
            )
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
        seed_everything(runner.seed, get_rank(), MODEL, runner.iter)


def _skip(loop: IterBasedTrainLoop, batch_sampler: SeededBatchSampler) -> None:
    """Leave out the batches that were trained before the checkpoint."""
    if loop.iter <= batch_sampler.drawn:  # few, which are being loaded already
        return
    drawn = batch_sampler.drawn
    batch_sampler.skip = loop.iter - drawn
    # mmengine is going to ask for each of them.
    loop.dataloader_iterator = _Batches(
        chain(
            islice(loop.dataloader_iterator, drawn),
            repeat(None, batch_sampler.skip),
            loop.dataloader_iterator,
        )
    )


class _Batches:
    """An iterator with what the loop of mmengine's maintained fork asks of its own."""

    def __init__(self, batches: Iterator) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator:
        return self

    def __next__(self) -> object:
        return next(self._batches)

    def skip_iter(self, number: int) -> None:
        """Leave out so many batches, as an older loop does one by one."""
        for _ in range(number):
            next(self)
