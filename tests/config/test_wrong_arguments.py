"""A wrong argument in a config ends a tool with one line."""

import pytest
from mmdet.registry import MODELS, TRANSFORMS
from mmengine.registry import Registry

from focal_retinanet.cli.errors import clear_errors
from focal_retinanet.config.wrong_arguments import describe_wrong_argument

HEAD = dict(type='focal_retinanet.RetinaHead', num_classes=3, in_channels=8)
BROKEN = Registry('broken')


@BROKEN.register_module()
class Broken:
    """A component with a fault of its own."""

    def __init__(self, size=1):
        dict.fromkeys()
        self.set(size)

    def set(self, size):
        self.size = size


@BROKEN.register_module()
class Picky:
    """A component that refuses a value, and has a fault of its own."""

    def __init__(self, size=1):
        self.check(size)
        dict(a=1)[size]

    def check(self, size):
        assert size < 9, 'size is above 8'
        if size < 0:
            raise KeyError(
                f'size is {size}',
            )


@BROKEN.register_module()
class Inner:
    """A component that calls another one wrongly."""

    def __init__(self, size=1):
        Broken(length=size)


def error_of(build):
    with pytest.raises(SystemExit) as exit_, clear_errors():
        build()
    return exit_.value.code


@pytest.mark.parametrize(
    ('registry', 'cfg', 'expected'),
    [
        (
            MODELS,
            dict(type='focal_retinanet.FocalLoss', use_sigmoid=True, gama=2.0),
            "error: the config gives focal_retinanet.FocalLoss the argument 'gama', "
            'which it does not have; do you mean gamma?',
        ),
        # The bases refuse these, three calls further inside.
        (MODELS, HEAD | dict(stacked_conv=2), "'stacked_conv', which it does not have"),
        (MODELS, HEAD | dict(stacked_conv=2), 'do you mean stacked_convs'),
        (TRANSFORMS, dict(type='RandomFlip', xyz=1), 'it also takes direction, prob'),
        # The head is right, the loss in it is not.
        (MODELS, HEAD | dict(loss_bbox=dict(type='L1Loss', beta=1)), 'L1Loss the arg'),
        (
            MODELS,
            dict(type='focal_retinanet.RetinaHead', num_classes=3),
            "error: the config has to give focal_retinanet.RetinaHead 'in_channels': "
            "dict(type='focal_retinanet.RetinaHead', ...)",
        ),
    ],
)
def test_a_wrong_argument(registry, cfg, expected):
    assert expected in error_of(lambda: registry.build(cfg))


@pytest.mark.parametrize(
    'build',
    [
        lambda: BROKEN.build(dict(type='Broken')),
        lambda: BROKEN.build(dict(type='Inner', size=2)),
        lambda: len(3),
        lambda: dict.fromkeys(),
    ],
)
def test_faults_of_the_code_keep_their_traceback(build):
    with pytest.raises(TypeError) as error, clear_errors():
        build()
    assert describe_wrong_argument(error.value) is None


@pytest.mark.parametrize(
    ('registry', 'cfg', 'expected'),
    [
        (
            MODELS,
            dict(type='focal_retinanet.FocalLoss', use_sigmoid=True, gamma=-1),
            "error: the config's focal_retinanet.FocalLoss is refused: gamma must be "
            'a number >= 0, got -1',
        ),
        # The head asks for it, three calls further inside.
        (MODELS, HEAD | dict(pi=0), 'RetinaHead is refused: pi is a probability'),
        (MODELS, dict(type='ResNet', depth=19), 'ResNet is refused: invalid depth 19'),
        (BROKEN, dict(type='Picky', size=9), "config's Picky is refused: size is abov"),
        (BROKEN, dict(type='Picky', size=-1), 'Picky is refused: size is -1'),
    ],
)
def test_a_refused_value_is_named_with_its_component(registry, cfg, expected):
    assert expected in error_of(lambda: registry.build(cfg))


def test_a_bug_in_a_component_keeps_its_traceback():
    with pytest.raises(KeyError), clear_errors():
        BROKEN.build(dict(type='Picky'))
