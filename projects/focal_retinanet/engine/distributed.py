"""The end of a distributed run."""

import gc

import torch
from mmengine.dist import is_distributed
from mmengine.runner import Runner


def end_distributed(runner: Runner) -> None:
    """Leave the process group, after which the runner has no model.

    A process that ends while DDP is alive may abort, which torch over gloo does in
    one run out of six.
    """
    if not is_distributed():
        return
    runner.model = None
    gc.collect()
    torch.distributed.destroy_process_group()
