"""What a trained RetinaNet says of every anchor, beside what it should say."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DefaultScope
from torch import Tensor, nn
from torch.utils.data import Dataset

from focal_retinanet.cli.errors import UserError
from focal_retinanet.config.dataset_configs import inner_datasets
from focal_retinanet.models.retina_head import RetinaHead


@dataclass(frozen=True)
class AnchorLogits:
    """Of one image, in the size that the network saw.

    Attributes:
        image: (H, W, 3) uint8 RGB, padded as the network saw it.
        gt_bboxes: (G, 4) xyxy, absolute pixels of ``image``.
        gt_labels: (G,).
        levels: class logits of each level, (h, w, A, K).
        labels: of each level, (h, w, A): class, K for background, -1 ignored.
        strides: of each level, (horizontal, vertical) in pixels of ``image``.
        file: where the image is from.
    """

    image: Tensor
    gt_bboxes: Tensor
    gt_labels: Tensor
    levels: list[Tensor]
    labels: list[Tensor]
    strides: list[tuple[int, int]]
    file: str

    def flatten(self) -> tuple[Tensor, Tensor]:
        """Logits (N, K) and labels (N,) of the anchors of all levels."""
        logits = torch.cat([level.flatten(0, 2) for level in self.levels])
        return logits, torch.cat([labels.flatten() for labels in self.labels])


def annotated_dataset(cfg: Config, split: str = 'val') -> Dataset:
    """A data set of a config, whose boxes are resized as the images are.

    mmdet's pipelines for testing load boxes last, for the metric, in pixels of
    the image as it was read.

    Raises:
        UserError: a pipeline of it loads no boxes.
    """
    dataset = copy.deepcopy(cfg[f'{split}_dataloader'].dataset.to_dict())
    for part in inner_datasets(dataset):
        steps = part.get('pipeline', [])
        loads = [step for step in steps if step['type'] == 'LoadAnnotations']
        if not loads:
            raise UserError(
                f'a pipeline of {split}_dataloader in {cfg.filename} loads no boxes: '
                'it has no LoadAnnotations'
            )
        others = [step for step in steps if step['type'] != 'LoadAnnotations']
        part['pipeline'] = [others[0], loads[0], *others[1:]]
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmdet')):
        return DATASETS.build(dataset)


def anchor_logits(
    model: nn.Module, dataset: Dataset, indices: list[int]
) -> Iterator[AnchorLogits]:
    """Run a detector over images of :func:`annotated_dataset`.

    Raises:
        UserError: it has no RetinaHead of ours.
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
        with torch.no_grad():
            maps, _ = head(model.extract_feat(batch['inputs']))
            labels = head.assign(maps, batch['data_samples'])[0]
        (sample,) = batch['data_samples']
        shapes = [(*m.shape[-2:], m.size(1) // head.cls_out_channels) for m in maps]
        yield AnchorLogits(
            image=_as_picture(batch['inputs'][0], model.data_preprocessor),
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


def _as_picture(image: Tensor, preprocessor: nn.Module) -> Tensor:
    """(3, H, W) of the network's input, back to (H, W, 3) uint8 RGB."""
    image = image.float()
    if preprocessor._enable_normalize:
        image = image * preprocessor.std + preprocessor.mean
    if not preprocessor._channel_conversion:  # left in OpenCV's order
        image = image.flip(0)
    return image.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).cpu()
