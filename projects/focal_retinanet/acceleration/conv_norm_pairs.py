"""Which convolutions of a module have a batch norm behind them, by its graph."""

import inspect
from collections import Counter
from collections.abc import Iterator

from torch import fx, nn

from focal_retinanet.ops.fast_paths.step_aside import say_once


def find_conv_norm_pairs(block: nn.Module) -> list[tuple[str, str]]:
    """Pairs of which the second gets what the first gives, and nothing else does.

    The ``forward`` of the block is traced, in training and in evaluation mode, with
    its arguments at their defaults; of its submodules, only the calls are recorded.
    So the graph decides, not the names: a batch norm before its convolution
    (pre-activation) makes no pair, nor does a convolution whose output goes
    elsewhere too, or one that is called twice.

    Args:
        block: a module that calls convolutions and batch norms which are its
            children, or elements of its ``nn.ModuleList``\\ s. It stays as it is.

    Returns:
        Names of ``nn.Conv2d`` and of ``nn.BatchNorm2d``, subclasses among them, in
        the block. None where its ``forward`` cannot be traced, of which a line in
        the log tells.
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
    except Exception as error:  # whatever a module raises that expects a tensor
        say_once(
            f'Batch norms of {type(block).__name__} are not folded: its forward '
            f'cannot be traced ({str(error).splitlines()[0]})'
        )
        return []
    finally:  # what the forward kept is no tensor
        block.__dict__.clear()
        block.__dict__.update(state)
    of_training, of_evaluation = (_pairs_of_graph(graph, block) for graph in graphs)
    return [pair for pair in of_training if pair in of_evaluation]


def count_inputs(block: nn.Module) -> int:
    """Number of arguments of ``forward`` without default."""
    parameters = inspect.signature(block.forward).parameters.values()
    return sum(p.default is p.empty for p in parameters)


class _ShallowTracer(fx.Tracer):
    """Records calls of submodules, but does not look into them."""

    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        return True


def _own_children(module: nn.Module) -> Iterator[nn.Module]:
    """Children, and those of containers that are never called themselves."""
    for child in module.children():
        if type(child) in (nn.ModuleList, nn.ModuleDict):
            yield from _own_children(child)
        else:
            yield child


def _default_options(module: nn.Module) -> dict | None:
    """Arguments that have a default; None where there is no telling of arguments."""
    parameters = inspect.signature(module.forward).parameters.values()
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):
        return None
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def _pairs_of_graph(graph: fx.Graph, block: nn.Module) -> list[tuple[str, str]]:
    modules = dict(block.named_modules())
    # A module that is in the block twice may be called from a place unseen.
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
