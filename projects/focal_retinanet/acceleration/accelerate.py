"""Settings of a config that make the same model faster."""

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger, print_log
from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import channels_last, nn

from focal_retinanet.acceleration.fast_conv import fold_batch_norm, use_winograd

#: The settings, all of them off by default.
SETTINGS = ('channels_last', 'fold_batch_norm', 'winograd', 'compile')

# On a GPU, folding takes more time in Python than it saves in launches, and Winograd's
# algorithm never runs.
_FOR_CPUS = ('fold_batch_norm', 'winograd')

# The parts that torch.compile gets: dense ones, without data-dependent shapes.
_NETWORK = ('backbone', 'neck', 'bbox_head', 'rpn_head')


def accelerate(
    model: nn.Module, cfg: Config, logger: MMLogger | str, device: torch.device | str
) -> None:
    """Make a model faster in place, in the ways that its config asks for.

    Every setting is off by default. Parameters and state-dict keys do not change.

    Args:
        model: Detector, or a wrapper of one such as
            :class:`~focal_retinanet.engine.tiled_model.TiledModel`.
        cfg: Config of the run, with the settings

            - ``fold_batch_norm = True``: Convolutions do the frozen batch norms behind
              them, on a CPU, see :mod:`focal_retinanet.acceleration.folding`.
            - ``channels_last = True``: Feature maps are in NHWC order.
            - ``winograd = True``: Winograd's algorithm computes 3x3 convolutions on a
              CPU, see :mod:`focal_retinanet.acceleration.winograd`. It is fastest with
              ``channels_last``.
            - ``compile = True``, or a dict of arguments of ``torch.compile``: Backbone,
              neck and the convolutions of the head are compiled, by default for all
              input sizes at once. Compiled code consists of PyTorch's own operators, so
              ``fold_batch_norm`` and ``winograd`` do not change it.
        logger: Logger that gets one line per setting.
        device: Device that the model will run on.
    """
    on_cpu = torch.device(device).type == 'cpu'
    without_effect = [name for name in _FOR_CPUS if cfg.get(name) and not on_cpu]
    if without_effect:
        names = ' and '.join(without_effect)
        print_log(f'On {device}, {names} would gain nothing and stay off', logger)
    if on_cpu and cfg.get('fold_batch_norm', False):
        pairs = fold_batch_norm(model)
        print_log(f'{pairs} batch norms are folded while they are frozen', logger)
    if cfg.get('channels_last', False):
        model.to(memory_format=channels_last)
    if on_cpu and cfg.get('winograd', False):
        convs = use_winograd(model)
        print_log(f"{convs} convolutions use Winograd's algorithm on a CPU", logger)
    if options := cfg.get('compile', False):
        options = {} if options is True else dict(options)
        options.setdefault('dynamic', True)
        detector = model
        while is_model_wrapper(detector) or isinstance(detector, BaseTTAModel):
            detector = detector.module
        compiled = [name for name in _NETWORK if hasattr(detector, name)]
        for name in compiled:
            getattr(detector, name).compile(**options)
        if not compiled:
            print_log(
                f'Nothing will be compiled: {type(detector).__name__} has none of '
                f'{", ".join(_NETWORK)}',
                logger,
            )
            return
        print_log(
            f'{", ".join(compiled)} will be compiled, so the first iterations take '
            'minutes',
            logger,
        )
