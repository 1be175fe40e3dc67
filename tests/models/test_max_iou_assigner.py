"""MaxIoUAssigner against mmdet's on random boxes with many ties."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.models.task_modules import MaxIoUAssigner as MMDetMaxIoUAssigner
from mmengine.config import Config
from mmengine.structures import InstanceData

from focal_retinanet.models import MaxIoUAssigner
from focal_retinanet.registry import TASK_UTILS

PAPER = dict(pos_iou_thr=0.5, neg_iou_thr=0.4)


def grid_boxes(generator, count, degenerate=False):
    """Return boxes on a coarse grid, so that IoUs tie; some have no area."""
    corner = torch.randint(0, 12, (count, 2), generator=generator)
    low = 0 if degenerate else 1
    size = torch.randint(low, 8, (count, 2), generator=generator)
    return torch.cat([corner, corner + size], 1).float() * 8


def compare(options, seed, num_gts, num_ignored=0):
    generator = torch.Generator().manual_seed(seed)
    priors = InstanceData(priors=grid_boxes(generator, 400))
    gt = InstanceData(
        bboxes=grid_boxes(generator, num_gts, degenerate=True),
        labels=torch.randint(0, 5, (num_gts,), generator=generator),
    )
    ignored = InstanceData(bboxes=grid_boxes(generator, num_ignored))
    ours = MaxIoUAssigner(**options).assign(priors, gt, ignored)
    theirs = MMDetMaxIoUAssigner(**options).assign(priors, gt, ignored)
    assert torch.equal(ours.gt_inds, theirs.gt_inds)
    assert torch.equal(ours.labels, theirs.labels)
    assert torch.equal(ours.max_overlaps, theirs.max_overlaps)
    assert ours.num_gts == theirs.num_gts


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**31),
    num_gts=st.sampled_from([0, 1, 3, 20, 150]),
    neg_iou_thr=st.sampled_from([0.4, 0.5, (0.1, 0.4)]),
    match_low_quality=st.booleans(),
    gt_max_assign_all=st.booleans(),
    min_pos_iou=st.sampled_from([1e-6, 0.2, 0.45]),
)
def test_equals_mmdet(
    seed, num_gts, neg_iou_thr, match_low_quality, gt_max_assign_all, min_pos_iou
):
    options = dict(
        pos_iou_thr=0.5,
        neg_iou_thr=neg_iou_thr,
        match_low_quality=match_low_quality,
        gt_max_assign_all=gt_max_assign_all,
        min_pos_iou=min_pos_iou,
    )
    compare(options, seed, num_gts)


@pytest.mark.parametrize('ignore_wrt_candidates', [True, False])
@pytest.mark.parametrize('num_gts', [0, 7])
@pytest.mark.parametrize('ignore_iof_thr', [-1, 0.3])
def test_ignored_regions_equal_mmdet(ignore_wrt_candidates, num_gts, ignore_iof_thr):
    options = dict(
        **PAPER,
        min_pos_iou=1e-6,
        ignore_iof_thr=ignore_iof_thr,
        ignore_wrt_candidates=ignore_wrt_candidates,
    )
    for seed in range(5):
        compare(options, seed, num_gts, num_ignored=6)


def test_batch_equals_its_images():
    generator = torch.Generator().manual_seed(0)
    priors = grid_boxes(generator, 400)
    gt = [
        InstanceData(bboxes=grid_boxes(generator, n), labels=torch.zeros(n).long())
        for n in (7, 0, 12)
    ]
    crowds = [InstanceData(bboxes=grid_boxes(generator, 3)), None, None]
    excluded = torch.rand(3, 400, generator=generator) < 0.2
    before = excluded.clone()
    assigner = MaxIoUAssigner(**PAPER, min_pos_iou=1e-6, ignore_iof_thr=0.5)
    matched, ious = assigner.assign_batch(priors, gt, crowds, excluded)
    assert torch.equal(excluded, before)  # it belongs to the caller

    offset = 0
    for b in range(3):
        there = ~excluded[b]
        alone = assigner.assign(InstanceData(priors=priors[there]), gt[b], crowds[b])
        expected = alone.gt_inds + torch.where(alone.gt_inds > 0, offset, 0)
        assert torch.equal(matched[b, there], expected)
        assert torch.equal(ious[b, there], alone.max_overlaps)
        assert (matched[b, excluded[b]] == -1).all()
        offset += len(gt[b])


def test_many_objects_on_the_cpu_as_mmdet():
    compare(dict(**PAPER, min_pos_iou=1e-6, gpu_assign_thr=10), seed=0, num_gts=30)


def test_object_without_overlap_does_not_get_every_anchor():
    priors = InstanceData(priors=torch.tensor([[0.0, 0, 10, 10], [20.0, 0, 30, 10]]))
    gt = InstanceData(
        bboxes=torch.tensor([[500.0, 500, 510, 510]]), labels=torch.tensor([2])
    )
    assert MMDetMaxIoUAssigner(**PAPER).assign(priors, gt).gt_inds.tolist() == [1, 1]
    assert MaxIoUAssigner(**PAPER).assign(priors, gt).gt_inds.tolist() == [0, 0]


def test_thresholds_survive_a_config_file(tmp_path):
    file = tmp_path / 'assigner.py'
    file.write_text(
        "assigner = dict(type='focal_retinanet.MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=(0.1, 0.4))"
    )
    dumped = tmp_path / 'assigner.json'  # which makes a list of a tuple
    Config.fromfile(file).dump(dumped)
    assigner = TASK_UTILS.build(Config.fromfile(dumped).assigner)
    assert assigner.neg_iou_thr == (0.1, 0.4)
    assert MaxIoUAssigner(0.5, 0).neg_iou_thr == (0.0, 0.0)


@pytest.mark.parametrize('neg_iou_thr', [(0.1, 0.2, 0.3), (0.4, 0.1), 0.6])
def test_bad_thresholds_are_refused(neg_iou_thr):
    with pytest.raises(ValueError, match='neg_iou_thr'):
        MaxIoUAssigner(0.5, neg_iou_thr)


def boxes_of(dtype, count, columns=4):
    generator = torch.Generator().manual_seed(count)
    boxes = grid_boxes(generator, count)
    scores = torch.rand(count, 1, generator=generator)
    return torch.cat([boxes, scores], 1)[:, :columns].to(dtype)


def assert_same_as_mmdet(options, priors, bboxes, labels, ignored=None):
    args = [InstanceData(priors=priors), InstanceData(bboxes=bboxes, labels=labels)]
    args += [] if ignored is None else [InstanceData(bboxes=ignored)]
    ours = MaxIoUAssigner(**options).assign(*args)
    common = torch.promote_types(priors.dtype, bboxes.dtype)
    if common in (torch.float16, torch.bfloat16):
        for boxes in args:
            (key,) = {'priors', 'bboxes'}.intersection(boxes.keys())
            boxes[key] = boxes[key].to(common).float()
    theirs = MMDetMaxIoUAssigner(**options).assign(*args)
    assert ours.num_gts == theirs.num_gts
    for key in ('gt_inds', 'max_overlaps', 'labels'):
        expected = getattr(theirs, key)
        if key == 'max_overlaps' and not len(bboxes):
            expected = expected.to(ours.max_overlaps)  # zeros of the objects' dtype
        assert getattr(ours, key).dtype == expected.dtype
        assert torch.equal(getattr(ours, key), expected)


@pytest.mark.parametrize('num_priors', [0, 50])
@pytest.mark.parametrize('labels', [torch.empty(0), torch.empty(0).int()], ids=str)
def test_image_without_objects_may_have_labels_of_any_dtype(num_priors, labels):
    options = dict(**PAPER, min_pos_iou=1e-6, ignore_iof_thr=0.5)
    priors, ignored = boxes_of(torch.float32, num_priors), boxes_of(torch.float32, 3)
    nothing = torch.empty(0, 4)
    assert_same_as_mmdet(options, priors, nothing, labels)
    assert_same_as_mmdet(options, priors, nothing, labels, ignored)


TYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64]


@pytest.mark.parametrize('type_of_priors', TYPES, ids=str)
@pytest.mark.parametrize('type_of_objects', TYPES, ids=str)
def test_boxes_of_any_two_dtypes(type_of_priors, type_of_objects):
    """IoUs have the common dtype of the two, as in mmdet, or fp32 instead of 16 bits."""
    priors, bboxes = boxes_of(type_of_priors, 60), boxes_of(type_of_objects, 7)
    options = dict(**PAPER, min_pos_iou=1e-6, ignore_iof_thr=0.5)
    for ignored in (None, bboxes[:2]):
        assert_same_as_mmdet(options, priors, bboxes, torch.arange(7), ignored)


def test_column_of_scores_is_ignored():
    priors, bboxes = (boxes_of(torch.float32, n, columns=5) for n in (60, 7))
    options = dict(**PAPER, min_pos_iou=1e-6)
    assert_same_as_mmdet(options, priors, bboxes, torch.arange(7))


def test_repeated_objects_are_moved_as_in_mmdet():
    bboxes = boxes_of(torch.float32, 7).repeat(2, 1)
    options = dict(
        **PAPER, min_pos_iou=1e-6, perm_repeat_gt_cfg=dict(iou_thr=0.7, perm_range=0.01)
    )
    priors = InstanceData(priors=boxes_of(torch.float32, 60))
    gt = InstanceData(bboxes=bboxes, labels=torch.arange(14))
    found = []
    for assigner in (MaxIoUAssigner, MMDetMaxIoUAssigner):
        torch.manual_seed(0)
        found.append(assigner(**options).assign(priors, gt))
    assert torch.equal(found[0].gt_inds, found[1].gt_inds)


def test_thresholds_may_change_during_training():
    """Dynamic R-CNN sets them to plain numbers."""
    priors = InstanceData(priors=boxes_of(torch.float32, 60))
    gt = InstanceData(bboxes=boxes_of(torch.float32, 7), labels=torch.arange(7))
    ours, theirs = MaxIoUAssigner(0.7, 0.3), MMDetMaxIoUAssigner(0.7, 0.3)
    for threshold in (0.45, 0.25):
        for assigner in (ours, theirs):
            assigner.pos_iou_thr = assigner.neg_iou_thr = threshold
            assigner.min_pos_iou = threshold
        found, expected = ours.assign(priors, gt), theirs.assign(priors, gt)
        assert torch.equal(found.gt_inds, expected.gt_inds)
        assert (expected.gt_inds > 0).any()
