"""Coverage of objects by anchors, against mmdet's assigner and hand-made numbers."""

import csv
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.models.task_modules import AnchorGenerator, MaxIoUAssigner
from mmdet.structures.bbox import bbox_overlaps
from mmengine.structures import InstanceData

from focal_retinanet.anchors.advice import advise
from focal_retinanet.anchors.assignment import AnchorRule, Kind, describe_assignment
from focal_retinanet.anchors.coverage import (
    Coverage,
    best_iou_on_grid,
    count_by_kind,
)
from focal_retinanet.anchors.measure import choose_images
from focal_retinanet.anchors.report import (
    as_dict,
    level_table,
    object_table,
    objects_without_anchor,
    write_not_covered,
)
from focal_retinanet.models import MaxIoUAssigner as OurAssigner

PAPER = dict(
    octave_base_scale=4,
    scales_per_octave=3,
    ratios=[0.5, 1.0, 2.0],
    strides=[8, 16, 32],
)


def rule(allowed_border=-1, assigner=OurAssigner, min_pos_iou=0.0, **generator):
    return AnchorRule(
        AnchorGenerator(**PAPER | generator),
        assigner(0.5, 0.4, min_pos_iou=min_pos_iou),
        allowed_border,
    )


def objects(*boxes):
    bboxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return InstanceData(
        bboxes=bboxes, labels=torch.zeros(len(boxes), dtype=torch.int64)
    )


def box(x, y, width, height):
    """Return a box from its centre."""
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]


def test_by_hand():
    """Two anchors of 10 x 10 on the first level, and one of 20 x 20 on the second."""
    small = torch.tensor([[0.0, 0, 10, 10], [10.0, 0, 20, 10]])
    large = torch.tensor([[0.0, 0, 20, 20]])
    gts = torch.tensor(
        [
            [0.0, 0, 10, 8],  # 0.8 with the first anchor
            [10.0, 0, 20, 4],  # 0.4 with the second
            [0.0, 0, 20, 9],  # 90 / 190 with both, 0.45 with the large one
        ]
    )
    got = describe_assignment(gts, [small, large], torch.tensor([1, 2, -1]), 0.5)
    torch.testing.assert_close(got.best_iou, torch.tensor([0.8, 0.4, 90 / 190]))
    assert got.kinds.tolist() == [Kind.COVERED, Kind.LOW_QUALITY, Kind.NONE]
    assert got.num_positives.tolist() == [1, 1, 0]
    assert got.num_low_quality.tolist() == [0, 1, 0]
    assert got.level.tolist() == [0, 0, 1]
    assert got.best_level.tolist() == [0, 0, 0]
    assert got.low_quality.tolist() == [False, True, False]
    assert got.ignored.tolist() == [False, False, True]

    usable = torch.tensor([False, True, True])
    matched = torch.tensor([-1, 2, 0])
    got = describe_assignment(gts, [small, large], matched, 0.5, usable)
    assert got.best_iou[0] == pytest.approx(80 / 400)
    assert got.best_level.tolist() == [1, 0, 0]
    assert not got.ignored.any()  # unusable anchors do not count as ignored


sizes = st.floats(2, 90)
places = st.floats(0, 128)
boxes = st.lists(st.builds(box, places, places, sizes, sizes), max_size=8)


@settings(max_examples=40, deadline=None)
@given(boxes, st.sampled_from([-1, 0, 16]))
def test_assignment_equals_mmdets_assigner_and_overlaps(gt_boxes, allowed_border):
    gts = objects(*gt_boxes)
    # With min_pos_iou=0, mmdet gives every anchor to an object without overlap.
    setup = dict(allowed_border=allowed_border, min_pos_iou=0.01)
    got = rule(**setup).assign(gts, (100, 120), (128, 128))
    anchors = torch.cat(
        AnchorGenerator(**PAPER).grid_priors([(16, 16), (8, 8), (4, 4)], device='cpu')
    )
    usable = torch.ones(len(anchors), dtype=torch.bool)
    if allowed_border >= 0:
        low, high = anchors[:, :2].amin(1), anchors[:, 2:]
        limit = torch.tensor([120, 100]) + allowed_border
        usable = (low >= -allowed_border) & (high < limit).all(1)
    expected = MaxIoUAssigner(0.5, 0.4, min_pos_iou=0.01).assign(
        InstanceData(priors=anchors[usable]), gts
    )
    assert torch.equal(got.anchors, anchors)
    assert torch.equal(got.matched[usable], expected.gt_inds)
    ious = bbox_overlaps(gts.bboxes, anchors[usable])
    if not len(gt_boxes) or not usable.any():
        assert not got.positive.any()
        return
    torch.testing.assert_close(got.best_iou, ious.amax(1))
    assert torch.equal(got.ignored[usable], expected.gt_inds == -1)
    for i in range(len(gt_boxes)):
        mine = expected.gt_inds == i + 1
        low = mine & (ious[i] < 0.5 - 1e-5)
        assert got.num_positives[i] == mine.sum()
        assert got.num_low_quality[i] == low.sum()
        assert torch.equal(got.low_quality[usable] & mine, low)


@settings(max_examples=40, deadline=None)
@given(boxes.filter(len), st.sampled_from([0.0, 0.5]))
def test_best_iou_equals_that_of_listed_anchors(gt_boxes, center_offset):
    generator = AnchorGenerator(**PAPER, center_offset=center_offset)
    gts = objects(*gt_boxes).bboxes
    anchors = torch.cat(generator.grid_priors([(12, 16), (6, 8), (3, 4)], device='cpu'))
    shapes = torch.tensor([[96, 128]]).expand(len(gts), 2)
    got = best_iou_on_grid(gts, shapes, generator.base_anchors, generator.strides)
    torch.testing.assert_close(got, bbox_overlaps(gts, anchors).amax(1))


def coverage_of(a_rule, *images):
    coverage = Coverage(len(a_rule.strides))
    for i, gt_boxes in enumerate(images):
        gts = objects(*gt_boxes)
        of_image = a_rule.assign(gts, (256, 256), (256, 256))
        coverage.add(
            f'{i}.jpg', gts.bboxes, gts.labels, (256, 256), (256, 256), of_image
        )
    return coverage


def test_data_set(tmp_path):
    """A large and a small object, an empty image, and two objects in one place."""
    a_rule = rule()
    twins = [box(64, 64, 10, 10)] * 2  # the later one gets the anchors of both
    coverage = coverage_of(a_rule, [box(96, 96, 64, 64), box(32, 32, 8, 8)], [], twins)
    kinds = [Kind.COVERED, Kind.LOW_QUALITY, Kind.NONE, Kind.LOW_QUALITY]
    assert coverage.kinds.tolist() == kinds
    assert coverage.image.tolist() == [0, 0, 2, 2]
    assert coverage.images == ['0.jpg', '1.jpg', '2.jpg']
    assert coverage.sizes.tolist() == [64, 8, 10, 10]
    assert coverage.ratios.tolist() == [1, 1, 1, 1]
    # The object of 8 x 8 lies in the smallest anchor of 32 x 32.
    assert coverage.best_iou[1] == pytest.approx(64 / 1024)
    assert coverage.level_low_quality.tolist()[1:] == [0, 0]
    assert coverage.level_positive.sum() == coverage.num_positives.sum()
    assert not coverage.at_border.any()

    table = object_table(coverage).splitlines()
    expected = '8 to 16 3 0 ( 0.0%) 2 ( 66.7%) 1 ( 33.3%)'
    assert ' '.join(table[1].split()) == expected
    lines = level_table(coverage, a_rule).splitlines()
    assert [line.split()[0] for line in lines] == ['stride', '8', '16', '32']
    (line,) = objects_without_anchor(coverage, ['cat'])
    assert line == '2.jpg: cat [59, 59, 69, 69], best IoU 0.10'

    write_not_covered(tmp_path / 'x.csv', coverage, a_rule, ['cat'])
    rows = list(csv.DictReader((tmp_path / 'x.csv').open()))
    assert [row['image'] for row in rows] == ['2.jpg', '0.jpg', '2.jpg']
    assert [row['size'] for row in rows] == ['10.0', '8.0', '10.0']
    assert rows[0]['anchors'] == '0' and rows[0]['best_stride'] == '8'

    advice = advise(coverage.bboxes, coverage.input_shapes, a_rule.generator, 0.5)
    numbers = as_dict(coverage, a_rule, advice)
    assert numbers['objects'] == dict(covered=1, low_quality_only=2, no_anchor=1)
    assert numbers['size_edges'] == [0, 8, 16, 32, 64, 128]


def test_at_border():
    coverage = coverage_of(rule(), [[0, 9, 9, 20], [9, 9, 256, 20], [1, 1, 255, 255]])
    assert coverage.at_border.tolist() == [True, True, False]


def test_histogram():
    values = torch.tensor([0.5, 1.0, 1.9, 2.0, 9.0])
    kinds = torch.tensor([0, 0, 2, 2, 1])
    edges = torch.tensor([1.0, 2.0, 4.0])
    counts = count_by_kind(values, kinds, edges)
    assert counts.tolist() == [[2, 0], [0, 1], [1, 1]]


@pytest.mark.parametrize('num_missed', [0, 2, 50])
def test_pictures_are_of_the_worst_images_and_of_all_the_data(num_missed):
    coverage = SimpleNamespace(
        images=list(range(100)),
        image=torch.arange(100),
        kinds=torch.full((100,), int(Kind.COVERED)),
    )
    coverage.kinds[:num_missed] = Kind.NONE
    chosen = choose_images(coverage, 16)
    assert len(set(chosen)) == 16 and chosen == sorted(chosen)
    worst = min(num_missed, 8)
    assert chosen[:worst] == list(range(worst))
    # The rest is spread over the others up to the last one.
    assert chosen[worst] == worst and chosen[-1] == 99
    steps = torch.tensor(chosen[worst:]).diff()
    assert steps.max() - steps.min() <= 1
    assert choose_images(coverage, 1000) == coverage.images
    assert choose_images(coverage, 0) == []
