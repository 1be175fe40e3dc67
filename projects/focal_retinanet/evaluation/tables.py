"""Tables of a comparison, as in a model zoo."""

import csv
import io
from collections.abc import Callable, Sequence

from terminaltables import AsciiTable, GithubFlavoredMarkdownTable

NOT_MEASURED = 'not measured'
#: The AP where there are no objects.
NO_OBJECT = '-'

#: Columns of the models' table: head, and text for a row.
_COLUMNS: dict[str, Callable[[dict], str]] = {
    'model': lambda row: row['name'],
    'Lr schd': lambda row: row['schedule'] or '',
    'params (M)': lambda row: _number(row['params'], 1e-6, '.2f'),
    'FLOPs (G)': lambda row: _number(row['flops'], 1e-9, '.2f'),
    'mem (GB)': lambda row: _number(row['memory_gb'], 1, '.1f'),
    's/iter': lambda row: _number(row['seconds_per_iter'], 1, '.3f'),
    'img/s': lambda row: _number(row['images_per_second'], 1, '.1f'),
    'AP': lambda row: _ap(row, 'AP') + _deviation(row),
    'AP50': lambda row: _ap(row, 'AP50'),
    'AP75': lambda row: _ap(row, 'AP75'),
    'APs': lambda row: _ap(row, 'APs'),
    'APm': lambda row: _ap(row, 'APm'),
    'APl': lambda row: _ap(row, 'APl'),
    'seeds': lambda row: ' '.join(
        str(one['seed']) for one in row['seeds'] if one['seed'] is not None
    ),
}
# Columns of a CSV for a model's difference to the reference.
_DIFFERENCE = ('reference', 'AP', 'low', 'high', 'confidence', 'p_images', 'p_seeds')
_DIFFERENCE += ('p_corrected', 'within_noise')


def models_table(comparison: dict) -> list[list[str]]:
    """Return rows of text, the heads first, without columns that are empty.

    APs are in percent, with their standard deviation over the seeds.
    """
    rows = [[text(row) for text in _COLUMNS.values()] for row in comparison['models']]
    empty = {'', '-', NOT_MEASURED}
    kept = [
        i
        for i, name in enumerate(_COLUMNS)
        if name.startswith('AP') or any(row[i] not in empty for row in rows)
    ]
    return [[row[i] for i in kept] for row in [list(_COLUMNS), *rows]]


def classes_table(comparison: dict) -> list[list[str]]:
    """Return rows of text, the heads first: the AP of each class in percent.

    A row is a class, or a model if there are more models than classes.
    """
    names = [row['name'] for row in comparison['models']]
    columns = [
        [name, *(NO_OBJECT if ap is None else f'{100 * ap:.1f}' for ap in aps)]
        for name, aps in zip(
            names, (row['class_AP'] for row in comparison['models']), strict=True
        )
    ]
    if len(names) > len(comparison['categories']):
        return [['AP', *comparison['categories']], *columns]
    rows = zip(['AP', *comparison['categories']], *columns, strict=True)
    return [list(row) for row in rows]


def differences_table(comparison: dict) -> list[list[str]]:
    """Return rows of text, the heads first, in points of AP."""
    percent = f'{100 * comparison["confidence"]:g} %'
    method = comparison['correction']
    heads = ['p over seeds', *([f'p by {method}'] if method else [])]
    keys = ['p_seeds', *(['p_corrected'] if method else [])]
    rows = [['model', 'AP difference', f'{percent} interval', *heads, '']]
    for gap in comparison['differences']:
        rows.append(
            [
                gap['model'],
                f'{100 * gap["AP"]:+.1f}',
                f'{100 * gap["low"]:+.1f} to {100 * gap["high"]:+.1f}',
                *('-' if gap[key] is None else f'{gap[key]:.3f}' for key in keys),
                verdict(gap),
            ]
        )
    return rows


def verdict(gap: dict) -> str:
    """Return a difference in one or two words."""
    if gap['within_noise']:
        return 'within noise'
    return 'better' if gap['AP'] > 0 else 'worse'


def as_text(rows: Sequence[Sequence[str]]) -> str:
    """Format rows for a terminal."""
    table = AsciiTable(rows)
    table.outer_border = False
    return table.table


def as_markdown(rows: Sequence[Sequence[str]]) -> str:
    """Format rows for a README."""
    escaped = [[cell.replace('|', r'\|') for cell in row] for row in rows]
    return GithubFlavoredMarkdownTable(escaped).table


def as_csv(comparison: dict) -> str:
    """Format the models' numbers and differences at full precision.

    The AP of a class is in the column ``AP of NAME``.
    """
    gaps = {gap['model']: gap for gap in comparison['differences']}
    rows = []
    for model in comparison['models']:
        gap = gaps.get(model['name'], {})
        left_out = ('seeds', 'class_AP')
        row = {key: value for key, value in model.items() if key not in left_out}
        row['flops_input'] = 'x'.join(map(str, model['flops_input'] or ()))
        row['seeds'] = ' '.join(str(one['seed']) for one in model['seeds'])
        for key in _DIFFERENCE:
            row[f'difference_{key}'] = gap.get(key)
        for name, ap in zip(comparison['categories'], model['class_AP'], strict=True):
            row[f'AP of {name}'] = ap
        rows.append(row)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def notes(comparison: dict) -> list[str]:
    """Return sentences that say what the tables show and how they were computed."""
    classes, gaps = comparison['categories'], comparison['differences']
    has_seeds = any(row['AP_sd'] is not None for row in comparison['models'])
    lines = [
        f'{comparison["ann_file"]}: {comparison["images"]} images, {len(classes)} '
        f'class{"" if len(classes) == 1 else "es"}. AP in percent'
        f'{", ± standard deviation over seeds" if has_seeds else ""}.'
    ]
    timed = ('seconds_per_iter', 'images_per_second')
    if any(row[key] is not None for row in comparison['models'] for key in timed):
        lines.append(
            's/iter and img/s depend on the machine and on what else ran there, so '
            'equal models may differ.'
        )
    if not gaps:
        return lines
    lines.append(
        f'Differences are to {gaps[0]["reference"]}; intervals by paired bootstrap over '
        f'the images ({comparison["resamples"]} resamples, seed {comparison["seed"]}).'
    )
    lopsided = [
        f'{gap["model"]} ({100 * (gap["AP"] + gap["bias"]):+.1f} instead of '
        f'{100 * gap["AP"]:+.1f})'
        for gap in gaps
        if gap['lopsided']
    ]
    if lopsided:
        lines.append(
            'Resamples have a higher AP than the images, which does not cancel for '
            f'{", ".join(lopsided)}: the interval is lopsided.'
        )
    if any(gap['p_seeds'] is None for gap in gaps):
        lines.append(
            'Where a model has one seed, whether another seed turns the difference '
            'around is not measured.'
        )
    if comparison['correction']:
        lines.append(
            f'Intervals and verdicts are corrected for {len(gaps)} '
            f'comparison{"s" if len(gaps) > 1 else ""} by '
            f"{comparison['correction']}'s method: all hold together at "
            f'{100 * comparison["confidence"]:g} %.'
        )
    elif len(gaps) > 1:
        lines.append(
            f'Each is at {100 * comparison["confidence"]:g} % by itself: of many, some '
            'will look real by chance.'
        )
    return lines


def _number(value: float | None, scale: float, form: str) -> str:
    return NOT_MEASURED if value is None else format(value * scale, form)


def _ap(row: dict, name: str) -> str:
    """AP in percent; '-' if there are no objects of that size."""
    return NO_OBJECT if row[name] is None else f'{100 * row[name]:.1f}'


def _deviation(row: dict) -> str:
    return '' if row['AP_sd'] is None else f' ± {100 * row["AP_sd"]:.1f}'
