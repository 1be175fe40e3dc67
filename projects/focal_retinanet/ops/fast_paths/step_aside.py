"""One line in the log per reason why a fast path steps aside."""

import logging

import torch

logger = logging.getLogger('focal_retinanet')
_said: set[str] = set()
_is_new_compiler = hasattr(torch.compiler, 'is_compiling')  # from torch 2.3 on


def say_once(message: str) -> None:
    """Log a message unless this process has logged it before.

    Nothing is logged inside ``torch.compile`` of torch before 2.3.
    """
    if not _is_new_compiler and torch._dynamo.is_compiling():
        return
    if message not in _said:
        _said.add(message)
        logger.warning(message)


if _is_new_compiler:
    # torch.compile then calls the function at compile time and does not trace it.
    # torch.compiler.assume_constant_result does the same but takes a second to import.
    say_once._dynamo_marked_constant = True
