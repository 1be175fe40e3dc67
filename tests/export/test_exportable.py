"""What is exported detects what mmdet's code detects, or is refused by name."""

import pytest
import torch
from mmdet.structures import DetDataSample

from focal_retinanet.cli.errors import UserError
from focal_retinanet.export.exportable import Exportable

SOFTMAX = dict(type='CrossEntropyLoss', use_sigmoid=False)


def detect_by_mmdet(model, images):
    """Detect in one image at a time, by the code that mmdet's heads inherit."""
    found = []
    height, width = images.shape[2:]
    for image in images:
        sample = DetDataSample(
            metainfo=dict(img_shape=(height, width), scale_factor=(1.0, 1.0))
        )
        data = model.data_preprocessor(dict(inputs=[image], data_samples=[sample]))
        with torch.no_grad():
            cls_scores, bbox_preds = model.bbox_head(model.extract_feat(data['inputs']))
            (results,) = super(type(model.bbox_head), model.bbox_head).predict_by_feat(
                cls_scores,
                bbox_preds,
                batch_img_metas=[data['data_samples'][0].metainfo],
                rescale=True,
            )
        found.append(results)
    return found


@pytest.mark.parametrize(
    'changes',
    [
        {},
        {'bbox_head.num_classes': 1},
        {'bbox_head.num_classes': 80},
        {'bbox_head.loss_cls': dict(_delete_=True, **SOFTMAX)},
        {'bbox_head.norm_cfg': None, 'data_preprocessor.bgr_to_rgb': False},
        {'test_cfg.nms.class_agnostic': True, 'test_cfg.max_per_img': 7},
        {'test_cfg.nms_pre': 20, 'test_cfg.min_bbox_size': 0},
        {'test_cfg.score_thr': 0.0, 'test_cfg.nms_pre': -1},
        {'bbox_head.bbox_coder.target_stds': [0.1, 0.2, 0.3, 0.4]},
        {'data_preprocessor.pad_value': 3, 'bbox_head.bbox_coder.clip_border': False},
        {'data_preprocessor.mean': [127.5], 'data_preprocessor.std': [60.0]},
        {'bbox_head.anchor_generator.use_box_type': True},
    ],
    ids=lambda changes: ','.join(changes) or 'default',
)
@pytest.mark.parametrize(('count', 'size'), [(1, (64, 64)), (4, (70, 41))])
def test_detections_are_mmdets(build, draw_images, changes, count, size):
    model = build(**changes)
    images = draw_images(count, *size)
    with torch.no_grad():
        boxes, scores, labels = Exportable(model).eval()(images)
    assert boxes.shape == (count, model.test_cfg.max_per_img, 4)
    expected = detect_by_mmdet(model, images)
    assert any(len(results) for results in expected)
    for b, results in enumerate(expected):
        n = len(results)
        torch.testing.assert_close(boxes[b, :n], results.bboxes, rtol=0, atol=1e-3)
        torch.testing.assert_close(scores[b, :n], results.scores, rtol=0, atol=1e-5)
        torch.testing.assert_close(labels[b, :n], results.labels)
        # The filler is told apart.
        assert (scores[b, n:] == 0).all() and (labels[b, n:] == -1).all()


def test_no_detection_is_filler_alone(build, draw_images):
    model = build(**{'test_cfg.score_thr': 1.0})
    boxes, scores, labels = Exportable(model).eval()(draw_images(2, 64, 64))
    assert not scores.any() and not boxes.any() and (labels == -1).all()


def test_raw_outputs_give_the_detections_by_mmdets_coder(build, draw_images):
    model = build()
    images = draw_images(2, 50, 64)
    with torch.no_grad():
        logits, deltas, anchors = Exportable(model, raw=True).eval()(images)
    assert logits.shape == (2, len(anchors), 5) and deltas.shape == (2, len(anchors), 4)
    for b, results in enumerate(detect_by_mmdet(model, images)):
        decoded = model.bbox_head.bbox_coder.decode(
            anchors, deltas[b], max_shape=(50, 64)
        )
        best = (decoded[:, None] - results.bboxes[:1]).abs().amax(-1).argmin()
        torch.testing.assert_close(decoded[best], results.bboxes[0], rtol=0, atol=1e-3)
        score = logits[b, best].sigmoid()[results.labels[0]]
        torch.testing.assert_close(score, results.scores[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ('changes', 'says'),
    [
        ({'test_cfg.nms': dict(_delete_=True, type='soft_nms')}, "'soft_nms'"),
        ({'test_cfg.nms.score_threshold': 0.1}, r'test_cfg\.nms\.score_threshold'),
        ({'test_cfg.max_per_img': -1}, 'max_per_img=-1'),
        ({'test_cfg.min_bbox_size': 8}, 'min_bbox_size=8'),
        ({'test_cfg.score_threshold': 0.1}, r'test_cfg\.score_threshold'),
        ({'type': 'FCOS'}, 'the detector FCOS'),
        ({'bbox_head.bbox_coder.add_ctr_clamp': True}, r'bbox_coder\.add_ctr_clamp=T'),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else '',
)
def test_what_cannot_be_exported_is_refused_by_its_name(build, changes, says):
    with pytest.raises(UserError, match=f'{says}.* cannot be exported; what can be is'):
        Exportable(build(**changes))


def test_grey_images_are_refused(build):
    model = build()
    model.backbone.conv1 = torch.nn.Conv2d(1, 16, 7, stride=2, padding=3)
    with pytest.raises(UserError, match=r'in_channels=1 cannot .* can be is 3'):
        Exportable(model, raw=True)


@pytest.mark.parametrize(
    ('part', 'what'),
    [
        ('bbox_head', 'the head'),
        ('data_preprocessor', 'the data preprocessor'),
        ('bbox_head.bbox_coder', 'the box coder'),
    ],
)
def test_derived_parts_are_refused(build, part, what):
    model = build()
    *outer, name = part.split('.')
    owner = model.bbox_head if outer else model
    value = getattr(owner, name)
    value.__class__ = type('Mine', (type(value),), {})
    with pytest.raises(UserError, match=f'{what} Mine cannot be exported'):
        Exportable(model)
