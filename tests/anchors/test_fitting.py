"""Anchors that are fitted to objects reach them."""

import numpy as np
import pytest
import torch
from mmdet.datasets.transforms import Resize
from mmdet.models import DetDataPreprocessor
from mmdet.structures.bbox import HorizontalBoxes

from focal_retinanet.anchors.fitting import boxes_of_input, fit_anchors
from focal_retinanet.models import AnchorGenerator

SHAPES = (320, 320)


def fit(width, height, num=50, **generator):
    """Fit the paper's anchors to boxes of one size, spread over the image."""
    torch.manual_seed(0)
    corner = torch.rand(num, 2) * (320 - torch.tensor([width, height]))
    boxes = torch.cat([corner, corner + torch.tensor([width, height])], dim=1)
    paper = dict(octave_base_scale=4, scales_per_octave=3, ratios=[0.5, 1.0, 2.0])
    anchors = AnchorGenerator(strides=[8, 16, 32, 64, 128], **paper)
    return fit_anchors(boxes, torch.tensor([SHAPES]).expand(num, 2), anchors, 0.5)


def test_anchors_that_fit_stay():
    found = fit(64.0, 64.0)
    assert (found.settings, found.share, found.why_not) == ({}, 1, '')
    assert found.share == found.share_before


def test_small_objects_get_small_anchors():
    found = fit(20.0, 20.0)
    assert found.share_before < 0.5 and found.share >= 0.98
    assert found.settings == {'octave_base_scale': 3}  # 24, 30 and 38 pixels
    assert not found.why_not


def test_flat_objects_get_flat_anchors():
    found = fit(160.0, 30.0)
    assert found.share_before < 0.5 and found.share >= 0.98
    assert min(found.settings['ratios']) < 0.5


def test_objects_out_of_reach_are_explained():
    found = fit(3.0, 3.0)
    assert found.share < 0.98
    assert found.why_not.startswith('100.0 % are smaller than the smallest anchor')


def test_boxes_of_input():
    boxes = torch.tensor([[0.0, 0, 64, 48], [10, 20, 30, 40]])
    sizes = torch.tensor([[640.0, 480], [480, 640]])
    scaled, shapes = boxes_of_input(boxes, sizes, (320, 240), 32)
    assert scaled.tolist() == [[0, 0, 32, 24], [5, 10, 15, 20]]
    assert shapes.tolist() == [[256, 320], [320, 256]]  # height, width
    # The shorter side is the limit for a square.
    scaled, _ = boxes_of_input(boxes[1:], torch.tensor([[480.0, 480]]), (320, 240), 1)
    assert scaled.tolist() == [pytest.approx([5, 10, 15, 20])]


@pytest.mark.parametrize('divisor', [1, 32, 128])
@pytest.mark.parametrize('scale', [(1333, 800), (640, 640), (1024, 1024), (320, 240)])
def test_boxes_and_input_are_those_of_mmdet(scale, divisor):
    sizes = [(640, 480), (500, 375), (333, 1000), (1280, 720), (1, 7), (427, 640)]
    boxes = torch.tensor([[10.0, 20, 100, 200]]).repeat(len(sizes), 1)
    scaled, shapes = boxes_of_input(boxes, torch.tensor(sizes).float(), scale, divisor)
    resize = Resize(scale=scale, keep_ratio=True)
    preprocessor = DetDataPreprocessor(pad_size_divisor=divisor)
    for (width, height), box, shape in zip(sizes, scaled, shapes, strict=True):
        image = np.zeros((height, width, 3), dtype=np.uint8)
        found = resize(dict(img=image, gt_bboxes=HorizontalBoxes(boxes[:1])))
        expected = boxes[:1] * torch.tensor(found['scale_factor'] * 2)
        torch.testing.assert_close(box[None], expected)
        padded = preprocessor(
            dict(inputs=[torch.from_numpy(found['img']).permute(2, 0, 1)])
        )['inputs']
        assert tuple(padded.shape[2:]) == tuple(shape.tolist())
