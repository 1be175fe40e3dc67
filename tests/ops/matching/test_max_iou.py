"""Matching by hand-checked numbers, and all backends against mmdet's assigner."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.models.task_modules import AnchorGenerator, MaxIoUAssigner
from mmengine.structures import InstanceData

from focal_retinanet.ops import IGNORED, UNMATCHED, match_max_iou, pairwise_iou
from focal_retinanet.ops.matching import MatchingRule, match_max_iou_batch
from focal_retinanet.ops.matching import native as matching_native
from focal_retinanet.ops.matching import plain as matching_plain
from harness.timing import peak_memory

OBJECT = torch.tensor([[0.0, 0.0, 10.0, 10.0]])


def anchors_with_iou(*ious):
    """Return anchors inside of OBJECT that cover these shares of its area."""
    return torch.tensor([[0.0, 0.0, 10.0, 10.0 * iou] for iou in ious])


def test_thresholds():
    anchors = anchors_with_iou(0.9, 0.5, 0.49, 0.4, 0.39, 0.1)
    matched, ious = match_max_iou(anchors, OBJECT, match_low_quality=False)
    assert matched.tolist() == [1, 1, IGNORED, IGNORED, UNMATCHED, UNMATCHED]
    torch.testing.assert_close(ious, torch.tensor([0.9, 0.5, 0.49, 0.4, 0.39, 0.1]))


def test_low_quality_match_takes_the_best_anchor_and_all_that_tie():
    anchors = anchors_with_iou(0.3, 0.1, 0.3)
    assert match_max_iou(anchors, OBJECT)[0].tolist() == [1, UNMATCHED, 1]
    first_only = match_max_iou(anchors, OBJECT, gt_max_assign_all=False)[0]
    assert first_only.tolist() == [1, UNMATCHED, UNMATCHED]
    too_low = match_max_iou(anchors, OBJECT, min_pos_iou=0.35)[0]
    assert too_low.tolist() == [UNMATCHED] * 3


def test_later_object_wins_a_contested_low_quality_match():
    objects = torch.tensor([[0.0, 0, 10, 10], [0.0, 0, 10, 9]])
    anchors = torch.tensor([[0.0, 0, 10, 10]])  # IoU 1.0 and 0.9
    assert match_max_iou(anchors, objects, match_low_quality=False)[0].tolist() == [1]
    assert match_max_iou(anchors, objects)[0].tolist() == [2]


def test_object_without_overlap_gets_no_anchor():
    anchors = anchors_with_iou(0.9, 0.2)
    far_and_flat = torch.tensor([[500.0, 500, 510, 510], [3.0, 3, 3, 3]])
    matched, ious = match_max_iou(anchors, far_and_flat)
    assert matched.tolist() == [UNMATCHED, UNMATCHED]
    assert ious.tolist() == [0, 0]


def test_no_objects_is_all_background():
    matched, ious = match_max_iou(anchors_with_iou(0.9, 0.2), OBJECT[:0])
    assert matched.tolist() == [UNMATCHED, UNMATCHED]
    assert ious.tolist() == [0, 0]
    assert match_max_iou(OBJECT[:0], OBJECT)[0].shape == (0,)


def test_excluded_anchors_are_ignored_and_match_no_object():
    anchors = anchors_with_iou(0.9, 0.3, 0.2)
    excluded = torch.tensor([True, False, False])
    assert match_max_iou(anchors, OBJECT, excluded=excluded)[0].tolist() == [-1, 1, 0]
    without_objects = match_max_iou(anchors, OBJECT[:0], excluded=excluded)[0]
    assert without_objects.tolist() == [-1, 0, 0]


def test_more_objects_than_a_tile(monkeypatch):
    torch.manual_seed(0)
    corner = torch.rand(300, 2) * 100
    objects = torch.cat([corner, corner + 1 + torch.rand(300, 2) * 20], 1)
    monkeypatch.setattr(matching_plain, '_TILE', 7 * 300)
    # fp64 has no kernel.
    for boxes in (objects, objects.double()):
        matched, ious = match_max_iou(boxes, boxes, match_low_quality=False)
        assert matched.tolist() == list(range(1, 301))
        assert ious.eq(1).all()


def test_pairwise_iou_of_degenerate_boxes_is_zero():
    point = torch.tensor([[3.0, 3, 3, 3]])
    assert pairwise_iou(point, point).item() == 0


PAPER = dict(
    pos_iou_thr=0.5,
    neg_iou_thr=(0.0, 0.4),
    min_pos_iou=1e-6,
    match_low_quality=True,
    gt_max_assign_all=True,
)


@pytest.fixture
def native():
    if not matching_native.is_available(OBJECT):
        pytest.skip('needs a C++ compiler')


def pyramid(height, width):
    """Return RetinaNet's anchors (N, 4) of an image."""
    strides = [8, 16, 32, 64, 128]
    generator = AnchorGenerator(
        strides, [0.5, 1.0, 2.0], octave_base_scale=4, scales_per_octave=3
    )
    sizes = [(-(-height // s), -(-width // s)) for s in strides]
    return torch.cat(generator.grid_priors(sizes, device='cpu'))


def random_boxes(count, size=128.0):
    """Return random boxes, partly outside of the image, with duplicates."""
    corner = torch.rand(count, 2) * size * 1.2 - size * 0.1
    extent = torch.rand(count, 2) ** 3 * size * 0.7
    boxes = torch.cat([corner, corner + extent], 1)
    boxes[count // 2 : count // 2 + count // 4] = boxes[: count // 4]
    return boxes


def boxes_on_a_grid(count):
    """Return boxes whose IoUs tie, some without area or inverted."""
    corner = torch.randint(0, 12, (count, 2))
    extent = torch.randint(-1, 8, (count, 2))
    return torch.cat([corner, corner + extent], 1).float() * 8


def both_ways(anchors, gt_bboxes, excluded=None, **options):
    """Match by the kernel and in plain PyTorch, with bitwise equal results."""
    rule = MatchingRule(**options)
    by_kernel = match_max_iou_batch(anchors, gt_bboxes, rule, excluded)
    plain = matching_plain.match(anchors, gt_bboxes, rule, excluded)
    for ours, expected in zip(by_kernel, plain, strict=True):
        assert ours.dtype == expected.dtype
        assert torch.equal(ours, expected)
    return by_kernel


def assert_as_mmdet(anchors, gt_bboxes, **options):
    matched, ious = both_ways(anchors, gt_bboxes, **options)
    offset = 0
    for gts, of_image, iou in zip(gt_bboxes, matched, ious, strict=True):
        instances = InstanceData(bboxes=gts, labels=torch.zeros(len(gts)).long())
        theirs = MaxIoUAssigner(**options).assign(
            InstanceData(priors=anchors), instances
        )
        expected = theirs.gt_inds + torch.where(theirs.gt_inds > 0, offset, 0)
        assert torch.equal(of_image, expected)
        assert torch.equal(iou, theirs.max_overlaps)
        offset += len(gts)


@pytest.mark.usefixtures('native')
@pytest.mark.parametrize('boxes', [random_boxes, boxes_on_a_grid])
@pytest.mark.parametrize('count', [0, 1, 10, 100, 1000])
def test_equals_mmdet_for_any_number_of_objects(count, boxes):
    torch.manual_seed(count)
    assert_as_mmdet(pyramid(128, 160), [boxes(count)], **PAPER)


@pytest.mark.usefixtures('native')
def test_ten_thousand_objects():
    torch.manual_seed(0)
    both_ways(pyramid(64, 64), [random_boxes(10_000, 64.0)], **PAPER)


@pytest.mark.usefixtures('native')
@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**31),
    counts=st.lists(st.sampled_from([0, 1, 3, 40]), min_size=1, max_size=3),
    anchors=st.integers(0, 300),
    repeats=st.integers(1, 5),
    pos_iou_thr=st.sampled_from([0.5, 0.7]),
    neg_iou_thr=st.sampled_from([(0.0, 0.4), (0.0, 0.5), (0.1, 0.4)]),
    min_pos_iou=st.sampled_from([1e-6, 0.2, 0.45]),
    match_low_quality=st.booleans(),
    gt_max_assign_all=st.booleans(),
)
def test_a_batch_equals_mmdet(seed, counts, anchors, repeats, **options):
    torch.manual_seed(seed)
    gt_bboxes = [boxes_on_a_grid(count) for count in counts]
    # Repeats put the best anchors of an object in several blocks of the kernel.
    assert_as_mmdet(boxes_on_a_grid(anchors).repeat(repeats, 1), gt_bboxes, **options)


@pytest.mark.usefixtures('native')
@pytest.mark.parametrize('gt_max_assign_all', [True, False])
def test_every_number_of_threads_matches_alike(number_of_threads, gt_max_assign_all):
    torch.manual_seed(0)
    anchors = boxes_on_a_grid(400).repeat(4, 1)  # seven blocks
    gt_bboxes = [boxes_on_a_grid(30), boxes_on_a_grid(0), boxes_on_a_grid(50)]
    options = {**PAPER, 'gt_max_assign_all': gt_max_assign_all}
    for threads in (1, 2, 3, 9):
        number_of_threads(threads)
        both_ways(anchors, gt_bboxes, **options)


@pytest.mark.usefixtures('native')
@pytest.mark.parametrize('gt_max_assign_all', [True, False])
@pytest.mark.parametrize('min_pos_iou', [0.0, 0.3])
def test_excluded_anchors_of_a_batch(gt_max_assign_all, min_pos_iou):
    torch.manual_seed(0)
    anchors = pyramid(96, 96)
    gt_bboxes = [random_boxes(20, 96.0), random_boxes(0), boxes_on_a_grid(15)]
    excluded = torch.rand(3, len(anchors)) < 0.5
    excluded[0, : len(anchors) // 2] = True
    options = {**PAPER, 'gt_max_assign_all': gt_max_assign_all}
    options['min_pos_iou'] = min_pos_iou
    matched, ious = both_ways(anchors, gt_bboxes, excluded=excluded, **options)
    assert (matched[excluded] == IGNORED).all()
    assert (ious[excluded] == -1).all()
    # The result is the same without the excluded anchors.
    for b, gts in enumerate(gt_bboxes):
        there = ~excluded[b]
        alone, _ = match_max_iou(anchors[there], gts, **options)
        offset = sum(map(len, gt_bboxes[:b]))
        expected = torch.where(alone > 0, alone + offset, alone)
        assert torch.equal(matched[b, there], expected)


@pytest.mark.usefixtures('native')
def test_boxes_of_any_strides_and_type():
    torch.manual_seed(0)
    anchors, gts = pyramid(64, 64), random_boxes(20, 64.0)
    expected, _ = match_max_iou(anchors, gts)
    strided = [boxes.t().contiguous().t() for boxes in (anchors, gts)]
    assert torch.equal(match_max_iou(*strided)[0], expected)
    assert torch.equal(match_max_iou(anchors, gts.double())[0], expected)
    # The kernel does not take fp64, in which IoUs that tie in fp32 may differ.
    plain = dict(match_low_quality=False)
    expected, _ = match_max_iou(anchors, gts, **plain)
    in_fp64, _ = match_max_iou(anchors.double(), gts.double(), **plain)
    assert torch.equal(in_fp64, expected)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_boxes_of_16_bits_match_as_in_fp32(dtype):
    """An area of more than 256x256 pixels is no number of fp16."""
    anchors = torch.tensor([[0, 0, 512, 512], [512, 0, 640, 128], [0, 512, 64, 576]])
    gts = torch.tensor([[8, 8, 520, 512], [512, 0, 640, 120]])
    expected = match_max_iou(anchors.float(), gts.float())
    assert expected[0].tolist() == [1, 2, 0]
    found = match_max_iou(anchors.to(dtype), gts.to(dtype))
    assert all(map(torch.equal, found, expected))
    ious = pairwise_iou(gts.to(dtype), anchors.to(dtype))
    assert torch.equal(ious, pairwise_iou(gts.float(), anchors.float()))


@pytest.mark.parametrize('tile', [2**24, 5 * 300 * 4, 1])
@pytest.mark.parametrize('gt_max_assign_all', [True, False])
def test_tiles_of_any_size_with_any_function(tile, gt_max_assign_all, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(matching_plain, '_TILE', tile)
    anchors = boxes_on_a_grid(300).repeat(4, 1)
    gt_bboxes = [boxes_on_a_grid(count) for count in (8, 0, 1, 9, 3)]
    excluded = torch.rand(5, len(anchors)) < 0.3
    options = {**PAPER, 'gt_max_assign_all': gt_max_assign_all}
    expected = both_ways(anchors, gt_bboxes, excluded=excluded, **options)
    sizes = []

    def iou_fn(gts, anchors):
        sizes.append(len(gts))
        return pairwise_iou(gts, anchors)

    ours = match_max_iou_batch(
        anchors, gt_bboxes, MatchingRule(**options), excluded, iou_fn
    )
    assert all(map(torch.equal, ours, expected))
    assert max(sizes) <= min(9, max(1, tile // len(anchors)))  # one image at a time


def test_earlier_of_tied_objects_gets_the_anchor(monkeypatch):
    objects, plain = OBJECT.repeat(5, 1), dict(match_low_quality=False)
    for tile in (2**24, 1):
        monkeypatch.setattr(matching_plain, '_TILE', tile)
        for boxes in (objects, objects.double()):  # with and without a kernel
            assert match_max_iou(boxes[:1], boxes, **plain)[0].tolist() == [1]


@pytest.mark.parametrize('tile', [2**24, 10 * 300])
def test_images_are_not_padded_to_the_largest_number_of_objects(tile, monkeypatch):
    monkeypatch.setattr(matching_plain, '_TILE', tile)
    computed = []

    def counted(gts, anchors):
        computed.append(len(gts) * len(anchors))
        return pairwise_iou(gts, anchors)

    monkeypatch.setattr(matching_plain, 'pairwise_iou', counted)
    anchors = boxes_on_a_grid(300).double()  # no kernel takes fp64
    gt_bboxes = [boxes_on_a_grid(count) for count in (1, 50, 0, 2)]
    match_max_iou_batch(anchors, gt_bboxes, MatchingRule())
    assert sum(computed) == 2 * 53 * 300  # once for each of the two rules
    assert max(computed) <= tile


def test_own_iou_function_may_take_any_boxes():
    centers = torch.tensor([[0.0], [1.0], [7.0]])
    matched, closeness = match_max_iou(
        centers, centers[1:], iou_fn=lambda gts, xs: 1 / (1 + (gts - xs.T).abs())
    )
    assert matched.tolist() == [1, 1, 2]
    assert closeness.tolist() == [0.5, 1, 1]


@pytest.mark.usefixtures('native')
def test_memory_does_not_grow_with_the_objects():
    anchors = pyramid(512, 512)  # 49,104
    gts = random_boxes(2000, 512.0)  # the IoU matrix would take 375 MiB
    match_max_iou(anchors, gts[:1])
    peak = peak_memory(lambda: match_max_iou(anchors, gts), torch.device('cpu'))
    if peak is None:
        pytest.skip('the system does not record peak memory')
    assert peak < 20


@pytest.mark.parametrize(
    'dtype', [torch.float32, torch.float64]
)  # with, without a kernel
@pytest.mark.parametrize(
    ('anchors', 'gts', 'excluded', 'says'),
    [
        (torch.zeros(3, 4), torch.zeros(2, 5), None, r'got \(2, 5\)'),
        (torch.zeros(3, 4), torch.zeros(4), None, r'got \(4,\)'),
        (torch.zeros(4, 3), torch.zeros(2, 4), None, r'got \(4, 3\)'),
        (torch.zeros(3, 4), torch.zeros(2, 4), torch.zeros(2) > 0, r'must be \(1, 3\)'),
    ],
)
def test_wrong_shapes_are_refused(anchors, gts, excluded, says, dtype):
    with pytest.raises(ValueError, match=says):
        match_max_iou(anchors.to(dtype), gts.to(dtype), excluded=excluded)
