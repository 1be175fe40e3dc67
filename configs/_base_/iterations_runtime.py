"""The same for runs that count iterations: logs and checkpoints count them, too."""

_base_ = './default_runtime.py'

default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=100),
    logger=dict(interval=10, log_metric_by_epoch=False),
)
log_processor = dict(by_epoch=False)
