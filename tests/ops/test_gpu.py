"""Loss and matching on a GPU at the sizes of training, against fp64 and a CPU.

Elsewhere Triton's interpreter runs the same kernels, on tiny maps.
"""

import pytest
import torch

from focal_retinanet.models import AnchorGenerator
from focal_retinanet.ops.fast_paths import triton_probe
from focal_retinanet.ops.focal_loss import backends as focal_loss_backends
from focal_retinanet.ops.focal_loss import triton as focal_loss_triton
from focal_retinanet.ops.focal_loss.definition import sigmoid_focal_loss
from focal_retinanet.ops.focal_loss.fused import (
    sigmoid_focal_loss_of_anchors,
    sigmoid_focal_loss_sum,
)
from focal_retinanet.ops.matching import MatchingRule, match_max_iou_batch
from focal_retinanet.ops.matching import triton as matching_triton

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')

#: Levels of an image of 800x1333 that is not padded, so that widths are odd.
SIZES = [(100, 167), (50, 84), (25, 42), (13, 21), (7, 11)]
ANCHORS = 9
#: Largest error of a gradient as a share of the largest gradient.
PRECISION = {torch.float32: 1e-6, torch.bfloat16: 8e-3, torch.float16: 1e-3}
GPU = torch.device('cuda', 0)


@pytest.fixture
def triton_serves():
    """Fails where Triton does not work, which would leave plain PyTorch to test."""
    triton_probe._works.cache_clear()
    assert triton_probe.works(GPU, focal_loss_triton.try_on)
    assert triton_probe.works(GPU, matching_triton.match_a_few_anchors)


def make_logits(num_classes, dtype=torch.float32, layout='contiguous', batch=2):
    torch.manual_seed(0)
    levels = []
    for height, width in SIZES:
        x = torch.randn(batch, ANCHORS * num_classes, height, width, device=GPU)
        x = (x * 3 - 4).to(dtype)
        if layout == 'channels-last':
            x = x.to(memory_format=torch.channels_last)
        levels.append(x.requires_grad_())
    return levels


def make_targets(num_classes, batch=2):
    torch.manual_seed(1)
    anchors = sum(height * width for height, width in SIZES) * ANCHORS
    targets = torch.full((batch, anchors), num_classes)
    targets[torch.rand(batch, anchors) < 0.05] = -1
    positive = torch.rand(batch, anchors) < 0.01
    targets[positive] = torch.randint(num_classes, (int(positive.sum()),))
    return targets.to(GPU)


def elements_in_fp64(levels, targets, num_classes, **options):
    """Return the loss (B*N, K) of each element, and the maps that it depends on."""
    maps = [x.detach().double().requires_grad_() for x in levels]
    rows = torch.cat([x.permute(0, 2, 3, 1).flatten(1) for x in maps], dim=1)
    rows = rows.view(-1, num_classes)
    return sigmoid_focal_loss(rows, targets.flatten(), **options), maps


@pytest.mark.parametrize('layout', ['contiguous', 'channels-last'])
@pytest.mark.parametrize('dtype', PRECISION, ids=str)
@pytest.mark.parametrize('num_classes', [1, 80])
@pytest.mark.parametrize('gamma', [0.0, 0.5, 2.0])
def test_loss_and_gradient(triton_serves, gamma, num_classes, dtype, layout):
    levels = make_logits(num_classes, dtype, layout)
    targets = make_targets(num_classes)
    assert focal_loss_backends.choose_backend(levels) is focal_loss_triton
    loss = sigmoid_focal_loss_sum(levels, targets, num_classes, scale=0.01, gamma=gamma)
    gradients = torch.autograd.grad(loss, levels)
    elements, maps = elements_in_fp64(levels, targets, num_classes, gamma=gamma)
    expected = elements.sum() * 0.01
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=0)
    exact = torch.autograd.grad(expected, maps)
    largest = max(gradient.abs().max() for gradient in exact)
    for found, wanted in zip(gradients, exact, strict=True):
        assert (found.double() - wanted).abs().max() <= PRECISION[dtype] * largest


def test_losses_of_anchors(triton_serves):
    levels, targets = make_logits(80), make_targets(80)
    found = sigmoid_focal_loss_of_anchors(levels, targets, 80)
    elements, _ = elements_in_fp64(levels, targets, 80)
    expected = elements.sum(dim=1).view_as(found)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-9)


def test_loss_is_the_same_each_time(triton_serves):
    levels, targets = make_logits(80), make_targets(80)
    one, other = (sigmoid_focal_loss_sum(levels, targets, 80) for _ in range(2))
    assert torch.equal(one, other)
    gradients = [torch.autograd.grad(loss, levels) for loss in (one, other)]
    assert all(map(torch.equal, *gradients))


def test_loss_on_a_stream(triton_serves):
    levels, targets = make_logits(3), make_targets(3)
    expected = sigmoid_focal_loss_sum(levels, targets, 3)
    expected_gradients = torch.autograd.grad(expected, levels)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        loss = sigmoid_focal_loss_sum(levels, targets, 3)
        gradients = torch.autograd.grad(loss, levels)
    torch.cuda.current_stream().wait_stream(stream)
    assert torch.equal(loss, expected)
    assert all(map(torch.equal, gradients, expected_gradients))


def test_loss_in_a_cuda_graph(triton_serves):
    levels, targets = make_logits(3), make_targets(3)
    stream = torch.cuda.Stream()  # CUDA asks for a first call beside the default stream
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        loss = sigmoid_focal_loss_sum(levels, targets, 3)
        torch.autograd.grad(loss, levels)
        del loss
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = sigmoid_focal_loss_sum(levels, targets, 3)
        gradients = torch.autograd.grad(loss, levels)
    with torch.no_grad():
        for level in levels:
            level.mul_(0.5)
    graph.replay()
    maps = [level.detach().clone().requires_grad_() for level in levels]
    expected = sigmoid_focal_loss_sum(maps, targets, 3)
    assert torch.equal(loss, expected)
    assert all(map(torch.equal, gradients, torch.autograd.grad(expected, maps)))


@pytest.mark.parametrize(
    'rule',
    [
        MatchingRule(),
        MatchingRule(neg_iou_thr=(0.1, 0.4), gt_max_assign_all=False),
        MatchingRule(match_low_quality=False),
    ],
    ids=str,
)
@pytest.mark.parametrize('with_excluded', [False, True])
def test_matching_is_that_of_a_cpu(triton_serves, rule, with_excluded):
    anchors = torch.cat(
        AnchorGenerator(
            strides=[8, 16, 32, 64, 128],
            ratios=[0.5, 1.0, 2.0],
            octave_base_scale=4,
            scales_per_octave=3,
        ).grid_priors([(100, 168), (50, 84), (25, 42), (13, 21), (7, 11)], device='cpu')
    )
    torch.manual_seed(2)
    gt_bboxes = []
    for count in (0, 1, 60, 2000):
        corner = torch.rand(count, 2) * torch.tensor([1200.0, 700.0])
        side = torch.exp(torch.rand(count, 2) * 5)
        gt_bboxes.append(torch.cat([corner, corner + side], dim=1))
    gt_bboxes[2][10:20] = gt_bboxes[2][:10]  # objects that tie
    excluded = torch.rand(4, len(anchors)) < 0.1 if with_excluded else None
    expected = match_max_iou_batch(anchors, gt_bboxes, rule, excluded)
    found = match_max_iou_batch(
        anchors.to(GPU),
        [bboxes.to(GPU) for bboxes in gt_bboxes],
        rule,
        excluded.to(GPU) if with_excluded else None,
    )
    for on_gpu, on_cpu in zip(found, expected, strict=True):
        assert on_gpu.is_cuda
        assert torch.equal(on_gpu.cpu(), on_cpu)
