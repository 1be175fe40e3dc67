"""Arguments of mmengine's CheckpointHook, which takes any and fails at the first save."""

import difflib
import inspect
from collections.abc import Callable

from mmengine.hooks import CheckpointHook

from focal_retinanet.cli.errors import UserError


def check_arguments(hook: CheckpointHook, save_checkpoint: Callable) -> None:
    """Check the arguments that the hook passes on to a runner.

    Args:
        hook: Hook of the runner.
        save_checkpoint: Method of the runner.

    Raises:
        UserError: There is no such argument, so that the first checkpoint would end
            the training.
    """
    known = inspect.signature(save_checkpoint).parameters
    if any(each.kind is each.VAR_KEYWORD for each in known.values()):
        return
    own = inspect.signature(CheckpointHook.__init__).parameters
    for name in hook.args.keys() - known.keys():
        likely = difflib.get_close_matches(name, [*own, *known], 1, 0.6)
        hint = f'; do you mean {likely[0]}?' if likely else ''
        raise UserError(
            f'the config gives CheckpointHook (default_hooks.checkpoint) {name}, which '
            f'it does not have{hint}'
        )
