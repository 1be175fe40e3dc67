"""Config files, read by mmengine, with errors that name the file and the line."""

import ast
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from mmengine.config import Config

from focal_retinanet.cli.errors import UserError


def read_config(file: str | Path) -> Config:
    """Read a config file and what it inherits from.

    Raises:
        FileNotFoundError: There is no such file.
        UserError: The file, or one that it inherits from, is no config.
    """
    if Path(file).is_dir():
        raise UserError(f'{file} is a folder; name a config')
    if not Path(file).exists():
        raise FileNotFoundError(f'there is no config {file}')
    try:
        return Config.fromfile(file)
    except (UserError, FileNotFoundError):
        raise
    except SyntaxError as error:
        _name_syntax_error(Path(file), error)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        kind = type(error).__name__
        if last.name == '<module>':  # a line of a config, and not of mmengine
            text = f'{last.filename}, line {last.lineno}: {kind}: {error}'
        elif Path(file).suffix != '.py':
            text = f'{file} is no config, which ends in .py as a rule ({kind}: {error})'
        else:
            raise
        raise UserError(text) from error


def _name_syntax_error(file: Path, error: SyntaxError) -> NoReturn:
    """Raise the error with the name of its file, which mmengine's lacks."""
    for part in _with_bases(file):
        try:
            ast.parse(part.read_text())
        except SyntaxError as found:
            line = (found.text or '').strip()
            raise UserError(
                f'{part}, line {found.lineno}: {found.msg}: {line}'
            ) from error
    if isinstance(error.__context__, SyntaxError):  # mmengine's names a temporary file
        error = error.__context__
    raise UserError(
        f'{file}, line {error.lineno}: {error.msg}, in the text that mmengine makes of '
        'it. It puts in the name of the folder, for example: are there quotes in it?'
    ) from error


def _with_bases(file: Path) -> Iterator[Path]:
    """Yield a config and those that it inherits from; none of a wrong file."""
    yield file
    try:
        body = ast.parse(file.read_text()).body
    except (SyntaxError, OSError):
        return
    for statement in body:
        names = [getattr(x, 'id', None) for x in getattr(statement, 'targets', [])]
        if '_base_' in names:
            bases = ast.literal_eval(statement.value)
            for base in [bases] if isinstance(bases, str) else bases:
                if '::' not in base:  # of another package
                    yield from _with_bases(file.parent / base)
