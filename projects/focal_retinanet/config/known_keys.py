"""Which keys of a config's dicts somebody reads."""

import contextlib
import functools
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence

import mmengine.registry
import torch.distributed
from mmengine.registry import Registry
from mmengine.runner import Runner
from mmengine.utils.dl_utils import set_multi_processing
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.utils.data import DataLoader

from focal_retinanet.config.parameters import Parameters, parameters


def _arguments(*functions: Callable) -> set[str]:
    """Return the arguments of functions that get a dict of a config."""
    names = {name for f in functions for name in inspect.signature(f).parameters}
    return names - {'self', 'parameters', 'distributed'}


#: Top-level keys that mmengine's runner reads besides its parameters.
_READ_BY_RUNNER = {
    *('model_wrapper_cfg', 'sync_bn', 'find_unused_parameters', 'compile'),
    *('activation_checkpointing', 'efficient_conv_bn_eval', 'runner_type'),
    'custom_imports',
}
#: Top-level keys that this package reads.
_READ_HERE = {
    *('channels_last', 'fold_batch_norm', 'winograd', 'tta_model', 'tta_pipeline'),
}
#: Keys that mmengine takes out of any dict.
ALWAYS = {'type', '_scope_', '_delete_'}
#: Keys of dicts that have no type.
_PLAIN_DICTS = {
    **dict.fromkeys(
        [('train_dataloader',), ('val_dataloader',), ('test_dataloader',)],
        parameters(DataLoader).names
        | {'dataset', 'num_batch_per_epoch', 'disable_subprocess_warning'},
    ),
    ('randomness',): _arguments(Runner.set_randomness),
    ('env_cfg',): {'cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'},
    ('env_cfg', 'mp_cfg'): _arguments(set_multi_processing),
    ('env_cfg', 'dist_cfg'): {'backend', 'init_backend', 'port'}
    | _arguments(torch.distributed.init_process_group),
    ('auto_scale_lr',): {'enable', 'base_batch_size'},
    ('optim_wrapper', 'clip_grad'): _arguments(clip_grad_norm_, clip_grad_value_),
    ('custom_imports',): {'imports', 'allow_failed_imports'},
}
_PARAMWISE = {
    *('custom_keys', 'bias_lr_mult', 'bias_decay_mult', 'norm_decay_mult'),
    *('flat_decay_mult', 'dwconv_decay_mult', 'dcn_offset_lr_mult'),
    'bypass_duplicate',
}
#: Keys of a model's dicts that RetinaHead reads, ours or mmdet's.
_READ_BY_RETINA_HEAD = {
    ('model', 'train_cfg'): {
        *('assigner', 'sampler', 'allowed_border', 'pos_weight', 'debug'),
    },
    ('model', 'test_cfg'): {
        *('nms_pre', 'min_bbox_size', 'score_thr', 'nms', 'max_per_img'),
    },
}
#: Types that mmengine's runner fills in where the config names none.
_DEFAULT_TYPES = {
    ('optim_wrapper',): 'OptimWrapper',
    ('train_cfg',): 'EpochBasedTrainLoop',
    ('val_cfg',): 'ValLoop',
    ('test_cfg',): 'TestLoop',
    ('log_processor',): 'LogProcessor',
    ('visualizer',): 'Visualizer',
    ('model_wrapper_cfg',): 'MMDistributedDataParallel',
}
#: Keys that are taken out before the object is built from the rest.
_TAKEN_OUT = {
    'optim_wrapper': {'constructor', 'paramwise_cfg', 'optimizer'},
    'train_cfg': {'by_epoch'},
    'default_hooks.*': {'priority'},
    'custom_hooks.*': {'priority'},
    'param_scheduler.*': {'convert_to_iter_based'},
}


def top_level_keys(cfg: Mapping) -> Parameters:
    """Return the top-level keys of a config that a run reads.

    Args:
        cfg: Whole config, as a dict.
    """
    runner = _type_of(cfg.get('runner_type'), cfg) or [Runner]
    names, is_complete = _union([Runner, *runner])
    names = names | _READ_BY_RUNNER | _READ_HERE
    # The runner only passes it to a model that has none.
    if 'data_preprocessor' in (cfg.get('model') or {}):
        names -= {'data_preprocessor'}
    return Parameters(names - {'self', 'cfg'}, is_complete)


def known_keys(path: Sequence[str], node: Mapping, cfg: Mapping) -> Parameters:
    """Return the keys of one dict of a config that somebody reads.

    Args:
        path: Keys that lead to the dict.
        node: The dict.
        cfg: Whole config, for its default scope.
    """
    path = tuple(path)
    if path in _PLAIN_DICTS:
        known = Parameters(_PLAIN_DICTS[path])
    elif path == ('optim_wrapper', 'paramwise_cfg'):
        known = Parameters(_PARAMWISE, _has_default_constructor(cfg))
    elif path[:-1] == ('optim_wrapper', 'paramwise_cfg', 'custom_keys'):
        known = _of_custom_key(cfg)
    elif path in _READ_BY_RETINA_HEAD:
        known = Parameters(_READ_BY_RETINA_HEAD[path], _has_retina_head(cfg))
    else:
        known = _of_typed_dict(path, node, cfg)
    return Parameters(known.names | ALWAYS, known.is_complete)


def reader(path: Sequence[str], node: Mapping) -> str:
    """Return the name of the type that reads a dict of a config, or its key."""
    type_ = node.get('type', _DEFAULT_TYPES.get(tuple(path)))
    if isinstance(type_, type):
        type_ = type_.__name__
    return str(type_) if type_ else '.'.join(path)


def _of_typed_dict(path: tuple[str, ...], node: Mapping, cfg: Mapping) -> Parameters:
    types = _type_of(node.get('type', _DEFAULT_TYPES.get(path)), cfg)
    if not types:
        return Parameters(frozenset(), False)
    names, is_complete = _union(types)
    place = f'{path[0]}.*' if len(path) == 2 else path[0] if len(path) == 1 else ''
    # Functions of mmcv take keys of their own out of norm_cfg, dcn and the like.
    is_taken_apart = len(path) > 1 and path[-1].endswith(('_cfg', 'dcn'))
    return Parameters(
        names | _TAKEN_OUT.get(place, set()), is_complete and not is_taken_apart
    )


def _of_custom_key(cfg: Mapping) -> Parameters:
    """Return the keys of a group of parameters, which the optimizer reads, too."""
    optimizer = (cfg.get('optim_wrapper') or {}).get('optimizer') or {}
    names, is_complete = _union(_type_of(optimizer.get('type'), cfg))
    is_known = bool(names) and is_complete and _has_default_constructor(cfg)
    return Parameters(names | {'lr_mult', 'decay_mult'}, is_known)


def _has_default_constructor(cfg: Mapping) -> bool:
    constructor = (cfg.get('optim_wrapper') or {}).get('constructor')
    return constructor in (None, 'DefaultOptimWrapperConstructor')


def _has_retina_head(cfg: Mapping) -> bool:
    """Return whether a model's head is a RetinaHead, and no subclass of it."""
    model = cfg.get('model') or {}
    head = model.get('bbox_head')
    if not isinstance(head, Mapping) or model.get('roi_head'):
        return False
    return any(
        inspect.isclass(known)
        and known.__name__ == 'RetinaHead'
        and known.__module__.startswith(('mmdet.', 'focal_retinanet.'))
        for known in _type_of(head.get('type'), cfg)
    )


def _type_of(name: object, cfg: Mapping) -> list[Callable]:
    """Return everything that has this name in any registry."""
    if name is None:
        return []
    if callable(name):
        return [name]
    scope = cfg.get('default_scope') or 'mmengine'
    with contextlib.suppress(ImportError):  # the scope may not be installed
        importlib.import_module(f'{scope}.registry')
    found = [_get(root.children.get(scope, root), str(name)) for root in _roots()]
    return [known for known in dict.fromkeys(found) if callable(known)]


def _get(registry: Registry, name: str) -> Callable | None:
    if '.' in name:
        try:
            return registry.get(name)
        except (RuntimeError, ImportError):
            return None
    # registry.get would try to import a module of this name.
    while registry is not None:
        registry.import_from_location()
        if name in registry.module_dict:
            return registry.module_dict[name]
        registry = registry.parent
    return None


@functools.cache
def _roots() -> tuple[Registry, ...]:
    # Importing mmdet's registries makes them children of mmengine's.
    importlib.import_module('mmdet.registry')
    values = vars(mmengine.registry).values()
    return tuple(value for value in values if isinstance(value, Registry))


def _union(targets: Sequence[Callable]) -> Parameters:
    each = [parameters(target) for target in targets]
    return Parameters(
        frozenset().union(*(one.names for one in each)),
        all(one.is_complete for one in each),
    )
