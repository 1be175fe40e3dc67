"""What an exported file says of itself, beside the config that it is used with."""

import copy
import re
from types import SimpleNamespace

import cv2
import pytest
from mmcv.image.geometric import cv2_interp_codes
from mmdet.datasets.transforms import Resize
from mmengine.hooks import EMAHook

from focal_retinanet.cli.errors import UserError
from focal_retinanet.engine.tiled_model import use_tiles
from focal_retinanet.engine.tiles import Tiling, nms_of
from focal_retinanet.export import ExportedModel, use_exported_model
from focal_retinanet.export.metadata import _INTERPOLATIONS, Metadata, resize_rule

RULE = dict(scale=[64, 64], keep_ratio=True)
#: Settings of the suppression of the tiny config.
OWN = dict(
    nms_pre=1000,
    min_bbox_size=0,
    nms=dict(type='nms', iou_threshold=0.5, class_agnostic=True),
)


@pytest.fixture
def describe(tiny_config):
    """Return a function that compares a file with the config and its changes."""

    def run(changes, is_tiled=False, **about):
        tiny_config.merge_from_dict(
            {'model.test_cfg.score_thr': 0.05, 'model.test_cfg.max_per_img': 100}
        )
        tiny_config.merge_from_dict(changes)
        use_exported_model(tiny_config, 'mine.onnx')
        if is_tiled:
            use_tiles(tiny_config, Tiling(64))
        metadata = Metadata(
            **dict(
                classes=['a'],
                resize=RULE,
                score_thr=0.05,
                max_per_img=100,
                shape=[None] * 3,
                raw=False,
                precision='fp32',
                pad=[0] * 3,
            )
            | about
        )
        model = ExportedModel('mine.onnx', runtime=SimpleNamespace(metadata=metadata))
        return model.describe_other_settings(tiny_config)

    return run


@pytest.mark.parametrize(
    ('changes', 'about', 'says'),
    [
        ({}, {}, None),
        ({}, dict(score_thr=None, max_per_img=None), None),  # a raw file
        ({'model.test_cfg.score_thr': 0.5}, {}, 'score_thr is 0.05, not 0.5'),
        ({}, dict(max_per_img=10), 'model.test_cfg.max_per_img is 10, not 100'),
        ({}, dict(resize=dict(RULE, scale=[32, 32])), r'was made for .*32.* not for'),
        ({}, OWN, None),
        ({'model.test_cfg.nms_pre': 7}, {}, None),  # a file that does not say it
        ({'model.test_cfg.nms_pre': 7}, OWN, 'nms_pre is 1000, not 7'),
        ({'model.test_cfg.min_bbox_size': -1}, OWN, 'min_bbox_size is 0, not -1'),
        (
            {'model.test_cfg.nms.iou_threshold': 0.6},
            OWN,
            r"nms is .*'iou_threshold': 0.5.*, not .*'iou_threshold': 0.6",
        ),
        (
            {'model.test_cfg.nms.class_agnostic': False},
            OWN,
            r"nms is .*'class_agnostic': True.*, not .*'class_agnostic': False",
        ),
        ({'model.test_cfg.nms.type': 'soft_nms'}, OWN, r'nms is .*, not .*soft_nms'),
        (
            {'test_dataloader.dataset.pipeline.1.interpolation': 'area'},
            {},
            'not for .*INTER_AREA',
        ),
        (
            {'test_dataloader.dataset.pipeline.0.color_type': 'grayscale'},
            {},
            'color_type=.grayscale',
        ),
    ],
)
def test_settings_that_the_file_does_not_follow_are_named(
    changes, about, says, describe
):
    text = describe(changes, **about)
    if says is None:
        assert text is None
    else:
        assert re.search(says, text), text
        assert text.startswith('mine.onnx differs from the config')


def test_settings_count_on_tiles_too(describe):
    text = describe({'model.test_cfg.score_thr': 0.5}, is_tiled=True)
    assert 'score_thr is 0.05, not 0.5' in text and 'was made for' not in text


@pytest.mark.parametrize('type_', ['Resize', 'mmdet.Resize', Resize])
def test_the_rule_of_one_number(type_, tiny_config):
    (step,) = (
        step
        for step in tiny_config.test_dataloader.dataset.pipeline
        if step.type == 'Resize'
    )
    step.update(type=type_, scale=320)
    assert resize_rule(tiny_config)['scale'] == [320, 320]


@pytest.mark.parametrize(
    ('step', 'changes', 'expected'),
    [
        (1, dict(interpolation='bilinear', backend='cv2'), RULE),
        (1, dict(interpolation='area'), dict(RULE, interpolation='INTER_AREA')),
        (1, dict(interpolation='nearest'), dict(RULE, interpolation='INTER_NEAREST')),
        (1, dict(backend='pillow'), "Resize with backend='pillow'"),
        (0, dict(color_type='color_ignore_orientation'), RULE),
        (0, dict(color_type='grayscale'), "color_type='grayscale'"),
        (0, dict(color_type='unchanged'), "color_type='unchanged'"),
        (0, dict(imdecode_backend='pillow'), "imdecode_backend='pillow'"),
        (0, dict(to_float32=True), 'to_float32=True'),
    ],
)
def test_the_rule_says_all_that_changes_the_pixels(
    step, changes, expected, tiny_config
):
    tiny_config.test_dataloader.dataset.pipeline[step].update(changes)
    if isinstance(expected, dict):
        assert resize_rule(tiny_config) == expected
        return
    with pytest.raises(UserError, match=f'the test pipeline .*{expected}'):
        resize_rule(tiny_config)


def test_opencv_has_the_interpolations_of_the_rule():
    assert _INTERPOLATIONS.keys() | {'bilinear'} == cv2_interp_codes.keys()
    for name, constant in _INTERPOLATIONS.items():
        assert getattr(cv2, constant) == cv2_interp_codes[name]


def test_an_exported_file_replaces_another_one(tiny_config):
    once = copy.deepcopy(tiny_config)
    use_exported_model(once, 'mine.onnx')
    twice = copy.deepcopy(once)
    use_exported_model(twice, 'mine.onnx')
    assert twice.to_dict() == once.to_dict()
    assert nms_of(twice.model) == nms_of(tiny_config.model)


def test_hooks_that_average_the_weights_are_left_out(tiny_config):
    """The file cannot be copied, and has the average already."""
    kept = dict(type='NumClassCheckHook')
    tiny_config.custom_hooks = [dict(type='EMAHook'), kept, dict(type=EMAHook)]
    use_exported_model(tiny_config, 'mine.onnx')
    assert tiny_config.custom_hooks == [kept]


def test_the_preprocessor_beside_the_model_is_that_of_the_detector(tiny_config):
    preprocessor = tiny_config.model.pop('data_preprocessor')
    tiny_config.data_preprocessor = preprocessor
    use_exported_model(tiny_config, 'mine.onnx')
    assert tiny_config.model.detector.data_preprocessor == preprocessor
    assert tiny_config.data_preprocessor is None
