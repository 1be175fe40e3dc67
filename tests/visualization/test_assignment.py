"""Pictures of assignments show each kind in its colour, with its counts."""

import cv2
import numpy as np
import pytest
import torch
from mmdet.models.task_modules import AnchorGenerator
from mmengine.structures import InstanceData

from focal_retinanet.anchors.assignment import AnchorRule
from focal_retinanet.anchors.coverage import Coverage
from focal_retinanet.models import MaxIoUAssigner
from focal_retinanet.visualization.assignment import (
    save_assignment_picture,
    save_coverage_figure,
)
from focal_retinanet.visualization.labels.artists import add_labels
from focal_retinanet.visualization.style import (
    PALETTE,
    TRUE_POSITIVE,
    as_array,
    new_figure,
)

IMAGE = np.full((128, 128, 3), 255, np.uint8)


def has_color(file, color):
    rgb = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    picture = cv2.imread(str(file))[..., ::-1].astype(int)
    return bool((abs(picture - rgb).max(axis=2) <= 8).any())


@pytest.fixture
def rule():
    generator = AnchorGenerator(
        strides=[8, 16, 32], ratios=[1.0], octave_base_scale=4, scales_per_octave=1
    )
    return AnchorRule(generator, MaxIoUAssigner(0.5, 0.4))


@pytest.fixture
def gts():
    """One object that an anchor of 32 pixels fits, and one that is too small."""
    bboxes = torch.tensor([[16.0, 16, 48, 48], [90.0, 90, 98, 98]])
    return InstanceData(bboxes=bboxes, labels=torch.tensor([0, 1]))


def picture(file, rule, gts, **kwargs):
    assignment = rule.assign(gts, (128, 128), (128, 128))
    return save_assignment_picture(
        file, IMAGE, assignment, gts.bboxes, ['cat', 'dog'], 'a', rule.strides, **kwargs
    )


def test_a_panel_for_each_level_in_use(tmp_path, rule, gts):
    file = picture(tmp_path / 'a.png', rule, gts, crowds=torch.tensor([[0.0, 0, 9, 9]]))
    assert has_color(file, TRUE_POSITIVE)
    assert has_color(file, PALETTE[1])  # the low-quality match
    svg = picture(tmp_path / 'a.svg', rule, gts).read_text()
    assert '2 objects; number: best IoU' in svg
    assert 'cat 1.00' in svg and 'dog 0.06' in svg  # 8^2 / 32^2
    # One anchor is centred on (32, 32), and four beside it have an IoU of 24/40.
    assert 'stride 8: 5 positive' in svg
    assert 'low quality' in svg
    assert 'stride 32:' not in svg


def test_only_objects(tmp_path, gts):
    file = tmp_path / 'a.svg'
    save_assignment_picture(file, IMAGE, None, gts.bboxes, ['cat', 'dog'], 'a title')
    svg = file.read_text()
    assert 'a title' in svg and 'cat' in svg and '2 objects' in svg
    assert 'anchors (' not in svg and 'anchor: positive' not in svg


def test_image_without_objects(tmp_path, rule):
    nothing = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0).long())
    assignment = rule.assign(nothing, (128, 128), (128, 128))
    file = tmp_path / 'a.svg'
    save_assignment_picture(
        file, IMAGE, assignment, nothing.bboxes, [], '', [8, 16, 32]
    )
    svg = file.read_text()
    assert '0 objects' in svg and 'stride' not in svg


def test_coverage_figure(tmp_path, rule, gts):
    coverage = Coverage(3)
    assignment = rule.assign(gts, (128, 128), (128, 128))
    shape = (128, 128)
    coverage.add('a', gts.bboxes, gts.labels, shape, shape, assignment)
    file = save_coverage_figure(tmp_path / 'a.png', coverage, rule)
    assert has_color(file, TRUE_POSITIVE) and has_color(file, PALETTE[1])
    svg = save_coverage_figure(tmp_path / 'a.svg', coverage, rule).read_text()
    assert 'low-quality matches only' in svg
    assert 'anchors (number: stride)' in svg


def test_coverage_figure_without_anchors(tmp_path, gts):
    coverage = Coverage(0)
    coverage.add('a', gts.bboxes, gts.labels, (128, 128), (128, 128))
    svg = save_coverage_figure(tmp_path / 'a.svg', coverage, None).read_text()
    assert 'ratio' in svg
    assert 'anchors (' not in svg and 'anchor: positive' not in svg


def test_labels_of_a_figure_do_not_overlap():
    boxes = np.array([[5 * n, 20, 5 * n + 30, 60] for n in range(12)], float)
    with new_figure(3, 3) as figure:
        axes = figure.subplots()
        axes.imshow(IMAGE)
        figure.suptitle('title')
        add_labels(axes, boxes, [f'name {n} $x$' for n in range(12)], ['k'] * 12, 6)
        as_array(figure, 200)  # the resolution of files
        area = axes.get_window_extent()
        frames = [t.get_bbox_patch().get_window_extent() for t in axes.texts]
        assert axes.texts[0].get_text() == r'name 0 \$x\$'
    assert 3 < len(frames) < 12
    for index, frame in enumerate(frames):
        inner = frame.padded(-0.1)
        assert area.x0 <= inner.x0 and inner.x1 <= area.x1
        assert area.y0 <= inner.y0 and inner.y1 <= area.y1
        assert not any(inner.overlaps(other.padded(-0.1)) for other in frames[:index])


def test_more_labels_than_there_is_room_for(tmp_path, rule):
    bboxes = torch.tensor([[16.0, 16, 48, 48]] * 15 + [[90.0, 90, 93, 93]])
    gts = InstanceData(bboxes=bboxes, labels=torch.zeros(16, dtype=torch.long))
    assignment = rule.assign(gts, (128, 128), (128, 128))
    names = [f'a name that is long {n}' for n in range(16)]
    args = (IMAGE, assignment, bboxes, names, 'a')
    svg = save_assignment_picture(tmp_path / 'a.svg', *args, rule.strides).read_text()
    # The worst object has a label, and so have others if they fit.
    assert 'long 15' in svg and 2 <= svg.count('a name that is long') < 16
