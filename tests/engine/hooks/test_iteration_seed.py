"""Random numbers of a batch depend on its place in the training alone."""

import pickle
import random
from itertools import chain, islice, repeat

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler, pseudo_collate
from mmengine.runner import Runner
from torch.utils.data import BatchSampler, DataLoader, Dataset

from focal_retinanet.engine.hooks import iteration_seed
from focal_retinanet.engine.hooks.iteration_seed import (
    SeededBatchSampler,
    with_seeded_batches,
)


class Draws(Dataset):
    """Samples of an index and one draw from each of the three generators."""

    def __len__(self):
        return 10

    def __getitem__(self, index):
        return index, random.random(), np.random.random(), torch.rand(()).item()


def batches(seed=3, workers=0, epoch=0, count=4, dataset=None, **options):
    dataset = Draws() if dataset is None else dataset
    inner = BatchSampler(DefaultSampler(dataset, shuffle=False), 3, False)
    sampler = SeededBatchSampler(inner, seed)
    sampler.epoch = epoch
    loader = DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=list,
        **options,
    )
    return [batch for _ in range(count // 4) for batch in loader]


def test_depend_on_seed_epoch_rank_and_number(monkeypatch):
    first = batches()
    torch.manual_seed(77)
    assert batches() == first
    draws = [sample[1:] for batch in first for sample in batch]
    assert len({value for sample in draws for value in sample}) == 30  # all differ
    assert batches(seed=4)[0] != first[0]
    assert batches(epoch=1)[0] != first[0]
    assert batches(count=8)[4:] == batches(epoch=1)  # the next pass is epoch 1
    monkeypatch.setattr(iteration_seed, 'get_rank', lambda: 1)
    assert batches()[0] != first[0]


@pytest.mark.parametrize('persistent', [False, True])
def test_do_not_depend_on_workers(persistent):
    plain = batches(count=8)
    for workers in (1, 2, 3):
        assert batches(workers=workers, count=8, persistent_workers=persistent) == plain


def test_of_a_data_set_that_loads_batches_by_itself():
    class ByBatches(Draws):
        def __getitems__(self, indices):
            return [self[index] for index in indices]

    assert batches(dataset=ByBatches()) == batches()


def test_handing_a_batch_to_a_worker_draws_nothing():
    batch = next(iter(SeededBatchSampler(BatchSampler(range(9), 3, False), 0)))
    state = random.getstate(), torch.get_rng_state()
    copied = pickle.loads(pickle.dumps(batch))
    assert random.getstate() == state[0]
    assert torch.equal(torch.get_rng_state(), state[1])
    assert (len(copied), list(copied), copied.place) == (3, [0, 1, 2], batch.place)


def test_skipped_batches_leave_the_others_as_they_are():
    def seeded():
        inner = BatchSampler(InfiniteSampler(Draws(), shuffle=True, seed=1), 3, False)
        return SeededBatchSampler(inner, 0)

    whole = iter(seeded())
    expected = [(b.indices, b.place) for _, b in zip(range(9), whole, strict=False)]
    part = seeded()
    stream = iter(part)
    got = [next(stream) for _ in range(2)]
    part.skip = 4
    got += [next(stream) for _ in range(3)]
    assert [(b.indices, b.place) for b in got] == expected[:2] + expected[6:9]
    assert part.drawn == 5


@pytest.mark.parametrize('skip', [0, 1, 2, 3, 5, 6, 7, 11])
def test_skipped_passes_leave_the_others_as_they_are(skip):
    def take(count, skip):
        inner = BatchSampler(DefaultSampler(Draws(), shuffle=True, seed=1), 4, False)
        sampler = SeededBatchSampler(inner, 0)
        sampler.skip = skip
        batches = chain.from_iterable(repeat(sampler))  # 3 a pass
        return [(batch.indices, batch.place) for batch in islice(batches, count)]

    assert take(4, skip) == take(skip + 4, 0)[skip:]


@pytest.mark.parametrize(
    ('options', 'sizes'),
    [
        ({}, [4, 4, 2]),
        (dict(drop_last=True), [4, 4]),
        (dict(batch_sampler=dict(type=BatchSampler, drop_last=True)), [4, 4]),
        (dict(batch_sampler=None, drop_last=False), [4, 4, 2]),
    ],
)
def test_a_config_gives_the_batches_that_mmengine_makes(options, sizes):
    cfg = dict(
        dataset=Draws(),
        batch_size=4,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=True),
        **options,
    )
    before = dict(cfg)
    seeded = Runner.build_dataloader(with_seeded_batches(cfg, 5), seed=5)
    assert cfg == before
    stock = Runner.build_dataloader(cfg, seed=5)
    assert isinstance(seeded.batch_sampler, SeededBatchSampler)
    assert [batch[0] for batch in seeded] == [batch[0] for batch in stock]
    assert [len(batch[0]) for batch in seeded] == sizes
    assert len(seeded) == len(stock)
    assert seeded.batch_sampler.batch_size == 4
    assert with_seeded_batches(stock, 5) is stock
    assert seeded.collate_fn.func is pseudo_collate
