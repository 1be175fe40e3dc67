"""Interleaving, spread and peak memory."""

import pytest
import torch
from torch.utils.benchmark import Measurement, TaskSpec

from harness.timing import peak_memory, spread, time_interleaved

CPU = torch.device('cpu')


def test_contestants_run_in_turn_and_each_begins_a_round():
    order = []
    contestants = {name: lambda name=name: order.append(name) for name in 'abc'}
    times = time_interleaved(contestants, runs=4, warmup=1, min_run_ms=0)
    # Warm-up and a look at the time of each, then the rounds.
    assert ''.join(order) == 'aabbcc' + 'abc' + 'bca' + 'cab' + 'abc'
    assert all(len(t.times) == 4 for t in times.values())
    assert all(t.number_per_run == 1 for t in times.values())


def test_short_calls_are_repeated():
    times = time_interleaved({'short': lambda: None}, runs=1, warmup=0, min_run_ms=20)
    assert times['short'].number_per_run == 1000


@pytest.mark.parametrize(
    'values, expected',
    [([3.0], 0.0), ([2.0, 2.0, 2.0], 0.0), ([1.0, 2.0, 3.0, 4.0, 5.0], 2 / 3)],
)
def test_spread(values, expected):
    measurement = Measurement(2, values, TaskSpec('', ''))
    assert spread(measurement) == pytest.approx(expected)


def test_peak_memory_is_that_of_the_call():
    def run():
        torch.ones(64 * 2**20, dtype=torch.uint8)
        torch.ones(16 * 2**20, dtype=torch.uint8)

    peak = peak_memory(run, CPU)
    if peak is None:
        pytest.skip('the system keeps no record of the peak')
    assert 60 < peak < 80
