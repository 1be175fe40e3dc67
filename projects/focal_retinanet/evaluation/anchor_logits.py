"""Class logits of every anchor of a trained RetinaNet, beside their labels."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from mmengine.dataset import pseudo_collate
from torch import Tensor, nn
from torch.utils.data import Dataset

from focal_retinanet.cli.errors import UserError
from focal_retinanet.data.training_images import check_has_boxes, picture_of_input
from focal_retinanet.models import FocalLoss
from focal_retinanet.models.retina_head import RetinaHead


@dataclass(frozen=True)
class AnchorLogits:
    """Class logits and labels of the anchors of one image.

    Attributes:
        image: (H, W, 3) uint8 RGB, in the size that the network saw, with padding.
        gt_bboxes: (G, 4) xyxy, absolute pixels of ``image``.
        gt_labels: (G,) int64.
        levels: Class logits of each level, (h, w, A, K).
        labels: Labels of each level, (h, w, A): class, K for background, -1 ignored.
        strides: Stride of each level, (horizontal, vertical) in pixels of ``image``.
        file: Path of the image.
    """

    image: Tensor
    gt_bboxes: Tensor
    gt_labels: Tensor
    levels: list[Tensor]
    labels: list[Tensor]
    strides: list[tuple[int, int]]
    file: str

    def flatten(self) -> tuple[Tensor, Tensor]:
        """Return the logits (N, K) and labels (N,) of the anchors of all levels."""
        logits = torch.cat([level.flatten(0, 2) for level in self.levels])
        return logits, torch.cat([labels.flatten() for labels in self.labels])


def anchor_logits(
    model: nn.Module, dataset: Dataset, indices: list[int]
) -> Iterator[AnchorLogits]:
    """Run a detector over annotated images.

    Args:
        model: Detector with a sigmoid ``focal_retinanet.RetinaHead``; it is set to
            evaluation mode.
        dataset: Data set of
            :func:`focal_retinanet.data.training_images.annotated_dataset`.
        indices: Indices of the images.

    Raises:
        UserError: The model has another head, or an image has no boxes loaded.
    """
    head = model.bbox_head if hasattr(model, 'bbox_head') else None
    if not isinstance(head, RetinaHead) or not head.use_sigmoid_cls:
        raise UserError(
            'the loss of every anchor can be shown for focal_retinanet.RetinaHead in '
            f'its sigmoid form, not for {type(head).__name__}'
        )
    model.eval()
    for index in indices:
        batch = model.data_preprocessor(pseudo_collate([dataset[index]]), False)
        (sample,) = batch['data_samples']
        check_has_boxes(sample)
        with torch.no_grad():
            maps, _ = head(model.extract_feat(batch['inputs']))
            labels = head.assign(maps, batch['data_samples'])[0]
        shapes = [(*m.shape[-2:], m.size(1) // head.cls_out_channels) for m in maps]
        yield AnchorLogits(
            image=picture_of_input(batch['inputs'][0], model.data_preprocessor),
            gt_bboxes=sample.gt_instances.bboxes.cpu(),
            gt_labels=sample.gt_instances.labels.cpu(),
            levels=[
                m[0].permute(1, 2, 0).reshape(*shape, -1).float().cpu()
                for m, shape in zip(maps, shapes, strict=True)
            ],
            labels=[
                part.reshape(shape).cpu()
                for part, shape in zip(
                    labels.split([h * w * a for h, w, a in shapes]), shapes, strict=True
                )
            ],
            strides=head.prior_generator.strides,
            file=sample.img_path,
        )


def focal_loss_of(model: nn.Module) -> FocalLoss:
    """Return the classification loss of a detector.

    Raises:
        UserError: The loss is not this project's sigmoid focal loss.
    """
    loss = getattr(getattr(model, 'bbox_head', None), 'loss_cls', None)
    if not isinstance(loss, FocalLoss):
        raise UserError(
            'the loss of every anchor can be shown for focal_retinanet.FocalLoss, not '
            f'for {type(loss).__name__}, which this model has'
        )
    return loss
