"""What the tests of kernels share."""

import pytest
import torch

from focal_retinanet.ops.focal_loss.definition import sigmoid_focal_loss
from focal_retinanet.ops.focal_loss.fused import sigmoid_focal_loss_sum

#: Relative and absolute tolerance for gradients of each dtype.
PRECISION = {
    torch.float64: (1e-10, 1e-300),
    torch.float32: (2e-5, 1e-37),
    torch.bfloat16: (4e-3, 1e-37),
    torch.float16: (6e-4, 4e-8),
}


@pytest.fixture
def number_of_threads():
    """Sets PyTorch's number of threads, and restores it after the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def random_maps():
    """Makes maps (B, channels, H, W) that require a gradient."""

    def make(
        sizes,
        channels,
        dtype=torch.float32,
        layout='contiguous',
        batch=2,
        device='cpu',
    ):
        levels = []
        for height, width in sizes:
            shape = (batch, channels, height, width)
            logits = (torch.randn(shape, device=device) * 4).to(dtype)
            if layout == 'channels-last':
                logits = logits.to(memory_format=torch.channels_last)
            elif layout == 'transposed':
                logits = logits.transpose(2, 3).contiguous().transpose(2, 3)
            levels.append(logits.requires_grad_())
        return levels

    return make


@pytest.fixture
def assert_as_plain_loss():
    """Compares the fused loss and its gradient with the plain loss in fp64."""
    return _assert_as_plain_loss


def _assert_as_plain_loss(
    levels, targets, num_classes, weights=None, scale=1.0, upstream=1.0, **options
):
    loss = sigmoid_focal_loss_sum(
        levels, targets, num_classes, weights, scale, **options
    )
    gradients = torch.autograd.grad(loss * upstream, levels)

    exact_levels = [x.detach().double().requires_grad_() for x in levels]
    rows = [x.permute(0, 2, 3, 1).flatten(1) for x in exact_levels]
    logits = torch.cat(rows, dim=1).view(-1, num_classes)
    exact = sigmoid_focal_loss(logits, targets.flatten(), **options)
    if weights is not None:
        exact = exact * weights.flatten()[:, None]
    exact = exact.sum() * scale
    exact_gradients = torch.autograd.grad(exact * upstream, exact_levels)

    dtype = levels[0].dtype
    is_double = dtype == torch.float64
    assert loss.dtype == (torch.float64 if is_double else torch.float32)
    torch.testing.assert_close(
        loss.double(), exact, rtol=1e-10 if is_double else 1e-5, atol=1e-30
    )
    rtol, atol = PRECISION[dtype]
    if upstream != 1:  # bf16 rounds before and after the product
        rtol *= 2
    if options.get('label_smoothing'):
        # The gradient crosses zero as a difference of larger terms.
        atol = max(atol, 1e-6 * max(g.abs().max().item() for g in exact_gradients))
    for logits, gradient, expected in zip(
        levels, gradients, exact_gradients, strict=True
    ):
        assert gradient.dtype == logits.dtype
        torch.testing.assert_close(gradient.double(), expected, rtol=rtol, atol=atol)
