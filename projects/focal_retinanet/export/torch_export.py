"""A detector as a graph of ``torch.export``, and the file of it."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import nn
from torch.export import ExportedProgram

from focal_retinanet.cli.errors import UserError
from focal_retinanet.export.metadata import KEY, Metadata
from focal_retinanet.ops.nms.operator import IS_SUPPORTED

#: Sizes of the images of the trace; they stand for any others.
_EXAMPLE = (2, 352, 416)


def trace(model: nn.Module, shape: Sequence[int | None]) -> ExportedProgram:
    """Trace a module of images (B, 3, H, W), uint8.

    Args:
        model: Module in evaluation mode.
        shape: B, H and W; None for a size that stays free.

    Raises:
        UserError: This torch is too old, or the model cannot be traced.
    """
    if not IS_SUPPORTED:
        raise UserError(
            f'exporting needs torch 2.4 or later, this is {torch.__version__}; export '
            'in another environment, checkpoints do not depend on the version of torch'
        )
    batch, height, width = (
        size or example for size, example in zip(shape, _EXAMPLE, strict=True)
    )
    images = torch.zeros(batch, 3, height, width, dtype=torch.uint8)
    axes = (0, 2, 3)
    free = {
        axis: torch.export.Dim(name, min=1, max=1 << 15)
        for axis, name, size in zip(
            axes, ('batch', 'height', 'width'), shape, strict=True
        )
        if size is None
    }
    try:
        with _any_size(), torch.no_grad():
            return torch.export.export(
                model, (images,), dynamic_shapes=dict(images=free), strict=False
            )
    except Exception as error:  # torch raises many kinds for what it cannot trace
        raise UserError(
            f'torch {torch.__version__} cannot trace this model: '
            f'{type(error).__name__}: {str(error).splitlines()[0]}'
        ) from error


@contextlib.contextmanager
def _any_size() -> Iterator[None]:
    """Let a free size be 1 as well, where this torch knows how."""
    config = torch.fx.experimental._config
    if not hasattr(config, 'backed_size_oblivious'):
        yield
        return
    with config.patch(backed_size_oblivious=True):
        yield


def write(program: ExportedProgram, file: Path, metadata: Metadata) -> None:
    """Write a traced model with its metadata, for ``torch.export.load``."""
    torch.export.save(program, file, extra_files={KEY: metadata.as_json()})
