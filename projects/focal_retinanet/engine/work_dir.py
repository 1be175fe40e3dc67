"""What a run wrote is found beside it, wherever its work directory stands.

mmengine notes absolute paths: of the latest checkpoint, and of the best one, which
is deleted when there is a better one. In a copy of a work directory they are those
of the original.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from mmengine.hooks import CheckpointHook, Hook
from mmengine.logging import MessageHub

from focal_retinanet.cli.errors import UserError

_LATEST = 'last_checkpoint'
_NOTED = re.compile(r'last_ckpt|best_ckpt(_.*)?')


def run_folder(config: str | Path) -> str | None:
    """The work directory that a config file lies in; None where it lies in none.

    A run keeps its config with the path of its work directory in it, which in a copy
    is the original's.

    Args:
        config: config file.
    """
    folder = Path(config).parent
    return str(folder) if (folder / _LATEST).is_file() else None


def latest_checkpoint(
    work_dir: str | Path, checkpoint_dir: str | None = None
) -> str | None:
    """The checkpoint that a run was saved in last; None if it was in none.

    Args:
        work_dir: folder of the run.
        checkpoint_dir: folder of its checkpoints, if that is another one.

    Raises:
        UserError: the checkpoint that the run names is not there.
    """
    note = Path(work_dir) / _LATEST
    if not note.is_file():
        return None
    noted = note.read_text().strip()
    if _is_remote(noted):
        return noted
    name = _file_name(noted)
    places = [Path(work_dir) / name]
    if checkpoint_dir is not None:
        places += [Path(checkpoint_dir) / name, Path(noted)]
    for place in places:
        if place.exists():
            return str(place)
    raise UserError(
        f'{note} names {noted}, and there is no {name} in {places[-1].parent}: put '
        'that checkpoint there, name another one by --resume CHECKPOINT, or delete '
        f'{note} to start from the beginning'
    )


def checkpoint_dir(hooks: Sequence[Hook], work_dir: str) -> str | None:
    """The folder of checkpoints that a CheckpointHook has of its own, or None.

    Args:
        hooks: the runner's, before training.
        work_dir: folder of the run.
    """
    for hook in hooks:
        if isinstance(hook, CheckpointHook) and hook.out_dir not in (None, work_dir):
            # As the hook will join them.
            return os.path.join(hook.out_dir, os.path.basename(work_dir.rstrip(os.sep)))
    return None


def move_noted_checkpoints(message_hub: MessageHub, folder: str | Path) -> None:
    """Let what mmengine notes of checkpoints be about those of this run.

    A checkpoint that is not there is forgotten: it is another run's, which has not
    to be deleted.

    Args:
        message_hub: record of the run, changed in place.
        folder: folder of the run's checkpoints.
    """
    for key in list(message_hub.runtime_info):
        if not _NOTED.fullmatch(key):
            continue
        noted = message_hub.get_info(key)
        if not isinstance(noted, str | Path) or _is_remote(str(noted)):
            continue
        place = Path(folder) / _file_name(str(noted))
        if place.exists():
            message_hub.update_info(key, str(place))
        else:
            message_hub.pop_info(key)


def _file_name(path: str) -> str:
    """The last part of a path of any system."""
    return re.split(r'[/\\]', path.rstrip('/\\'))[-1]


def _is_remote(path: str) -> bool:
    """Whether a path is of a store that mmengine writes to, such as s3://."""
    return '://' in path
