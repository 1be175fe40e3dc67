"""The Triton kernels against the plain loss in fp64.

On a GPU, the kernels are compiled. Elsewhere Triton's interpreter runs them, which is
slow, so the maps are tiny.
"""

import pytest
import torch

from focal_retinanet.ops.focal_loss import backends as focal_loss_backends
from focal_retinanet.ops.focal_loss.fused import sigmoid_focal_loss_sum

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
INTERPRET = '1' if DEVICE == 'cpu' else '0'
with pytest.MonkeyPatch.context() as environment:
    environment.setenv('TRITON_INTERPRET', INTERPRET)  # read by the import
    pytest.importorskip('triton', '3.0', reason='no Triton 3.0 or later')
    from focal_retinanet.ops.focal_loss import triton as focal_loss_triton

SIZES = [(3, 4), (2, 2), (1, 1)]


@pytest.fixture(autouse=True)
def dispatch_to_triton(monkeypatch):
    """Dispatches maps on a CPU to Triton as well."""
    monkeypatch.setenv('TRITON_INTERPRET', INTERPRET)
    monkeypatch.setattr(
        focal_loss_backends, 'choose_backend', lambda levels: focal_loss_triton
    )


def random_targets(levels, num_classes):
    anchors = sum(x[0].numel() // num_classes for x in levels)
    shape = (len(levels[0]), anchors)
    return torch.randint(-1, num_classes + 1, shape, device=DEVICE)


@pytest.mark.parametrize('layout', ['contiguous', 'channels-last', 'transposed'])
@pytest.mark.parametrize(
    ('num_classes', 'anchors', 'dtype'),
    [
        (1, 9, torch.float32),
        (20, 1, torch.float32),  # more classes than one program takes
        (20, 1, torch.bfloat16),
        (3, 2, torch.float16),
    ],
)
def test_equals_the_plain_loss(
    num_classes, anchors, dtype, layout, random_maps, assert_as_plain_loss
):
    torch.manual_seed(0)
    levels = random_maps(SIZES, anchors * num_classes, dtype, layout, device=DEVICE)
    targets = random_targets(levels, num_classes)
    weights = torch.rand(targets.shape, device=DEVICE)
    scale = torch.tensor(1 / 3, device=DEVICE)
    assert_as_plain_loss(levels, targets, num_classes, weights, scale, upstream=1.5)


@pytest.mark.parametrize('layout', ['contiguous', 'channels-last'])
@pytest.mark.parametrize(
    'options',
    [
        dict(gamma=0.0, alpha=None),
        dict(gamma=0.5, alpha=[0.1, 0.5, 0.9]),
        dict(gamma=5.0, label_smoothing=0.1),
        dict(ignore_index=1),
    ],
    ids=str,
)
def test_options(options, layout, random_maps, assert_as_plain_loss):
    torch.manual_seed(0)
    levels = random_maps(SIZES, 2 * 3, layout=layout, device=DEVICE)
    targets = random_targets(levels, 3)
    if 'ignore_index' in options:
        targets = targets.clamp(min=0)
    assert_as_plain_loss(levels, targets, 3, **options)


@pytest.mark.parametrize('layout', ['contiguous', 'channels-last'])
def test_maps_of_many_tiles(layout, random_maps, assert_as_plain_loss, monkeypatch):
    monkeypatch.setattr(focal_loss_triton, '_BLOCK', 16)
    levels = random_maps([(5, 7), (3, 3)], 2 * 3, layout=layout, device=DEVICE)
    assert_as_plain_loss(levels, random_targets(levels, 3), 3)


@pytest.mark.parametrize('gamma', [0.5, 2.0])
def test_extreme_logits(gamma, assert_as_plain_loss):
    extremes = [-1e4, -100.0, -87.5, -20.0, 0.0, 20.0, 87.5, 100.0, 1e4]
    logits = torch.tensor(extremes, device=DEVICE).view(1, 1, 3, 3).repeat(3, 1, 1, 1)
    targets = torch.tensor([0, 1, -1], device=DEVICE)[:, None].expand(3, 9)
    assert_as_plain_loss([logits.requires_grad_()], targets, 1, gamma=gamma)


def test_nan_reaches_the_loss():
    logits = torch.zeros(1, 2, 2, 2, device=DEVICE)
    logits[0, 1, 0, 1] = torch.nan
    targets = torch.full((1, 4), 2, device=DEVICE)
    assert sigmoid_focal_loss_sum([logits], targets, 2).isnan()


def test_second_backward_and_gradient_scaling(random_maps):
    levels = random_maps([(2, 2)], 3, torch.float16, device=DEVICE)
    with torch.no_grad():
        levels[0].fill_(-8.0)  # gradients of 8.5e-11, too small for fp16
    targets = torch.full((2, 4), 3, device=DEVICE)
    loss = sigmoid_focal_loss_sum(levels, targets, 3)
    (unscaled,) = torch.autograd.grad(loss, levels, retain_graph=True)
    (scaled,) = torch.autograd.grad(loss * 65536, levels, retain_graph=True)
    (again,) = torch.autograd.grad(loss * 65536, levels)
    assert not unscaled.any()
    assert scaled.all()
    assert torch.equal(scaled, again)


@pytest.mark.parametrize('layout', ['contiguous', 'channels-last'])
@pytest.mark.parametrize(
    ('gamma', 'label_smoothing'), [(0.0, 0.0), (0.5, 0.0), (2.0, 0.0), (2.0, 0.1)]
)
def test_infinite_logits(gamma, label_smoothing, layout):
    """The loss is 0 if the logits are right, infinite if wrong, and 0 if ignored."""
    inf = torch.inf
    logits = torch.tensor([[inf, -inf], [-inf, inf], [inf, -inf], [0.0, 0.0]])
    targets = torch.tensor([[0, 2, -1, 2]], device=DEVICE)  # anchor 1 is wrong
    for wrong in (False, True):
        targets[0, 1] = 2 if wrong else 1
        maps = logits.t().reshape(1, 2, 2, 2).to(DEVICE)
        if layout == 'channels-last':
            maps = maps.contiguous(memory_format=torch.channels_last)
        maps.requires_grad_()
        loss = sigmoid_focal_loss_sum(
            [maps], targets, 2, gamma=gamma, label_smoothing=label_smoothing
        )
        (gradient,) = torch.autograd.grad(loss, maps)
        assert loss.isinf() if wrong else loss.isfinite()
        assert gradient.isfinite().all()


@pytest.mark.parametrize('layout', ['contiguous', 'channels-last'])
@pytest.mark.parametrize('alpha', [0.0, 1.0])
def test_infinite_logits_without_weight(alpha, layout):
    maps = torch.full((1, 2, 3, 1), torch.inf, device=DEVICE)
    if alpha == 0:  # of the positives
        maps[:, 0] = -torch.inf
        maps[:, 1] = 1.0
    if layout == 'channels-last':
        maps = maps.contiguous(memory_format=torch.channels_last)
    targets = torch.full((1, 3), 0 if alpha == 0 else 2, device=DEVICE)
    loss = sigmoid_focal_loss_sum([maps.requires_grad_()], targets, 2, alpha=alpha)
    assert loss.isfinite()
    assert torch.autograd.grad(loss, maps)[0].isfinite().all()


def test_probe_accepts_the_loss():
    focal_loss_triton.try_on(torch.device(DEVICE))
