"""The anchors of a detector against the annotated images of a data set."""

import torch
from torch.utils.data import DataLoader

from focal_retinanet.anchors.assignment import AnchorRule, Assignment
from focal_retinanet.anchors.coverage import Coverage
from focal_retinanet.cli.console import progress
from focal_retinanet.data.training_images import (
    Example,
    TrainingImages,
    evenly_spread,
)


def assign(rule: AnchorRule | None, example: Example) -> Assignment | None:
    """Assign the anchors of an image to its objects; None without a rule."""
    if rule is None:
        return None
    return rule.assign(
        example.objects,
        example.sample.img_shape[:2],
        example.input_shape,
        example.crowds,
    )


def measure_coverage(
    images: TrainingImages, rule: AnchorRule | None, num_workers: int
) -> Coverage:
    """Count over a whole data set which objects get which anchors.

    Args:
        images: Images of the data set.
        rule: Anchors and their assigner; None counts the objects alone.
        num_workers: Number of processes that load the images.
    """
    coverage = Coverage(0 if rule is None else len(rule.strides))
    loader = DataLoader(images, batch_size=None, num_workers=num_workers)
    for example in progress(loader, 'images', len(images)):
        coverage.add(
            example.name,
            example.objects.bboxes,
            example.objects.labels,
            example.sample.img_shape[:2],
            example.input_shape,
            assign(rule, example),
        )
    return coverage


def choose_images(coverage: Coverage, num: int) -> list[int]:
    """Choose images to draw: the worst for at most half, the rest spread evenly.

    Returns:
        At most ``num`` indices in ascending order.
    """
    total = len(coverage.images)
    num = min(num, total)
    missed = torch.zeros(total)
    if len(coverage.kinds):
        # One object without any anchor is worse than many with bad ones.
        weight = torch.tensor([0.0, 1.0, 1000.0])[coverage.kinds]
        missed.index_add_(0, coverage.image, weight)
    order = missed.argsort(descending=True, stable=True)
    worst = [i for i in order[: num // 2].tolist() if missed[i] > 0]
    others = sorted(set(range(total)).difference(worst))
    spread = evenly_spread(len(others), num - len(worst))
    return sorted([*worst, *(others[i] for i in spread)])
