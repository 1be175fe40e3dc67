"""Paths inside a work directory, which may have been moved or copied.

mmengine records absolute paths of the latest checkpoint and of the best one, which
it deletes when there is a better one. In a copy, they lead to the original.
"""

import ast
import io
import os
import re
import tokenize
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath

from mmengine.hooks import CheckpointHook, Hook
from mmengine.logging import MessageHub

from focal_retinanet.cli.errors import UserError

#: File in which mmengine notes the latest checkpoint.
LATEST = 'last_checkpoint'
# Checkpoints by mmengine's names.
_OF_RUN = re.compile(r'(best_.+_)?(epoch|iter)_\d+\.pth')
_NOTED = re.compile(r'last_ckpt|best_ckpt(_.*)?')


def run_folder(config: str | Path) -> str | None:
    """Return the work directory that contains a config file, if one does.

    In a copy of a work directory, the config still names the original.
    """
    folder = Path(config).parent
    return str(folder) if (folder / LATEST).is_file() else None


def latest_checkpoint(
    work_dir: str | Path, checkpoint_dir: str | None = None
) -> str | None:
    """Return the latest checkpoint of a run, or None if there is none.

    Args:
        work_dir: Folder of the run.
        checkpoint_dir: Folder of its checkpoints, if it is another one.

    Raises:
        UserError: The recorded checkpoint does not exist.
    """
    note = Path(work_dir) / LATEST
    if not note.is_file():
        return None
    noted = note.read_text().strip()
    if _is_remote(noted):
        return noted
    name = _name(noted)
    places = [Path(work_dir) / name]
    if checkpoint_dir is not None:
        places += [Path(checkpoint_dir) / name, Path(noted)]
    for place in places:
        if place.exists():
            return str(place)
    raise UserError(
        f'{note} names {noted}, but there is no {name} in {places[-1].parent}: put '
        'that checkpoint there, name another one with --resume CHECKPOINT, or delete '
        f'{note} to start from the beginning'
    )


def has_checkpoints(work_dir: str | Path) -> bool:
    """Return whether a folder has checkpoints of a run, by mmengine's names.

    A run that was stopped may have a best one alone, and no note of the latest.
    """
    folder = Path(work_dir)
    return (folder / LATEST).is_file() or bool(_checkpoints(folder))


def _checkpoints(folder: Path) -> list[Path]:
    return [file for file in folder.glob('*.pth') if _OF_RUN.fullmatch(file.name)]


def check_keeps_config(config: str | Path, work_dir: str | Path) -> None:
    """Check that a run does not write its config over the one that a user wrote.

    mmengine writes the resolved config into the work directory. Over itself it may,
    because nothing is lost.

    Args:
        config: Config file of the run.
        work_dir: Folder of the run.

    Raises:
        UserError: The config lies in the folder, and has comments or a ``_base_``.
    """
    config = Path(config)
    written = Path(work_dir) / config.name
    is_same = written.exists() and config.exists() and written.samefile(config)
    if is_same and not _is_resolved(config):
        raise UserError(
            f'--work-dir {work_dir} is the folder of {config}, which the run would '
            'write over; name another folder'
        )


def _is_resolved(config: Path) -> bool:
    """Return whether a config is as mmengine writes it: assignments without comments."""
    text = config.read_text(encoding='utf-8')
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    if any(token.type == tokenize.COMMENT for token in tokens):
        return False
    targets = [getattr(node, 'targets', [None])[0] for node in ast.parse(text).body]
    names = [getattr(target, 'id', None) for target in targets]
    return None not in names and '_base_' not in names


def make_room(
    work_dir: str | Path, overwrite: bool, weights: str | None = None
) -> None:
    """Check that a new run takes no checkpoint of an earlier one for its own.

    mmengine would overwrite some of them, and leave the others beside the new ones.

    Args:
        work_dir: Folder of the new run.
        overwrite: Whether the checkpoints of an earlier run may be deleted.
        weights: Checkpoint that the new run starts from, if there is one.

    Raises:
        UserError: The folder has a run already, or the new one starts from what would
            be deleted.
    """
    folder = Path(work_dir)
    if not has_checkpoints(folder):
        return
    if not overwrite:
        raise UserError(
            f'{folder} has the checkpoints of a run already: go on with it by '
            '--resume, name another --work-dir, or add --overwrite, which deletes them'
        )
    old = _checkpoints(folder)
    if weights is not None and Path(weights).resolve() in {x.resolve() for x in old}:
        raise UserError(
            f'{weights} is one of the checkpoints that --overwrite deletes; name '
            'another --work-dir, or move it elsewhere'
        )
    for file in [*old, folder / LATEST]:
        file.unlink(missing_ok=True)  # another process may be faster


def checkpoint_dir(hooks: Sequence[Hook], work_dir: str) -> str | None:
    """Return the folder of a CheckpointHook with ``out_dir``, or None.

    Args:
        hooks: Hooks of the runner before training.
        work_dir: Folder of the run.
    """
    for hook in hooks:
        if isinstance(hook, CheckpointHook) and hook.out_dir not in (None, work_dir):
            # The hook joins them in the same way.
            return os.path.join(hook.out_dir, os.path.basename(work_dir.rstrip(os.sep)))
    return None


def move_noted_checkpoints(message_hub: MessageHub, folder: str | Path) -> None:
    """Make the recorded paths of checkpoints lead to this run's folder.

    A path without a file in the folder is removed, since mmengine would delete the
    checkpoint of another run.

    Args:
        message_hub: Record of the run, changed in place.
        folder: Folder of the run's checkpoints.
    """
    for key in list(message_hub.runtime_info):
        if not _NOTED.fullmatch(key):
            continue
        noted = message_hub.get_info(key)
        if not isinstance(noted, str | Path) or _is_remote(str(noted)):
            continue
        place = Path(folder) / _name(str(noted))
        if place.exists():
            message_hub.update_info(key, str(place))
        else:
            message_hub.pop_info(key)


def _name(path: str) -> str:
    """Return the last part of a POSIX or Windows path."""
    return PureWindowsPath(path).name  # accepts both separators


def _is_remote(path: str) -> bool:
    """Return whether a path leads to a remote store, such as s3://."""
    return '://' in path
