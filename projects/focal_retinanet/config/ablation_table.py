"""A table of the paper as one file: a base config and what each row changes.

A table is a config file with two names::

    base = '../retinanet/retinanet_r50_fpn_90k_coco-600px.py'
    rows = {
        'gamma-0': {'model.bbox_head.loss_cls': dict(gamma=0.0, alpha=0.75)},
        'gamma-2': {},
    }

A row is what ``--cfg-options`` would be, or the path of a config of its own.
Every tool that takes a config takes ``TABLE.py:ROW`` as well.
"""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from focal_retinanet.cli.errors import UserError
from focal_retinanet.config.cfg_options import merge_options
from focal_retinanet.config.data_from import KEY as DATA_FROM
from focal_retinanet.config.data_from import resolve_data_from


class Table:
    """The rows of a table file.

    Args:
        file: the table.
        base: config that takes the place of the table's own; then rows that
            are configs of their own cannot be had.

    Attributes:
        name: of the file, without its ending.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it is not a table.
    """

    def __init__(self, file: str | Path, base: str | Path | None = None) -> None:
        self.file = Path(file)
        self.name = self.file.stem
        cfg = Config.fromfile(self.file)
        if not is_table(cfg):
            raise UserError(f'{file} is not a table: it has no `base` and `rows`')
        self._rows = cfg.rows
        self._has_own_base = base is None
        self.base = self.file.parent / cfg.base if base is None else Path(base)

    @property
    def rows(self) -> list[str]:
        """The names of the rows, as the file has them."""
        return list(self._rows)

    @functools.cached_property
    def _base_cfg(self) -> Config:
        return Config.fromfile(self.base)

    def load(self, row: str) -> Config:
        """The config of a row; its file name is ``{table}_{row}.py``.

        Raises:
            UserError: there is no such row, or it is a config of its own and
                the table's base was replaced, or no one reads what it changes.
        """
        if row not in self._rows:
            raise UserError(
                f'{self.file} has no row {row!r}; its rows are {", ".join(self.rows)}'
            )
        changes = self._rows[row]
        if isinstance(changes, str):
            if not self._has_own_base:
                raise UserError(
                    f'row {row!r} of {self.file} is the config {changes}, which can '
                    f'not have {self.base} as its base'
                )
            cfg = Config.fromfile(self.file.parent / changes)
        else:
            cfg = self._base_cfg.copy()
            merge_options(cfg, changes, f'row {row!r} of {self.file}')
        return Config(
            cfg.to_dict(), cfg_text=cfg.text, filename=f'{self.name}_{row}.py'
        )


def is_table(cfg: Config) -> bool:
    """Whether a config file is a table of configs."""
    return 'rows' in cfg and 'base' in cfg


def load_config_or_row(name: str, data_from: str | Path | None = None) -> Config:
    """The config of a file, or with ``TABLE.py:ROW`` that of a table's row.

    Args:
        name: of the file or the row.
        data_from: config whose data it takes, in place of its own ``data_from``.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: there is no such row, or a table is named without one.
    """
    file, row = split_row(name)
    if row is not None:
        return resolve_data_from(Table(file).load(row), data_from)
    cfg = Config.fromfile(file)
    if is_table(cfg):
        raise UserError(
            f'{file} is a table; name one of its rows, such as '
            f'{file}:{next(iter(cfg.rows))}, or run all with tools/sweep.py'
        )
    return resolve_data_from(cfg, data_from)


def load_with_options(
    name: str, options: Mapping[str, Any] | None, source: str = '--cfg-options'
) -> Config:
    """The config of a file or row with a tool's ``--cfg-options``.

    Args:
        name: name of the file or the row.
        options: values by their keys, or None. ``data_from`` among them is carried
            out first, so that the others are on top of that data's.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: there is no such row, a table is named without one, or no one
            reads an option.
    """
    rest = dict(options or {})
    cfg = load_config_or_row(name, rest.pop(DATA_FROM, None))
    merge_options(cfg, rest, source)
    return cfg


def split_row(name: str) -> tuple[str, str | None]:
    """``TABLE.py:ROW`` in two; the row is None for the name of a file."""
    file, colon, row = name.rpartition(':')
    return (file, row) if colon and file.endswith('.py') else (name, None)
