"""Keyword arguments that a class or function accepts, found by reading its code."""

import ast
import functools
import inspect
import textwrap
from collections.abc import Callable, Set
from typing import NamedTuple


class Parameters(NamedTuple):
    """Names of keyword arguments.

    Attributes:
        names: Known names.
        is_complete: Whether no other name is accepted.
    """

    names: Set[str]
    is_complete: bool = True


@functools.cache
def parameters(target: Callable) -> Parameters:
    """Return the parameters of a function, or of a class and its bases.

    Args:
        target: Function, or class. The ``**kwargs`` of a class are followed if its
            ``__init__`` only passes them on to the ``__init__`` of its base.
    """
    if not inspect.isclass(target):
        names, kwargs = _signature(target)
        return Parameters(frozenset(names), kwargs is None)
    found: set[str] = set()
    for owner in inspect.getmro(target):
        init = vars(owner).get('__init__')
        if init is None or owner is object:
            continue
        names, kwargs = _signature(init)
        found.update(names[1:])
        taken = set() if kwargs is None else _taken_from_kwargs(init, kwargs)
        if kwargs is None or taken is None:
            return Parameters(frozenset(found), kwargs is None)
        found |= taken
    return Parameters(frozenset(found))


def _signature(function: Callable) -> tuple[list[str], str | None]:
    """Return the names of the parameters, and the name of ``**kwargs``."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some are written in C
        return [''], 'kwargs'
    kinds = {p.name: p.kind for p in signature.parameters.values()}
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    names = [name for name, kind in kinds.items() if kind not in variable]
    kwargs = [name for name, kind in kinds.items() if kind is variable[1]]
    return names, kwargs[0] if kwargs else None


def _taken_from_kwargs(init: Callable, kwargs: str) -> set[str] | None:
    """Return the names that an ``__init__`` reads from its ``**kwargs``.

    None if it does anything else with them than to pass the rest on.
    """
    try:
        source = inspect.getsource(inspect.unwrap(init))
    except (OSError, TypeError):
        return None
    nodes = list(ast.walk(ast.parse(textwrap.dedent(source))))
    uses = sum(isinstance(n, ast.Name) and n.id == kwargs for n in nodes)
    read = [name for n in nodes if (name := _name_read(n, kwargs)) is not None]
    passed_on = sum(
        keyword.arg is None and _is_name(keyword.value, kwargs)
        for node in nodes
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == '__init__'
        for keyword in node.keywords
    )
    return set(read) if passed_on and uses == len(read) + passed_on else None


def _name_read(node: ast.AST, kwargs: str) -> str | None:
    """Return the literal name that an expression looks up in ``kwargs``, if any."""
    match node:
        case ast.Subscript(value=owner, slice=ast.Constant(value=str(name))):
            pass
        case ast.Call(
            func=ast.Attribute(value=owner, attr='get' | 'pop' | 'setdefault'),
            args=[ast.Constant(value=str(name)), *_],
        ):
            pass
        case ast.Compare(
            left=ast.Constant(value=str(name)),
            ops=[ast.In() | ast.NotIn()],
            comparators=[owner],
        ):
            pass
        case _:
            return None
    return name if _is_name(owner, kwargs) else None


def _is_name(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name
