"""Counts of the anchors that each object of a data set gets."""

import torch
from torch import Tensor

from focal_retinanet.anchors.assignment import Assignment, Kind


class Coverage:
    """The objects of a data set and what they get, added image by image.

    Args:
        num_levels: number of levels of the anchors; 0 without anchors.

    Attributes:
        images: names of the images.
        level_positive, level_low_quality, level_ignored: anchors of each level,
            (num_levels,) int64; the positives include the low-quality matches.
    """

    def __init__(self, num_levels: int) -> None:
        self.images: list[str] = []
        self.level_positive = torch.zeros(num_levels, dtype=torch.int64)
        self.level_low_quality = torch.zeros(num_levels, dtype=torch.int64)
        self.level_ignored = torch.zeros(num_levels, dtype=torch.int64)
        self._columns: dict[str, list[Tensor]] = {
            name: [torch.zeros(shape, dtype=dtype)]
            for name, (shape, dtype) in _COLUMNS.items()
        }

    def add(
        self,
        image: str,
        gt_bboxes: Tensor,
        gt_labels: Tensor,
        img_shape: tuple[int, int],
        input_shape: tuple[int, int],
        assignment: Assignment | None = None,
    ) -> None:
        """Add an image's M objects.

        Args:
            image: name of the image.
            gt_bboxes: (M, 4) xyxy in pixels of the input.
            gt_labels: (M,) int64.
            img_shape: (height, width) of the image.
            input_shape: (height, width) with padding.
            assignment: assignment of this image, if there are anchors.
        """
        count = len(gt_bboxes)
        height, width = img_shape
        last = gt_bboxes.new_tensor([width, height])
        at_border = (gt_bboxes[:, :2] <= 0) | (gt_bboxes[:, 2:] >= last)
        row = dict(
            image=torch.full((count,), len(self.images)),
            bboxes=gt_bboxes,
            labels=gt_labels,
            at_border=at_border.any(dim=1),
            input_shapes=torch.tensor([input_shape]).expand(count, 2),
        )
        if assignment is not None:
            row |= dict(
                kinds=assignment.kinds,
                best_iou=assignment.best_iou,
                best_level=assignment.best_level,
                num_positives=assignment.num_positives,
                num_low_quality=assignment.num_low_quality,
            )
            for total, of_anchors in (
                (self.level_positive, assignment.positive),
                (self.level_low_quality, assignment.low_quality),
                (self.level_ignored, assignment.ignored),
            ):
                levels = assignment.level[of_anchors]
                total += torch.bincount(levels, minlength=len(total))
        for name, column in row.items():
            self._columns[name].append(column)
        self.images.append(image)

    def _column(self, name: str) -> Tensor:
        # Joined when first asked for, and once.
        if len(self._columns[name]) > 1:
            self._columns[name] = [torch.cat(self._columns[name])]
        return self._columns[name][0]

    def __len__(self) -> int:
        """The number of objects, M."""
        return len(self.bboxes)

    @property
    def image(self) -> Tensor:
        """(M,) int64, index into ``images``."""
        return self._column('image')

    @property
    def bboxes(self) -> Tensor:
        """(M, 4) xyxy in pixels of the input."""
        return self._column('bboxes')

    @property
    def labels(self) -> Tensor:
        """(M,) int64."""
        return self._column('labels')

    @property
    def at_border(self) -> Tensor:
        """(M,) bool, whether each object reaches the border of the image."""
        return self._column('at_border')

    @property
    def input_shapes(self) -> Tensor:
        """(M, 2) int64, height and width of the padded input."""
        return self._column('input_shapes')

    @property
    def kinds(self) -> Tensor:
        """(M,) int64, a :class:`Kind` each; empty without anchors."""
        return self._column('kinds')

    @property
    def best_iou(self) -> Tensor:
        """(M,) highest IoU with any anchor; empty without anchors."""
        return self._column('best_iou')

    @property
    def best_level(self) -> Tensor:
        """(M,) int64, level of the anchor of highest IoU; empty without anchors."""
        return self._column('best_level')

    @property
    def num_positives(self) -> Tensor:
        """(M,) int64, positive anchors; empty without anchors."""
        return self._column('num_positives')

    @property
    def num_low_quality(self) -> Tensor:
        """(M,) int64, low-quality ones of the positives; empty without anchors."""
        return self._column('num_low_quality')

    @property
    def sizes(self) -> Tensor:
        """(M,) sqrt(width * height), in pixels."""
        return box_sizes(self.bboxes)

    @property
    def ratios(self) -> Tensor:
        """(M,) height / width, as anchors have it."""
        return box_ratios(self.bboxes)


_COLUMNS = dict(
    image=((0,), torch.int64),
    bboxes=((0, 4), torch.float32),
    labels=((0,), torch.int64),
    at_border=((0,), torch.bool),
    input_shapes=((0, 2), torch.int64),
    kinds=((0,), torch.int64),
    best_iou=((0,), torch.float32),
    best_level=((0,), torch.int64),
    num_positives=((0,), torch.int64),
    num_low_quality=((0,), torch.int64),
)


def box_sizes(boxes: Tensor) -> Tensor:
    """sqrt(width * height) of (N, 4) xyxy boxes, (N,)."""
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1).sqrt()


def box_ratios(boxes: Tensor) -> Tensor:
    """height / width of (N, 4) xyxy boxes, (N,), between 1e-3 and 1e3."""
    width, height = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1e-6).unbind(1)
    return (height / width).clamp(1e-3, 1e3)


def count_by_kind(values: Tensor, kinds: Tensor, edges: Tensor) -> Tensor:
    """Histogram of each kind of object.

    Args:
        values: (M,) values of the objects; values outside the edges count in the
            first or the last bin.
        kinds: (M,) int64, a :class:`Kind` each.
        edges: (B + 1,) ascending; a bin includes its lower edge, not its upper one.

    Returns:
        (3, B) int64.
    """
    num_bins = len(edges) - 1
    bins = torch.bucketize(values, edges[1:-1].to(values), right=True)
    flat = torch.bincount(kinds * num_bins + bins, minlength=len(Kind) * num_bins)
    return flat.reshape(len(Kind), num_bins)
