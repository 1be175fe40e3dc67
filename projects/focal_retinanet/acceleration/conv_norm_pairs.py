"""Pairs of a convolution and the batch norm behind it, found in a module's graph."""

import copy
import inspect
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from focal_retinanet.ops.fast_paths.step_aside import say_once

_COPYING = ('__reduce__', '__reduce_ex__', '__deepcopy__')


@dataclass(frozen=True)
class Pairs:
    """Pairs of a convolution and a batch norm in a block.

    Attributes:
        names: Name of an ``nn.Conv2d`` and name of an ``nn.BatchNorm2d`` (subclasses
            included) of each pair.
        attributes: Numbers, strings, None and tuples of them that ``forward`` read from
            the block during the trace.
    """

    names: tuple[tuple[str, str], ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)


def find_conv_norm_pairs(block: nn.Module) -> Pairs:
    """Return the convolutions whose output goes to one batch norm and nowhere else.

    The ``forward`` of the block is traced in training and in evaluation mode, with the
    defaults of its arguments. The trace records calls of submodules and does not enter
    them. The graph decides and names do not matter: a batch norm before its convolution
    (pre-activation) is not part of a pair, and neither is a convolution that is called
    twice or whose output is used twice.

    Args:
        block: Module that calls its children, or elements of an ``nn.ModuleList``. It
            does not change: copies of it are traced.

    Returns:
        Its pairs. If ``forward`` cannot be traced or the block cannot be copied, there
        are none and one line in the log says why.
    """
    kinds = [type(child) for child in _own_children(block)]
    if not all(
        any(issubclass(kind, wanted) for kind in kinds)
        for wanted in (nn.Conv2d, nn.BatchNorm2d)
    ):
        return Pairs()
    options = _default_options(block)
    if options is None:
        return Pairs()
    # A folding block has a class of its own, which these methods would not know.
    cls = type(block)
    if any(getattr(cls, x, None) is not getattr(object, x, None) for x in _COPYING):
        say_once(
            f'Batch norms of {cls.__name__} are not folded: its class says itself how '
            'it is copied or pickled'
        )
        return Pairs()
    attributes: dict[str, Any] = {}
    found = []
    try:
        with _kept_random_state():
            for mode in (True, False):
                found.append(_trace(block, mode, options, attributes))
    except Exception as error:  # a module that expects a tensor may raise anything
        reason = str(error).partition('\n')[0]
        say_once(
            f'Batch norms of {cls.__name__} are not folded: its forward cannot be '
            f'traced ({reason})'
        )
        return Pairs()
    training_pairs, evaluation_pairs = found
    names = tuple(pair for pair in training_pairs if pair in evaluation_pairs)
    return Pairs(names, attributes)


def count_inputs(block: nn.Module) -> int:
    """Return the number of arguments of ``forward`` that have no default."""
    parameters = inspect.signature(block.forward).parameters.values()
    return sum(p.default is p.empty for p in parameters)


def _trace(
    block: nn.Module, training: bool, options: dict, attributes: dict[str, Any]
) -> list[tuple[str, str]]:
    """Return the pairs in one mode, and add the attributes that ``forward`` read.

    The trace calls the methods of tensors that are no input, such as buffers, and
    whatever else ``forward`` does to its module. So it gets a copy.
    """
    block = copy.deepcopy(block)
    block.training = training
    block.__class__ = _recording_class(type(block), attributes)
    graph = _ShallowTracer().trace(block, concrete_args=options)
    return _pairs_of_graph(graph, block)


def _recording_class(cls: type, attributes: dict[str, Any]) -> type:
    """Return a class of the same behaviour that records which attributes are read."""

    def recording(get):
        def read(self, name):
            value = get(self, name)
            is_own = not name.startswith('__') and name != 'training'
            # What a property reads is recorded itself.
            is_stored = not isinstance(getattr(cls, name, None), property)
            if is_own and is_stored and _is_plain(value):
                attributes.setdefault(name, value)
            return value

        return read

    members = dict(
        __getattribute__=recording(cls.__getattribute__),
        # For a submodule that is None. The trace replaces nn.Module's own function.
        __getattr__=recording(lambda self, name: cls.__getattr__(self, name)),
    )
    return type(cls.__name__, (cls,), members)


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))


@contextmanager
def _kept_random_state() -> Iterator[None]:
    """Give all generators of random numbers the state back that they had."""
    state, numpy_state = random.getstate(), np.random.get_state()
    # A GPU that nobody uses yet stays so.
    gpus = torch.cuda.device_count() if torch.cuda.is_initialized() else 0
    try:
        with torch.random.fork_rng(devices=range(gpus)):
            yield
    finally:
        random.setstate(state)
        np.random.set_state(numpy_state)


class _ShallowTracer(fx.Tracer):
    """Tracer that records calls of submodules and does not enter them."""

    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        return True


def _own_children(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the children, with those of containers in place of the containers."""
    for child in module.children():
        if type(child) in (nn.ModuleList, nn.ModuleDict):
            yield from _own_children(child)
        else:
            yield child


def _default_options(module: nn.Module) -> dict | None:
    """Return arguments with their defaults; None for ``*args`` or ``**kwargs``."""
    parameters = inspect.signature(module.forward).parameters.values()
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):
        return None
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def _pairs_of_graph(graph: fx.Graph, block: nn.Module) -> list[tuple[str, str]]:
    modules = dict(block.named_modules())
    # A module that the block holds twice may also be called under its other name.
    places = Counter(m for _, m in block.named_modules(remove_duplicate=False))
    calls = [node for node in graph.nodes if node.op == 'call_module']
    times_called = Counter(node.target for node in calls)

    def is_alone(node: fx.Node) -> bool:
        return times_called[node.target] == places[modules[node.target]] == 1

    pairs = []
    for node in calls:
        if len(node.args) != 1 or node.kwargs:
            continue
        source = node.args[0]
        if (
            isinstance(modules[node.target], nn.BatchNorm2d)
            and source in calls
            and isinstance(modules[source.target], nn.Conv2d)
            and list(source.users) == [node]
            and is_alone(source)
            and is_alone(node)
        ):
            pairs.append((source.target, node.target))
    return pairs
