"""Focal loss of (N, K) logits, forward and backward."""

import argparse
from collections.abc import Iterator

import torch
import torch.nn.functional as F

from focal_retinanet.models import FocalLoss
from harness.agreement import (
    RELATIVE_TOLERANCE,
    check_gradients,
    check_tensors,
)
from harness.contest import (
    OURS,
    Case,
    Contestant,
    LeftOut,
    add_peers,
    import_peer,
)
from harness.inputs import DTYPES

# -log((1 - pi) / pi) for pi = 0.01, where training starts.
_PRIOR_LOGIT = -4.6
# Of one logit in 10,000. Beyond about 7, fp16 has p = 1, which the peers that
# compute log(1 - p) do not survive.
_LARGE_LOGIT = 6.0


def build(args: argparse.Namespace) -> Iterator[Case]:
    device, dtype = torch.device(args.device), DTYPES[args.dtype]
    n, k = args.anchors, args.classes
    logits = torch.randn(n, k).add_(_PRIOR_LOGIT)
    logits[torch.rand(n, k) < 1e-4] = _LARGE_LOGIT
    logits = logits.to(device, dtype).requires_grad_()
    num_positives = max(1, round(args.positives * n))
    target = torch.full((n,), k)
    target[torch.randperm(n)[:num_positives]] = torch.randint(k, (num_positives,))
    target = target.to(device)
    weight = torch.ones(n, device=device)
    # As RetinaHead has it: counted on the device, and never read back.
    avg_factor = torch.tensor(float(num_positives), device=device)

    def contestant(name: str, loss_fn, note: str = '') -> Contestant:
        def run():
            logits.grad = None
            loss = loss_fn()
            loss.backward()
            gradient, logits.grad = logits.grad, None
            return loss.detach(), gradient

        return Contestant(name, run, None if name == OURS else _agree, note)

    def mmdet() -> Contestant:
        module = import_peer('mmdet.models.losses')
        loss = module.FocalLoss(gamma=args.gamma, alpha=args.alpha)
        return contestant(
            'mmdet', lambda: loss(logits, target, weight, avg_factor=num_positives)
        )

    def torchvision() -> Contestant:
        ops = import_peer('torchvision.ops')

        def loss():
            one_hot = F.one_hot(target, k + 1)[:, :k].to(dtype)
            total = ops.sigmoid_focal_loss(
                logits, one_hot, alpha=args.alpha, gamma=args.gamma, reduction='sum'
            )
            return total / avg_factor

        return contestant(
            'torchvision', loss, 'with the one-hot targets that it needs; no weights'
        )

    def mmcv() -> Contestant:
        if device.type != 'cuda':
            raise LeftOut('its operator is for GPUs only')
        ops = import_peer('mmcv.ops')

        def loss():
            total = ops.sigmoid_focal_loss(
                logits, target, args.gamma, args.alpha, None, 'sum'
            )
            return total / avg_factor

        return contestant('mmcv', loss, 'the bare operator; no weights')

    ours = FocalLoss(gamma=args.gamma, alpha=args.alpha)
    case = Case(
        'loss',
        dict(
            anchors=n,
            classes=k,
            dtype=args.dtype,
            positives=num_positives,
            gamma=args.gamma,
            alpha=args.alpha,
            device=args.device,
        ),
        [contestant(OURS, lambda: ours(logits, target, weight, avg_factor=avg_factor))],
        # The logits read and their gradient written, once each.
        least_bytes=2 * logits.numel() * logits.element_size() + 12 * n,
    )
    yield add_peers(
        case, args.peers, dict(mmdet=mmdet, torchvision=torchvision, mmcv=mmcv)
    )


def _agree(ours: tuple, theirs: tuple) -> str:
    dtype = ours[1].dtype
    loss = check_tensors('loss', ours[0], theirs[0], RELATIVE_TOLERANCE[dtype])
    return loss + ', ' + check_gradients([ours[1]], [theirs[1]])
