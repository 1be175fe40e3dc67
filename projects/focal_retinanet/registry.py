"""Child registries of mmdet's, with the scope ``focal_retinanet``.

Any config reaches a component as ``type='focal_retinanet.NAME'``. mmdet's own
components of the same names stay as they are.
"""

from focal_retinanet.stack import check_stack

check_stack()  # before the imports below, which fail in less clear ways

# ruff: noqa: E402
from mmdet.registry import HOOKS as MMDET_HOOKS
from mmdet.registry import METRICS as MMDET_METRICS
from mmdet.registry import MODELS as MMDET_MODELS
from mmdet.registry import OPTIM_WRAPPERS as MMDET_OPTIM_WRAPPERS
from mmdet.registry import TASK_UTILS as MMDET_TASK_UTILS
from mmdet.registry import VISUALIZERS as MMDET_VISUALIZERS
from mmengine.registry import RUNNERS as MMENGINE_RUNNERS
from mmengine.registry import Registry, build_runner_from_cfg

SCOPE = 'focal_retinanet'

MODELS = Registry(
    'model',
    parent=MMDET_MODELS,
    scope=SCOPE,
    locations=['focal_retinanet.models', 'focal_retinanet.export'],
)
TASK_UTILS = Registry(
    'task util',
    parent=MMDET_TASK_UTILS,
    scope=SCOPE,
    locations=['focal_retinanet.models'],
)
# mmengine's own child: a runner is built before there is a default scope.
RUNNERS = Registry(
    'runner',
    build_func=build_runner_from_cfg,
    parent=MMENGINE_RUNNERS,
    scope=SCOPE,
    locations=['focal_retinanet.engine.runner'],
)
HOOKS = Registry(
    'hook', parent=MMDET_HOOKS, scope=SCOPE, locations=['focal_retinanet.engine.hooks']
)
OPTIM_WRAPPERS = Registry(
    'optim_wrapper',
    parent=MMDET_OPTIM_WRAPPERS,
    scope=SCOPE,
    locations=['focal_retinanet.acceleration'],
)
METRICS = Registry(
    'metric',
    parent=MMDET_METRICS,
    scope=SCOPE,
    locations=['focal_retinanet.evaluation'],
)
VISUALIZERS = Registry(
    'visualizer',
    parent=MMDET_VISUALIZERS,
    scope=SCOPE,
    locations=['focal_retinanet.visualization'],
)
