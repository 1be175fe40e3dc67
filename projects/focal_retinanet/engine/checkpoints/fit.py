"""Whether the weights of a checkpoint are those of a model."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import Tensor, nn

from focal_retinanet.cli.errors import UserError
from focal_retinanet.data.dataset_meta import meta_of

#: Part of the names of weights that a checkpoint may lack, as for mmengine.
OPTIONAL = 'num_batches_tracked'


@dataclass(frozen=True)
class Misfit:
    """A weight that a model and a checkpoint do not have in common.

    Attributes:
        name: name of the weight, such as ``bbox_head.retina_cls.weight``.
        model: its shape in the model, or None if the model does not have it.
        file: its shape in the checkpoint, or None if that does not have it.
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
    """The weights in which a model and a checkpoint differ; sizes come first.

    Args:
        model: detector, or a wrapper of one for distributed training or for
            augmentation at test time.
        state_dict: weights by their names, which may begin with ``module.``.
    """
    ours = _shapes(unwrapped(model).state_dict())
    theirs = _shapes(state_dict)
    found = [
        Misfit(name, ours.get(name), theirs.get(name))
        for name in (*ours, *(name for name in theirs if name not in ours))
        if ours.get(name) != theirs.get(name) and OPTIONAL not in name
    ]
    return sorted(found, key=lambda misfit: None in (misfit.model, misfit.file))


def check_fits(model: nn.Module, checkpoint: Mapping[str, Any], file: str) -> None:
    """Refuse a checkpoint that does not make a model what was trained.

    Other weights may be missing, as mmengine says in a warning.

    Args:
        model: detector, perhaps wrapped.
        checkpoint: checkpoint as it was loaded, or the weights alone.
        file: its file, for errors.

    Raises:
        UserError: a weight of a head has another size, or none of the heads' (of a
            model without heads: none at all) is in the checkpoint.
    """
    state_dict = weights_of(checkpoint)
    names = list(unwrapped(model).state_dict())
    needed = [name for name in names if _is_of_a_head(name)] or names
    wrong = [m for m in misfits(model, state_dict) if m.name in needed]
    missing = {m.name for m in wrong if m.file is None}
    others = [name for name in needed if OPTIONAL not in name]
    sizes = [m for m in wrong if m.file is not None]
    if sizes:
        raise UserError(
            f'{file} is of another model: {listed(sizes)}'
            f'{classes_of(checkpoint)}. Give the config that it was trained with'
        )
    if others and missing.issuperset(others):
        what = 'a head' if _is_of_a_head(needed[0]) else 'this model'
        raise UserError(
            f'{file} has no weights of {what}, such as {others[0]}: is it the '
            'checkpoint of a detector, and of this config?'
        )


def check_can_be_resumed(
    model: nn.Module,
    checkpoint: Mapping[str, Any],
    file: str,
    classes: Collection[str] | None,
) -> None:
    """Refuse a checkpoint that is not of a training of the same model.

    Args:
        model: detector, perhaps wrapped.
        checkpoint: checkpoint as it was loaded.
        file: its file, for errors.
        classes: classes of the data to train on, if they are known.

    Raises:
        UserError: the weights differ in names or sizes, or there is no record of a
            training.
    """
    advice = (
        f'. To start a new training from its weights, leave out --resume and add '
        f'--weights {file}'
    )
    meta = checkpoint.get('meta')
    is_record = isinstance(meta, Mapping) and meta.keys() >= {'epoch', 'iter'}
    if not is_record or 'message_hub' not in checkpoint:
        raise UserError(
            f'{file} cannot be resumed: it has weights and no record of a training'
            f'{advice}'
        )
    wrong = misfits(model, weights_of(checkpoint))
    if wrong:
        ours = '' if classes is None else f'; the data to train on have {len(classes)}'
        raise UserError(
            f'{file} cannot be resumed, it is of another model: {listed(wrong)}'
            f'{classes_of(checkpoint)}{ours}{advice}'
        )


def weights_of(checkpoint: Mapping[str, Any]) -> Mapping[str, Any]:
    """The weights of a checkpoint, which may be nothing else."""
    return checkpoint.get('state_dict', checkpoint)


def unwrapped(model: nn.Module) -> nn.Module:
    """A model without its wrappers."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def listed(wrong: Collection[Misfit], most: int = 2) -> str:
    """The first misfits in words, and how many more there are."""
    words = '; '.join(str(misfit) for misfit in list(wrong)[:most])
    more = f' (and {len(wrong) - most} more)' if len(wrong) > most else ''
    return words + more


def classes_of(checkpoint: Mapping[str, Any]) -> str:
    """The classes that a checkpoint was trained on, as a sentence; '' if not known."""
    meta = meta_of(checkpoint)
    if meta is None:
        return ''
    classes = tuple(map(str, meta['classes']))
    some = ', '.join(classes[:5]) + (', ...' if len(classes) > 5 else '')
    return f'. It was trained on {len(classes)} classes ({some})'


def _shapes(state_dict: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {
        # As mmengine takes it away.
        re.sub(r'^module\.', '', name): tuple(value.shape)
        for name, value in state_dict.items()
        if isinstance(value, Tensor)
    }


def _is_of_a_head(name: str) -> bool:
    return name.partition('.')[0].endswith('head')
