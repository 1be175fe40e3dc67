"""Work that leaves the random numbers of a run as they were."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Restore the random numbers of Python, numpy and torch afterwards.

    On GPUs, those of the current device.
    """
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    python, of_numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(of_numpy)
