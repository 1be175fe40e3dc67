"""A table of the paper as one file: a base config and the changes of each row.

A table is a config file with two names::

    base = '../retinanet/retinanet_r50_fpn_90k_coco-600px.py'
    rows = {
        'gamma-0': {'model.bbox_head.loss_cls': dict(gamma=0.0, alpha=0.75)},
        'gamma-2': {},
    }

A row holds the same keys and values as ``--cfg-options``, or it is the path of a
config. Every tool that takes a config also takes ``TABLE.py:ROW``.
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
from focal_retinanet.config.read_config import read_config


class Table:
    """The rows of a table file.

    Args:
        file: Path of the table.
        base: Config that replaces the table's own base. Rows that are configs of
            their own then cannot be loaded.

    Attributes:
        name: Name of the file without its suffix.

    Raises:
        FileNotFoundError: The file does not exist.
        UserError: The file is not a table.
    """

    def __init__(self, file: str | Path, base: str | Path | None = None) -> None:
        self.file = Path(file)
        self.name = self.file.stem
        cfg = read_config(self.file)
        if not is_table(cfg):
            raise UserError(f'{file} is not a table: it has no `base` and `rows`')
        self._rows = cfg.rows
        self._has_own_base = base is None
        self.base = self.file.parent / cfg.base if base is None else Path(base)

    @property
    def rows(self) -> list[str]:
        """Names of the rows, in the order of the file."""
        return list(self._rows)

    @functools.cached_property
    def _base_cfg(self) -> Config:
        return read_config(self.base)

    def load(self, row: str) -> Config:
        """Return the config of a row, with the file name ``{table}_{row}.py``.

        Raises:
            UserError: The row does not exist, changes a key that no one reads, or is
                a config of its own although the table's base was replaced.
        """
        if row not in self._rows:
            raise UserError(
                f'{self.file} has no row {row!r}; its rows are {", ".join(self.rows)}'
            )
        changes = self._rows[row]
        if isinstance(changes, str):
            if not self._has_own_base:
                raise UserError(
                    f'row {row!r} of {self.file} is the config {changes}, so it '
                    f'cannot have {self.base} as its base'
                )
            cfg = read_config(self.file.parent / changes)
        else:
            cfg = self._base_cfg.copy()
            merge_options(cfg, changes, f'row {row!r} of {self.file}')
        return Config(
            cfg.to_dict(), cfg_text=cfg.text, filename=f'{self.name}_{row}.py'
        )


def is_table(cfg: Config) -> bool:
    """Return whether a config file is a table."""
    return 'rows' in cfg and 'base' in cfg


def load_config_or_row(name: str, data_from: str | Path | None = None) -> Config:
    """Load a config file, or the row of a table that ``TABLE.py:ROW`` names.

    Args:
        name: Name of the file or the row.
        data_from: Config that provides the data; it replaces the loaded config's own
            ``data_from``.

    Raises:
        FileNotFoundError: The file does not exist.
        UserError: The row does not exist, or a table is named without a row.
    """
    file, row = split_row(name)
    if row is not None:
        return resolve_data_from(Table(file).load(row), data_from)
    cfg = read_config(file)
    if is_table(cfg):
        raise UserError(
            f'{file} is a table; name one of its rows, such as '
            f'{file}:{next(iter(cfg.rows))}, or run all with tools/sweep.py'
        )
    return resolve_data_from(cfg, data_from)


def load_with_options(
    name: str, options: Mapping[str, Any] | None, source: str = '--cfg-options'
) -> Config:
    """Load a config file or row and set options in it.

    Args:
        name: Name of the file or the row.
        options: Values by their keys, or None. ``data_from`` is applied first, so
            that the other options change the config with the new data.
        source: Origin of the options, for errors.

    Raises:
        FileNotFoundError: The file does not exist.
        UserError: The row does not exist, a table is named without a row, or no one
            reads an option.
    """
    rest = dict(options or {})
    cfg = load_config_or_row(name, rest.pop(DATA_FROM, None))
    if cfg.get('default_scope') is None:  # as in mmdet's configs of the new style
        cfg.default_scope = 'mmdet'
    merge_options(cfg, rest, source)
    return cfg


def split_row(name: str) -> tuple[str, str | None]:
    """Split ``TABLE.py:ROW``; the row is None if the name is only a file."""
    file, colon, row = name.rpartition(':')
    return (file, row) if colon and file.endswith('.py') else (name, None)
