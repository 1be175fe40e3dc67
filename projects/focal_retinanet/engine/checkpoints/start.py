"""Weights of another model that a training starts from, as far as they fit."""

from collections import OrderedDict
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

from torch import Tensor, nn

from focal_retinanet.cli.errors import UserError
from focal_retinanet.cli.naming import few
from focal_retinanet.engine.checkpoints.fit import (
    OPTIONAL,
    Misfit,
    classes_of,
    misfits,
    unwrapped,
    weights_of,
)


def keep_what_fits(
    model: nn.Module, checkpoint: MutableMapping[str, Any], file: str
) -> list[str]:
    """Leave in a checkpoint what a model can take, and say what that is.

    Weights that the checkpoint lacks become those that the model has, so that whoever
    loads it finds all of them.

    Args:
        model: Detector, perhaps wrapped, with its initial weights.
        checkpoint: Checkpoint as it was loaded, or the weights alone; its
            ``state_dict`` is replaced, or added.
        file: File of the checkpoint, for messages.

    Returns:
        One line, or two if something does not fit.

    Raises:
        UserError: No weight fits.
    """
    theirs = {
        name.removeprefix('module.'): value
        for name, value in weights_of(checkpoint).items()
        if isinstance(value, Tensor)
    }
    ours = unwrapped(model).state_dict()
    fitting = {
        name: value
        for name, value in theirs.items()
        if name in ours and value.shape == ours[name].shape
    }
    wrong = misfits(model, theirs)
    if not fitting:
        raise UserError(
            f'{file} has no weight that fits this model: {few(wrong, 2, "; ")}{_hint(theirs)}'
        )
    weights = OrderedDict(ours | fitting)
    # The versions of layers, by which torch converts older ones.
    weights._metadata = getattr(weights_of(checkpoint), '_metadata', {})
    checkpoint['state_dict'] = weights
    total = sum(OPTIONAL not in name for name in ours)
    missing = [misfit for misfit in wrong if misfit.model is not None]
    taken = f'All {total}' if not missing else f'{total - len(missing)} of {total}'
    lines = [f'{taken} weights of the model come from {file}']
    if wrong:
        lines.append(f'{_not_taken(wrong, missing)}{classes_of(checkpoint)}')
    return lines


def _not_taken(wrong: Sequence[Misfit], missing: Sequence[Misfit]) -> str:
    """Describe the weights that do not fit, with the most likely reason."""
    if not missing:
        return f'Not used, as the model has no such weights: {few(wrong, 2, "; ")}'
    sizes = [misfit for misfit in missing if misfit.file is not None]
    if len(sizes) == len(missing) and all('cls' in m.name for m in sizes):
        return f'The class layer starts anew, for another number of classes: {few(sizes, 2, "; ")}'
    return f'These start anew: {few(missing, 2, "; ")}'


def _hint(theirs: Mapping[str, Tensor]) -> str:
    if any(name.startswith(('backbone.body.', 'features.')) for name in theirs):
        return '. It is a model of torchvision: python tools/convert_weights.py converts it'
    return ''
