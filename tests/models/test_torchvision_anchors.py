"""Anchors of torchvision's RetinaNet, in numbers of its own."""

import torch
from mmdet.models.task_modules import MaxIoUAssigner as MMDetMaxIoUAssigner
from mmengine.structures import InstanceData

from focal_retinanet.models import MaxIoUAssigner, TorchvisionAnchorGenerator

# An input of 800 x 1088 pixels.
SIZES = [(100, 136), (50, 68), (25, 34), (13, 17), (7, 9)]


def test_whole_pixels_and_strides_of_the_input():
    generator = TorchvisionAnchorGenerator()
    assert generator.num_base_priors == [9] * 5
    # 32 pixels at height / width 0.5: 45.25 x 22.63.
    assert generator.base_anchors[0][0].tolist() == [-23, -11, 23, 11]
    levels = generator.grid_priors(SIZES, device='cpu')
    assert [len(level) for level in levels] == [9 * h * w for h, w in SIZES]
    strides = [(8, 8), (16, 16), (32, 32), (61, 64), (114, 120)]
    for level, (rows, columns), (down, right) in zip(
        levels, SIZES, strides, strict=True
    ):
        cells = level.reshape(rows, columns, 9, 4)
        assert (cells[1, 0, 0] - cells[0, 0, 0]).tolist() == [0, down, 0, down]
        assert (cells[0, 1, 0] - cells[0, 0, 0]).tolist() == [right, 0, right, 0]
    assert generator.strides[-1] == (128, 128)  # those of the config stay


def test_assignment_is_that_of_mmdet():
    torch.manual_seed(0)
    anchors = torch.cat(TorchvisionAnchorGenerator().grid_priors(SIZES, device='cpu'))
    corners = torch.rand(40, 2) * torch.tensor([1000.0, 700.0])
    boxes = torch.cat([corners, corners + 10 + 300 * torch.rand(40, 2)], dim=1)
    objects = InstanceData(bboxes=boxes, labels=torch.zeros(40, dtype=torch.int64))
    results = [
        kind(pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0).assign(
            InstanceData(priors=anchors), objects
        )
        for kind in (MaxIoUAssigner, MMDetMaxIoUAssigner)
    ]
    assert torch.equal(results[0].gt_inds, results[1].gt_inds)
    assert (results[0].gt_inds > 0).sum() > 40
