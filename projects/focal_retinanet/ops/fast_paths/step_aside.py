"""One line in the log for each reason why a fast path is not taken."""

import logging

import torch

logger = logging.getLogger('focal_retinanet')
_said: set[str] = set()
_is_new_compiler = hasattr(torch.compiler, 'is_compiling')  # from torch 2.3 on


def say_once(message: str) -> None:
    """Log a message, unless it was logged before in this process.

    In what ``torch.compile`` of torch before 2.3 compiles, nothing is logged.
    """
    if not _is_new_compiler and torch._dynamo.is_compiling():
        return
    if message not in _said:
        _said.add(message)
        logger.warning(message)


if _is_new_compiler:
    # As torch.compiler.assume_constant_result does, which takes a second to import:
    # torch.compile calls the function while it compiles, not in what it compiles.
    say_once._dynamo_marked_constant = True
