"""Distribution of the classification loss over the anchors of a trained model."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from focal_retinanet.cli.errors import UserError
from focal_retinanet.evaluation.anchor_logits import AnchorLogits
from focal_retinanet.ops.focal_loss.definition import Alpha, sigmoid_focal_loss
from focal_retinanet.ops.matching import IGNORED


@dataclass(frozen=True)
class LossDistribution:
    """Losses of the anchors of some images, in rising order.

    Attributes:
        gamma: Focusing parameter.
        positives, negatives: float64 (P,), (N,), each sorted, each summing to 1.
    """

    gamma: float
    positives: np.ndarray
    negatives: np.ndarray


def loss_distributions(
    images: Iterable[AnchorLogits],
    gammas: Sequence[float] = (0.0, 0.5, 1.0, 2.0),
    alpha: Alpha = 0.25,
    max_negatives: int = 100_000,
    seed: int = 0,
) -> list[LossDistribution]:
    """Return the distribution of the focal loss for each gamma (Fig. 4).

    The loss of an anchor is its sum over the classes.

    Args:
        images: Logits and labels of the anchors of each image.
        gammas: Focusing parameters.
        alpha: Balancing parameter.
        max_negatives: Largest number of negatives per image, drawn at random; all
            positives count.
        seed: Seed of the random draw.

    Raises:
        UserError: The images have no positive anchor.
    """
    rng = np.random.default_rng(seed)
    positives, negatives = [[] for _ in gammas], [[] for _ in gammas]
    for image in images:
        logits, labels = image.flatten()
        is_positive = (labels != IGNORED) & (labels < logits.size(1))
        is_negative = torch.nonzero(labels == logits.size(1))[:, 0]
        if len(is_negative) > max_negatives:
            drawn = rng.choice(len(is_negative), max_negatives, replace=False)
            is_negative = is_negative[torch.from_numpy(np.sort(drawn))]
        for index, gamma in enumerate(gammas):
            for kind, chosen in ((positives, is_positive), (negatives, is_negative)):
                loss = sigmoid_focal_loss(
                    logits[chosen], labels[chosen], gamma=gamma, alpha=alpha
                )
                kind[index].append(loss.sum(1).double().numpy())
    if not positives[0] or not sum(map(len, positives[0])):
        raise UserError(
            'the images have no anchor with an object: choose more images, or others'
        )
    return [
        LossDistribution(gamma, _normalise(positive), _normalise(negative))
        for gamma, positive, negative in zip(gammas, positives, negatives, strict=True)
    ]


def share_of_hardest(losses: np.ndarray, fraction: float) -> float:
    """Return the share of the loss that the hardest anchors have.

    Args:
        losses: Losses of :class:`LossDistribution`, sorted, with a sum of 1.
        fraction: Fraction of the anchors, from 0 to 1.
    """
    return float(losses[len(losses) - round(fraction * len(losses)) :].sum())


def describe_hardest(distributions: Sequence[LossDistribution]) -> str:
    """Return the paper's reading of Fig. 4, one line for each gamma."""
    return '\n'.join(
        f'gamma {d.gamma:g}: the hardest 20 % of the positives have '
        f'{100 * share_of_hardest(d.positives, 0.2):.0f} % of their loss, the hardest '
        f'1 % of the negatives {100 * share_of_hardest(d.negatives, 0.01):.0f} % of '
        'theirs'
        for d in distributions
    )


def _normalise(losses: list[np.ndarray]) -> np.ndarray:
    joined = np.sort(np.concatenate(losses))
    return joined / joined.sum()
