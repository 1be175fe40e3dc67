"""How well anchors cover the objects of a data set."""

from collections.abc import Sequence

import torch
from torch import Tensor

from focal_retinanet.anchors.assignment import Assignment, Kind

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


class Coverage:
    """The M objects of a data set and their anchors, added image by image.

    Args:
        num_levels: Number of levels of the anchors; 0 if there are no anchors.

    Attributes:
        images: Names of the images.
        level_positive, level_low_quality, level_ignored: Anchors per level,
            (num_levels,) int64; the positives include the low-quality matches.
        image: (M,) int64, index into ``images``.
        bboxes: (M, 4) xyxy in pixels of the input.
        labels: (M,) int64.
        at_border: (M,) bool, whether an object reaches the border of its image.
        input_shapes: (M, 2) int64, height and width of the padded input.
        kinds: (M,) int64, a :class:`Kind` each. This and the following tensors are
            empty if there are no anchors.
        best_iou: (M,) highest IoU with any anchor.
        best_level: (M,) int64, level of that anchor.
        num_positives: (M,) int64, number of positive anchors.
        num_low_quality: (M,) int64, number of low-quality matches among them.
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
        """Add the N objects of an image.

        Args:
            image: Name of the image.
            gt_bboxes: (N, 4) xyxy in pixels of the input.
            gt_labels: (N,) int64.
            img_shape: (height, width) of the image.
            input_shape: (height, width) of the padded input.
            assignment: Assignment of the image's anchors, if there are anchors.
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
            for name in _COLUMNS.keys() - row.keys():
                row[name] = getattr(assignment, name)
            for total, chosen in (
                (self.level_positive, assignment.positive),
                (self.level_low_quality, assignment.low_quality),
                (self.level_ignored, assignment.ignored),
            ):
                levels = assignment.level[chosen]
                total += torch.bincount(levels, minlength=len(total))
        for name, column in row.items():
            self._columns[name].append(column)
        self.images.append(image)

    def __getattr__(self, name: str) -> Tensor:
        if name not in _COLUMNS:
            raise AttributeError(f'Coverage has no attribute {name!r}')
        column = self._columns[name]
        if len(column) > 1:  # join it once
            column[:] = [torch.cat(column)]
        return column[0]

    def __len__(self) -> int:
        """Return the number of objects, M."""
        return len(self.bboxes)

    @property
    def sizes(self) -> Tensor:
        """(M,) sqrt(width * height), in pixels."""
        return box_sizes(self.bboxes)

    @property
    def ratios(self) -> Tensor:
        """(M,) height / width, the ratio of anchors."""
        return box_ratios(self.bboxes)


def box_sizes(boxes: Tensor) -> Tensor:
    """Return sqrt(width * height) of (N, 4) xyxy boxes, (N,)."""
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1).sqrt()


def box_ratios(boxes: Tensor) -> Tensor:
    """Return height / width of (N, 4) xyxy boxes, (N,), clamped to [1e-3, 1e3]."""
    width, height = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1e-6).unbind(1)
    return (height / width).clamp(1e-3, 1e3)


def best_iou_on_grid(
    boxes: Tensor,
    input_shapes: Tensor,
    base_anchors: Sequence[Tensor],
    strides: Sequence[tuple[int, int]],
) -> Tensor:
    """Return each object's highest IoU with any anchor, without making the anchors.

    Args:
        boxes: (M, 4) xyxy in pixels of the input.
        input_shapes: (M, 2) height and width of the input.
        base_anchors: (A, 4) xyxy per level, around the cell at 0.
        strides: (width, height) per level.

    Returns:
        (M,) IoUs.
    """
    best = boxes.new_zeros(len(boxes))
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    area = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    for anchors, stride in zip(base_anchors, strides, strict=True):
        stride = torch.tensor(stride, dtype=boxes.dtype)
        last_cell = (input_shapes.flip(1) / stride).ceil() - 1  # (M, 2) x, y
        offset = centers[:, None] - (anchors[:, :2] + anchors[:, 2:]) / 2  # (M, A, 2)
        cell = (offset / stride).round().clamp(min=0).minimum(last_cell[:, None])
        low = torch.maximum(boxes[:, None, :2], anchors[:, :2] + cell * stride)
        high = torch.minimum(boxes[:, None, 2:], anchors[:, 2:] + cell * stride)
        intersection = (high - low).clamp(min=0).prod(dim=2)  # (M, A)
        anchor_area = (anchors[:, 2:] - anchors[:, :2]).prod(dim=1)
        union = (area[:, None] + anchor_area - intersection).clamp(min=1e-6)
        best = best.maximum((intersection / union).amax(dim=1))
    return best


def count_by_kind(values: Tensor, kinds: Tensor, edges: Tensor) -> Tensor:
    """Return a histogram for each kind of object.

    Args:
        values: (M,) values of the objects; those outside the edges count in the first
            or the last bin.
        kinds: (M,) int64, a :class:`Kind` each.
        edges: (B + 1,) ascending; a bin includes its lower edge, not its upper.

    Returns:
        (3, B) int64.
    """
    num_bins = len(edges) - 1
    bins = torch.bucketize(values, edges[1:-1].to(values), right=True)
    flat = torch.bincount(kinds * num_bins + bins, minlength=len(Kind) * num_bins)
    return flat.reshape(len(Kind), num_bins)
