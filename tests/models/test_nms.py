"""Suppression of a batch against mmcv's, image by image."""

import mmcv.ops
import pytest
import torch
from mmcv.ops import batched_nms
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.structures import InstanceData

from focal_retinanet.models import nms as batch_nms_module
from focal_retinanet.models.nms import _shifted_nms, batch_nms
from focal_retinanet.ops.nms import native as nms_native

NMS = dict(type='nms', iou_threshold=0.5)
K = 7


@pytest.fixture(params=['native', 'shifted', 'one by one'])
def backend(request, monkeypatch):
    """Selects a path of batch_nms. 'shifted' is that of a GPU, with mmcv's CPU operator."""
    if request.param != 'native':
        monkeypatch.setattr(nms_native, 'is_available', lambda bboxes: False)
        is_gpu = request.param == 'shifted'
        monkeypatch.setattr(batch_nms_module, '_host_waits', lambda bboxes: is_gpu)
    elif not nms_native.is_available(torch.zeros(1, 4)):
        pytest.skip('needs a C++ compiler')
    return request.param


def detections(*counts):
    """Return detections in whole pixels, because mmcv's shift of a class loses digits."""
    torch.manual_seed(0)
    batch = []
    for count in counts:
        corner = torch.randint(0, 200, (count, 2))
        extent = torch.randint(0, 90, (count, 2))
        bboxes = torch.cat([corner, corner + extent], 1).float()
        scores = torch.randperm(count).float() / (count + 1)  # all different
        batch.append(InstanceData(bboxes=bboxes, scores=scores))
        batch[-1].labels = torch.randint(K, (count,))
    return batch


def by_mmdet(results, nms, max_per_img):
    """Suppress the candidates of an image as mmdet's heads do."""
    if len(results):
        found, keep = batched_nms(results.bboxes, results.scores, results.labels, nms)
        results = results[keep]
        results.scores = found[:, -1]
    return results[:max_per_img] if max_per_img > 0 else results


def assert_same(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        assert len(a) == len(b)
        for key in ('bboxes', 'scores', 'labels'):
            assert torch.equal(a[key], b[key])


@pytest.mark.usefixtures('backend')
@pytest.mark.parametrize('counts', [(0,), (300,), (200, 0, 1, 400), (0, 0)])
@pytest.mark.parametrize('max_per_img', [100, 3, -1])
@pytest.mark.parametrize(
    'nms',
    [
        NMS,
        dict(iou_threshold=0.3),  # mmcv's default type
        dict(NMS, class_agnostic=True),
        dict(NMS, split_thr=50),
        # The kernel does not know these options, so mmcv serves.
        dict(NMS, max_num=20),
        dict(NMS, score_threshold=0.5),
        dict(type='soft_nms', iou_threshold=0.5, min_score=0.05),
        None,
    ],
    ids=str,
)
def test_equals_mmcv_image_by_image(counts, max_per_img, nms):
    batch = detections(*counts)
    before = [results.clone() for results in batch]
    ours = batch_nms(batch, nms, max_per_img, K)
    assert_same(batch, before)  # the input does not change
    theirs = [by_mmdet(results, nms, max_per_img) for results in batch]
    assert_same(ours, theirs)


@pytest.mark.usefixtures('backend')
@pytest.mark.parametrize('name', ['nms', 'soft_nms'])
def test_mmcvs_function_by_itself_or_by_its_path(name):
    """As in a config of mmdet's new style, and in the work directory's copy of it."""
    expected = batch_nms(detections(50, 0), dict(NMS, type=name), 20, K)
    for kind in (getattr(mmcv.ops, name), f'mmcv.ops.{name}'):
        nms = dict(NMS, type=kind)
        assert_same(batch_nms(detections(50, 0), nms, 20, K), expected)
        assert nms['type'] is kind


@pytest.mark.usefixtures('backend')
@pytest.mark.parametrize('nms', [NMS, dict(NMS, type='soft_nms')])
def test_typed_boxes_keep_their_type(nms):
    expected = batch_nms(detections(50, 0), nms, 20, K)
    batch = detections(50, 0)
    for results in batch:
        results.bboxes = HorizontalBoxes(results.bboxes)
    found = batch_nms(batch, nms, 20, K)
    for a, b in zip(found, expected, strict=True):
        assert isinstance(a.bboxes, HorizontalBoxes)
        assert torch.equal(a.bboxes.tensor, b.bboxes)
        assert torch.equal(a.scores, b.scores)


@pytest.mark.parametrize('num_groups', [1, 3, 50])
def test_shifted_groups_do_not_see_each_other(num_groups):
    """The path of a GPU gives mmcv's result for each group."""
    (results,) = detections(500)
    bboxes = results.bboxes - 100  # negative coordinates are shifted too
    groups = torch.randint(num_groups, (500,))
    keep = _shifted_nms(bboxes, results.scores, groups, num_groups, 0.5)
    expected = [
        (groups == group).nonzero()[:, 0][
            batched_nms(
                bboxes[groups == group],
                results.scores[groups == group],
                groups[groups == group],
                dict(NMS, class_agnostic=True),
            )[1]
        ]
        for group in range(num_groups)
    ]
    assert set(keep.tolist()) == set(torch.cat(expected).tolist())
    scores = results.scores[keep]
    assert torch.equal(scores, scores.sort(descending=True).values)
    nothing = _shifted_nms(bboxes[:0], results.scores[:0], groups[:0], num_groups, 0.5)
    assert nothing.shape == (0,)


def by_definition(results, threshold):
    """Keep the best remaining box and drop those of its class that overlap it."""
    kept = []
    order = results.scores.argsort(descending=True, stable=True)
    for i in order.tolist():
        overlaps = [
            iou(results.bboxes[i], results.bboxes[j])
            for j in kept
            if results.labels[j] == results.labels[i]
        ]
        if not any(overlap > threshold for overlap in overlaps):  # NaN is not
            kept.append(i)
    return results[torch.tensor(kept, dtype=torch.int64)]


def iou(a, b):
    side = torch.minimum(a[2:], b[2:]) - torch.maximum(a[:2], b[:2])
    intersection = side.clamp(min=0).prod()
    area = (a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod()
    return intersection / (area - intersection)


def test_ties_go_to_the_earlier_box(backend):
    if backend == 'one by one':
        pytest.skip('the sort of mmcv may be unstable')
    batch = detections(150, 0, 150)
    for results in batch:
        results.scores = torch.randint(4, (len(results),)) / 4
        results.scores[::10] = torch.nan  # counts as the highest
    found = batch_nms(batch, NMS, -1, K)
    for ours, results in zip(found, batch, strict=True):
        expected = by_definition(results, 0.5)
        for key in ('bboxes', 'labels'):
            assert torch.equal(ours[key], expected[key])
        torch.testing.assert_close(
            ours.scores, expected.scores, rtol=0, atol=0, equal_nan=True
        )


@pytest.mark.usefixtures('backend')
@pytest.mark.parametrize(
    ('num_classes', 'offset', 'scale'),
    [(80, 0, 1), (1203, 0, 1), (7, 50_000, 1), (7, 0, 100)],
    ids=['80 classes', 'LVIS', 'far from the origin', 'large'],
)
def test_many_classes_and_large_coordinates(num_classes, offset, scale):
    batch = detections(*[60] * 5)
    for results in batch:
        results.bboxes = results.bboxes * scale + offset
        results.labels = torch.randint(num_classes, (len(results),)) // 2 * 2
        results.labels[::2] = num_classes - 1
    found = batch_nms(batch, NMS, 50, num_classes)
    assert_same(found, [by_definition(results, 0.5)[:50] for results in batch])


def test_negative_coordinates(backend):
    """In mmcv, boxes of two classes may then meet after the shift."""
    if backend == 'one by one':
        pytest.skip('mmcv has other results')
    batch = detections(80, 80)
    for results in batch:
        results.bboxes -= 400
    found = batch_nms(batch, NMS, -1, K)
    assert_same(found, [by_definition(results, 0.5) for results in batch])


@pytest.mark.parametrize('bad', [torch.inf, -torch.inf, torch.nan])
def test_box_at_infinity_does_not_affect_others(backend, bad):
    if backend == 'one by one':
        pytest.skip('mmcv then suppresses nothing')
    batch = detections(80, 80)
    batch[0].bboxes[:3, 2:] = bad
    found = batch_nms(batch, NMS, -1, K)
    for ours, results in zip(found, batch, strict=True):
        expected = by_definition(results, 0.5)
        assert torch.equal(ours.labels, expected.labels)
        assert torch.equal(ours.scores, expected.scores)
    assert len(found[1]) < 80


@pytest.mark.parametrize('boxes', [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize('scores', [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.usefixtures('backend')
def test_boxes_and_scores_of_any_type(boxes, scores):
    """mmcv's operator takes fp32 only. Scores get at least the precision of the boxes."""
    batch = detections(100, 0, 30)
    expected = batch_nms(batch, NMS, 20, K)
    for results in batch:
        results.bboxes = results.bboxes.to(boxes)
        rank = results.scores.argsort().argsort()
        results.scores = (rank / 128).to(scores)  # exact, so the same order
    found = batch_nms(batch, NMS, 20, K)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.bboxes.dtype == boxes
        assert ours.scores.dtype == torch.promote_types(boxes, scores)
        assert torch.equal(ours.labels, theirs.labels)
        assert torch.equal(ours.bboxes, theirs.bboxes.to(boxes))


@pytest.mark.usefixtures('backend')
def test_no_images():
    assert batch_nms([], NMS, 100, K) == []


def test_host_of_a_gpu_waits_only_for_mmcv_and_the_counts(monkeypatch, no_reads):
    monkeypatch.setattr(nms_native, 'is_available', lambda bboxes: False)
    monkeypatch.setattr(batch_nms_module, '_host_waits', lambda bboxes: True)
    batch = detections(100, 0, 30)
    with no_reads:  # which does not see mmcv's operator and tolist() on a CPU
        batch_nms(batch, NMS, 20, K)
    assert no_reads.operators
