"""A training step as it runs on a GPU never asks the device for a number.

Each such question makes the host wait for all that was launched before. There is
no GPU here: the branches of a GPU run on a CPU, and every operation of theirs is
looked at.
"""

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch.utils._python_dispatch import TorchDispatchMode

from focal_retinanet.models import RetinaHead
from focal_retinanet.ops.focal_loss import backends as focal_loss_backends
from focal_retinanet.ops.focal_loss import chunked as focal_loss_chunked
from focal_retinanet.ops.focal_loss import fused as fused_focal_loss
from focal_retinanet.ops.focal_loss import native as focal_loss_native
from focal_retinanet.ops.matching import native as matching_native

STRIDES = [8, 16, 32, 64, 128]
#: Operations whose result the host reads.
QUESTIONS = ('_local_scalar_dense', 'nonzero', 'is_nonzero', 'unique_consecutive')


class NoQuestions(TorchDispatchMode):
    """Fails where the host would have to wait."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        assert name not in QUESTIONS, name
        if name in ('index', 'index_put', 'index_put_'):
            masks = [i for i in args[1] if i is not None and i.dtype == torch.bool]
            assert not masks, f'{name} by a mask has to count it'
        return function(*args, **(kwargs or {}))


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    monkeypatch.setattr(RetinaHead, '_picks_positives', lambda self, matched: False)
    monkeypatch.setattr(matching_native, 'is_available', lambda *tensors: False)
    monkeypatch.setattr(focal_loss_native, 'is_available', lambda levels: False)
    chunks = focal_loss_chunked._device_chunks
    monkeypatch.setattr(focal_loss_chunked, '_cpu_chunks', chunks)
    monkeypatch.setattr(focal_loss_backends, 'on_host', lambda scale: scale)
    # The mode that looks at the operations is no reason to step aside, and indices
    # are checked on CPUs alone.
    monkeypatch.setattr(fused_focal_loss, 'is_eager', lambda *tensors: True)
    monkeypatch.setattr(fused_focal_loss, 'check_indices', lambda *arguments: None)


def make_head(loss_bbox):
    return RetinaHead(
        num_classes=5,
        in_channels=8,
        feat_channels=8,
        stacked_convs=1,
        anchor_generator=dict(
            type='focal_retinanet.AnchorGenerator',
            octave_base_scale=4,
            scales_per_octave=3,
            ratios=[0.5, 1.0, 2.0],
            strides=STRIDES,
        ),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
        loss_cls=dict(type='focal_retinanet.FocalLoss', use_sigmoid=True),
        train_cfg=ConfigDict(
            assigner=dict(
                type='focal_retinanet.MaxIoUAssigner',
                pos_iou_thr=0.5,
                neg_iou_thr=0.4,
                min_pos_iou=0,
            ),
            sampler=dict(type='PseudoSampler'),
            allowed_border=-1,
            pos_weight=-1,
        ),
        **loss_bbox,
    )


@pytest.mark.parametrize(
    'loss_bbox',
    [{}, dict(reg_decoded_bbox=True, loss_bbox=dict(type='GIoULoss'))],
    ids=['smooth L1', 'GIoU'],
)
@pytest.mark.parametrize('monitors', [False, True], ids=['', 'with shares'])
def test_no_question_to_the_device(as_on_a_gpu, loss_bbox, monitors):
    head = make_head(loss_bbox)
    head.monitors_loss = monitors
    torch.manual_seed(0)
    features = [torch.randn(3, 8, -(-128 // s), -(-192 // s)) for s in STRIDES]
    batch = []
    for count in (7, 0, 40):
        corner = torch.rand(count, 2) * 60
        bboxes = torch.cat([corner, corner + 8 + torch.rand(count, 2) * 50], dim=1)
        instances = InstanceData(bboxes=bboxes)
        instances.labels = torch.randint(0, 5, (count,))
        batch.append(instances)
    metas = [
        dict(img_shape=shape, pad_shape=shape)
        for shape in [(128, 192), (100, 150), (128, 90)]
    ]
    maps = head(features)
    with NoQuestions():
        losses = head.loss_by_feat(*maps, batch, metas)
        loss = losses['loss_cls'][0] + losses['loss_bbox'][0]
        (loss * torch.tensor(2.0)).backward()
    assert loss.isfinite() and losses['loss_bbox'][0] > 0
    assert ('pos_share' in losses) == monitors
