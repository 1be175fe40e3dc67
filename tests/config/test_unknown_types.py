"""A misspelt `type` ends a tool with the names that may be meant."""

import pytest
from mmdet.registry import MODELS, TRANSFORMS
from mmengine.registry import HOOKS

from focal_retinanet.cli.errors import clear_errors
from focal_retinanet.config.unknown_types import describe_unknown_type


@pytest.mark.parametrize(
    ('registry', 'name', 'likely'),
    [
        (MODELS, 'focal_retinanet.RetinaHed', 'mean focal_retinanet.RetinaHead or'),
        (MODELS, 'RetinaNett', 'no such model; do you mean RetinaNet?'),
        (MODELS, 'Nonesuch', 'no such model; is it misspelt?'),
        (TRANSFORMS, 'PackDetInput', 'do you mean PackDetInputs'),
        (HOOKS, 'LogerHook', 'no such hook; do you mean LoggerHook?'),
    ],
)
def test_a_misspelt_type(registry, name, likely):
    with pytest.raises(SystemExit) as exit_, clear_errors():
        registry.build(dict(type=name))
    assert exit_.value.code.startswith(f"error: the config has type='{name}', and")
    assert likely in exit_.value.code


def test_other_errors_keep_their_traceback():
    assert describe_unknown_type(KeyError('a')) is None
    assert describe_unknown_type(KeyError()) is None
    with pytest.raises(KeyError, match='a'), clear_errors():
        {}['a']
