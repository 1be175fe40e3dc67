"""What a run prints: progress and results; everything else is in the log file."""

import contextlib
import logging
import warnings
from collections.abc import Iterator
from logging import FileHandler, LogRecord

import pycocotools.coco
from mmengine.logging import MMLogger

# Beginnings of mmengine's records that tell a user nothing while training.
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


def quiet_console(logger: logging.Logger) -> None:
    """Keep initialisation dumps and third-party warnings off the console.

    Both still go to the logger's file. Warnings that this package gives are
    printed, and what it logs goes where mmengine's records go.

    Args:
        logger: mmengine's logger, with a console and perhaps a file handler.
    """
    for handler in logger.handlers:
        if not isinstance(handler, FileHandler):
            handler.addFilter(_is_worth_reading)
    package_logger = logging.getLogger('focal_retinanet')
    package_logger.handlers = logger.handlers
    package_logger.setLevel(logger.level)
    package_logger.propagate = False

    # "creating index...": a dozen lines for the three files of a run.
    pycocotools.coco.print = lambda *args, **kwargs: None

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
    """Print no warning that is not this package's; for tools without a log file."""
    warnings.filterwarnings('ignore')
    warnings.filterwarnings('default', module='focal_retinanet')


@contextlib.contextmanager
def quiet_mmengine() -> Iterator[None]:
    """Without what mmengine tells of each config that is read or model that is built."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _is_worth_reading(record: LogRecord) -> bool:
    message = record.getMessage()
    if record.levelno >= logging.ERROR:
        return True
    if message.startswith(_FILE_ONLY) or message.endswith(_FROZEN):
        return False
    # "\nneck.fpn_convs.0.conv.weight - torch.Size([...]): \nXavierInit: ..."
    return not (message.startswith('\n') and _INIT_INFO in message.split(':')[0])
