"""Pairs of a convolution and the batch norm behind it, found in a module's graph."""

import inspect
from collections import Counter
from collections.abc import Iterator

from torch import fx, nn

from focal_retinanet.ops.fast_paths.step_aside import say_once


def find_conv_norm_pairs(block: nn.Module) -> list[tuple[str, str]]:
    """Return the convolutions whose output goes to one batch norm and nowhere else.

    The ``forward`` of the block is traced in training and in evaluation mode, with the
    defaults of its arguments. The trace records calls of submodules and does not enter
    them. The graph decides and names do not matter: a batch norm before its convolution
    (pre-activation) is not part of a pair, and neither is a convolution that is called
    twice or whose output is used twice.

    Args:
        block: Module that calls its children, or elements of an ``nn.ModuleList``. It
            does not change.

    Returns:
        Name of an ``nn.Conv2d`` and name of an ``nn.BatchNorm2d`` (subclasses included)
        of each pair. If ``forward`` cannot be traced, the list is empty and one line in
        the log says why.
    """
    kinds = [type(child) for child in _own_children(block)]
    if not all(
        any(issubclass(kind, wanted) for kind in kinds)
        for wanted in (nn.Conv2d, nn.BatchNorm2d)
    ):
        return []
    options = _default_options(block)
    if options is None:
        return []
    state = dict(block.__dict__)
    graphs = []
    try:
        for block.training in (True, False):
            graphs.append(_ShallowTracer().trace(block, concrete_args=options))
    except Exception as error:  # a module that expects a tensor may raise anything
        say_once(
            f'Batch norms of {type(block).__name__} are not folded: its forward '
            f'cannot be traced ({str(error).splitlines()[0]})'
        )
        return []
    finally:  # forward may have stored proxies in place of tensors
        block.__dict__.clear()
        block.__dict__.update(state)
    training_pairs, evaluation_pairs = (_pairs_of_graph(g, block) for g in graphs)
    return [pair for pair in training_pairs if pair in evaluation_pairs]


def count_inputs(block: nn.Module) -> int:
    """Return the number of arguments of ``forward`` that have no default."""
    parameters = inspect.signature(block.forward).parameters.values()
    return sum(p.default is p.empty for p in parameters)


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
