"""An exported model's boxes at the border of an image, which a fixed shape fills up."""

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample

from focal_retinanet.export import ExportedModel
from focal_retinanet.export.exportable import Exportable
from focal_retinanet.export.metadata import Metadata
from focal_retinanet.export.runtimes import TorchModule

#: Inside an image of 40x60, over its border, and in what fills it up to 64x96.
BOXES = [[5, 5, 20, 30], [50, 10, 80, 60], [70, 5, 90, 30], [10, 40, 30, 60]]


class FixedBoxes:
    """Runtime that finds the same in every image."""

    def __init__(self, shape, **about):
        self.metadata = Metadata(
            classes=['a', 'b'],
            resize=None,
            score_thr=0.05,
            max_per_img=len(BOXES) + 1,
            shape=shape,
            raw=False,
            precision='fp32',
            pad=[0] * 3,
            **about,
        )

    def __call__(self, images):
        count = len(images)
        filler = np.zeros((count, 1, 4), np.float32)
        boxes = np.array([BOXES] * count, np.float32)
        scores = np.array([[0.9, 0.8, 0.7, 0.6, 0]] * count, np.float32)
        labels = np.array([[0, 1, 0, 1, -1]] * count)
        return np.concatenate([boxes, filler], 1), scores, labels


def detect(model, image):
    data = dict(inputs=[image], data_samples=[DetDataSample()])
    return model.test_step(data)[0].pred_instances


@pytest.mark.parametrize(
    ('shape', 'about', 'expected'),
    [
        ([1, 64, 96], dict(min_bbox_size=0), [[5, 5, 20, 30], [50, 10, 60, 40]]),
        (
            [1, 64, 96],
            dict(min_bbox_size=-1),
            [[5, 5, 20, 30], [50, 10, 60, 40], [60, 5, 60, 30], [10, 40, 30, 40]],
        ),
        ([1, 64, 96], dict(min_bbox_size=0, clip_border=False), BOXES),
        # The file itself has clipped what is to be clipped.
        ([1, 40, 60], dict(min_bbox_size=0), BOXES),
        ([None, None, None], dict(min_bbox_size=0), BOXES),
    ],
)
def test_boxes_end_at_the_border_of_the_image(shape, about, expected):
    model = ExportedModel('', runtime=FixedBoxes(shape, **about))
    found = detect(model, torch.zeros(3, 40, 60, dtype=torch.uint8))
    assert found.bboxes.tolist() == expected
    assert found.labels.tolist() == [0, 1, 0, 1][: len(expected)]


def test_boxes_of_a_coder_that_does_not_clip_are_pytorchs(build, draw_images):
    model = build(**{'bbox_head.bbox_coder.clip_border': False})
    exportable = Exportable(model).eval()
    metadata = FixedBoxes([None] * 3, clip_border=False).metadata
    exported = ExportedModel('', runtime=TorchModule(exportable, metadata))
    (image,) = draw_images(1, 64, 64)
    sample = DetDataSample(
        metainfo=dict(img_shape=(64, 64), ori_shape=(64, 64), scale_factor=(1.0, 1.0))
    )
    data = dict(inputs=[image], data_samples=[sample])
    expected = model.test_step(data)[0].pred_instances
    found = detect(exported, image)
    assert len(expected) and (expected.bboxes < 0).any()
    assert (expected.bboxes > 64).any()
    for key in ('bboxes', 'scores', 'labels'):
        torch.testing.assert_close(found[key], expected[key], rtol=1e-4, atol=1e-3)
