"""Checks that a checkpoint's weights fit a model."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import Tensor, nn

from focal_retinanet.cli.errors import UserError
from focal_retinanet.cli.naming import few
from focal_retinanet.data.dataset_meta import meta_of

#: Part of the names of weights that a checkpoint may lack; mmengine allows it too.
OPTIONAL = 'num_batches_tracked'


@dataclass(frozen=True)
class Misfit:
    """A weight in which a model and a checkpoint differ.

    Attributes:
        name: Name of the weight, such as ``bbox_head.retina_cls.weight``.
        model: Shape in the model, or None if the model lacks the weight.
        file: Shape in the checkpoint, or None if the checkpoint lacks the weight.
    """

    name: str
    model: tuple[int, ...] | None
    file: tuple[int, ...] | None

    def __str__(self) -> str:
        if self.model is None:
            return f'{self.name} {self.file} is only in the file'
        if self.file is None:
            return f'{self.name} {self.model} is only in the model'
        return f'{self.name} is {self.file} in the file and {self.model} in the model'


def misfits(model: nn.Module, state_dict: Mapping[str, Any]) -> list[Misfit]:
    """Return the weights that differ; those of other shapes come first.

    Args:
        model: Detector, or a wrapper of one for distributed training or for test-time
            augmentation.
        state_dict: Weights by their names, which may begin with ``module.``.
    """
    ours = _shapes(unwrapped(model).state_dict())
    theirs = _shapes(state_dict)
    found = [
        Misfit(name, ours.get(name), theirs.get(name))
        for name in ours | theirs
        if ours.get(name) != theirs.get(name) and OPTIONAL not in name
    ]
    return sorted(found, key=lambda misfit: None in (misfit.model, misfit.file))


def check_fits(model: nn.Module, checkpoint: Mapping[str, Any], file: str) -> None:
    """Refuse a checkpoint whose weights do not fit the heads of a model.

    Other weights may be missing; mmengine warns of them.

    Args:
        model: Detector, wrapped or not.
        checkpoint: Loaded checkpoint, or the weights alone.
        file: Path of the checkpoint, for errors.

    Raises:
        UserError: A weight of a head has another shape, or the checkpoint has no
            weight of a head. Of a model without heads, all weights are checked.
    """
    state_dict = weights_of(checkpoint)
    names = [n for n in unwrapped(model).state_dict() if OPTIONAL not in n]
    needed = [name for name in names if _is_of_a_head(name)] or names
    wrong = [m for m in misfits(model, state_dict) if m.name in needed]
    missing = {m.name for m in wrong if m.file is None}
    sizes = [m for m in wrong if m.file is not None]
    if sizes:
        raise UserError(
            f'{file} is of another model: {few(sizes, 2, "; ")}'
            f'{classes_of(checkpoint)}. Use the config that it was trained with'
        )
    if needed and missing.issuperset(needed):
        what = 'a head' if _is_of_a_head(needed[0]) else 'this model'
        raise UserError(
            f'{file} has no weights of {what}, such as {needed[0]}: is it the '
            'checkpoint of a detector, and of this config?'
        )


def check_can_be_resumed(
    model: nn.Module,
    checkpoint: Mapping[str, Any],
    file: str,
    classes: Collection[str] | None,
) -> None:
    """Refuse to resume from a checkpoint of another model, or from weights alone.

    Args:
        model: Detector, wrapped or not.
        checkpoint: Loaded checkpoint.
        file: Path of the checkpoint, for errors.
        classes: Classes of the training data, if they are known.

    Raises:
        UserError: The weights differ in names or shapes, or the checkpoint has no
            record of a training.
    """
    advice = (
        f'. To start a new training from its weights, leave out --resume and add '
        f'--weights {file}'
    )
    meta = checkpoint.get('meta')
    is_record = isinstance(meta, Mapping) and meta.keys() >= {'epoch', 'iter'}
    if not is_record or 'message_hub' not in checkpoint:
        raise UserError(
            f'{file} cannot be resumed: it has weights, but no record of a training'
            f'{advice}'
        )
    wrong = misfits(model, weights_of(checkpoint))
    if wrong:
        ours = '' if classes is None else f'; the data to train on have {len(classes)}'
        raise UserError(
            f'{file} cannot be resumed, it is of another model: {few(wrong, 2, "; ")}'
            f'{classes_of(checkpoint)}{ours}{advice}'
        )


def weights_of(checkpoint: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the weights of a checkpoint, which may consist of weights alone."""
    return checkpoint.get('state_dict', checkpoint)


def unwrapped(model: nn.Module) -> nn.Module:
    """Return a model without its wrappers."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def classes_of(checkpoint: Mapping[str, Any]) -> str:
    """Return a sentence with the classes of a checkpoint; empty if unknown."""
    meta = meta_of(checkpoint)
    if meta is None:
        return ''
    classes = tuple(map(str, meta['classes']))
    some = ', '.join(classes[:5]) + (', ...' if len(classes) > 5 else '')
    return f'. It was trained on {len(classes)} classes ({some})'


def _shapes(state_dict: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {
        # mmengine removes the prefix, too.
        name.removeprefix('module.'): tuple(value.shape)
        for name, value in state_dict.items()
        if isinstance(value, Tensor)
    }


def _is_of_a_head(name: str) -> bool:
    return name.partition('.')[0].endswith('head')
