"""Pictures of detections: each kind of box is told from the others."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from mmdet.structures import DetDataSample
from mmdet.visualization import DetLocalVisualizer
from mmengine.structures import InstanceData

from focal_retinanet.evaluation.detection_errors import classify_image
from focal_retinanet.visualization import DetVisualizer, style
from focal_retinanet.visualization.detections import draw_detections, draw_grid

IMAGE = np.full((120, 160, 3), 200, np.uint8)
BOX, OTHER = [10, 10, 60, 60], [90, 60, 140, 110]
CLASSES = {0: 'cat', 1: 'dog'}


def classify(found, objects, crowd=()):
    """Boxes with (class, score), boxes with class."""
    return classify_image(
        np.array([box for box, _, _ in found], float).reshape(-1, 4),
        np.array([score for _, _, score in found], float),
        np.array([label for _, label, _ in found], int),
        np.array([box for box, _ in objects], float).reshape(-1, 4),
        np.array([label for _, label in objects], int),
        np.isin(np.arange(len(objects)), crowd),
    )


def has_colour(picture, colour):
    rgb = np.round(np.array(to_rgb(colour)) * 255)
    return bool((np.abs(picture.astype(int) - rgb).max(-1) <= 8).any())


def left_and_right(picture):
    """The two images, without the legend."""
    height, width = picture.shape[:2]
    above = picture[: int(0.85 * height)]
    return above[:, : width // 2], above[:, width // 2 :]


@pytest.mark.parametrize(
    'found, objects, left_has, right_has',
    [
        ([(BOX, 0, 0.9)], [(BOX, 0)], {'TP'}, {'TP'}),
        ([(BOX, 1, 0.9)], [(BOX, 0)], {'MISSED'}, {'FP', 'MISSED'}),
        ([(OTHER, 0, 0.9)], [(BOX, 0)], {'MISSED'}, {'FP', 'MISSED'}),
        ([(BOX, 0, 0.2)], [(BOX, 0)], {'MISSED'}, {'MISSED'}),  # below the threshold
        ([], [], set(), set()),
    ],
)
def test_kinds_are_told_apart(found, objects, left_has, right_has):
    picture = draw_detections(IMAGE, classify(found, objects), CLASSES, 0.3, 'title')
    assert picture.dtype == np.uint8 and picture.shape[1] == 2000
    colours = dict(TP=style.TRUE_POSITIVE, FP=style.FALSE_POSITIVE, MISSED=style.MISSED)
    for side, expected in zip(
        left_and_right(picture), (left_has, right_has), strict=True
    ):
        assert {name for name in colours if has_colour(side, colours[name])} == expected


def test_sheet_of_images():
    found = [classify([(BOX, 0, 0.9)], [(BOX, 0)]), classify([(BOX, 0, 0.9)], [])]
    sheet = draw_grid([IMAGE, IMAGE[:60]], found, ['a', 'b'], columns=4)
    left, right = left_and_right(sheet)
    assert has_colour(left, style.TRUE_POSITIVE)
    assert has_colour(right, style.FALSE_POSITIVE)
    assert not has_colour(left, style.FALSE_POSITIVE)


def sample(with_gt=True, with_crowd=False):
    result = DetDataSample(metainfo=dict(img_path='folder/image.jpg'))
    result.pred_instances = InstanceData(
        bboxes=torch.tensor([BOX, OTHER], dtype=torch.float32),
        labels=torch.tensor([0, 1]),
        scores=torch.tensor([0.9, 0.8]),
    )
    if with_gt:
        result.gt_instances = InstanceData(
            bboxes=torch.tensor([BOX], dtype=torch.float32), labels=torch.tensor([0])
        )
    if with_crowd:
        result.ignored_instances = InstanceData(
            bboxes=torch.tensor([OTHER], dtype=torch.float32), labels=torch.tensor([1])
        )
    return result


def test_visualizer_tells_right_from_wrong_where_it_can(tmp_path):
    meta = dict(classes=('cat', 'dog'), palette=[(0, 0, 255), (0, 255, 0)])
    ours, theirs = DetVisualizer(), DetLocalVisualizer()
    ours.dataset_meta = theirs.dataset_meta = meta
    ours.add_datasample('x', IMAGE, sample(), out_file=str(tmp_path / 'x.png'))
    _, right = left_and_right(ours.get_image())
    assert has_colour(right, style.TRUE_POSITIVE)
    assert has_colour(right, style.FALSE_POSITIVE)
    assert (tmp_path / 'x.png').stat().st_size > 10_000
    ours.add_datasample('x', IMAGE, sample(with_crowd=True))
    _, right = left_and_right(ours.get_image())
    assert not has_colour(right, style.FALSE_POSITIVE)

    for options in (dict(data_sample=sample(False)), dict(data_sample=None)):
        for visualizer in (ours, theirs):
            visualizer.add_datasample('x', IMAGE, **options)
        np.testing.assert_array_equal(ours.get_image(), theirs.get_image())
    for visualizer in (ours, theirs):
        visualizer.add_datasample('x', IMAGE, sample(), draw_gt=False)
    np.testing.assert_array_equal(ours.get_image(), theirs.get_image())
