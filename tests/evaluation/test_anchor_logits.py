"""What a model says of every anchor, and how its loss is spread over them."""

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope

from focal_retinanet.cli.errors import UserError
from focal_retinanet.data.training_images import annotated_dataset
from focal_retinanet.evaluation.anchor_logits import AnchorLogits, anchor_logits
from focal_retinanet.evaluation.loss_distribution import (
    loss_distributions,
    share_of_hardest,
)
from focal_retinanet.visualization.losses.map import loss_maps


@pytest.fixture
def model(tiny_config):
    init_default_scope('mmdet')
    torch.manual_seed(0)
    return MODELS.build(tiny_config.model)


def make_image(logits, labels):
    """One level of one anchor a cell, one class."""
    shape = (1, len(logits), 1)
    return AnchorLogits(
        image=torch.zeros(8, 8 * len(logits), 3, dtype=torch.uint8),
        gt_bboxes=torch.zeros(0, 4),
        gt_labels=torch.zeros(0, dtype=torch.long),
        levels=[torch.tensor(logits).reshape(*shape, 1)],
        labels=[torch.tensor(labels).reshape(shape)],
        strides=[(8, 8)],
        file='',
    )


def test_every_anchor_beside_its_label(tiny_config, model):
    tiny_config.val_dataloader.dataset.pipeline[1].scale = (128, 128)  # enlarged
    dataset = annotated_dataset(tiny_config, 'val', model)
    (image,) = anchor_logits(model, dataset, [1])
    annotated = dataset.get_data_info(1)['instances']
    boxes = torch.tensor([one['bbox'] for one in annotated])
    torch.testing.assert_close(image.gt_bboxes, 2 * boxes)
    assert image.image.shape[:2] == (128, 128)
    assert image.image.float().std() > 5  # a picture, not normalised values
    for level, labels, (stride, _) in zip(
        image.levels, image.labels, image.strides, strict=True
    ):
        assert labels.shape == level.shape[:3] == (128 // stride, 128 // stride, 9)
    # An anchor of an object's class lies at the object: its cell is inside.
    (row, column, _), *_ = (image.labels[0] < 5).logical_and(
        image.labels[0] >= 0
    ).nonzero().tolist() or [(None, None, None)]
    if row is not None:
        x, y = 8 * column, 8 * row
        near = (image.gt_bboxes[:, :2] - 32 <= torch.tensor([x, y])) & (
            image.gt_bboxes[:, 2:] + 32 >= torch.tensor([x, y])
        )
        assert near.all(dim=1).any()
    logits, labels = image.flatten()
    assert logits.shape == (len(labels), 5)
    present = set(labels.unique().tolist()) - {-1, 5}
    assert present == set(image.gt_labels.tolist())


@pytest.mark.parametrize(
    'wrap',
    [
        lambda part: dict(type='ConcatDataset', datasets=[part, part]),
        lambda part: dict(type='RepeatDataset', times=2, dataset=part),
        lambda part: dict(
            type='RepeatDataset',
            times=1,
            dataset=dict(type='ConcatDataset', datasets=[part, part]),
        ),
    ],
)
def test_wrapped_data_sets(tiny_config, model, wrap):
    part = tiny_config.val_dataloader.dataset
    part.pipeline[1].scale = (128, 128)  # enlarged
    plain = annotated_dataset(tiny_config, 'val', model)
    tiny_config.val_dataloader.dataset = wrap(part)
    dataset = annotated_dataset(tiny_config, 'val', model)
    assert len(dataset) == 2 * len(plain)
    (expected,) = anchor_logits(model, plain, [1])
    for image in anchor_logits(model, dataset, [1, len(plain) + 1]):
        assert torch.equal(image.gt_bboxes, expected.gt_bboxes)
        assert torch.equal(image.flatten()[0], expected.flatten()[0])


def test_what_cannot_be_shown_is_said(tiny_config, model):
    model.bbox_head.use_sigmoid_cls = False
    dataset = annotated_dataset(tiny_config, 'val', model)
    with pytest.raises(UserError, match='sigmoid form'):
        next(anchor_logits(model, dataset, [0]))
    pipeline = tiny_config.val_dataloader.dataset.pipeline
    pipeline[:] = [s for s in pipeline if s.type != 'LoadAnnotations']
    model.bbox_head.use_sigmoid_cls = True
    dataset = annotated_dataset(tiny_config, 'val', model)
    with pytest.raises(UserError, match=r'no ground-truth boxes: .*LoadAnnotations'):
        next(anchor_logits(model, dataset, [0]))


def test_distribution_by_hand():
    image = make_image([0.0, 2.0, 0.0, -2.0, -1.0], [0, 0, 1, 1, -1])
    flat, focal = loss_distributions([image], gammas=[0, 2], alpha=None)

    def log_loss(x):
        return np.log1p(np.exp(-x))

    positives = np.array([log_loss(2), log_loss(0)])
    np.testing.assert_allclose(flat.positives, positives / positives.sum(), rtol=1e-6)
    np.testing.assert_allclose(flat.negatives, flat.positives, rtol=1e-6)
    p = 1 / (1 + np.exp(-2))
    positives = np.array([(1 - p) ** 2 * log_loss(2), 0.25 * log_loss(0)])
    np.testing.assert_allclose(focal.positives, positives / positives.sum(), rtol=1e-6)
    assert share_of_hardest(focal.positives, 0.5) == focal.positives[1]

    (drawn,) = loss_distributions([image], gammas=[0], max_negatives=1)
    assert len(drawn.negatives) == 1
    with pytest.raises(UserError, match='no anchor with an object'):
        loss_distributions([make_image([0.0], [1])])


def test_maps_by_hand():
    logits = torch.tensor([[0.0, 2.0], [3.0, -2.0]]).reshape(1, 2, 2, 1)
    labels = torch.tensor([[0, -1], [1, 1]]).reshape(1, 2, 2)
    cross_entropy, factor, focal = loss_maps(logits, labels, gamma=2.0, alpha=None)
    log_loss = torch.nn.functional.softplus
    p = torch.tensor([3.0, -2.0]).sigmoid()
    two, three = torch.tensor(-2.0), torch.tensor(3.0)
    half = float(np.log(2))
    expected = torch.tensor([[half, float(log_loss(three) + log_loss(two))]])
    torch.testing.assert_close(cross_entropy, expected)
    torch.testing.assert_close(factor, torch.tensor([[0.25, float(p[0] ** 2)]]))
    second = p[0] ** 2 * log_loss(three) + p[1] ** 2 * log_loss(two)
    torch.testing.assert_close(focal, torch.tensor([[half / 4, float(second)]]))
