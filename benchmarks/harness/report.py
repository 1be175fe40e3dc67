"""What was measured, for a reader and for a file."""

import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from focal_retinanet.cli.errors import UserError


def check_output(path: Path, force: bool) -> None:
    """Refuse, before anything is measured, a file that cannot be written.

    Raises:
        UserError: it exists, and ``force`` is not given; or it is a folder.
    """
    if path.is_dir():
        raise UserError(f'--json {path} is a folder; name a file')
    if path.exists() and not force:
        raise UserError(
            f'--json {path} exists already: name another file, or add --force'
        )
    if not path.parent.is_dir():
        raise UserError(f'--json {path}: there is no folder {path.parent}')


def write_json(path: Path, record: dict) -> None:
    path.write_text(json.dumps(record, indent=2) + '\n')


def print_result(result: dict, console: Console | None = None) -> None:
    """The table of one case, as :func:`~harness.measure.measure`
    gives it."""
    console = console or Console()
    sizes = ', '.join(f'{key} {value}' for key, value in result['sizes'].items())
    _print_line(console, f'{result["name"]}: {sizes}')
    table = Table()
    table.add_column('contestant')
    columns = ['median ms', 'spread', 'peak MiB', 'ratio to ours']
    if result['least_bytes']:
        columns += ['GB/s', 'of copy']
    for column in columns:
        table.add_column(column, justify='right')
    for row in result['contestants']:
        peak = row['peak_mib']
        cells = [
            row['name'],
            f'{row["median_ms"]:.3f}',
            f'{row["spread"]:.1%}',
            '' if peak is None else f'{peak:.1f}',
            f'{row["ratio"]:.2f}',
        ]
        if result['least_bytes']:
            cells += [f'{row["gb_per_s"]:.1f}', f'{row["of_copy"]:.1%}']
        table.add_row(*cells)
    console.print(table)
    lines = [
        f'{row["name"]}: ' + '; '.join(filter(None, [row['agreement'], row['note']]))
        for row in result['contestants']
        if row['agreement'] or row['note']
    ]
    lines += [f'{name}: {why}, left out' for name, why in result['left_out'].items()]
    for line in lines:
        _print_line(console, line)
    console.print()


def _print_line(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
