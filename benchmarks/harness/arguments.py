"""Flags that several cases share, and the types of their values."""

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from harness.inputs import DTYPES, MEMORY_FORMATS


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows the defaults of flags that have one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        has_default = action.default is not None and action.default is not False
        return super()._get_help_string(action) if has_default else action.help


def add_inputs(parser: argparse.ArgumentParser, *names: str, **defaults: Any) -> None:
    """Add some of the flags of :data:`INPUTS`, with other defaults for some."""
    for name in names:
        parser.add_argument('--' + name.replace('_', '-'), **INPUTS[name])
    parser.set_defaults(**defaults)


def add_measurement(parser: argparse.ArgumentParser, peers: list[str]) -> None:
    """Add the flags of every case: peers, device, timing, output."""
    add, known = parser.add_argument, ','.join(peers)
    text = 'peers that take part if they are installed; "none" for ours alone'
    add('--peers', type=_names(peers), default=known, metavar=known, help=text)
    add('--device', choices=['cpu', 'cuda'], default='cpu', help='device of the work')
    add('--runs', type=positive, default=7, help='timed runs of each implementation')
    add('--warmup', type=not_negative, default=2, help='calls before the timed runs')
    text = 'shortest run; short calls are repeated until they take this long'
    add('--min-run-ms', type=float, default=20.0, metavar='MS', help=text)
    add('--seed', type=not_negative, default=0, help='seed of the inputs')
    add('--threads', type=positive, help="torch's threads on the CPU")
    add('--no-compiler', action='store_true', help='do without our C++ kernels')
    add('--out', type=Path, metavar='FILE', help='JSON file that gets the record')
    add('--overwrite', action='store_true', help='write over the file of --out')


def pick(args: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Return some of the arguments by name."""
    return {name: getattr(args, name) for name in names}


def positive(text: str) -> int:
    value = not_negative(text)
    if value == 0:
        raise argparse.ArgumentTypeError('must be at least 1')
    return value


def not_negative(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f'{text!r} is not a number of 0 or more')
    return int(text)


def numbers(kind: Callable[[str], int]) -> Callable[[str], list[int]]:
    """Return the type of a comma-separated list."""
    return lambda text: [kind(part) for part in text.split(',')]


def _names(known: Iterable[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        names = [] if text == 'none' else list(dict.fromkeys(text.split(',')))
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(
                    f'unknown peer {name!r}; known are {", ".join(known)}'
                )
        return names

    return parse


#: What describes the inputs of more than one case.
INPUTS = dict(
    height=dict(type=positive, default=800, help='height of an image in pixels'),
    width=dict(type=positive, default=1344, help='width of an image in pixels'),
    batch=dict(type=positive, default=2, help='images in a batch'),
    objects=dict(
        type=numbers(positive),  # mmdet divides by 1 where an image has no object
        default='8,60',
        metavar='M,M,...',
        help='numbers of objects; the images take them in turn',
    ),
    classes=dict(type=positive, default=80, help='number of classes'),
    dtype=dict(choices=DTYPES, default='fp32', help='type of the inputs'),
    memory_format=dict(
        choices=MEMORY_FORMATS,
        default='contiguous',
        help='memory format of the level maps',
    ),
)
