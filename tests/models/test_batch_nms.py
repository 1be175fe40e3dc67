"""Suppression of a batch against mmcv's, image by image."""

import pytest
import torch
from mmcv.ops import batched_nms
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.structures import InstanceData

from focal_retinanet.models.batch_nms import _shifted_nms, batch_nms
from focal_retinanet.ops import nms_native

NMS = dict(type='nms', iou_threshold=0.5)
K = 7


@pytest.fixture(params=['native', 'one by one'])
def backend(request, monkeypatch):
    if request.param == 'one by one':
        monkeypatch.setattr(nms_native, 'is_available', lambda bboxes: False)
    elif not nms_native.is_available(torch.zeros(1, 4)):
        pytest.skip('no C++ compiler here, so no compiled kernel')


def detections(*counts):
    """Of whole pixels, since mmcv's shift of a class costs digits."""
    torch.manual_seed(0)
    batch = []
    for count in counts:
        corner = torch.randint(0, 200, (count, 2))
        extent = torch.randint(0, 90, (count, 2))
        bboxes = torch.cat([corner, corner + extent], 1).float()
        scores = torch.randperm(count).float() / (count + 1)  # no two alike
        batch.append(InstanceData(bboxes=bboxes, scores=scores))
        batch[-1].labels = torch.randint(K, (count,))
    return batch


def by_mmdet(results, nms, max_per_img):
    """What mmdet's heads do with the candidates of an image."""
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
        # What the kernel does not know is mmcv's.
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
    assert_same(batch, before)  # the input stays as it was
    theirs = [by_mmdet(results, nms, max_per_img) for results in batch]
    assert_same(ours, theirs)


@pytest.mark.usefixtures('backend')
@pytest.mark.parametrize('nms', [NMS, dict(NMS, type='soft_nms')])
def test_boxes_with_a_type_keep_it(nms):
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
    """What a GPU does; mmcv's operator on a CPU shows that it is right."""
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
