"""What was measured: as a table, and as a JSON file."""

import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from focal_retinanet.cli.errors import UserError
from harness.contest import title


def check_output(path: Path, overwrite: bool) -> None:
    """Check, before anything is measured, that a file may be written.

    Raises:
        UserError: It exists and ``overwrite`` is false, or it is a folder, or its
            folder does not exist.
    """
    if path.is_dir():
        raise UserError(f'--out {path} is a folder; name a file')
    if path.exists() and not overwrite:
        raise UserError(
            f'--out {path} exists already: name another file, or add --overwrite'
        )
    if not path.parent.is_dir():
        raise UserError(f'--out {path}: there is no folder {path.parent}')


def write_record(path: Path, record: dict) -> None:
    path.write_text(json.dumps(record, indent=2, default=str) + '\n')


def print_result(result: dict) -> None:
    """Print the table of a case that :func:`~harness.contest.measure` returned."""
    has_bytes = result['least_bytes'] is not None
    columns = ['median ms', 'spread', 'peak MiB', 'ratio to ours']
    if has_bytes:
        columns += ['GB/s', 'of copy']
    table = Table('contestant')
    for column in columns:
        table.add_column(column, justify='right')
    lines = []
    for row in result['contestants']:
        peak = row['peak_mib']
        cells = [
            row['name'],
            f'{row["median_ms"]:.3f}',
            f'{row["spread"]:.1%}',
            '' if peak is None else f'{peak:.1f}',
            f'{row["ratio"]:.2f}',
        ]
        if has_bytes:
            cells += [f'{row["gb_per_s"]:.1f}', f'{row["of_copy"]:.1%}']
        table.add_row(*cells)
        if remarks := list(filter(None, [row['agreement'], row['note']])):
            lines.append(f'{row["name"]}: {"; ".join(remarks)}')
    lines += [f'{name}: {why}, left out' for name, why in result['left_out'].items()]
    console = Console()
    plain = dict(markup=False, highlight=False, soft_wrap=True)
    console.print(title(result['name'], result['sizes']), **plain)
    console.print(table)
    console.print('\n'.join(lines), end='\n\n', **plain)
