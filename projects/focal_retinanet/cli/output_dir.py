"""Folders and files that tools write, without losing what is there."""

from collections.abc import Sequence
from pathlib import Path

from focal_retinanet.cli.errors import UserError

# Suffixes of the formats that figures are written in.
_FIGURES = ('.png', '.svg', '.pdf')


def check_output_dir(
    folder: str | Path, overwrite: bool, flag: str = '--out-dir'
) -> Path:
    """Return a folder, if it may be written into.

    Args:
        folder: Folder to write into; it need not exist.
        overwrite: Whether the folder may have files already.
        flag: Argument of the tool that named the folder or a file beside it.

    Raises:
        UserError: The folder has files, or it is a file or below one.
    """
    folder = Path(folder)
    check_is_folder(folder, flag)
    if folder.exists() and any(folder.iterdir()) and not overwrite:
        raise UserError(
            f'{folder} has files already: name another {flag}, or add --overwrite'
        )
    return folder


def check_is_folder(folder: str | Path, flag: str) -> None:
    """Check that a path is a folder, or can become one.

    Args:
        folder: Path to write into.
        flag: Argument of the tool that named it.

    Raises:
        UserError: The path, or one above it, is a file.
    """
    folder = Path(folder)
    existing = next((path for path in (folder, *folder.parents) if path.exists()), None)
    if existing is not None and not existing.is_dir():
        raise UserError(f'{flag} {folder}: {existing} is a file; name a folder')


def make_output_dir(folder: str | Path, overwrite: bool) -> Path:
    """Check a folder as :func:`check_output_dir` does, and make it if it is absent."""
    folder = check_output_dir(folder, overwrite)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def check_output_file(file: str | Path, overwrite: bool, flag: str = '--out') -> Path:
    """Return a file that may be written.

    Args:
        file: File to write; its folder need not exist.
        overwrite: Whether the file may exist already.
        flag: Argument of the tool that named the file or its folder.

    Raises:
        UserError: The file exists, is a folder, or is below a file.
    """
    file = Path(file)
    check_is_folder(file.parent, flag)
    if file.is_dir():
        raise UserError(f'{flag} {file} is a folder; name a file')
    if file.exists() and not overwrite:
        raise UserError(f'{file} exists: name another {flag}, or add --overwrite')
    return file


def check_figure_file(file: Path, overwrite: bool) -> Path:
    """Return a file that a figure may be written to.

    Args:
        file: PNG, SVG or PDF to write; its folder need not exist.
        overwrite: Whether the file may exist already.

    Raises:
        UserError: The file exists, or its suffix is no format of figures.
    """
    if file.suffix.lower() not in _FIGURES:
        raise UserError(f'{file} must end in {", ".join(_FIGURES)}')
    return check_output_file(file, overwrite)


def check_outputs(outputs: Sequence[Path], inputs: Sequence[str | Path]) -> None:
    """Check before long work that its results can be written, and over no input.

    Args:
        outputs: Files to write.
        inputs: Files and folders that the work reads.

    Raises:
        UserError: An output has no folder, is a folder, an input, or the same as
            another output.
    """
    taken = {Path(name).resolve() for name in inputs}
    for out in outputs:
        if not out.parent.is_dir():
            raise UserError(f'there is no folder {out.parent} for {out}')
        if out.is_dir():
            raise UserError(f'{out} is a folder; name a file')
        if out.resolve() in taken:
            raise UserError(
                f'{out} is an input or another output of this call; name another file'
            )
        taken.add(out.resolve())
