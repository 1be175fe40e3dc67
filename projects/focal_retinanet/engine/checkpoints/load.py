"""Safe loading of checkpoints, the same on both OpenMMLab stacks.

A checkpoint is a pickle, and a pickle can run any code. torch can load "weights
only", which refuses all but a list of harmless types. The list lacks what mmengine
saves for ``--resume``, and the maintained fork of mmengine falls back to unsafe
loading. Here mmengine's types join the list, and nothing else is ever loaded unless
the user asks for it.
"""

import os
import pickle
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from mmengine.logging.history_buffer import HistoryBuffer
from mmengine.runner import CheckpointLoader

from focal_retinanet.cli.errors import UserError
from focal_retinanet.engine.checkpoints import restricted_unpickler
from focal_retinanet.export import is_exported

# Makes every torch.load weights-only, whatever its caller asks for.
_FORCE_SAFE = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'


class UnsafeCheckpointError(UserError):
    """A file that holds more than tensors, numbers and mmengine's history."""


def enforce_safe_loading(allow_unsafe: bool = False) -> None:
    """Make every ``torch.load`` of this process and its children weights-only.

    Args:
        allow_unsafe: If true, load any file and run the code that it holds. Only for
            files from a source that the user trusts.
    """
    if allow_unsafe:
        os.environ.pop(_FORCE_SAFE, None)
    else:
        os.environ[_FORCE_SAFE] = '1'
    if restricted_unpickler.is_needed():
        restricted_unpickler.install(_mmengine_globals())
    else:
        named = [(value, name) for name, value in _mmengine_globals().items()]
        torch.serialization.add_safe_globals(named)
    CheckpointLoader.register_scheme('', load_from_local, force=True)


@contextmanager
def safe_loading(allow_unsafe: bool = False) -> Iterator[None]:
    """Enforce safe loading for a while, and leave the process as it was.

    Args:
        allow_unsafe: See :func:`enforce_safe_loading`.
    """
    loaders = dict(CheckpointLoader._schemes)
    with (
        mock.patch.dict(os.environ),
        mock.patch.object(CheckpointLoader, '_schemes', loaders),
    ):
        enforce_safe_loading(allow_unsafe)
        yield


def load_from_local(
    filename: str, map_location: str | torch.device | None = None
) -> dict:
    """Load a checkpoint file; mmengine calls this for every local path.

    Args:
        filename: Path of the file; ``~`` is expanded.
        map_location: Device of the tensors, see ``torch.load``.

    Raises:
        FileNotFoundError: The file does not exist.
        UserError: The file is one of ``tools/export.py``.
        UnsafeCheckpointError: The file is no checkpoint, is cut off, or holds
            something that only an unsafe load can read.
    """
    path = Path(filename).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f'checkpoint {filename} not found; paths are relative to {Path.cwd()}'
            f'{_source_of(path)}'
        )
    if is_exported(path):
        raise UserError(
            f'{path} is an exported file, which is no checkpoint here; name the '
            'checkpoint from which it was exported'
        )
    try:
        safe = _FORCE_SAFE in os.environ
        return torch.load(path, map_location=map_location, weights_only=safe)
    except pickle.UnpicklingError as error:
        found = re.search(r'GLOBAL (\S+) was not an allowed', str(error))
        holds = f'it holds {found[1]}' if found else 'it is not a torch file'
        raise UnsafeCheckpointError(
            f'{path} is not a plain checkpoint: {holds}. Loading it could run any '
            'code, so it is refused. If you trust its source, add '
            '--unsafe-checkpoint.'
        ) from error
    except Exception as error:  # torch raises many kinds on foreign bytes
        raise UnsafeCheckpointError(
            f'{path} cannot be read as a checkpoint; is it complete? '
            f'({type(error).__name__}: {error})'
        ) from error


def _source_of(path: Path) -> str:
    """Name the source of the weights that the configs for CPUs start from."""
    named = os.environ.get('MOBILENETV2', 'mobilenet_v2_imagenet_bnfolded.pth')
    if path.name != Path(named).name:
        return ''
    return (
        '. It is $MOBILENETV2, the ImageNet weights of MobileNetV2: python '
        'tools/convert_weights.py mobilenet_v2-b0353104.pth makes the file from '
        "torchvision's, see docs/weights.md"
    )


def _mmengine_globals() -> dict[str, object]:
    """Return the harmless types in mmengine's checkpoints, by their pickled names.

    numpy 1 and 2 pickle under different names, and each must read the other's files.
    """
    # The functions that numpy's own pickles name.
    rebuild, scalar = np.zeros(0).__reduce__()[0], np.float64(0).__reduce__()[0]
    numbers = {type(np.dtype(x)) for x in np.typecodes['All'] if x not in 'OSUVMm'}
    return {
        'mmengine.logging.history_buffer.HistoryBuffer': HistoryBuffer,
        'builtins.getattr': _method_of_history_buffer,
        'numpy.ndarray': np.ndarray,
        'numpy.dtype': np.dtype,
        **{
            f'numpy.{package}.multiarray.{function.__name__}': function
            for package in ('_core', 'core')
            for function in (rebuild, scalar)
        },
        **{f'{x.__module__}.{x.__qualname__}': x for x in numbers},
    }


def _method_of_history_buffer(owner: object, name: str) -> object:
    """Stand in for ``getattr`` in a checkpoint.

    A HistoryBuffer is pickled with its own methods, looked up by name. A look-up in
    any other object could lead to code.
    """
    if owner is not HistoryBuffer or name.startswith('_'):
        raise pickle.UnpicklingError(
            f'GLOBAL getattr({owner!r}, {name!r}) was not an allowed global'
        )
    return getattr(HistoryBuffer, name)
