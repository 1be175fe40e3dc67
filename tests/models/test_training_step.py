"""A training step on a GPU never reads a number back from the device.

Each read makes the host wait for all work that was launched before. The tests need no
GPU: they run the branches for a GPU on a CPU and check every operation.
"""

import pytest
import torch
from mmengine.structures import InstanceData

from focal_retinanet.models import RetinaHead
from focal_retinanet.ops.focal_loss import backends as focal_loss_backends
from focal_retinanet.ops.focal_loss import chunked as focal_loss_chunked
from focal_retinanet.ops.focal_loss import fused as fused_focal_loss
from focal_retinanet.ops.focal_loss import native as focal_loss_native
from focal_retinanet.ops.matching import native as matching_native


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    monkeypatch.setattr(RetinaHead, '_picks_positives', lambda self, matched: False)
    monkeypatch.setattr(matching_native, 'is_available', lambda *tensors: False)
    monkeypatch.setattr(focal_loss_native, 'is_available', lambda levels: False)
    chunks = focal_loss_chunked._device_chunks
    monkeypatch.setattr(focal_loss_chunked, '_cpu_chunks', chunks)
    monkeypatch.setattr(focal_loss_backends, 'on_host', lambda scale: scale)
    # The dispatch mode would count as a recorder, and indices are checked on CPUs only.
    monkeypatch.setattr(fused_focal_loss, 'is_eager', lambda *tensors: True)
    monkeypatch.setattr(fused_focal_loss, 'check_indices', lambda *arguments: None)


@pytest.mark.parametrize(
    'changes',
    [{}, dict(reg_decoded_bbox=True, loss_bbox=dict(type='GIoULoss', _delete_=True))],
    ids=['smooth L1', 'GIoU'],
)
@pytest.mark.parametrize('monitors', [False, True], ids=['', 'with shares'])
def test_host_never_reads_from_the_device(
    as_on_a_gpu, changes, monitors, heads, no_reads
):
    head = heads.make(**changes)
    head.monitors_loss = monitors
    torch.manual_seed(0)
    batch = []
    for count in (7, 0, 40):
        corner = torch.rand(count, 2) * 60
        bboxes = torch.cat([corner, corner + 8 + torch.rand(count, 2) * 50], dim=1)
        labels = torch.randint(0, 5, (count,))
        batch.append(InstanceData(bboxes=bboxes, labels=labels))
    metas = heads.metas((128, 192), (100, 150), (128, 90))
    maps = head(heads.features(3))
    with no_reads:
        losses = head.loss_by_feat(*maps, batch, metas)
        loss = losses['loss_cls'][0] + losses['loss_bbox'][0]
        (loss * torch.tensor(2.0)).backward()
    assert loss.isfinite() and losses['loss_bbox'][0] > 0
    assert ('pos_share' in losses) == monitors
