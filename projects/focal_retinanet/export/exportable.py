"""A detector as one function of tensors, from pixels to boxes, for exporters."""

import math

import torch
import torch.nn.functional as F
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.models.dense_heads import RetinaHead as MMDetRetinaHead
from mmdet.models.detectors import RetinaNet, SingleStageDetector
from mmdet.models.task_modules import DeltaXYWHBBoxCoder
from mmdet.structures.bbox import get_box_tensor
from torch import Tensor, nn

from focal_retinanet.cli.errors import UserError
from focal_retinanet.export.metadata import followed_settings
from focal_retinanet.models.nms import nms_type
from focal_retinanet.models.retina_head import RetinaHead
from focal_retinanet.ops.box_deltas import decode_deltas
from focal_retinanet.ops.nms.operator import batched_nms
from focal_retinanet.ops.padding import pad_to_multiple
from focal_retinanet.ops.postprocess import logit

#: Keys of ``test_cfg`` and of its ``nms`` that the exported file follows.
_TEST_CFG = {'nms_pre', 'min_bbox_size', 'score_thr', 'nms', 'max_per_img'}
_NMS = {'type', 'iou_threshold', 'class_agnostic', 'split_thr'}


class Exportable(nn.Module):
    """A RetinaNet from pixels to boxes (section 4.1, "Inference").

    Normalisation, padding to whole strides, the network, decoding, the score threshold,
    the best candidates of each level and the suppression are inside, so whoever runs
    the exported file does none of it.

    Args:
        model: Trained detector in evaluation mode.
        raw: Whether to leave decoding, threshold and suppression out.

    Raises:
        UserError: The model has a part that cannot be exported; the error names it.
    """

    def __init__(self, model: nn.Module, raw: bool = False) -> None:
        super().__init__()
        _check(model, raw)
        self.raw = raw
        self.backbone, self.neck = model.backbone, model.neck
        self.head: RetinaHead = model.bbox_head
        pre = model.data_preprocessor
        self.flips_channels = pre._channel_conversion
        self.divisor, self.pad_value = pre.pad_size_divisor, float(pre.pad_value)
        ones = torch.ones(1, 3, 1, 1)
        mean, std = (pre.mean, pre.std) if pre._enable_normalize else (0 * ones, ones)
        # One number is that of all channels.
        self.register_buffer('mean', mean.reshape(1, -1, 1, 1).float() * ones)
        self.register_buffer('std', std.reshape(1, -1, 1, 1).float() * ones)
        if not raw:
            self.settings = followed_settings(model.test_cfg)
            self.nms_pre = self.settings['nms_pre']
            self.score_thr = self.settings['score_thr']
            self.min_bbox_size = self.settings['min_bbox_size']
            self.iou_threshold = float(self.settings['nms']['iou_threshold'])
            self.class_agnostic = self.settings['nms']['class_agnostic']
            self.max_per_img = self.settings['max_per_img']

    def pad_pixel(self) -> list[int]:
        """Return the pixel (3,), BGR, that is nearest to the padding."""
        pixel = (self.pad_value * self.std + self.mean).flatten()
        if self.flips_channels:
            pixel = pixel.flip(0)
        return pixel.round().clamp(0, 255).int().tolist()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Detect objects.

        Args:
            images: Images (B, 3, H, W), uint8, BGR, already resized.

        Returns:
            Boxes (B, D, 4), xyxy in pixels of the input, scores (B, D) and labels
            (B, D), int64, the best scores first. D is ``max_per_img``; what is left
            has score 0 and label -1. With ``raw``, logits (B, N, C) and deltas
            (B, N, 4) of all anchors, and the anchors (N, 4), xyxy.
        """
        height, width = images.shape[-2:]
        logits, deltas, anchors = self._levels(self._normalise(images))
        if self.raw:
            return (
                torch.cat(logits, dim=1),
                torch.cat(deltas, dim=1),
                torch.cat(anchors),
            )
        found = [
            self._candidates(*level)
            for level in zip(logits, deltas, anchors, strict=True)
        ]
        scores, labels, deltas, anchors = (
            torch.cat(parts, dim=1) for parts in zip(*found, strict=True)
        )
        boxes = self._decode(anchors, deltas, height, width)
        if self.min_bbox_size >= 0:
            sides = boxes[..., 2:] - boxes[..., :2]
            is_box = (sides > self.min_bbox_size).all(dim=-1)
            scores = torch.where(is_box, scores, 0.0)
        return self._suppress(boxes, scores, labels)

    def _normalise(self, images: Tensor) -> Tensor:
        x = images.float()
        if self.flips_channels:
            x = x.flip(1)
        x = (x - self.mean) / self.std
        return pad_to_multiple(x, self.divisor, self.pad_value)

    def _levels(self, x: Tensor) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Return logits (B, N_l, C), deltas (B, N_l, 4), anchors (N_l, 4) by level."""
        maps = self.backbone(x)
        cls_scores, bbox_preds = self.head(self.neck(maps))
        sizes = [scores.shape[-2:] for scores in cls_scores]
        anchors = self.head.prior_generator.grid_priors(sizes, device=x.device)
        anchors = [get_box_tensor(level) for level in anchors]  # of use_box_type
        rows = [
            [level.permute(0, 2, 3, 1).reshape(level.size(0), -1, c) for level in maps]
            for maps, c in ((cls_scores, self.head.cls_out_channels), (bbox_preds, 4))
        ]
        return *rows, anchors

    def _candidates(
        self, logits: Tensor, deltas: Tensor, anchors: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return scores, labels, deltas and anchors of the best pairs of a level.

        Pairs below the threshold have score 0. The best pairs belong to the anchors
        with the best best class, see :func:`select_candidates`.
        """
        k = self.head.num_classes
        values = logits if self.head.use_sigmoid_cls else logits.softmax(-1)[..., :k]
        threshold = (
            logit(self.score_thr) if self.head.use_sigmoid_cls else self.score_thr
        )
        limit = self.nms_pre if self.nms_pre > 0 else values.size(1) * k
        best = values.amax(dim=2)
        index = best.topk(torch.sym_min(limit, best.size(1))).indices  # (B, n)
        rows = _gather(values, index).flatten(1)  # (B, n * K)
        top = rows.topk(torch.sym_min(limit, rows.size(1)))
        index = index.gather(1, top.indices // k)  # (B, m)
        scores = top.values.sigmoid() if self.head.use_sigmoid_cls else top.values
        if threshold > -math.inf:
            scores = torch.where(top.values > threshold, scores, 0.0)
        return scores, top.indices % k, _gather(deltas, index), anchors[index]

    def _decode(
        self, anchors: Tensor, deltas: Tensor, height: int, width: int
    ) -> Tensor:
        """Return the boxes (B, n, 4) of deltas, as mmdet's coder gives them."""
        coder = self.head.bbox_coder
        boxes = decode_deltas(anchors, deltas, coder.means, coder.stds)
        if coder.clip_border:
            x, y = boxes[..., 0::2].clamp(0, width), boxes[..., 1::2].clamp(0, height)
            boxes = torch.stack([x, y], dim=-1).flatten(-2)
        return boxes

    def _suppress(
        self, boxes: Tensor, scores: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the ``max_per_img`` best detections that stay."""
        groups = torch.zeros_like(labels) if self.class_agnostic else labels
        keep = batched_nms(
            boxes, scores, groups, self.iou_threshold, self.head.num_classes
        )
        # A filler for each place, so that there are enough.
        scores = F.pad(torch.where(keep, scores, 0.0), (0, self.max_per_img))
        labels = F.pad(labels, (0, self.max_per_img), value=-1)
        boxes = F.pad(boxes, (0, 0, 0, self.max_per_img))
        scores, best = scores.topk(self.max_per_img)
        is_found = scores > 0
        labels = torch.where(is_found, labels.gather(1, best), -1)
        boxes = torch.where(is_found[..., None], _gather(boxes, best), 0.0)
        return boxes, scores, labels


def _gather(rows: Tensor, index: Tensor) -> Tensor:
    """Return the rows (B, n, C) of (B, N, C) at indices (B, n)."""
    return rows.gather(1, index[..., None].expand(-1, -1, rows.size(2)))


def _check(model: nn.Module, raw: bool) -> None:
    """Refuse, by its name, what the exported file would do in another way."""
    head = model.bbox_head if isinstance(model, SingleStageDetector) else None
    if type(model) not in (SingleStageDetector, RetinaNet):
        _refuse(f'the detector {type(model).__name__}', 'a RetinaNet')
    if type(head) not in (RetinaHead, MMDetRetinaHead):
        _refuse(f'the head {type(head).__name__}', 'a RetinaHead')
    if getattr(head.loss_cls, 'custom_cls_channels', False):
        _refuse(f'the loss {type(head.loss_cls).__name__}', 'a loss of K logits')
    if type(model.data_preprocessor) is not DetDataPreprocessor:
        name = type(model.data_preprocessor).__name__
        _refuse(f'the data preprocessor {name}', 'a DetDataPreprocessor')
    convolutions = (m for m in model.backbone.modules() if isinstance(m, nn.Conv2d))
    first = next(convolutions, None)
    if first is not None and first.in_channels != 3:
        _refuse(f'backbone.in_channels={first.in_channels}', '3')
    if raw:
        return
    coder, cfg = head.bbox_coder, model.test_cfg
    if type(coder) is not DeltaXYWHBBoxCoder:
        _refuse(f'the box coder {type(coder).__name__}', 'a DeltaXYWHBBoxCoder')
    if coder.add_ctr_clamp:
        _refuse('bbox_coder.add_ctr_clamp=True', 'False')
    if unknown := {key for key in cfg if key not in _TEST_CFG}:
        _refuse(f'test_cfg.{min(unknown)}', f'{", ".join(sorted(_TEST_CFG))}')
    nms = cfg.get('nms') or {}
    if nms_type(nms) != 'nms' or 'iou_threshold' not in nms:
        _refuse(f'test_cfg.nms={dict(nms)}', "dict(type='nms', iou_threshold=...)")
    if unknown := set(nms) - _NMS:
        _refuse(f'test_cfg.nms.{min(unknown)}', f'{", ".join(sorted(_NMS))}')
    if cfg.get('max_per_img', -1) <= 0:
        _refuse('test_cfg.max_per_img=-1', 'a positive number')
    if cfg.get('min_bbox_size', -1) > 0:
        _refuse(f'test_cfg.min_bbox_size={cfg.min_bbox_size}', '0 or -1')


def _refuse(part: str, instead: str) -> None:
    raise UserError(f'{part} cannot be exported; what can be is {instead}')
