"""RetinaNet's head: two subnets, their losses, and their detections (section 4)."""

import math

import torch
from mmdet.models.dense_heads import RetinaHead as MMDetRetinaHead
from mmdet.models.task_modules import PseudoSampler
from mmdet.models.utils import unpack_gt_instances
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import get_box_tensor
from mmengine.config import ConfigDict
from mmengine.dist import all_reduce, get_world_size
from mmengine.structures import InstanceData
from torch import Tensor

from focal_retinanet.models.anchor_losses import anchor_losses
from focal_retinanet.models.box_coder import decode_bboxes, encode_bboxes
from focal_retinanet.models.foreign_parts import check_reductions, foreign_parts
from focal_retinanet.models.level_maps import (
    blank_negatives,
    featmap_sizes,
    flatten_levels,
    gather_positives,
)
from focal_retinanet.models.losses import FocalLoss, with_use_sigmoid
from focal_retinanet.models.losses.reduction import EPS
from focal_retinanet.models.nms import batch_nms
from focal_retinanet.models.samplers import DenseSampler
from focal_retinanet.models.targets import (
    class_targets,
    exclude_anchors,
    match_anchors,
)
from focal_retinanet.ops.fast_paths.overrides import overridden
from focal_retinanet.ops.focal_loss.shares import loss_shares
from focal_retinanet.ops.matching import IGNORED
from focal_retinanet.ops.postprocess import logit, select_candidates
from focal_retinanet.registry import MODELS


@MODELS.register_module()
class RetinaHead(MMDetRetinaHead):
    """RetinaNet's head, drop-in for mmdet's ``RetinaHead``.

    The subnets and their state-dict keys are mmdet's. The differences are:

    - One loss covers all levels and images, instead of one loss per level.
    - The losses are divided by the number of anchors assigned to an object (section 3)
      in the whole batch of *all processes*, at least 1. mmdet divides by the positives
      of one process, and counts 1 for each image without any.
    - ``pi`` is an argument, and also works for the softmax form.
    - ``train_cfg.sampler`` may choose anchors by their losses, see
      :mod:`focal_retinanet.models.samplers`.

    If a derived class overrides a step of mmdet's head, or if the sampler is one of
    mmdet's that draws a minibatch, or the losses are GHM, then mmdet's code computes
    the losses with its divisors.

    Args:
        num_classes: Number of classes K, without background.
        in_channels: Number of channels of the feature pyramid.
        pi: Confidence of the foreground at the start of training (section 3.3). 0.5
            gives a bias of zero, which means no prior.
        init_cfg: Initialisation in place of sigma = 0.01 and ``pi``.
        **kwargs: Arguments of mmdet's ``RetinaHead``. The default of ``loss_bbox`` is
            smooth L1 with beta = 1/9, as in the paper's release. mmdet's configs use
            ``loss_bbox=dict(type='L1Loss')``.

    Raises:
        ValueError: ``pi`` is not between 0 and 1.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        *args,
        pi: float = 0.01,
        init_cfg: dict | list | None = None,
        **kwargs,
    ) -> None:
        if not 0 < pi < 1:
            raise ValueError(f'pi is a probability between 0 and 1, got {pi}')
        self.pi = pi
        #: Whether the losses include their shares, see LossShareHook.
        self.monitors_loss = False
        self._use_prior = init_cfg is None
        if init_cfg is None:
            init_cfg = dict(
                type='Normal',
                layer='Conv2d',
                std=0.01,
                override=dict(type='Normal', name='retina_cls', std=0.01, bias_prob=pi),
            )
        if 'loss_cls' in kwargs:
            kwargs['loss_cls'] = with_use_sigmoid(kwargs['loss_cls'])
        super().__init__(num_classes, in_channels, *args, init_cfg=init_cfg, **kwargs)

    def init_weights(self) -> None:
        """Initialise the weights, with a class bias of -log((1 - pi) / pi)."""
        was_init = self.is_init  # mmengine initialises once
        super().init_weights()
        if self._use_prior and not self.use_sigmoid_cls and not was_init:
            # In a softmax over K classes and background, the K classes share pi.
            bias = torch.zeros(self.cls_out_channels)
            bias[-1] = math.log(self.num_classes * (1 - self.pi) / self.pi)
            with torch.no_grad():
                self.retina_cls.bias.copy_(bias.repeat(self.num_base_priors))

    def loss_by_feat(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        batch_gt_instances: list[InstanceData],
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: list[InstanceData] | None = None,
    ) -> dict[str, list[Tensor]]:
        """Return the losses of a batch of B images.

        Args:
            cls_scores: Logits (B, A*K, H, W) of each level.
            bbox_preds: Box deltas (B, A*4, H, W) of each level.
            batch_gt_instances: ``bboxes`` (M, 4), xyxy in pixels of the network's
                input, and ``labels`` (M,) of each image; M may be 0.
            batch_img_metas: ``img_shape`` and ``pad_shape`` of each image.
            batch_gt_instances_ignore: ``bboxes`` of crowds of each image.

        Returns:
            ``loss_cls`` and ``loss_bbox``, each a list of one scalar (mmdet has one per
            level, with the same sum). With ``monitors_loss``, also ``pos_share``,
            ``easy_neg_share`` and ``hard_neg_share``, which are not losses.

        Raises:
            TypeError: The assigner or the sampler does not fit this head.
            ValueError: All anchors of an image are excluded, the reduction of a loss
                is not 'mean', or (on a CPU) a label is not in 0..K-1.
        """
        is_dense = isinstance(self.sampler, DenseSampler)
        foreign = foreign_parts(self, RetinaHead)
        if is_dense and foreign:
            raise TypeError(
                f'{type(self).__name__} cannot work with train_cfg.sampler='
                f'{type(self.sampler).__name__}, which would ignore its '
                f'{", ".join(foreign)}; use a sampler of mmdet, or override '
                'loss_by_feat'
            )
        is_pseudo = not overridden(self.sampler, PseudoSampler, 'sample')
        if foreign or not (is_dense or is_pseudo):
            # mmdet's code calls all of them, and trains on a sampled minibatch, which
            # the paper argues against.
            return super().loss_by_feat(
                cls_scores,
                bbox_preds,
                batch_gt_instances,
                batch_img_metas,
                batch_gt_instances_ignore,
            )
        check_reductions(self)
        anchors = self._anchors(cls_scores)  # (N, 4)
        labels, matched = self._targets(
            anchors,
            featmap_sizes(cls_scores),
            batch_gt_instances,
            batch_img_metas,
            batch_gt_instances_ignore,
        )  # (B, N) each
        num_positives = self._sum_over_processes((matched > 0).sum())
        cls_avg_factor = num_positives
        if is_dense:
            labels = self._sample(cls_scores, bbox_preds, anchors, labels)
            if self.sampler.averages_over_samples:
                cls_avg_factor = self._sum_over_processes((labels != IGNORED).sum())
        loss_cls = self._loss_cls(cls_scores, labels, matched > 0, cls_avg_factor)
        gt_bboxes = torch.cat([get_box_tensor(gt.bboxes) for gt in batch_gt_instances])
        loss_bbox = self._loss_bbox(
            bbox_preds, anchors, matched, gt_bboxes, num_positives
        )
        losses = dict(loss_cls=[loss_cls], loss_bbox=[loss_bbox])
        if self.monitors_loss:
            of_anchors = self.anchor_losses(cls_scores, labels)
            if self.train_cfg['pos_weight'] > 0:
                weighted = of_anchors * self.train_cfg['pos_weight']
                of_anchors = torch.where(matched > 0, weighted, of_anchors)
            losses |= loss_shares(
                [scores.detach() for scores in cls_scores],
                labels,
                self.num_classes,
                of_anchors,
            )
        return losses

    def assign(
        self, cls_scores: list[Tensor], batch_data_samples: list[DetDataSample]
    ) -> Tensor:
        """Return the classes on which training would train the anchors of a batch.

        Args:
            cls_scores: Logits (B, A*K, H, W) of each level.
            batch_data_samples: Data samples with ``gt_instances``, as in training.

        Returns:
            Labels (B, N) of the anchors of all levels, int64: class, K for background,
            -1 for ignored.
        """
        gt, gt_ignore, metas = unpack_gt_instances(batch_data_samples)
        labels, _ = self._targets(
            self._anchors(cls_scores), featmap_sizes(cls_scores), gt, metas, gt_ignore
        )
        return labels

    @torch.no_grad()
    def anchor_losses(self, cls_scores: list[Tensor], labels: Tensor) -> Tensor:
        """Return the classification loss of each anchor, summed over its classes.

        Args:
            cls_scores: Logits (B, A*K, H, W) of each level.
            labels: Labels (B, N), see :meth:`assign`.

        Returns:
            Loss (B, N), fp32, not averaged, 0 for ignored anchors.
        """
        if self._sums_over_levels:
            return self.loss_cls.of_anchors(cls_scores, labels, self.num_classes)
        return anchor_losses(self.loss_cls, cls_scores, labels, self.cls_out_channels)

    def _anchors(self, cls_scores: list[Tensor]) -> Tensor:
        """Return the anchors (N, 4) of all levels, xyxy, absolute pixels."""
        return torch.cat(self._grid_anchors(cls_scores))

    def _grid_anchors(self, cls_scores: list[Tensor]) -> list[Tensor]:
        """Return the anchors (N_l, 4) of each level, xyxy, absolute pixels."""
        grids = self.prior_generator.grid_priors(
            featmap_sizes(cls_scores), device=cls_scores[0].device
        )
        return [get_box_tensor(grid) for grid in grids]

    def _targets(
        self,
        anchors: Tensor,
        sizes: list[tuple[int, int]],
        batch_gt_instances: list[InstanceData],
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: list[InstanceData | None] | None,
    ) -> tuple[Tensor, Tensor]:
        """Return labels (B, N) and matched objects (B, N) of all anchors.

        Raises:
            ValueError: All anchors of an image are excluded, or (on a CPU) a label is
                not in 0..K-1.
        """
        allowed_border = self.train_cfg['allowed_border']
        excluded = exclude_anchors(
            anchors,
            sizes,
            self.prior_generator.strides,
            batch_img_metas,
            allowed_border,
        )
        # Checked only where it may happen, because the host has to wait for a GPU.
        if allowed_border >= 0 and excluded.all(dim=1).any():
            image = int(excluded.all(dim=1).nonzero()[0])
            raise ValueError(
                'no anchor lies inside the image of shape '
                f'{batch_img_metas[image]["img_shape"][:2]}; use smaller anchors, or '
                'train_cfg.allowed_border=-1 to allow all'
            )
        matched = match_anchors(
            self.assigner,
            anchors,
            [height * width * self.num_base_priors for height, width in sizes],
            batch_gt_instances,
            batch_gt_instances_ignore or [None] * len(batch_img_metas),
            excluded,
        )
        # The labels of an image without objects may have any dtype.
        gt_labels = torch.cat([gt.labels.long() for gt in batch_gt_instances])
        return class_targets(matched, gt_labels, self.num_classes), matched

    @torch.no_grad()
    def _sample(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        anchors: Tensor,
        labels: Tensor,
    ) -> Tensor:
        """Return the labels (B, N), set to ignored unless the sampler chooses them."""
        losses = self.anchor_losses(cls_scores, labels)
        bboxes = [None] * len(labels)
        if self.sampler.needs_bboxes:
            deltas = flatten_levels(bbox_preds, self.bbox_coder.encode_size)
            priors = anchors.repeat(len(labels), 1)
            bboxes = decode_bboxes(self.bbox_coder, priors, deltas.float())
            bboxes = get_box_tensor(bboxes).reshape(*labels.shape, 4)
        sampled = [
            self.sampler.sample_anchors(
                losses[b],
                (labels[b] >= 0) & (labels[b] < self.num_classes),
                labels[b] == IGNORED,
                bboxes[b],
            )
            for b in range(len(labels))
        ]
        return torch.where(torch.stack(sampled), labels, IGNORED)

    @staticmethod
    def _sum_over_processes(count: Tensor) -> Tensor:
        """Return the divisor of a loss, a scalar tensor.

        DDP averages the gradients of W processes. If each divides by the sum over all
        processes, over W, they train like one process with the whole batch.
        """
        total = count.to(torch.float32)
        all_reduce(total)
        return total.clamp(min=1) / get_world_size()

    @property
    def _sums_over_levels(self) -> bool:
        return (
            isinstance(self.loss_cls, FocalLoss) and self.loss_cls.can_sum_over_levels
        )

    def _loss_cls(
        self,
        cls_scores: list[Tensor],
        labels: Tensor,
        positive: Tensor,
        avg_factor: Tensor,
    ) -> Tensor:
        pos_weight = self.train_cfg['pos_weight']
        if self._sums_over_levels:
            weights = torch.where(positive, pos_weight, 1.0) if pos_weight > 0 else None
            return self.loss_cls.sum_over_levels(
                cls_scores, labels, weights, avg_factor, self.num_classes
            )
        logits = flatten_levels(cls_scores, self.cls_out_channels)  # (B*N, K)
        is_counted = labels != IGNORED  # (B, N); a sampler may leave out positives
        weights = is_counted.to(torch.float32)
        if pos_weight > 0:
            weights.masked_fill_(positive & is_counted, pos_weight)
        # For any loss of mmdet's, ignored anchors get a valid label and no weight.
        targets = torch.where(is_counted, labels, self.num_classes)
        return self.loss_cls(
            logits, targets.flatten(), weights.flatten(), avg_factor=avg_factor
        )

    def _loss_bbox(
        self,
        bbox_preds: list[Tensor],
        anchors: Tensor,
        matched: Tensor,
        gt_bboxes: Tensor,
        num_positives: Tensor,
    ) -> Tensor:
        if not len(gt_bboxes):
            # Zero, but part of the graph. The sum of all might overflow in fp16.
            return sum(_as_float(deltas[:0]).sum() for deltas in bbox_preds)
        if self._picks_positives(matched):
            deltas, anchors, of_positive = gather_positives(
                bbox_preds, anchors, matched, self.bbox_coder.encode_size
            )
            target = gt_bboxes[of_positive]
            if not len(deltas):
                return _as_float(deltas).sum()
        else:
            deltas, anchors, target = blank_negatives(
                bbox_preds, anchors, matched, gt_bboxes, self.bbox_coder.encode_size
            )
        deltas = _as_float(deltas)
        if self.reg_decoded_bbox:  # an IoU loss
            deltas = get_box_tensor(decode_bboxes(self.bbox_coder, anchors, deltas))
        else:
            target = encode_bboxes(self.bbox_coder, anchors, target)
        if self._picks_positives(matched):
            return self.loss_bbox(deltas, target, avg_factor=num_positives)
        # Not by weights, because mmdet's losses ask the device whether any is above 0.
        losses = self.loss_bbox(deltas, target, reduction_override='none')
        positive = matched.flatten() > 0
        losses = losses.flatten(1).sum(1) if losses.dim() > 1 else losses
        return torch.where(positive, losses, 0).sum() / (num_positives + EPS)

    @staticmethod
    def _picks_positives(matched: Tensor) -> bool:
        """Whether the box loss gets the positives only.

        On a GPU, the host would have to wait for their number, so it gets all anchors.
        """
        return not matched.is_cuda

    def predict_by_feat(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        score_factors: list[Tensor] | None = None,
        batch_img_metas: list[dict] | None = None,
        cfg: ConfigDict | None = None,
        rescale: bool = False,
        with_nms: bool = True,
    ) -> list[InstanceData]:
        """Return the detections of a batch of B images (section 4.1, "Inference").

        Args:
            cls_scores: Logits (B, A*K, H, W) of each level.
            bbox_preds: Box deltas (B, A*4, H, W) of each level.
            score_factors: Factors of the scores; RetinaNet has none.
            batch_img_metas: ``img_shape`` of each image, and ``scale_factor`` if
                ``rescale``.
            cfg: Config in place of ``test_cfg``.
            rescale: Whether boxes are in pixels of the original image.
            with_nms: Whether to suppress boxes. If false, all candidates are returned.

        Returns:
            ``bboxes`` (n, 4), xyxy in pixels, ``scores`` (n,) and ``labels`` (n,) of
            each image, best first unless they are all candidates.
        """
        if (
            score_factors is not None
            or not self.use_sigmoid_cls
            or getattr(self.loss_cls, 'custom_cls_channels', False)
            or overridden(
                self, RetinaHead, '_predict_by_feat_single', '_bbox_post_process'
            )
        ):
            return super().predict_by_feat(
                cls_scores,
                bbox_preds,
                score_factors,
                batch_img_metas,
                cfg,
                rescale,
                with_nms,
            )
        cfg = self.test_cfg if cfg is None else cfg
        grids = self._grid_anchors(cls_scores)
        levels = [
            select_candidates(
                scores.detach(),
                deltas.detach(),
                self.num_classes,
                cfg.get('nms_pre', -1),
            )
            for scores, deltas in zip(cls_scores, bbox_preds, strict=True)
        ]
        logits = torch.cat([level.logits for level in levels], dim=1)  # (B, n)
        deltas = torch.cat([level.deltas for level in levels], dim=1)
        labels = torch.cat([level.labels for level in levels], dim=1)
        priors = torch.cat(
            [grid[level.anchors] for grid, level in zip(grids, levels, strict=True)],
            dim=1,
        )
        is_candidate = logits > logit(cfg.get('score_thr', 0))
        image, candidate = is_candidate.nonzero(as_tuple=True)
        counts = torch.bincount(image, minlength=len(batch_img_metas)).tolist()
        results_list = []
        for b, index in enumerate(candidate.split(counts)):
            meta = batch_img_metas[b]
            results = InstanceData(
                bboxes=decode_bboxes(
                    self.bbox_coder,
                    priors[b, index],
                    deltas[b, index],
                    meta['img_shape'],
                ),
                scores=logits[b, index].sigmoid(),
                labels=labels[b, index],
            )
            # Rescales, and drops boxes smaller than min_bbox_size.
            results_list.append(
                self._bbox_post_process(results, cfg, rescale, False, meta)
            )
        if not with_nms:
            return results_list
        return batch_nms(
            results_list, cfg['nms'], cfg.get('max_per_img', -1), self.num_classes
        )


def _as_float(deltas: Tensor) -> Tensor:
    return deltas if deltas.dtype == torch.float64 else deltas.float()
