"""The optional libraries of exported models; an error names the one that is missing."""

import importlib
from types import ModuleType

from focal_retinanet.cli.errors import UserError


def import_library(module: str, package: str, what: str) -> ModuleType:
    """Import a library of the extra ``[export]``.

    Args:
        module: Name of the module.
        package: Name of the package that pip installs.
        what: What the library is needed for.

    Raises:
        UserError: The library is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f'{what} needs the package {package}: pip install {package}, or pip install '
            f"-e '.[export]' --no-build-isolation ({error})"
        ) from error
