"""RetinaNet's head: two subnets, their targets and their losses (section 4)."""

import math

import torch
from mmdet.models.dense_heads import RetinaHead as MMDetRetinaHead
from mmdet.models.task_modules import PseudoSampler
from mmdet.models.task_modules.prior_generators import anchor_inside_flags
from mmdet.models.utils import unpack_gt_instances
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import cat_boxes, get_box_tensor
from mmengine.config import ConfigDict
from mmengine.dist import all_reduce, get_world_size
from mmengine.structures import InstanceData
from torch import Tensor

from focal_retinanet.models.anchor_losses import anchor_losses
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
from focal_retinanet.models.targets import assign_one, padding_anchors
from focal_retinanet.ops.focal_loss.shares import loss_shares
from focal_retinanet.ops.matching import IGNORED
from focal_retinanet.ops.postprocess import logit, select_candidates
from focal_retinanet.registry import MODELS


@MODELS.register_module()
class RetinaHead(MMDetRetinaHead):
    """RetinaNet's head, drop-in for mmdet's ``RetinaHead``.

    The subnets and their state-dict keys are mmdet's. What differs:

    - All levels and images have one loss, over positives and negatives at
      once, instead of one for each level.
    - The losses are divided by the number of anchors assigned to an object
      (section 3), summed over the batch *and over all processes*, at least 1.
      mmdet divides by the positives of this process alone, and counts 1 for
      each image without any.
    - ``pi`` is an argument, and works for the softmax form as well.
    - ``train_cfg.sampler`` may be one that looks at the losses, see
      :mod:`focal_retinanet.models.samplers`.

    Args:
        num_classes: K, without background.
        in_channels: channels of the feature pyramid.
        pi: confidence of the foreground that training starts from (section
            3.3). 0.5 gives a bias of zero, that is no prior.
        init_cfg: replaces the initialisation with sigma = 0.01 and ``pi``.
        **kwargs: as mmdet's. The default of ``loss_bbox`` is smooth L1 with
            beta = 1/9, as in the paper's release;
            ``loss_bbox=dict(type='L1Loss')`` is what mmdet's configs use.

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
        #: Whether the losses come with their shares, see LossShareHook.
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
        """Draw the weights; the last class bias is -log((1 - pi) / pi)."""
        super().init_weights()
        if self._use_prior and not self.use_sigmoid_cls:
            # Softmax over K classes and background: the K classes share pi.
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
        """Losses of a batch of B images.

        Args:
            cls_scores: logits of each level, (B, A*K, H, W).
            bbox_preds: deltas of each level, (B, A*4, H, W).
            batch_gt_instances: for each image ``bboxes`` (M, 4) xyxy in pixels
                of the network's input, and ``labels`` (M,); M may be 0.
            batch_img_metas: ``img_shape`` and ``pad_shape`` of each image.
            batch_gt_instances_ignore: ``bboxes`` of crowds, for each image.

        Returns:
            ``loss_cls`` and ``loss_bbox``, each a list of one scalar (mmdet
            has one for each level; their sum is the same). Where
            ``monitors_loss``, ``pos_share``, ``easy_neg_share`` and
            ``hard_neg_share`` too, which are no losses.
        """
        is_dense = isinstance(self.sampler, DenseSampler)
        overridden = self._overridden(
            'loss_by_feat_single', 'get_targets', '_get_targets_single', 'get_anchors'
        )
        if is_dense and overridden:
            raise TypeError(
                f'{type(self).__name__} has its own {", ".join(overridden)}, which '
                f'train_cfg.sampler={type(self.sampler).__name__} would pass over; '
                'use a sampler of mmdet, or override loss_by_feat'
            )
        if overridden or not isinstance(self.sampler, PseudoSampler | DenseSampler):
            # A head that derives from this one is obeyed. A sampled minibatch, which
            # the paper argues against, is mmdet's.
            return super().loss_by_feat(
                cls_scores,
                bbox_preds,
                batch_gt_instances,
                batch_img_metas,
                batch_gt_instances_ignore,
            )
        anchors = self._anchors(cls_scores)  # (N, 4)
        labels, matched = self._assign_batch(
            anchors,
            featmap_sizes(cls_scores),
            batch_gt_instances,
            batch_img_metas,
            batch_gt_instances_ignore or [None] * len(batch_img_metas),
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
            losses |= loss_shares(
                [scores.detach() for scores in cls_scores],
                labels,
                self.num_classes,
                self.anchor_losses(cls_scores, labels),
            )
        return losses

    def assign(
        self, cls_scores: list[Tensor], batch_data_samples: list[DetDataSample]
    ) -> Tensor:
        """The classes that training would teach the anchors of a batch.

        Args:
            cls_scores: logits of each level, (B, A*K, H, W).
            batch_data_samples: with ``gt_instances``, as in training.

        Returns:
            (B, N) int64, for the anchors of all levels: class, K for background,
            -1 for ignored.
        """
        gt, gt_ignore, metas = unpack_gt_instances(batch_data_samples)
        labels, _ = self._assign_batch(
            self._anchors(cls_scores),
            featmap_sizes(cls_scores),
            gt,
            metas,
            gt_ignore,
        )
        return labels

    @torch.no_grad()
    def anchor_losses(self, cls_scores: list[Tensor], labels: Tensor) -> Tensor:
        """Classification loss of each anchor, over its classes, not averaged.

        Args:
            cls_scores: logits of each level, (B, A*K, H, W).
            labels: (B, N) int64, as of :meth:`assign`.

        Returns:
            (B, N) fp32, 0 for what is ignored.
        """
        if self._sums_over_levels:
            return self.loss_cls.of_anchors(cls_scores, labels, self.num_classes)
        return anchor_losses(self.loss_cls, cls_scores, labels, self.cls_out_channels)

    def _anchors(self, cls_scores: list[Tensor]) -> Tensor:
        """The anchors of all levels, (N, 4) xyxy."""
        grids = self.prior_generator.grid_priors(
            featmap_sizes(cls_scores), device=cls_scores[0].device
        )
        return get_box_tensor(cat_boxes(grids))

    def _assign_batch(
        self,
        anchors: Tensor,
        sizes: list[tuple[int, int]],
        batch_gt_instances: list[InstanceData],
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: list[InstanceData | None],
    ) -> tuple[Tensor, Tensor]:
        """Targets of all anchors.

        Returns:
            - labels (B, N) int64: class, K for background, -1 for ignored.
            - matched (B, N) int64: 0 background, -1 ignored, i + 1 for object
              i, counted through all images' objects one after the other.
        """
        excluded = self._excluded_anchors(anchors, sizes, batch_img_metas)
        if hasattr(self.assigner, 'assign_batch'):
            matched, _ = self.assigner.assign_batch(
                anchors, batch_gt_instances, batch_gt_instances_ignore, excluded
            )
        else:
            matched = self._assign_one_by_one(
                anchors,
                [h * w * self.num_base_priors for h, w in sizes],
                excluded,
                batch_gt_instances,
                batch_gt_instances_ignore,
            )
        gt_labels = torch.cat([gt.labels for gt in batch_gt_instances])
        # Looked up by `matched`, of which -1 is the last entry.
        label_of = torch.cat(
            [
                gt_labels.new_full((1,), self.num_classes),
                gt_labels,
                gt_labels.new_full((1,), IGNORED),
            ]
        )
        return label_of[matched], matched

    def _assign_one_by_one(
        self,
        anchors: Tensor,
        level_sizes: list[int],
        excluded: Tensor | None,
        batch_gt_instances: list[InstanceData],
        batch_gt_instances_ignore: list[InstanceData | None],
    ) -> Tensor:
        """``matched`` of :meth:`_assign_batch`, by an assigner of mmdet's."""
        matched, offset = [], 0
        for b, gt in enumerate(batch_gt_instances):
            inside = None if excluded is None else ~excluded[b]
            priors, sizes = anchors, level_sizes
            if inside is not None:
                priors = anchors[inside]
                sizes = [int(level.sum()) for level in inside.split(level_sizes)]
            result = assign_one(
                self.assigner, priors, sizes, gt, batch_gt_instances_ignore[b]
            )
            gt_inds = torch.where(
                result.gt_inds > 0, result.gt_inds + offset, result.gt_inds
            )
            if inside is not None:
                everywhere = gt_inds.new_full(inside.shape, IGNORED)
                everywhere[inside] = gt_inds
                gt_inds = everywhere
            matched.append(gt_inds)
            offset += len(gt.bboxes)
        return torch.stack(matched)

    def _excluded_anchors(
        self,
        anchors: Tensor,
        sizes: list[tuple[int, int]],
        batch_img_metas: list[dict],
    ) -> Tensor | None:
        """Anchors that each image may not use, (B, N) bool; None if it may use all.

        Left out are those of cells that lie wholly in the padding up to the
        batch's largest image, and with ``allowed_border`` >= 0 those that
        stick out of the image further than that.

        Raises:
            ValueError: no anchor is left.
        """
        excluded = padding_anchors(
            sizes,
            self.prior_generator.strides,
            [meta['pad_shape'][:2] for meta in batch_img_metas],
            anchors,
        )
        allowed_border = self.train_cfg['allowed_border']
        if allowed_border < 0:
            return excluded
        if excluded is None:
            shape = (len(batch_img_metas), len(anchors))
            excluded = torch.zeros(shape, dtype=torch.bool, device=anchors.device)
        for b, meta in enumerate(batch_img_metas):
            img_shape = meta['img_shape'][:2]
            inside = anchor_inside_flags(
                anchors, ~excluded[b], img_shape, allowed_border
            )
            # Looked at only where it may happen: on a GPU the host has to wait.
            if not inside.any():
                raise ValueError(
                    f'no anchor lies inside the image of shape {img_shape}; use '
                    'smaller anchors, or train_cfg.allowed_border=-1 to allow all'
                )
            excluded[b] = ~inside
        return excluded

    def _overridden(self, *names: str) -> list[str]:
        """Those methods that a class derived from this one has of its own."""
        return [
            name
            for name in names
            if getattr(type(self), name) is not getattr(RetinaHead, name)
        ]

    @torch.no_grad()
    def _sample(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        anchors: Tensor,
        labels: Tensor,
    ) -> Tensor:
        """The labels (B, N), ignored where the sampler leaves the anchor out."""
        losses = self.anchor_losses(cls_scores, labels)
        bboxes = [None] * len(labels)
        if self.sampler.needs_bboxes:
            deltas = flatten_levels(bbox_preds, self.bbox_coder.encode_size)
            priors = anchors.repeat(len(labels), 1)
            bboxes = get_box_tensor(self.bbox_coder.decode(priors, deltas.float()))
            bboxes = bboxes.reshape(*labels.shape, 4)
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
        """What a loss is divided by, a scalar tensor.

        DDP averages the gradients of W processes, so what each divides by is
        the sum over all of them, over W: together they then train as one
        process with the whole batch does.
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
        weights = (labels != IGNORED).to(torch.float32)  # (B, N)
        if pos_weight > 0:
            weights.masked_fill_(positive, pos_weight)
        # Any loss of mmdet's will do here, so the ignored have a label that it
        # knows, and no weight.
        targets = torch.where(labels == IGNORED, self.num_classes, labels)
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
            # Zero, but still part of the graph.
            return sum(deltas.sum() for deltas in bbox_preds) * 0.0
        if self._picks_positives(matched):
            deltas, anchors, of_positive = gather_positives(
                bbox_preds, anchors, matched, self.bbox_coder.encode_size
            )
            target = gt_bboxes[of_positive]
            if not len(deltas):
                return deltas.sum()
        else:
            deltas, anchors, target = blank_negatives(
                bbox_preds, anchors, matched, gt_bboxes, self.bbox_coder.encode_size
            )
        deltas = deltas.float()
        if self.reg_decoded_bbox:  # an IoU loss
            deltas = get_box_tensor(self.bbox_coder.decode(anchors, deltas))
        else:
            target = self.bbox_coder.encode(anchors, target)
        if self._picks_positives(matched):
            return self.loss_bbox(deltas, target, avg_factor=num_positives)
        # Not by weights: mmdet's losses ask whether any of them is above 0.
        losses = self.loss_bbox(deltas, target, reduction_override='none')
        positive = matched.flatten() > 0
        losses = losses.flatten(1).sum(1) if losses.dim() > 1 else losses
        return torch.where(positive, losses, 0).sum() / (num_positives + EPS)

    @staticmethod
    def _picks_positives(matched: Tensor) -> bool:
        """Whether the box loss looks at the positives alone.

        On a GPU the host would have to wait for their number, so all anchors go in.
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
        """Detections of a batch of B images (section 4.1, "Inference").

        Args:
            cls_scores: logits of each level, (B, A*K, H, W).
            bbox_preds: deltas of each level, (B, A*4, H, W).
            score_factors: of heads that have them; RetinaNet has none.
            batch_img_metas: ``img_shape`` of each image, and ``scale_factor``
                where ``rescale``.
            cfg: replaces ``test_cfg``.
            rescale: give the boxes in pixels of the image as it was read.
            with_nms: if not, all candidates are returned.

        Returns:
            For each image ``bboxes`` (n, 4) xyxy in pixels, ``scores`` (n,)
            and ``labels`` (n,), best first.
        """
        if (
            score_factors is not None
            or not self.use_sigmoid_cls
            or getattr(self.loss_cls, 'custom_cls_channels', False)
            or self._overridden('_predict_by_feat_single', '_bbox_post_process')
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
        grids = self.prior_generator.grid_priors(
            featmap_sizes(cls_scores), device=cls_scores[0].device
        )
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
            [
                get_box_tensor(grid)[level.anchors]
                for grid, level in zip(grids, levels, strict=True)
            ],
            dim=1,
        )
        is_candidate = logits > logit(cfg.get('score_thr', 0))
        image, candidate = is_candidate.nonzero(as_tuple=True)
        counts = torch.bincount(image, minlength=len(batch_img_metas)).tolist()
        results_list = []
        for b, index in enumerate(candidate.split(counts)):
            meta = batch_img_metas[b]
            results = InstanceData(
                bboxes=self.bbox_coder.decode(
                    priors[b, index], deltas[b, index], max_shape=meta['img_shape']
                ),
                scores=logits[b, index].sigmoid(),
                labels=labels[b, index],
            )
            # Rescales, and drops boxes of less than min_bbox_size.
            results_list.append(
                self._bbox_post_process(results, cfg, rescale, False, meta)
            )
        if not with_nms:
            return results_list
        return batch_nms(
            results_list, cfg['nms'], cfg.get('max_per_img', -1), self.num_classes
        )
