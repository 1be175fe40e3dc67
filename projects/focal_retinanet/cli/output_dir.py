"""Folders that tools write into, without losing what is there."""

from pathlib import Path

from focal_retinanet.cli.errors import UserError


def check_output_dir(folder: str | Path, flag: str, overwrite: bool) -> Path:
    """The folder, if it may be written into.

    Args:
        folder: to write into, there or not.
        flag: that named it, such as ``--out-dir``.
        overwrite: whether it may have files already.

    Raises:
        UserError: it has, or it is a file.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise UserError(f'{flag} {folder} is a file; name a folder')
    if folder.exists() and any(folder.iterdir()) and not overwrite:
        raise UserError(
            f'{folder} has files already: name another {flag}, or add --overwrite'
        )
    return folder


def make_output_dir(folder: str | Path, flag: str, overwrite: bool) -> Path:
    """As :func:`check_output_dir`, and made where it is not there."""
    folder = check_output_dir(folder, flag, overwrite)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
