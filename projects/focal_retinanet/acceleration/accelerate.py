"""What a config may ask for so that the same model runs faster."""

from mmengine.config import Config
from mmengine.logging import MMLogger, print_log
from torch import channels_last, nn

from focal_retinanet.acceleration.fast_conv import fold_batch_norm, use_winograd

# What torch.compile gets: all that is dense and has no data-dependent shapes.
_NETWORK = ('backbone', 'neck', 'bbox_head', 'rpn_head')


def accelerate(model: nn.Module, cfg: Config, logger: MMLogger | str) -> None:
    """Make a model as fast as its config asks for.

    Everything is off by default, which is fp32 in the plain order of its
    operations. Parameters and state-dict keys stay in any case.

    Args:
        model: a detector, changed in place.
        cfg: of the run, with the settings

            - ``channels_last = True``: feature maps in NHWC order;
            - ``fold_batch_norm = True``: frozen batch norms are done by the
              convolutions before them, see :mod:`focal_retinanet.acceleration.folding`;
            - ``winograd = True``: on a CPU, 3x3 convolutions by Winograd's
              algorithm, see :mod:`focal_retinanet.acceleration.winograd`; best with
              ``channels_last``;
            - ``compile = True``, or a dict of arguments of ``torch.compile``:
              backbone, neck and the convolutions of the head are compiled, by
              default for any input size at once. What is compiled are PyTorch's
              own operators: the two settings before this one change nothing in it.
        logger: is told what was done, and what it costs.
    """
    if cfg.get('fold_batch_norm', False):
        pairs = fold_batch_norm(model)
        print_log(f'{pairs} batch norms are folded while they are frozen', logger)
    if cfg.get('channels_last', False):
        model.to(memory_format=channels_last)
    if cfg.get('winograd', False):
        convs = use_winograd(model)
        print_log(f"{convs} convolutions by Winograd's algorithm on a CPU", logger)
    if options := cfg.get('compile', False):
        options = {} if options is True else dict(options)
        options.setdefault('dynamic', True)
        compiled = [name for name in _NETWORK if hasattr(model, name)]
        for name in compiled:
            getattr(model, name).compile(**options)
        print_log(
            f'{", ".join(compiled)} will be compiled: the first iterations take '
            'minutes',
            logger,
        )
