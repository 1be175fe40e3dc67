"""What is wrong with the arguments that a config gives a component."""

import difflib
import linecache
import re
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

from focal_retinanet.cli.naming import few
from focal_retinanet.config.parameters import parameters

_UNEXPECTED = re.compile(r"got an unexpected keyword argument '(\w+)'")
_MISSING = re.compile(r'missing \d+ required [\w-]+ arguments?: (.+)')
# Most arguments that a message lists.
_MOST = 12


def describe_wrong_argument(error: TypeError) -> str | None:
    """Explain that a component does not have an argument, or lacks one.

    Args:
        error: Error of mmengine's registry while it built a component.

    Returns:
        One line, or None if the config does not have to do with the error.
    """
    message = str(error)
    frames = _frames(error)
    building = [i for i, frame in enumerate(frames) if _is_building(frame)]
    if not building:
        return None
    values = frames[building[-1]].f_locals
    target, args = values['obj_cls'], values['args']
    name = _name(values)
    if (found := _UNEXPECTED.search(message)) and found[1] in args:
        advice = _advice(found[1], target, args)
        return f"the config gives {name} the argument '{found[1]}', {advice}"
    # A call further inside is not the config's.
    inside = frames[building[-1] + 1 :]
    is_call = all(frame.f_code.co_name == '__call__' for frame in inside)
    if (found := _MISSING.search(message)) and is_call:
        return f"the config has to give {name} {found[1]}: dict(type='{name}', ...)"
    return None


def describe_refused_value(error: Exception) -> str | None:
    """Explain that a component refuses a value of the config.

    Args:
        error: Error that was raised while mmengine's registry built a component.

    Returns:
        One line, or None unless code raised the error on purpose, with a message.
    """
    frames = _frames(error)
    building = [frame for frame in frames if _is_building(frame)]
    message = str(error.args[0]) if error.args else ''
    if not building or not message or not _is_on_purpose(error):
        return None
    values = building[-1].f_locals
    return f"the config's {_name(values)} is refused: {message}"


def _is_on_purpose(error: Exception) -> bool:
    """Return whether a statement raised the error, and not a call that went wrong."""
    step = error.__traceback__
    while step.tb_next is not None:
        step = step.tb_next
    line = linecache.getline(step.tb_frame.f_code.co_filename, step.tb_lineno)
    return line.lstrip().startswith(('raise ', 'assert '))


def _name(values: Mapping[str, Any]) -> str:
    """Return how a config names the component that is built."""
    name, target = values.get('obj_type'), values['obj_cls']
    return name if isinstance(name, str) else getattr(target, '__name__', str(target))


def _frames(error: Exception) -> list[FrameType]:
    """Return the frames of an error's traceback, the outermost first."""
    frames, step = [], error.__traceback__
    while step is not None:
        frames.append(step.tb_frame)
        step = step.tb_next
    return frames


def _is_building(frame: FrameType) -> bool:
    """Return whether mmengine calls a component in a frame, with a config's values."""
    return (
        frame.f_code.co_name == 'build_from_cfg'
        and {'obj_cls', 'args'} <= frame.f_locals.keys()
    )


def _advice(wrong: str, target: Callable, args: Mapping[str, Any]) -> str:
    names = parameters(target).names
    likely = difflib.get_close_matches(wrong, sorted(names), 2, 0.7)
    if likely:
        return f'which it does not have; do you mean {" or ".join(likely)}?'
    free = sorted(names - args.keys())
    others = f'; it also takes {few(free, _MOST)}' if free else ''
    return f'which it does not have{others}'
