"""Faster convolutions with the same parameters and results.

1. A convolution does the frozen batch norm behind it, see
   :mod:`focal_retinanet.acceleration.folding`. In training mode, batch norm is computed
   as usual, so the modes may alternate.
2. On a CPU, 3x3 convolutions take a quarter of the multiplications, see
   :mod:`focal_retinanet.acceleration.winograd`.

State-dict keys do not change, and gradients reach the same parameters. The modules may
be called in every way that PyTorch's own may be. If a fast path cannot serve a call,
PyTorch's own operators compute it, and one line in the log says why.
"""

from dataclasses import replace

from torch import Tensor, fx, nn

from focal_retinanet.acceleration import folding, packed
from focal_retinanet.acceleration.conv_norm_pairs import find_conv_norm_pairs
from focal_retinanet.acceleration.frozen import freeze, is_frozen, keep
from focal_retinanet.acceleration.winograd import conv3x3, is_small, transform


class FastConv2d(nn.Conv2d):
    """Convolution that also does the frozen batch norm behind it, if there is one."""

    _by_winograd = False

    def forward(self, input: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C', H', W')."""
        if isinstance(input, fx.Proxy):
            return folding.record_call(self, input)
        norm = folding.norm_behind(self, input)
        if norm is None:
            return super().forward(input)
        weight, bias = keep(
            self,
            ('folded', norm.eps),
            # Batch norm adapts its statistics without counting a change of theirs.
            [*folding.sources(self, norm), norm.num_batches_tracked],
            lambda: folding.fold(self, norm),
        )
        output = self._conv_forward(input, weight, bias)
        return folding.pass_on(self, norm, output)

    def _conv_forward(
        self, input: Tensor, weight: Tensor, bias: Tensor | None
    ) -> Tensor:
        frozen = is_frozen(self)
        if (
            self._by_winograd
            and _fits_winograd(self)
            and not (frozen and is_small(input))
        ):
            return conv3x3(
                input,
                weight,
                bias,
                (lambda: keep(self, 'points', [weight], lambda: transform(weight)))
                if frozen
                else None,
            )
        is_packed = frozen and input.is_cpu
        output = packed.convolve(self, input, weight, bias) if is_packed else None
        if output is not None:
            return output
        return super()._conv_forward(input, weight, bias)


#: Other subclasses may compute something else.
CONVS = (nn.Conv2d, FastConv2d)
_NORMS = (nn.BatchNorm2d, folding.FoldedBatchNorm2d)


def use_winograd(model: nn.Module) -> int:
    """Compute the 3x3 convolutions of stride 1 by Winograd's algorithm.

    The algorithm needs fp32, a CPU and a C++ compiler. Other calls are computed as
    usual.

    Args:
        model: Any model, changed in place.

    Returns:
        Number of convolutions that may use the algorithm.
    """
    convs = [
        conv for conv in model.modules() if type(conv) in CONVS and _fits_winograd(conv)
    ]
    for conv in convs:
        conv.__class__ = FastConv2d
        conv._by_winograd = True
    return len(convs)


def fold_batch_norm(model: nn.Module) -> int:
    """Fold each batch norm into the convolution before it.

    :func:`~focal_retinanet.acceleration.conv_norm_pairs.find_conv_norm_pairs` finds the
    pairs. A batch norm is folded only while it is in evaluation mode.

    Args:
        model: Any model, changed in place.

    Returns:
        Number of batch norms that are folded.
    """
    norms = set()
    for block in list(model.modules()):
        if isinstance(block, folding.FoldingBlock):  # from an earlier call
            continue
        pairs = find_conv_norm_pairs(block)
        names = tuple(
            (conv, norm)
            for conv, norm in pairs.names
            if type(block.get_submodule(conv)) in CONVS
            if type(block.get_submodule(norm)) in _NORMS
        )
        for conv, norm in names:
            block.get_submodule(conv).__class__ = FastConv2d
            block.get_submodule(norm).__class__ = folding.FoldedBatchNorm2d
            norms.add(block.get_submodule(norm))
        if names:
            folding.make_folding(block, replace(pairs, names=names))
    return len(norms)


def freeze_weights(model: nn.Module) -> None:
    """Compute once what convolutions compute of their weights, until further notice.

    Calls that record gradients still compute it each time. A change that PyTorch counts
    (an optimizer's step, ``load_state_dict``) is noticed, and so are a batch norm that
    adapts its statistics and an assignment to ``.data``, as ``half()`` does it. A
    change in place through ``.data`` is not.
    It takes memory: four times that of the weights of the 3x3 convolutions by
    Winograd's algorithm, once that of weights with a batch norm, and once that of all
    other weights for each size of their maps.

    Args:
        model: Any model. If neither :func:`use_winograd` nor :func:`fold_batch_norm`
            has changed a convolution of it, it stays as it is.
    """
    convs = [conv for conv in model.modules() if type(conv) in CONVS]
    if any(type(conv) is FastConv2d for conv in convs):
        for conv in convs:
            conv.__class__ = FastConv2d
        freeze(convs)


def _fits_winograd(conv: nn.Conv2d) -> bool:
    return (
        conv.kernel_size == (3, 3)
        and conv.stride == conv.dilation == conv.padding == (1, 1)
        and conv.padding_mode == 'zeros'
        and conv.groups == 1
        # Fewer are not worth the transforms.
        and min(conv.in_channels, conv.out_channels) >= 16
    )
