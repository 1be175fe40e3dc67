"""Shares of positives, easy and hard negatives in the loss of a head."""

import pytest
import torch

from focal_retinanet.models.level_maps import flatten_levels
from focal_retinanet.ops.focal_loss.definition import sigmoid_focal_loss
from focal_retinanet.ops.focal_loss.shares import loss_shares
from harness.timing import peak_memory


def test_shares_by_hand(heads):
    """Nine anchors of one cell: a positive, an easy and a hard negative, six ignored."""
    head = heads.make(num_classes=1, loss_cls=dict(gamma=0.0, alpha=None))
    logits = torch.tensor([0.5, -3.0, 1.0, *[2.0] * 6])
    labels = torch.tensor([[0, 1, 1, *[-1] * 6]])
    maps = [logits.view(1, 9, 1, 1)]
    expected = sigmoid_focal_loss(logits[:, None], labels[0], gamma=0.0, alpha=None).t()
    losses = head.anchor_losses(maps, labels)
    torch.testing.assert_close(losses, expected)
    shares = loss_shares(maps, labels, 1, losses)
    for index, name in enumerate(['pos_share', 'easy_neg_share', 'hard_neg_share']):
        torch.testing.assert_close(shares[name], expected[0, index] / expected.sum())


def test_shares_have_the_weight_of_the_positives(heads):
    shares = []
    for pos_weight in (-1, 3):
        torch.manual_seed(0)
        head = heads.make(train_cfg=dict(pos_weight=pos_weight))
        heads.randomize(head)
        head.monitors_loss = True
        gt = heads.objects(4, 6)
        losses = head.loss_by_feat(*head(heads.features()), gt, heads.metas())
        shares.append(losses['pos_share'])
    once, thrice = shares
    torch.testing.assert_close(thrice, 3 * once / (1 + 2 * once))
    assert 0.01 < once < 0.9


@pytest.mark.parametrize(
    'layout', [torch.contiguous_format, torch.channels_last], ids=str
)
@pytest.mark.parametrize(
    'loss_cls',
    [
        dict(type='focal_retinanet.FocalLoss', use_sigmoid=True, loss_weight=2.0),
        dict(type='focal_retinanet.FocalLoss', use_sigmoid=False),
        dict(type='mmdet.FocalLoss', use_sigmoid=True),
        dict(type='CrossEntropyLoss', use_sigmoid=False),
        dict(type='focal_retinanet.HingeLoss', use_sigmoid=True),
    ],
    ids=str,
)
def test_shares_of_any_loss_are_sums_of_its_elements(loss_cls, layout, heads):
    head = heads.make(loss_cls=dict(loss_cls, _delete_=True))
    with torch.no_grad():
        maps = [m * 30 - 1 for m in head(heads.features())[0]]
    maps = [m.to(memory_format=layout) for m in maps]
    channels = head.cls_out_channels
    logits = flatten_levels(maps, channels)
    labels = torch.randint(-1, 6, (2, len(logits) // 2))
    flat = labels.flatten()
    targets = torch.where(flat < 0, 5, flat)  # -1 is not a label of every loss
    losses = head.loss_cls(logits, targets, reduction_override='none')
    losses = losses.reshape(len(logits), -1).sum(1).masked_fill(flat < 0, 0)
    torch.testing.assert_close(head.anchor_losses(maps, labels).flatten(), losses)

    is_easy = (logits < 0).all(1) if channels == 5 else logits.softmax(1)[:, -1] > 0.5
    groups = dict(
        pos_share=(flat >= 0) & (flat < 5),
        easy_neg_share=(flat == 5) & is_easy,
        hard_neg_share=(flat == 5) & ~is_easy,
    )
    shares = loss_shares(maps, labels, 5, head.anchor_losses(maps, labels))
    for name, group in groups.items():
        torch.testing.assert_close(shares[name], losses[group].sum() / losses.sum())


# A loss of mmdet gets an image of a level as rows, and allocates tensors of 4 MiB. All
# rows at once would take about 15 times the maps.
@pytest.mark.parametrize(
    ('loss_cls', 'limit'), [('focal_retinanet.FocalLoss', 0.2), ('FocalLoss', 4)]
)
def test_shares_take_little_memory(loss_cls, limit, heads):
    head = heads.make(num_classes=80, loss_cls=dict(type=loss_cls))
    maps = [torch.randn(2, 9 * 80, 74, 74)]
    labels = torch.randint(-1, 81, (2, 9 * 74 * 74))
    size = maps[0].numel() * 4 / 2**20  # 30 MiB

    def shares():
        return loss_shares(maps, labels, 80, head.anchor_losses(maps, labels))

    shares()  # threads and other things that are made once do not count
    peak = peak_memory(shares, torch.device('cpu'))
    if peak is None:
        pytest.skip('the system does not record peak memory')
    assert peak < limit * size
