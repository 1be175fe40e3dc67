"""What an exported file says of itself, beside the config that it is used with."""

import re
from types import SimpleNamespace

import pytest
from mmdet.datasets.transforms import Resize

from focal_retinanet.export import ExportedModel, use_exported_model
from focal_retinanet.export.metadata import Metadata, resize_rule

RULE = dict(scale=[64, 64], keep_ratio=True)


@pytest.fixture
def describe(tiny_config):
    """Return a function that compares a file with the config and its changes."""

    def run(changes, **about):
        tiny_config.merge_from_dict(
            {'model.test_cfg.score_thr': 0.05, 'model.test_cfg.max_per_img': 100}
        )
        tiny_config.merge_from_dict(changes)
        use_exported_model(tiny_config, 'mine.onnx')
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


@pytest.mark.parametrize('type_', ['Resize', 'mmdet.Resize', Resize])
def test_the_rule_of_one_number(type_, tiny_config):
    (step,) = (
        step
        for step in tiny_config.test_dataloader.dataset.pipeline
        if step.type == 'Resize'
    )
    step.update(type=type_, scale=320)
    assert resize_rule(tiny_config)['scale'] == [320, 320]
