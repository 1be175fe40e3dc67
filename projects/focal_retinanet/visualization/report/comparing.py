"""Compare all models that can be, and know of each other one why not."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from focal_retinanet.cli.errors import UserError
from focal_retinanet.evaluation.comparison import compare
from focal_retinanet.evaluation.runs import Model, find_models


@dataclass
class Compared:
    """What could be compared.

    Attributes:
        models: of which there are numbers.
        common: ``compare``'s numbers of all of them on one ground truth, or None.
        why_not: why there are no common numbers.
        alone: of each model by its name, the numbers that it is in.
        left_out: what there are no numbers of, and why.
    """

    models: list[Model] = field(default_factory=list)
    common: dict | None = None
    why_not: str | None = None
    alone: dict[str, dict] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def read_models(paths: Sequence[str | Path]) -> tuple[list[Model], list[str]]:
    """As ``find_models``, but what cannot be read is left out too.

    Raises:
        UserError: nothing is left.
    """
    try:
        return find_models(paths)
    except (UserError, FileNotFoundError):
        good, left_out = [], []
        for path in paths:
            try:
                find_models([path])
                good.append(path)
            except (UserError, FileNotFoundError) as error:
                left_out.append(str(error))
        if not good:
            raise UserError('\n'.join(left_out)) from None
        models, more = find_models(good)
        return models, left_out + more


def compare_what_can_be(
    models: Sequence[Model],
    ann_file: str | None,
    reference: str | None,
    num_resamples: int,
    seed: int,
    **callbacks: Callable,
) -> Compared:
    """All models on one ground truth; else each by itself.

    Args:
        models, ann_file, reference, num_resamples, seed, callbacks: as ``compare``
            has them.

    Raises:
        UserError: there are numbers of no model, or no such reference.
    """
    if reference is not None and reference not in [model.name for model in models]:
        names = ', '.join(model.name for model in models)
        raise UserError(f'no model is called {reference}; there are {names}')
    result = Compared()
    try:
        result.common = compare(
            models, ann_file, reference, num_resamples, seed, **callbacks
        )
        result.models = list(models)
    except (UserError, FileNotFoundError) as error:
        result.why_not = str(error)
    if result.common is None:
        for model in models:
            try:
                result.alone[model.name] = compare(
                    [model], ann_file, None, 0, **callbacks
                )
                result.models.append(model)
            except (UserError, FileNotFoundError) as error:
                result.left_out.append(f'{model.name}: {error}')
        if not result.models:
            raise UserError('\n'.join(dict.fromkeys(result.left_out)))
        names = [model.name for model in result.models]
        if len(names) < len(models):  # the others may have a common ground
            try:
                result.common = compare(
                    result.models,
                    ann_file,
                    reference if reference in names else None,
                    num_resamples,
                    seed,
                    **callbacks,
                )
                result.why_not = None
            except UserError as error:
                result.why_not = str(error)
    if result.common is not None:
        result.alone = {model.name: result.common for model in result.models}
    return result
