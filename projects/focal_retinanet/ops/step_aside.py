"""One line in the log for each reason why a fast path is not taken."""

import logging

logger = logging.getLogger('focal_retinanet')
_said: set[str] = set()


def say_once(message: str) -> None:
    """Log a message, unless it was logged before in this process."""
    if message not in _said:
        _said.add(message)
        logger.warning(message)


# As torch.compiler.assume_constant_result does, which takes a second to import:
# torch.compile calls the function while it compiles, not in what it compiles.
say_once._dynamo_marked_constant = True
