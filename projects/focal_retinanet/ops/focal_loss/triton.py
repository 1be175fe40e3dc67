"""The fused focal loss on a GPU, in Triton.

The forward pass reads the logits. The backward pass reads them again and writes the
gradient, which is rounded once because the upstream gradient is known by then. The sum
has two stages of fixed order, so it is deterministic. The host never waits for the
device.

Each level is one launch. Sizes are ordinary arguments, so images of all sizes share the
same compiled kernels: forward and backward, each for maps with a multiple of 16 cells,
which are read as vectors, and for all others.

With ``TRITON_INTERPRET=1`` the same kernels run on a CPU, for tests.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from focal_retinanet.ops.fast_paths import triton_probe
from focal_retinanet.ops.focal_loss.terms import FocalTerms, count_anchors

#: The gradient is computed in the backward pass, from the logits.
ONE_PASS = False

# Elements per tile, and classes per program where each class is a plane.
_BLOCK = 1024
_CLASSES = 16
# Loads are vectors if this divides a level's size, as for P3 of an image that is
# padded to a multiple of 32.
_VECTOR = 16


def is_available(levels: Sequence[Tensor]) -> bool:
    """Whether the kernels serve: fp32, bf16 or fp16, on a GPU where Triton works."""
    logits = levels[0]
    return (
        torch.version.hip is None
        and logits.dtype in (torch.float32, torch.bfloat16, torch.float16)
        and max(level.shape[1:].numel() for level in levels) < 2**31
        and triton_probe.works(logits.device, try_on)
    )


def focal_loss_sum(
    levels: Sequence[Tensor],
    terms: FocalTerms,
    grads: Sequence[Tensor] | None = None,
    scale: Tensor | None = None,
) -> Tensor | None:
    """Return the loss, or write its gradient to ``grads`` if given.

    Args:
        levels: Logits (B, A*K, H, W) of each level, all contiguous or all
            channels-last.
        terms: Targets, weights and parameters.
        grads: Tensors of the same layout, filled with ``scale`` times the gradient.
        scale: Factor of the gradient, a scalar, fp32, on the same device.

    Returns:
        Loss, a scalar, fp64, without ``scale``; None if ``grads`` is given.
    """
    rows = not all(level.is_contiguous() for level in levels)
    launches = _launches(levels, rows, terms.num_classes)
    if grads is not None:
        for launch, grad in zip(launches, grads, strict=True):
            launch(terms, grad=grad, scale=scale)
        return None
    programs = sum(math.prod(launch.grid) for launch in launches)
    sums = torch.empty(programs, dtype=torch.float32, device=levels[0].device)
    for launch in launches:
        launch(terms, sums=sums)
    return sums.sum(dtype=torch.float64)


def anchor_losses(levels: Sequence[Tensor], terms: FocalTerms) -> Tensor:
    """Return the loss (B, N) of each anchor, summed over its classes, fp32."""
    # Each block of classes writes its own part, so no two programs write to one.
    parts = _cdiv(terms.num_classes, _CLASSES)
    losses = torch.zeros(
        (parts, *terms.targets.shape), dtype=torch.float32, device=levels[0].device
    )
    first_anchor = 0
    for level in levels:  # at most one is copied at a time
        _Launch(level.contiguous(), False, terms.num_classes, first_anchor, 0)(
            terms, losses=losses
        )
        first_anchor += count_anchors(level, terms.num_classes)
    return losses.sum(dim=0)


def _launches(
    levels: Sequence[Tensor], rows: bool, num_classes: int
) -> list['_Launch']:
    launches, first_anchor, first_program = [], 0, 0
    for level in levels:
        launch = _Launch(level, rows, num_classes, first_anchor, first_program)
        launches.append(launch)
        first_anchor += count_anchors(level, num_classes)
        first_program += math.prod(launch.grid)
    return launches


class _Launch:
    """Launch of a kernel on one level.

    Args:
        logits: Logits (B, A*K, H, W).
        rows: Whether they are channels-last.
        num_classes: Number of classes K.
        first_anchor: Index of the level's first anchor among all anchors.
        first_program: Index of the level's first partial sum.
    """

    def __init__(
        self,
        logits: Tensor,
        rows: bool,
        num_classes: int,
        first_anchor: int,
        first_program: int,
    ) -> None:
        self.logits = logits
        self.rows = rows
        self.first_anchor = first_anchor
        self.first_program = first_program
        batch, channels, height, width = logits.shape
        self.anchors_per_cell = channels // num_classes
        # Anchors of an image (rows) or cells of a plane.
        self.size = height * width * (self.anchors_per_cell if rows else 1)
        if rows:
            tiles = _cdiv(self.size * num_classes, _BLOCK)
            self.grid = (batch * tiles,)
        else:
            tiles = _cdiv(self.size, _BLOCK)
            planes = batch * self.anchors_per_cell
            self.grid = (planes * tiles, _cdiv(num_classes, _CLASSES))

    def __call__(
        self,
        terms: FocalTerms,
        grad: Tensor | None = None,
        scale: Tensor | None = None,
        sums: Tensor | None = None,
        losses: Tensor | None = None,
    ) -> None:
        """Fill the given tensor: gradient, partial sums, or losses of anchors."""
        if not self.logits.numel():
            return
        # Imported late: Triton takes a second, and not every torch has it.
        from focal_retinanet.ops.focal_loss import triton_kernels

        kernel = (
            triton_kernels.rows_kernel if self.rows else triton_kernels.planes_kernel
        )
        arguments = self._arguments(terms, grad, scale, sums, losses)
        with torch.cuda.device_of(self.logits):  # Triton launches on the current one
            kernel[self.grid](**arguments)

    def _arguments(
        self,
        terms: FocalTerms,
        grad: Tensor | None,
        scale: Tensor | None,
        sums: Tensor | None,
        losses: Tensor | None,
    ) -> dict:
        unit = _VECTOR if self.size % _VECTOR == 0 else 1
        arguments = dict(
            logits=self.logits,
            # Unused pointers may be any tensor.
            grads=self.logits if grad is None else grad,
            targets=terms.targets,
            weights=terms.alpha_pos if terms.weights is None else terms.weights,
            alpha_pos=terms.alpha_pos,
            alpha_neg=terms.alpha_neg,
            scale=terms.alpha_pos if scale is None else scale,
            sums=next((x for x in (sums, losses) if x is not None), terms.alpha_pos),
            size_in_units=self.size // unit,
            first_anchor=self.first_anchor,
            first_program=self.first_program,
            num_anchors=terms.targets.size(1),
            ignore_index=terms.ignore_index,
            gamma=terms.gamma,
            half_epsilon=terms.label_smoothing / 2,
            UNIT=unit,
            HAS_WEIGHTS=terms.weights is not None,
            IS_SMOOTHED=terms.label_smoothing != 0,
            # 0 and 2 need no exponential; -1 stands for all other values.
            GAMMA=int(terms.gamma) if terms.gamma in (0, 2) else -1,
            GRAD=grad is not None,
            BLOCK=_BLOCK,
        )
        if self.rows:
            return dict(arguments, NUM_CLASSES=terms.num_classes)
        return dict(
            arguments,
            anchors_per_cell=self.anchors_per_cell,
            num_classes=terms.num_classes,
            ANCHORS=losses is not None,
            batch=len(self.logits),
            CLASSES=_CLASSES,
        )


def try_on(device: torch.device) -> None:
    """Compute a small loss and its gradient on the device.

    Raises:
        Exception: Triton cannot compile or launch a kernel, or the result is wrong.
    """
    logits = torch.zeros(1, 2, 1, 1, device=device)
    terms = FocalTerms(
        targets=torch.zeros(1, 1, dtype=torch.int64, device=device),
        weights=None,
        alpha_pos=torch.full((2,), 0.25, device=device),
        alpha_neg=torch.full((2,), 0.75, device=device),
        gamma=0.0,
        label_smoothing=0.0,
        ignore_index=-1,
    )
    grad = torch.empty_like(logits)
    focal_loss_sum([logits], terms, [grad], torch.ones((), device=device))
    loss = focal_loss_sum([logits], terms).item()
    found = (round(loss, 4), *grad.flatten().tolist())
    if found != (round(math.log(2), 4), -0.125, 0.375):
        raise RuntimeError(f'a kernel computed {found}')


def _cdiv(a: int, b: int) -> int:
    return -(-a // b)
