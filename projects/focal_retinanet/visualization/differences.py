"""A figure of differences in AP and their intervals, over what the data differ in."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from focal_retinanet.cli.errors import UserError
from focal_retinanet.visualization import style

# Part of the room of a group of points over which its models spread.
_SPREAD = 0.15


def read_differences(file: Path) -> list[dict]:
    """Read the differences of a comparison.

    Args:
        file: JSON file that ``tools/compare.py --json`` wrote.

    Returns:
        List of differences, see
        :func:`~focal_retinanet.evaluation.comparison.compare`.

    Raises:
        UserError: The file cannot be read, is no such comparison, or has no
            differences.
    """
    try:
        comparison = json.loads(file.read_text())
    except OSError as error:
        raise UserError(f'{file}: cannot be read ({error.strerror})') from error
    except ValueError as error:
        raise UserError(f'{file}: is not JSON ({error})') from error
    if not isinstance(comparison, dict) or 'differences' not in comparison:
        raise UserError(f'{file}: is not a comparison by tools/compare.py --json')
    if not comparison['differences']:
        raise UserError(
            f'{file}: has no differences; compare two models or more, with --resamples'
        )
    return comparison['differences']


def draw_differences(
    groups: Sequence[Sequence[dict]],
    labels: Sequence[str],
    file: str | Path,
    positions: Sequence[float] | None = None,
    xlabel: str | None = None,
    is_log: bool = False,
    title: str | None = None,
) -> None:
    """Write a figure with a point and an interval for each difference in AP.

    A model that several comparisons have is one colour; a line joins its points where
    the comparisons have positions.

    Args:
        groups: Differences of each comparison, all to one reference.
        labels: Names of the comparisons, which the axis shows without positions.
        file: PNG, SVG or PDF to write.
        positions: Number of each comparison on the horizontal axis.
        xlabel: Label of the horizontal axis.
        is_log: Whether the horizontal axis is logarithmic.
        title: Title of the figure.

    Raises:
        UserError: The references differ, there are too many models to tell apart, or
            a position does not fit the axis.
    """
    references = {gap['reference'] for group in groups for gap in group}
    if len(references) > 1:
        raise UserError(
            'the comparisons have different references: '
            + ', '.join(sorted(references))
        )
    names = list(dict.fromkeys(gap['model'] for group in groups for gap in group))
    if len(names) > style.MOST_LOOKS:
        raise UserError(
            f'{len(names)} models are too many for one figure: compare at most '
            f'{style.MOST_LOOKS}'
        )
    has_positions = positions is not None
    x = np.array(positions if has_positions else np.arange(len(groups)), float)
    if is_log and (x <= 0).any():
        raise UserError(f'a logarithmic axis has no place for {x.min():g}')
    # Distances are those that one sees.
    places = np.log10(x) if is_log else x
    steps = np.diff(np.unique(places))
    room = _SPREAD * (steps.min() if len(steps) else 1.0)
    shifts = room * np.linspace(-0.5, 0.5, len(names)) if len(names) > 1 else [0.0]
    with style.new_figure(6.4, 3.2 + 0.1 * len(names)) as figure:
        axes = figure.subplots()
        axes.axhline(0, color='#555555', linewidth=1)
        for index, (name, shift) in enumerate(zip(names, shifts, strict=True)):
            found = [
                (place, gap)
                for place, group in zip(places, groups, strict=True)
                for gap in group
                if gap['model'] == name
            ]
            found.sort(key=lambda pair: pair[0])
            at = np.array([place for place, _ in found]) + shift
            ap, low, high = (
                100 * np.array([gap[key] for _, gap in found])
                for key in ('AP', 'low', 'high')
            )
            look = style.line_look(index) | (
                {} if has_positions else dict(linestyle='none')
            )
            at = 10**at if is_log else at
            axes.plot(at, ap, label=style.plain(name), **look)
            # The bootstrap's interval need not hold the difference itself.
            axes.errorbar(
                at,
                (low + high) / 2,
                yerr=(high - low) / 2,
                fmt='none',
                ecolor=look['color'],
                capsize=3,
            )
        if is_log:
            axes.set_xscale('log')
            axes.minorticks_off()
        shown = [f'{value:g}' for value in x] if has_positions else labels
        axes.set_xticks(x, [style.plain(text) for text in shown])
        axes.set_ylabel(style.plain(f'AP - AP of {references.pop()}'))
        if xlabel:
            axes.set_xlabel(style.plain(xlabel))
        figure.legend(loc='outside lower center', ncols=2)
        if title:
            figure.suptitle(style.plain(title))
        style.save_figure(figure, file)
