"""RetinaNet's head: two subnets, their targets and their losses (section 4)."""

import math

import torch
from mmdet.models.dense_heads import RetinaHead as MMDetRetinaHead
from mmdet.models.task_modules import PseudoSampler
from mmdet.models.task_modules.prior_generators import anchor_inside_flags
from mmdet.structures.bbox import cat_boxes, get_box_tensor
from mmengine.dist import all_reduce, get_world_size
from mmengine.structures import InstanceData
from torch import Tensor

from focal_retinanet.ops.matching import IGNORED
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
        self._use_prior = init_cfg is None
        if init_cfg is None:
            init_cfg = dict(
                type='Normal',
                layer='Conv2d',
                std=0.01,
                override=dict(type='Normal', name='retina_cls', std=0.01, bias_prob=pi),
            )
        if 'loss_cls' in kwargs:
            kwargs['loss_cls'] = _with_use_sigmoid(kwargs['loss_cls'])
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
            has one for each level; their sum is the same).
        """
        if not isinstance(self.sampler, PseudoSampler):
            # A sampled minibatch, which the paper argues against, is mmdet's.
            return super().loss_by_feat(
                cls_scores,
                bbox_preds,
                batch_gt_instances,
                batch_img_metas,
                batch_gt_instances_ignore,
            )
        featmap_sizes = [tuple(scores.shape[-2:]) for scores in cls_scores]
        anchors = get_box_tensor(
            cat_boxes(
                self.prior_generator.grid_priors(
                    featmap_sizes, device=cls_scores[0].device
                )
            )
        )  # (N, 4)
        labels, gt_bboxes = self._assign_batch(
            anchors,
            featmap_sizes,
            batch_gt_instances,
            batch_img_metas,
            batch_gt_instances_ignore or [None] * len(batch_img_metas),
        )  # (B, N), (P, 4)
        positive = (labels >= 0) & (labels < self.num_classes)  # (B, N)
        num_positives = self._sum_over_processes(positive.sum())

        loss_cls = self._loss_cls(cls_scores, labels, positive, num_positives)
        loss_bbox = self._loss_bbox(
            bbox_preds, anchors, positive, gt_bboxes, num_positives
        )
        return dict(loss_cls=[loss_cls], loss_bbox=[loss_bbox])

    def _assign_batch(
        self,
        anchors: Tensor,
        featmap_sizes: list[tuple[int, int]],
        batch_gt_instances: list[InstanceData],
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: list[InstanceData | None],
    ) -> tuple[Tensor, Tensor]:
        """Targets of all anchors.

        Returns:
            - labels (B, N) int64: class, K for background, -1 for ignored.
            - boxes (P, 4) xyxy of the objects of the P positives, in the order
              in which the positives stand in ``labels``.
        """
        labels, gt_bboxes = [], []
        for gt, gt_ignore, meta in zip(
            batch_gt_instances, batch_gt_instances_ignore, batch_img_metas, strict=True
        ):
            inside = self._inside_flags(anchors, featmap_sizes, meta)
            priors = anchors if inside is None else anchors[inside]
            result = self.assigner.assign(InstanceData(priors=priors), gt, gt_ignore)
            matched = result.gt_inds  # 0 background, -1 ignored, i + 1 object i
            if inside is not None:
                matched = matched.new_full(inside.shape, IGNORED)
                matched[inside] = result.gt_inds
            # Looked up by `matched`, of which -1 is the last entry.
            label_of = torch.cat(
                [
                    gt.labels.new_tensor([self.num_classes]),
                    gt.labels,
                    gt.labels.new_tensor([IGNORED]),
                ]
            )
            labels.append(label_of[matched])
            gt_bboxes.append(get_box_tensor(gt.bboxes)[matched[matched > 0] - 1])
        return torch.stack(labels), torch.cat(gt_bboxes)

    def _inside_flags(
        self, anchors: Tensor, featmap_sizes: list[tuple[int, int]], meta: dict
    ) -> Tensor | None:
        """Which anchors the image may use, (N,) bool; None for all of them.

        Left out are those of cells that lie wholly in the padding up to the
        batch's largest image, and with ``allowed_border`` >= 0 those that
        stick out of the image further than that.

        Raises:
            ValueError: no anchor is left.
        """
        pad_h, pad_w = meta['pad_shape'][:2]
        allowed_border = self.train_cfg['allowed_border']
        covers_all = all(
            pad_h > (h - 1) * stride_h and pad_w > (w - 1) * stride_w
            for (h, w), (stride_w, stride_h) in zip(
                featmap_sizes, self.prior_generator.strides, strict=True
            )
        )
        if covers_all and allowed_border < 0:
            return None
        valid = self.prior_generator.valid_flags(
            featmap_sizes, meta['pad_shape'], anchors.device
        )
        inside = anchor_inside_flags(
            anchors, torch.cat(valid), meta['img_shape'][:2], allowed_border
        )
        if not inside.any():
            raise ValueError(
                f'no anchor lies inside the image of shape {meta["img_shape"][:2]}; '
                'use smaller anchors, or train_cfg.allowed_border=-1 to allow all'
            )
        return inside

    @staticmethod
    def _sum_over_processes(num_positives: Tensor) -> Tensor:
        """The loss's normaliser, a scalar tensor.

        DDP averages the gradients of W processes, so what each divides by is
        the sum over all of them, over W: together they then train as one
        process with the whole batch does.
        """
        total = num_positives.to(torch.float32)
        all_reduce(total)
        return total.clamp(min=1) / get_world_size()

    def _loss_cls(
        self,
        cls_scores: list[Tensor],
        labels: Tensor,
        positive: Tensor,
        num_positives: Tensor,
    ) -> Tensor:
        logits = _flatten_levels(cls_scores, self.cls_out_channels)  # (B*N, K)
        weights = (labels != IGNORED).to(torch.float32)  # (B, N)
        if self.train_cfg['pos_weight'] > 0:
            weights[positive] = self.train_cfg['pos_weight']
        # Any loss of mmdet's will do here, so the ignored have a label that it
        # knows, and no weight.
        targets = torch.where(labels == IGNORED, self.num_classes, labels)
        return self.loss_cls(
            logits, targets.flatten(), weights.flatten(), avg_factor=num_positives
        )

    def _loss_bbox(
        self,
        bbox_preds: list[Tensor],
        anchors: Tensor,
        positive: Tensor,
        gt_bboxes: Tensor,
        num_positives: Tensor,
    ) -> Tensor:
        deltas = _flatten_levels(bbox_preds, self.bbox_coder.encode_size)  # (B*N, 4)
        deltas = deltas[positive.flatten()].float()  # (P, 4)
        if not len(deltas):
            return deltas.sum()  # zero, but still part of the graph
        pos_anchors = anchors.expand(len(positive), -1, -1)[positive]
        if self.reg_decoded_bbox:  # an IoU loss
            pred = get_box_tensor(self.bbox_coder.decode(pos_anchors, deltas))
            target = gt_bboxes
        else:
            pred, target = deltas, self.bbox_coder.encode(pos_anchors, gt_bboxes)
        return self.loss_bbox(pred, target, avg_factor=num_positives)


def _with_use_sigmoid(loss_cls: dict) -> dict:
    """The config of a loss with its ``use_sigmoid`` spelled out.

    mmdet's head takes a loss whose config does not say for a softmax, whatever
    the loss's own default, and would give it one channel too many.
    """
    use_sigmoid = getattr(MODELS.build(loss_cls), 'use_sigmoid', None)
    return loss_cls if use_sigmoid is None else {**loss_cls, 'use_sigmoid': use_sigmoid}


def _flatten_levels(maps: list[Tensor], channels: int) -> Tensor:
    """(B, A*channels, H, W) of each level to (B*N, channels), as anchors are."""
    return torch.cat(
        [m.permute(0, 2, 3, 1).reshape(len(m), -1, channels) for m in maps], dim=1
    ).flatten(0, 1)
