"""Targets of the anchors against mmdet's flags and assigners."""

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from focal_retinanet.models.targets import exclude_anchors


@pytest.fixture
def sizes(heads):
    """(height, width) of each level."""
    return [tuple(level.shape[-2:]) for level in heads.features()]


@pytest.mark.parametrize('pad_shape', [(128, 192), (64, 96), (100, 190), (1, 1)])
def test_anchors_in_the_padding_are_those_of_mmdet(pad_shape, heads, sizes):
    generator = heads.make().prior_generator
    anchors = torch.cat(generator.grid_priors(sizes, device='cpu'))
    metas = [dict(pad_shape=shape) for shape in [(128, 192), pad_shape]]
    excluded = exclude_anchors(anchors, sizes, generator.strides, metas)
    valid = torch.cat(generator.valid_flags(sizes, pad_shape, 'cpu'))
    if excluded is None:
        assert valid.all()
    else:
        assert not excluded[0].any()
        assert torch.equal(excluded[1], ~valid)


@pytest.mark.parametrize('shapes', [(), ((128, 192), (64, 96))])
@pytest.mark.parametrize('ignored', [None, (2, 0)])
def test_atss_assigner_gets_the_anchors_of_each_image(shapes, ignored, heads, sizes):
    assigner = dict(type='ATSSAssigner', topk=9, _delete_=True)
    head = heads.make(train_cfg=dict(assigner=assigner))
    gt = heads.objects(3, 2) if shapes else heads.objects(3, 6)
    for instances in gt if shapes else []:
        instances.bboxes = instances.bboxes / 2  # inside of the smaller image
    nothing = InstanceData(bboxes=torch.zeros(0, 4))
    ignore = [nothing] * 2 if ignored is None else heads.objects(*ignored)
    metas = heads.metas(*shapes)
    samples = [DetDataSample(metainfo=meta) for meta in metas]
    for b, sample in enumerate(samples):
        sample.gt_instances, sample.ignored_instances = gt[b], ignore[b]
    labels = head.assign(head(heads.features())[0], samples)

    levels = head.prior_generator.grid_priors(sizes, device='cpu')
    for b, meta in enumerate(metas):
        valid = head.prior_generator.valid_flags(sizes, meta['pad_shape'], 'cpu')
        priors = torch.cat([p[v] for p, v in zip(levels, valid, strict=True)])
        result = head.assigner.assign(
            InstanceData(priors=priors), [int(v.sum()) for v in valid], gt[b], ignore[b]
        )
        inside = torch.cat(valid)
        positive = (labels[b] >= 0) & (labels[b] < 5)
        assert int(positive.sum()) == int((result.gt_inds > 0).sum()) > 0
        assert torch.equal(positive[inside], result.gt_inds > 0)
        assert (labels[b][~inside] == -1).all()


@pytest.mark.parametrize(
    'assigner',
    [
        dict(type='HungarianAssigner', match_costs=[dict(type='ClassificationCost')]),
        dict(type='SimOTAAssigner'),
        dict(type='TaskAlignedAssigner', topk=13),
    ],
    ids=lambda assigner: assigner['type'],
)
def test_assigner_that_needs_predictions_is_refused_by_name(assigner, heads):
    head = heads.make(train_cfg=dict(assigner=dict(assigner, _delete_=True)))
    says = f'{assigner["type"]}.*use MaxIoUAssigner or ATSSAssigner'
    with pytest.raises(TypeError, match=says):
        heads.losses_and_gradients(head, heads.objects(3, 3))
