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

#: What mmengine's runner reads from the config itself, beside its parameters.
_OF_THE_RUNNER = {
    *('model_wrapper_cfg', 'sync_bn', 'find_unused_parameters', 'compile'),
    *('activation_checkpointing', 'efficient_conv_bn_eval', 'runner_type'),
    'custom_imports',
}
#: What this package reads from it.
_OF_THIS_PACKAGE = {
    *('channels_last', 'fold_batch_norm', 'winograd', 'tta_model', 'tta_pipeline'),
}
#: Keys of any dict, which mmengine itself takes out.
_ALWAYS = {'type', '_scope_', '_delete_'}
_LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
_PARAMWISE = {
    *('custom_keys', 'bias_lr_mult', 'bias_decay_mult', 'norm_decay_mult'),
    *('flat_decay_mult', 'dwconv_decay_mult', 'dcn_offset_lr_mult'),
    'bypass_duplicate',
}
# mmengine's runner gives these types where the config names none.
_DEFAULT_TYPES = {
    ('optim_wrapper',): 'OptimWrapper',
    ('train_cfg',): 'EpochBasedTrainLoop',
    ('val_cfg',): 'ValLoop',
    ('test_cfg',): 'TestLoop',
    ('log_processor',): 'LogProcessor',
    ('visualizer',): 'Visualizer',
    ('model_wrapper_cfg',): 'MMDistributedDataParallel',
}
# Whatever builds them takes these out first.
_TAKEN_OUT = {
    'optim_wrapper': {'constructor', 'paramwise_cfg', 'optimizer'},
    'train_cfg': {'by_epoch'},
    'default_hooks.*': {'priority'},
    'custom_hooks.*': {'priority'},
    'param_scheduler.*': {'convert_to_iter_based'},
}


def top_level_keys(cfg: Mapping) -> Parameters:
    """The keys of a whole config that a run reads.

    Args:
        cfg: the config, as a dict.
    """
    runner = _type_of(cfg.get('runner_type'), cfg) or [Runner]
    names, is_complete = _union([Runner, *runner])
    names = names | _OF_THE_RUNNER | _OF_THIS_PACKAGE
    # The runner takes it for a model that has none.
    if 'data_preprocessor' in (cfg.get('model') or {}):
        names -= {'data_preprocessor'}
    return Parameters(names - {'self', 'cfg'}, is_complete)


def known_keys(path: Sequence[str], node: Mapping, cfg: Mapping) -> Parameters:
    """The keys of one dict of a config that are read.

    Args:
        path: keys that lead to the dict.
        node: the dict.
        cfg: the whole config, for its scope.
    """
    known = _of_plain_dict(tuple(path), cfg)
    if known is None:
        known = _of_typed_dict(tuple(path), node, cfg)
    return Parameters(known.names | _ALWAYS, known.is_complete)


def reader(path: Sequence[str], node: Mapping) -> str:
    """Who reads a dict of a config, in words."""
    type_ = node.get('type', _DEFAULT_TYPES.get(tuple(path)))
    if isinstance(type_, type):
        type_ = type_.__name__
    return str(type_) if type_ else '.'.join(path)


def _of_plain_dict(path: tuple[str, ...], cfg: Mapping) -> Parameters | None:
    """For a dict of which mmengine or torch read keys without its having a type."""
    if len(path) == 1 and path[0] in _LOADERS:
        others = {'dataset', 'num_batch_per_epoch', 'disable_subprocess_warning'}
        return _all(parameters(DataLoader).names | others)
    if path == ('optim_wrapper', 'paramwise_cfg'):
        is_default = (cfg.get('optim_wrapper') or {}).get('constructor') is None
        return Parameters(frozenset(_PARAMWISE), is_default)
    if path[:-1] == ('optim_wrapper', 'paramwise_cfg', 'custom_keys'):
        return _all({'lr_mult', 'decay_mult'})
    plain: dict[tuple[str, ...], Callable[[], set[str]]] = {
        ('randomness',): lambda: _names(Runner.set_randomness),
        ('env_cfg',): lambda: {
            *('cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit')
        },
        ('env_cfg', 'mp_cfg'): lambda: _names(set_multi_processing) - {'distributed'},
        ('env_cfg', 'dist_cfg'): lambda: {
            *('backend', 'init_backend', 'port'),
            *_names(torch.distributed.init_process_group),
        },
        ('auto_scale_lr',): lambda: {'enable', 'base_batch_size'},
        ('optim_wrapper', 'clip_grad'): lambda: (
            _names(clip_grad_norm_) | _names(clip_grad_value_)
        ),
        ('custom_imports',): lambda: {'imports', 'allow_failed_imports'},
    }
    return _all(plain[path]()) if path in plain else None


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


def _type_of(name: object, cfg: Mapping) -> list[Callable]:
    """Whatever has this name in any registry; without one, nothing."""
    if name is None:
        return []
    if callable(name):
        return [name]
    scope = cfg.get('default_scope') or 'mmengine'
    return list(_lookup(str(name), scope))


def _lookup(name: str, scope: str) -> tuple[Callable, ...]:
    with contextlib.suppress(ImportError):  # of a scope that is not installed
        importlib.import_module(f'{scope}.registry')
    found = []
    for root in _roots():
        known = _get(root.children.get(scope, root), name)
        if callable(known) and known not in found:
            found.append(known)
    return tuple(found)


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
    # Its registries are children of mmengine's from then on.
    importlib.import_module('mmdet.registry')
    values = vars(mmengine.registry).values()
    return tuple(value for value in values if isinstance(value, Registry))


def _union(targets: Sequence[Callable]) -> Parameters:
    each = [parameters(target) for target in targets]
    return Parameters(
        frozenset().union(*(one.names for one in each)),
        all(one.is_complete for one in each),
    )


def _names(function: Callable) -> set[str]:
    return set(inspect.signature(function).parameters) - {'self', 'parameters'}


def _all(names: set[str] | frozenset[str]) -> Parameters:
    return Parameters(frozenset(names), True)
