"""What a tool prints: progress, results and warnings; the rest is in the log file."""

import contextlib
import logging
import sys
import warnings
from collections.abc import Iterable, Iterator
from logging import FileHandler, LogRecord
from unittest import mock

from mmengine.logging import MMLogger
from pycocotools import coco, cocoeval
from tqdm import tqdm

# Beginnings of mmengine's records that do not matter while training.
_FILE_ONLY = (
    '\n' + '-' * 60 + '\nSystem environment:',
    'Config:\n',
    'Hooks will be executed in the following order',
    'Distributed training is not used, all SyncBatchNorm',
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias',
    'Name of parameter - Initialization information',
    'paramwise_options -- ',
    'Exp name: ',
)
_FROZEN = 'is skipped since its requires_grad=False'
_INIT_INFO = 'torch.Size('


def warn(line: str) -> None:
    """Print a warning to stderr, above any progress bar."""
    tqdm.write(f'warning: {line}', file=sys.stderr)


def progress(items: Iterable, name: str, total: int | None = None) -> tqdm:
    """Return the items with a bar that shows progress on a terminal, then goes.

    Args:
        items: Items to go through.
        name: Name of the items.
        total: Number of the items, if they have no ``len``.
    """
    return tqdm(items, name, total, leave=False, disable=None)


def quiet_console(logger: logging.Logger) -> None:
    """Keep initialisation dumps and third-party warnings off the console.

    Both still go to the logger's file. Warnings of this package are printed, and its
    log records go where mmengine's go.

    Args:
        logger: Logger of mmengine, with a console handler and perhaps a file handler.
    """
    for handler in logger.handlers:
        if not isinstance(handler, FileHandler):
            handler.addFilter(_is_worth_reading)
    package_logger = logging.getLogger('focal_retinanet')
    package_logger.handlers = logger.handlers
    package_logger.setLevel(logger.level)
    package_logger.propagate = False

    show = warnings.showwarning

    def show_or_log(message, category, filename, lineno, file=None, line=None):
        if file is not None or 'focal_retinanet' in filename:
            show(message, category, filename, lineno, file, line)
            return
        text = warnings.formatwarning(message, category, filename, lineno, line)
        record = logger.makeRecord(
            logger.name, logging.WARNING, filename, lineno, text, (), None
        )
        for handler in logger.handlers:
            if isinstance(handler, FileHandler):
                handler.handle(record)

    warnings.showwarning = show_or_log


def quiet_warnings() -> None:
    """Ignore warnings of other packages; for tools without a log file."""
    warnings.filterwarnings('ignore')
    warnings.filterwarnings('default', module='focal_retinanet')


@contextlib.contextmanager
def quiet_mmengine() -> Iterator[None]:
    """Silence what mmengine logs of each config that it reads and model it builds."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def quiet_pycocotools() -> Iterator[None]:
    """Silence what pycocotools prints while it loads, indexes and evaluates."""
    with (
        mock.patch.object(coco, 'print', _print_nothing, create=True),
        mock.patch.object(cocoeval, 'print', _print_nothing, create=True),
    ):
        yield


def _print_nothing(*args, **kwargs) -> None: ...


def _is_worth_reading(record: LogRecord) -> bool:
    message = record.getMessage()
    if record.levelno >= logging.ERROR:
        return True
    if message.startswith(_FILE_ONLY) or message.endswith(_FROZEN):
        return False
    # "\nneck.fpn_convs.0.conv.weight - torch.Size([...]): \nXavierInit: ..."
    return not (message.startswith('\n') and _INIT_INFO in message.split(':')[0])
