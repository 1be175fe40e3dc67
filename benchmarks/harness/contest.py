"""What is compared: contestants that do the same work on the same inputs."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

OURS = 'ours'


class LeftOut(Exception):
    """A peer takes no part in a case; the message says why."""


@dataclass
class Contestant:
    """One implementation, ready to run.

    Args:
        name: as the report has it.
        run: does the work once; its result is what ``agree`` compares.
        agree: takes our result and this one's; says how well they agree, or
            raises :class:`~harness.agreement.Disagreement`.
            None where the two cannot be compared.
        note: what a reader has to know about this contestant.
    """

    name: str
    run: Callable[[], Any]
    agree: Callable[[Any, Any], str] | None = None
    note: str = ''


@dataclass
class Case:
    """One comparison at one set of sizes.

    Args:
        name: of the sub-command.
        sizes: what the work's amount depends on, for the report.
        contestants: ours first.
        left_out: why, by the name of the peer.
        least_bytes: what any implementation has to read and write at least;
            None where memory traffic says nothing.
    """

    name: str
    sizes: dict[str, Any]
    contestants: list[Contestant]
    left_out: dict[str, str] = field(default_factory=dict)
    least_bytes: int | None = None

    @property
    def title(self) -> str:
        sizes = ', '.join(f'{key} {value}' for key, value in self.sizes.items())
        return f'{self.name}: {sizes}'


def add_peers(
    case: Case, wanted: list[str], builders: dict[str, Callable[[], Contestant]]
) -> Case:
    """Add the wanted peers to a case, or the reason why one is left out.

    Args:
        case: gets the contestants.
        wanted: names of peers.
        builders: for each name what makes the contestant; may raise
            :class:`LeftOut`.
    """
    for name in wanted:
        try:
            case.contestants.append(builders[name]())
        except LeftOut as reason:
            case.left_out[name] = str(reason)
    return case


def import_peer(module: str) -> ModuleType:
    """Import a peer's module.

    Raises:
        LeftOut: it is not installed, or does not work with what is.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name == module.split('.')[0]:
            raise LeftOut('not installed') from error
        raise LeftOut(f'cannot be imported: {error}') from error
    except Exception as error:  # a binary that does not fit torch raises anything
        raise LeftOut(f'cannot be imported: {error}') from error
