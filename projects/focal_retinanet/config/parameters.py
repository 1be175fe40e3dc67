"""What a class or function can be given by name, as far as it can be known."""

import ast
import functools
import inspect
import textwrap
from collections.abc import Callable
from typing import NamedTuple


class Parameters(NamedTuple):
    """Names that something takes.

    Attributes:
        names: the known ones.
        is_complete: whether there are no others.
    """

    names: frozenset[str]
    is_complete: bool


@functools.cache
def parameters(target: Callable) -> Parameters:
    """The parameters of a function, or of a class and those it hands them on to.

    Args:
        target: a class, whose ``**kwargs`` are followed where ``__init__`` does
            nothing but give them to the next class's; or a function.
    """
    if not inspect.isclass(target):
        names, others = _own(target)
        return Parameters(frozenset(names), others is None)
    found: set[str] = set()
    for owner in inspect.getmro(target):
        init = vars(owner).get('__init__')
        if init is None or owner is object:
            continue
        names, others = _own(init)
        found.update(names[1:])
        if others is None:
            return Parameters(frozenset(found), True)
        handed_on = _handed_on(init, others)
        if handed_on is None:
            return Parameters(frozenset(found), False)
        found |= handed_on
    return Parameters(frozenset(found), True)


def _own(function: Callable) -> tuple[list[str], str | None]:
    """Names of a function's parameters, and that of its ``**kwargs``."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some are written in C
        return [''], 'kwargs'
    names, others = [], None
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            others = parameter.name
        elif parameter.kind is not parameter.VAR_POSITIONAL:
            names.append(parameter.name)
    return names, others


def _handed_on(init: Callable, kwargs: str) -> set[str] | None:
    """Names that an ``__init__`` takes from its ``**kwargs``, if the rest of them
    goes to another's alone; otherwise None."""
    try:
        source = inspect.getsource(inspect.unwrap(init))
    except (OSError, TypeError):
        return None
    tree = ast.parse(textwrap.dedent(source))
    uses = sum(isinstance(n, ast.Name) and n.id == kwargs for n in ast.walk(tree))
    named = [name for n in ast.walk(tree) if (name := _named(n, kwargs)) is not None]
    handed_on = sum(
        keyword.arg is None and _is_name(keyword.value, kwargs)
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr == '__init__'
        for keyword in call.keywords
    )
    return set(named) if handed_on and uses == len(named) + handed_on else None


def _named(node: ast.AST, kwargs: str) -> str | None:
    """What a piece of code asks ``kwargs`` for, by a name that is written there."""
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
