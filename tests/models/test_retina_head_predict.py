"""RetinaHead detects what mmdet's head detects in the same maps."""

import pytest
import torch
from mmdet.models.dense_heads import RetinaHead as MMDetRetinaHead
from mmdet.structures.bbox import get_box_tensor


@pytest.fixture
def make_maps(heads):
    """Makes logits and deltas of each level, as a head returns them.

    The last bit of a sigmoid depends on where it is computed. Logits are far apart or
    far below any threshold, so that this does not change the order of the scores.
    """

    def make(num_classes, batch_size=2, height=128, width=192):
        generator = torch.Generator().manual_seed(3)
        cls_scores, bbox_preds = [], []
        for level, stride in enumerate(heads.STRIDES):
            size = (-(-height // stride), -(-width // stride))
            scores = torch.full((batch_size, 9 * num_classes, *size), -20.0)
            for image_scores in scores.view(batch_size, -1):
                count = min(2000, len(image_scores))
                places = torch.randperm(len(image_scores), generator=generator)[:count]
                image_scores[places] = torch.linspace(-5, 2, count) + 1e-3 * level
            deltas = torch.randn(batch_size, 9 * 4, *size, generator=generator)
            cls_scores.append(scores)
            bbox_preds.append(deltas * 0.3)
        return cls_scores, bbox_preds

    return make


@pytest.fixture
def assert_same_detections(heads):
    """Compares detections, and returns their number in each image."""

    def check(ours, theirs, cls_scores, bbox_preds, **options):
        options.setdefault('batch_img_metas', heads.metas())
        found = ours.predict_by_feat(cls_scores, bbox_preds, **options)
        expected = theirs.predict_by_feat(cls_scores, bbox_preds, **options)
        for x, y in zip(found, expected, strict=True):
            assert torch.equal(x.labels, y.labels)
            torch.testing.assert_close(x.scores, y.scores, rtol=1e-6, atol=0)
            assert type(x.bboxes) is type(y.bboxes)
            bboxes = get_box_tensor(x.bboxes), get_box_tensor(y.bboxes)
            torch.testing.assert_close(*bboxes, rtol=1e-6, atol=1e-4)
        return [len(x) for x in found]

    return check


def test_detections_equal_mmdet(heads, assert_same_detections):
    ours, theirs = heads.pair()
    counts = assert_same_detections(ours, theirs, *ours(heads.features()))
    assert counts == [100, 100]


@pytest.mark.parametrize('num_classes', [1, 80, 1203])
@pytest.mark.parametrize('with_nms', [True, False])
@pytest.mark.parametrize(
    'layout', [torch.channels_last, torch.contiguous_format], ids=str
)
def test_detections_of_many_classes_equal_mmdet(
    num_classes, with_nms, layout, heads, make_maps, assert_same_detections
):
    pair = heads.pair(num_classes=num_classes)
    maps = [
        [level.to(memory_format=layout) for level in levels]
        for levels in make_maps(num_classes)
    ]
    counts = assert_same_detections(*pair, *maps, with_nms=with_nms)
    assert min(counts) >= 100


@pytest.mark.parametrize('with_nms', [True, False])
@pytest.mark.parametrize(
    ('test_cfg', 'least', 'most'),
    [
        (dict(score_thr=0.9999), 0, 0),  # empty results
        (dict(score_thr=0.88), 1, 30),
        (dict(nms_pre=100_000, max_per_img=100_000), 1000, 10_000),
        (dict(nms_pre=5), 1, 25),
        (dict(min_bbox_size=20), 100, 5000),
        (dict(nms=dict(class_agnostic=True)), 100, 5000),
        (dict(nms=dict(type='soft_nms')), 100, 5000),
        (dict(nms=None), 100, 5000),
    ],
    ids=str,
)
def test_detections_of_any_test_cfg_equal_mmdet(
    test_cfg, least, most, with_nms, heads, make_maps, assert_same_detections
):
    pair = heads.pair(test_cfg=test_cfg)
    counts = assert_same_detections(*pair, *make_maps(5), with_nms=with_nms)
    assert least <= min(counts) <= max(counts) <= most


@pytest.mark.parametrize('with_nms', [True, False])
def test_detections_in_images_of_different_size_equal_mmdet(
    with_nms, heads, make_maps, assert_same_detections
):
    metas = heads.metas((128, 192), (100, 90))
    metas[0]['scale_factor'] = (2.0, 1.5)
    metas[1]['scale_factor'] = (0.3, 0.7)
    options = dict(batch_img_metas=metas, rescale=True, with_nms=with_nms)
    assert_same_detections(*heads.pair(), *make_maps(5), **options)


def test_detections_with_a_box_type_equal_mmdet(
    heads, make_maps, assert_same_detections
):
    pair = heads.pair(bbox_coder=dict(use_box_type=True))
    assert_same_detections(*pair, *make_maps(5), rescale=True)


def test_image_without_detections_beside_one_with(
    heads, make_maps, assert_same_detections
):
    scores, deltas = make_maps(5)
    for level in scores:
        level[0] = -20
    assert assert_same_detections(*heads.pair(), scores, deltas) == [0, 100]


def test_mmdets_slower_prediction_is_not_called_for_sigmoids(
    heads, make_maps, monkeypatch
):
    head = heads.make()
    monkeypatch.setattr(MMDetRetinaHead, 'predict_by_feat', pytest.fail)
    found = head.predict_by_feat(*make_maps(5), batch_img_metas=heads.metas())
    assert len(found) == 2
