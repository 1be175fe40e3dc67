"""Focal loss of (N, K) logits, forward and backward."""

import argparse
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from mmdet.models.losses import FocalLoss as MMDetFocalLoss
from torch import Tensor

from focal_retinanet.models import FocalLoss
from harness.agreement import RELATIVE_TOLERANCE, check_gradients, check_tensors
from harness.arguments import add_inputs, pick, positive
from harness.contest import Case, Contestant, LeftOut, import_peer
from harness.inputs import DTYPES

# -log((1 - pi) / pi) for pi = 0.01, where training starts.
_PRIOR_LOGIT = -4.6
# One logit in 10,000 has this value. Beyond about 7, fp16 has p = 1, and the peers
# that compute log(1 - p) give inf.
_LARGE_LOGIT = 6.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    text = 'rows of logits; an image of 800x1344 has 201600'
    add('--anchors', type=positive, default=201600, help=text)
    add_inputs(parser, 'classes', 'dtype')
    add('--gamma', type=float, default=2.0, help='focusing parameter')
    add('--alpha', type=float, default=0.25, help='weight of y = 1')
    text = 'share of the anchors that have an object'
    add('--positives', type=_share, default=0.001, help=text)


def make_cases(args: argparse.Namespace) -> Iterator[Case]:
    logits, target, num_positives = _draw(args)
    yield Case(
        pick(args, 'anchors', 'classes', 'dtype')
        | dict(positives=num_positives)
        | pick(args, 'gamma', 'alpha', 'device'),
        (logits, target, num_positives, pick(args, 'gamma', 'alpha')),
        # Logits, target and weight are read, the gradient is written, once each.
        least_bytes=2 * logits.nbytes + 12 * args.anchors,
    )


def _draw(args: argparse.Namespace) -> tuple[Tensor, Tensor, int]:
    """Draw the logits of a model at the start of its training, and targets.

    Returns:
        Logits (N, K) with gradients, target (N,) int64 with K for background, and
        the number of anchors with an object.
    """
    n, k = args.anchors, args.classes
    logits = torch.randn(n, k).add_(_PRIOR_LOGIT)
    logits[torch.rand(n, k) < 1e-4] = _LARGE_LOGIT
    logits = logits.to(args.device, DTYPES[args.dtype]).requires_grad_()
    num_positives = max(1, round(args.positives * n))
    target = torch.full((n,), k)
    target[torch.randperm(n)[:num_positives]] = torch.randint(k, (num_positives,))
    return logits, target.to(args.device), num_positives


def ours(
    logits: Tensor, target: Tensor, num_positives: int, options: dict
) -> Contestant:
    loss = FocalLoss(**options)
    weight = torch.ones(len(target), device=target.device)
    # Our head counts on the device, and never reads it back.
    avg_factor = torch.tensor(float(num_positives), device=target.device)
    return _forward_backward(
        logits, lambda: loss(logits, target, weight, avg_factor=avg_factor)
    )


def mmdet(
    logits: Tensor, target: Tensor, num_positives: int, options: dict
) -> Contestant:
    loss = MMDetFocalLoss(**options)
    weight = torch.ones(len(target), device=target.device)
    return _forward_backward(
        logits, lambda: loss(logits, target, weight, avg_factor=num_positives)
    )


def torchvision(
    logits: Tensor, target: Tensor, num_positives: int, options: dict
) -> Contestant:
    focal_loss = import_peer('torchvision.ops').sigmoid_focal_loss
    num_classes = logits.shape[1]

    def loss() -> Tensor:
        one_hot = F.one_hot(target, num_classes + 1)[:, :num_classes].to(logits.dtype)
        return focal_loss(logits, one_hot, reduction='sum', **options) / num_positives

    note = 'with the one-hot targets that it needs; no weights'
    return _forward_backward(logits, loss, note)


def mmcv(
    logits: Tensor, target: Tensor, num_positives: int, options: dict
) -> Contestant:
    if logits.device.type != 'cuda':
        raise LeftOut('its operator is for GPUs only')
    focal_loss = import_peer('mmcv.ops').sigmoid_focal_loss
    rest = (target, options['gamma'], options['alpha'], None, 'sum')
    return _forward_backward(
        logits,
        lambda: focal_loss(logits, *rest) / num_positives,
        'the bare operator; no weights',
    )


CONTESTANTS = dict(ours=ours, mmdet=mmdet, torchvision=torchvision, mmcv=mmcv)


def _forward_backward(
    logits: Tensor, loss_fn: Callable[[], Tensor], note: str = ''
) -> Contestant:
    def run() -> tuple[Tensor, Tensor]:
        loss = loss_fn()
        loss.backward()
        gradient, logits.grad = logits.grad, None
        return loss.detach(), gradient

    return Contestant(run, _agree, note)


def _agree(ours: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor]) -> str:
    loss = check_tensors('loss', ours[0], theirs[0], RELATIVE_TOLERANCE[ours[1].dtype])
    return f'{loss}, {check_gradients([ours[1]], [theirs[1]])}'


def _share(text: str) -> float:
    if not 0 <= (value := float(text)) <= 1:
        raise argparse.ArgumentTypeError(f'{text!r} is not a share between 0 and 1')
    return value
