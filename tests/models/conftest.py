"""Small heads with mmdet's twin of the same weights, and batches for them."""

import copy
import functools
from pathlib import Path

import pytest
import torch
from mmdet.models.dense_heads import RetinaHead as MMDetRetinaHead
from mmengine.config import Config, ConfigDict
from mmengine.structures import InstanceData

from focal_retinanet.models import RetinaHead

MODEL = Path(__file__).parents[2] / 'configs/_base_/models/retinanet_r50_fpn.py'


@functools.cache
def _model():
    return Config.fromfile(MODEL).model


def _mmdets(value):
    """Return a config with mmdet's components in place of ours."""
    if isinstance(value, dict):
        return {key: _mmdets(item) for key, item in value.items()}
    return value.removeprefix('focal_retinanet.') if isinstance(value, str) else value


class Heads:
    """Heads of 8 channels and 5 classes, for images of 128x192."""

    STRIDES = (8, 16, 32, 64, 128)

    @staticmethod
    def config(**changes):
        """Return the arguments of the paper's head, small, with changes merged in."""
        model = copy.deepcopy(_model())
        cfg = Config(
            dict(model.bbox_head, train_cfg=model.train_cfg, test_cfg=model.test_cfg)
        )
        cfg.pop('type')
        cfg.merge_from_dict(
            dict(
                num_classes=5,
                in_channels=8,
                feat_channels=8,
                stacked_convs=2,
                # With 0, mmdet gives every anchor to an object that none overlaps.
                train_cfg=dict(assigner=dict(min_pos_iou=1e-6)),
            )
        )
        cfg.merge_from_dict(copy.deepcopy(changes))  # it pops ``_delete_``
        return dict(cfg.items())

    @classmethod
    def make(cls, head_type=RetinaHead, **changes):
        return head_type(**cls.config(**changes))

    @classmethod
    def pair(cls, **changes):
        """Return our head and mmdet's, with the same weights."""
        torch.manual_seed(0)
        cfg = cls.config(**changes)
        ours = RetinaHead(**cfg)
        del cfg['pi']
        theirs = MMDetRetinaHead(**ConfigDict(_mmdets(cfg)))
        cls.randomize(theirs)
        ours.load_state_dict(theirs.state_dict())  # the same keys
        return ours, theirs

    @staticmethod
    def randomize(head):
        """Draw larger weights than sigma = 0.01, so that differences show."""
        for parameter in head.parameters():
            torch.nn.init.normal_(parameter, std=0.2)

    @classmethod
    def features(cls, batch_size=2, height=128, width=192):
        torch.manual_seed(1)
        return [
            torch.randn(batch_size, 8, -(-height // stride), -(-width // stride))
            for stride in cls.STRIDES
        ]

    @staticmethod
    def objects(*counts):
        """Return instances of one image per count."""
        generator = torch.Generator().manual_seed(2)
        batch = []
        for count in counts:
            corner = torch.rand(count, 2, generator=generator) * 90
            size = 10 + torch.rand(count, 2, generator=generator) * 60
            labels = torch.randint(0, 5, (count,), generator=generator)
            bboxes = torch.cat([corner, corner + size], 1)
            batch.append(InstanceData(bboxes=bboxes, labels=labels))
        return batch

    @staticmethod
    def metas(*shapes):
        """Return metas of images of these (height, width), by default two."""
        shapes = shapes or ((128, 192), (128, 192))
        return [
            dict(img_shape=s, pad_shape=s, ori_shape=s, scale_factor=(1.0, 1.0))
            for s in shapes
        ]

    @classmethod
    def losses_and_gradients(cls, head, gt, img_metas=None, ignore=None):
        img_metas = img_metas or cls.metas()
        head.zero_grad()
        losses = head.loss_by_feat(*head(cls.features(len(gt))), gt, img_metas, ignore)
        losses = {name: sum(values) for name, values in losses.items()}
        sum(losses.values()).backward()
        return losses, {name: p.grad for name, p in head.named_parameters()}


@pytest.fixture
def heads():
    return Heads
