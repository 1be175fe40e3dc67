"""Comparison of the models that have a common ground truth, with reasons for the rest."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from focal_retinanet.cli.errors import UserError
from focal_retinanet.evaluation.comparison import compare
from focal_retinanet.evaluation.runs import Model


@dataclass
class Compared:
    """The comparisons that are possible.

    Attributes:
        models: Models that have numbers.
        common: ``compare``'s numbers of all models on one ground truth, or None.
        why_not: Reason why there are no common numbers.
        alone: Numbers of each model by its name; the common ones if there are any.
        left_out: Models without numbers, and why.
    """

    models: list[Model] = field(default_factory=list)
    common: dict | None = None
    why_not: str | None = None
    alone: dict[str, dict] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def compare_what_can_be(
    models: Sequence[Model],
    ann_file: str | None,
    reference: str | None,
    num_resamples: int,
    seed: int,
    corrects: bool,
    **callbacks: Callable,
) -> Compared:
    """Compare all models on one ground truth, or else each one by itself.

    Args:
        models, ann_file, reference, num_resamples, seed, corrects, callbacks: See
            ``compare``.

    Raises:
        UserError: No model has numbers, or there is no such reference.
    """
    if reference is not None and reference not in [model.name for model in models]:
        names = ', '.join(model.name for model in models)
        raise UserError(f'no model is called {reference}; there are {names}')
    numbers_of = partial(compare, ann_file=ann_file, **callbacks)
    in_common = partial(
        numbers_of, num_resamples=num_resamples, seed=seed, corrects=corrects
    )
    result = Compared(list(models))
    try:
        result.common = in_common(models, reference=reference)
    except (UserError, FileNotFoundError) as error:
        result.why_not = str(error)
        result.models = []
        for model in models:
            try:
                result.alone[model.name] = numbers_of([model], num_resamples=0)
                result.models.append(model)
            except (UserError, FileNotFoundError) as error:
                result.left_out.append(f'{model.name}: {error}')
        if not result.models:
            raise UserError('\n'.join(dict.fromkeys(result.left_out))) from None
        if result.left_out:  # the others may have a common ground truth
            if reference not in result.alone:
                reference = None
            try:
                result.common = in_common(result.models, reference=reference)
                result.why_not = None
            except UserError as error:
                result.why_not = str(error)
    if result.common is not None:
        result.alone = {model.name: result.common for model in result.models}
    return result
