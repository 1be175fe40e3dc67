"""RetinaHead against mmdet's with the same weights, and against the paper."""

from copy import deepcopy

import pytest
import torch
from mmdet.models.dense_heads import RetinaHead as MMDetRetinaHead
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import get_box_tensor
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData

from focal_retinanet.benchmark.memory import peak_memory
from focal_retinanet.models import RetinaHead
from focal_retinanet.models.level_maps import flatten_levels
from focal_retinanet.models.targets import exclude_anchors
from focal_retinanet.ops.focal_loss.definition import sigmoid_focal_loss
from focal_retinanet.ops.focal_loss.shares import loss_shares

STRIDES = [8, 16, 32, 64, 128]


def config(prefix='', **changes):
    """Arguments of the paper's head, small; of mmdet's parts without prefix."""
    cfg = dict(
        num_classes=5,
        in_channels=8,
        feat_channels=8,
        stacked_convs=2,
        anchor_generator=dict(
            type=prefix + 'AnchorGenerator',
            octave_base_scale=4,
            scales_per_octave=3,
            ratios=[0.5, 1.0, 2.0],
            strides=STRIDES,
        ),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
        loss_cls=dict(type=prefix + 'FocalLoss', use_sigmoid=True),
        loss_bbox=dict(type='SmoothL1Loss', beta=1 / 9),
        train_cfg=dict(
            assigner=dict(
                type=prefix + 'MaxIoUAssigner',
                pos_iou_thr=0.5,
                neg_iou_thr=0.4,
                min_pos_iou=1e-6,
            ),
            sampler=dict(type='PseudoSampler'),
            allowed_border=-1,
            pos_weight=-1,
        ),
        test_cfg=dict(
            nms_pre=1000,
            min_bbox_size=0,
            score_thr=0.05,
            nms=dict(type='nms', iou_threshold=0.5),
            max_per_img=100,
        ),
    )
    cfg = ConfigDict(cfg)
    for key, value in changes.items():
        cfg[key] = {**cfg[key], **value} if isinstance(cfg.get(key), dict) else value
    return ConfigDict(cfg)


def two_heads(**changes):
    torch.manual_seed(0)
    theirs = MMDetRetinaHead(**config(**changes))
    ours = RetinaHead(**config('focal_retinanet.', **changes))
    for parameter in theirs.parameters():  # larger than sigma = 0.01, to see more
        torch.nn.init.normal_(parameter, std=0.2)
    ours.load_state_dict(theirs.state_dict())  # the same keys
    return ours, theirs


def features(batch_size=2, height=128, width=192):
    torch.manual_seed(1)
    return [
        torch.randn(batch_size, 8, -(-height // s), -(-width // s)) for s in STRIDES
    ]


def objects(*counts):
    generator = torch.Generator().manual_seed(2)
    batch = []
    for count in counts:
        corner = torch.rand(count, 2, generator=generator) * 90
        size = 10 + torch.rand(count, 2, generator=generator) * 60
        labels = torch.randint(0, 5, (count,), generator=generator)
        batch.append(InstanceData(bboxes=torch.cat([corner, corner + size], 1)))
        batch[-1].labels = labels
    return batch


def metas(*shapes):
    shapes = shapes or ((128, 192), (128, 192))
    return [
        dict(img_shape=s, pad_shape=s, ori_shape=s, scale_factor=(1.0, 1.0), img_id=i)
        for i, s in enumerate(shapes)
    ]


def losses_and_gradients(head, gt, img_metas, ignore=None):
    head.zero_grad()
    losses = head.loss_by_feat(*head(features(len(gt))), gt, img_metas, ignore)
    losses = {name: sum(values) for name, values in losses.items()}
    sum(losses.values()).backward()
    return losses, {n: p.grad for n, p in head.named_parameters()}


def assert_same_training(ours, theirs, gt, img_metas=None, ignore=None):
    img_metas = img_metas or metas()
    a, grad_a = losses_and_gradients(ours, gt, img_metas, ignore)
    b, grad_b = losses_and_gradients(theirs, gt, img_metas, ignore)
    for name in b:
        torch.testing.assert_close(a[name], b[name], rtol=1e-5, atol=1e-7)
    for name in grad_b:
        torch.testing.assert_close(grad_a[name], grad_b[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    'changes',
    [
        {},
        dict(num_classes=80),
        dict(loss_bbox=dict(type='L1Loss', _delete_=True)),
        dict(train_cfg=dict(pos_weight=3.0)),
        dict(train_cfg=dict(allowed_border=0)),
        dict(reg_decoded_bbox=True, loss_bbox=dict(type='GIoULoss', _delete_=True)),
        dict(norm_cfg=dict(type='GN', num_groups=4)),
    ],
    ids=['paper', '80 classes', 'L1', 'pos_weight', 'border', 'GIoU', 'GN'],
)
def test_losses_and_gradients_equal_mmdet(changes):
    if '_delete_' in changes.get('loss_bbox', {}):
        changes['loss_bbox'] = dict(changes['loss_bbox'], beta=None)
        changes['loss_bbox'].pop('_delete_')
        loss_type = changes.pop('loss_bbox')['type']
        base = config(**changes)
        prefixed = config('focal_retinanet.', **changes)
        base.loss_bbox = prefixed.loss_bbox = ConfigDict(type=loss_type)
        theirs, ours = MMDetRetinaHead(**base), RetinaHead(**prefixed)
        torch.manual_seed(0)
        for parameter in theirs.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        ours.load_state_dict(theirs.state_dict())
    else:
        ours, theirs = two_heads(**changes)
    assert_same_training(ours, theirs, objects(4, 17))


def test_images_of_different_size_in_one_batch_equal_mmdet():
    ours, theirs = two_heads()
    assert_same_training(ours, theirs, objects(5, 5), metas((128, 192), (64, 96)))


def test_crowds_equal_mmdet():
    changes = dict(train_cfg=config().train_cfg)
    changes['train_cfg'].assigner.ignore_iof_thr = 0.5
    torch.manual_seed(0)
    theirs = MMDetRetinaHead(**config(**changes))
    prefixed = deepcopy(changes)
    prefixed['train_cfg'].assigner.type = 'focal_retinanet.MaxIoUAssigner'
    ours = RetinaHead(**config('focal_retinanet.', **prefixed))
    ours.load_state_dict(theirs.state_dict())
    assert_same_training(ours, theirs, objects(4, 6), ignore=objects(2, 0))


def test_sampled_minibatch_is_mmdets():
    sampler = dict(type='RandomSampler', num=64, pos_fraction=0.5, neg_pos_ub=-1)
    ours, theirs = two_heads(train_cfg=dict(sampler=dict(sampler)))
    gt = objects(4, 6)
    torch.manual_seed(5)
    a, _ = losses_and_gradients(ours, gt, metas())
    torch.manual_seed(5)
    b, _ = losses_and_gradients(theirs, gt, metas())
    for name in b:
        torch.testing.assert_close(a[name], b[name])


def test_normaliser_is_the_number_of_positives_of_the_batch():
    """An image without objects adds nothing to it (mmdet counts it as 1)."""
    ours, theirs = two_heads()
    gt = objects(6, 0)
    losses, _ = losses_and_gradients(ours, gt, metas())
    mmdets, _ = losses_and_gradients(theirs, gt, metas())
    anchors = torch.cat(
        ours.prior_generator.grid_priors(
            [f.shape[-2:] for f in features()], device='cpu'
        )
    )
    result = ours.assigner.assign(InstanceData(priors=anchors), gt[0])
    positives = (result.gt_inds > 0).sum()
    ratio = (positives + 1) / positives
    for name in losses:
        torch.testing.assert_close(
            losses[name], mmdets[name] * ratio, rtol=1e-5, atol=0
        )


def test_batch_without_objects_trains():
    ours, _ = two_heads()
    losses, gradients = losses_and_gradients(ours, objects(0, 0), metas())
    assert losses['loss_bbox'] == 0
    assert losses['loss_cls'] > 0
    # DDP waits for every parameter, so all must be part of the graph.
    assert all(g is not None and torch.isfinite(g).all() for g in gradients.values())


def maps(num_classes, batch_size=2, height=128, width=192):
    """What a head gives: logits and deltas of each level.

    The last bit of a sigmoid depends on where it is computed. So that no scores
    change places for that, logits are well apart, or far below any threshold.
    """
    generator = torch.Generator().manual_seed(3)
    cls_scores, bbox_preds = [], []
    for level, stride in enumerate(STRIDES):
        size = (-(-height // stride), -(-width // stride))
        scores = torch.full((batch_size, 9 * num_classes, *size), -20.0)
        for of_image in scores.view(batch_size, -1):
            count = min(2000, len(of_image))
            places = torch.randperm(len(of_image), generator=generator)[:count]
            of_image[places] = torch.linspace(-5, 2, count) + 1e-3 * level
        deltas = torch.randn(batch_size, 9 * 4, *size, generator=generator)
        cls_scores.append(scores)
        bbox_preds.append(deltas * 0.3)
    return cls_scores, bbox_preds


def assert_same_detections(ours, theirs, cls_scores, bbox_preds, **options):
    """Of the same maps; gives the number of each image."""
    options.setdefault('batch_img_metas', metas())
    found = ours.predict_by_feat(cls_scores, bbox_preds, **options)
    expected = theirs.predict_by_feat(cls_scores, bbox_preds, **options)
    for x, y in zip(found, expected, strict=True):
        assert torch.equal(x.labels, y.labels)
        torch.testing.assert_close(x.scores, y.scores, rtol=1e-6, atol=0)
        assert type(x.bboxes) is type(y.bboxes)
        bboxes = get_box_tensor(x.bboxes), get_box_tensor(y.bboxes)
        torch.testing.assert_close(*bboxes, rtol=1e-6, atol=1e-4)
    return [len(x) for x in found]


def test_detections_equal_mmdet():
    ours, theirs = two_heads()
    counts = assert_same_detections(ours, theirs, *ours(features()))
    assert counts == [100, 100]


@pytest.mark.parametrize('num_classes', [1, 80, 1203])
@pytest.mark.parametrize('with_nms', [True, False])
@pytest.mark.parametrize('channels_last', [True, False])
def test_detections_of_many_classes_equal_mmdet(num_classes, with_nms, channels_last):
    ours, theirs = two_heads(num_classes=num_classes)
    scores, deltas = maps(num_classes)
    if channels_last:
        scores, deltas = (
            [m.to(memory_format=torch.channels_last) for m in levels]
            for levels in (scores, deltas)
        )
    counts = assert_same_detections(ours, theirs, scores, deltas, with_nms=with_nms)
    assert min(counts) >= 100


@pytest.mark.parametrize('with_nms', [True, False])
@pytest.mark.parametrize(
    ('test_cfg', 'least', 'most'),
    [
        (dict(score_thr=0.9999), 0, 0),  # empty results
        (dict(score_thr=0.88), 1, 30),
        (dict(nms_pre=100_000, max_per_img=100_000), 1000, 10_000),
        (dict(nms_pre=5), 1, 25),
        (dict(min_bbox_size=20), 100, 5000),
        (dict(nms=dict(type='nms', iou_threshold=0.5, class_agnostic=True)), 100, 5000),
        (dict(nms=dict(type='soft_nms', iou_threshold=0.5)), 100, 5000),
        (dict(nms=None), 100, 5000),
    ],
    ids=str,
)
def test_detections_of_any_test_cfg_equal_mmdet(test_cfg, least, most, with_nms):
    ours, theirs = two_heads(test_cfg=test_cfg)
    counts = assert_same_detections(ours, theirs, *maps(5), with_nms=with_nms)
    assert least <= min(counts) <= max(counts) <= most


@pytest.mark.parametrize('with_nms', [True, False])
def test_detections_in_images_of_different_size_equal_mmdet(with_nms):
    ours, theirs = two_heads()
    img_metas = metas((128, 192), (100, 90))
    img_metas[0]['scale_factor'] = (2.0, 1.5)
    img_metas[1]['scale_factor'] = (0.3, 0.7)
    assert_same_detections(
        ours,
        theirs,
        *maps(5),
        batch_img_metas=img_metas,
        rescale=True,
        with_nms=with_nms,
    )


def test_detections_with_a_box_type_equal_mmdet():
    ours, theirs = two_heads(bbox_coder=dict(use_box_type=True))
    assert_same_detections(ours, theirs, *maps(5), rescale=True)


def test_image_without_detections_beside_one_with():
    ours, theirs = two_heads()
    scores, deltas = maps(5)
    for level in scores:
        level[0] = -20
    assert assert_same_detections(ours, theirs, scores, deltas) == [0, 100]


@pytest.mark.parametrize('pi', [0.01, 0.1, 0.5])
def test_every_anchor_starts_with_confidence_pi(pi):
    head = RetinaHead(**config('focal_retinanet.'), pi=pi)
    head.init_weights()
    assert torch.allclose(head.retina_cls.bias.sigmoid(), torch.tensor(pi))
    scores = torch.cat([s.flatten() for s in head(features())[0]]).sigmoid()
    torch.testing.assert_close(scores.mean(), torch.tensor(pi), rtol=1e-3, atol=0)
    weights = torch.cat([c.conv.weight.flatten() for c in head.cls_convs])
    assert weights.std().item() == pytest.approx(0.01, rel=0.1)
    assert all((c.conv.bias == 0).all() for c in head.reg_convs)


def test_prior_of_the_softmax_form():
    changes = dict(loss_cls=dict(use_sigmoid=False), num_classes=5)
    head = RetinaHead(**config('focal_retinanet.', **changes), pi=0.01)
    head.init_weights()
    logits = head(features())[0][0]  # (B, A * 6, H, W)
    p = logits.permute(0, 2, 3, 1).reshape(-1, 6).softmax(1)
    assert p[:, :5].sum(1).mean().item() == pytest.approx(0.01, rel=1e-2)
    losses, gradients = losses_and_gradients(head, objects(4, 6), metas())
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert all(torch.isfinite(g).all() for g in gradients.values())
    found = head.predict_by_feat(*head(features()), batch_img_metas=metas())
    assert len(found) == 2


def test_channels_follow_the_losss_own_default():
    cfg = config('focal_retinanet.')
    for options, channels in (({}, 5), (dict(use_sigmoid=False), 6)):
        cfg.loss_cls = dict(type='focal_retinanet.FocalLoss', **options)
        assert RetinaHead(**cfg).retina_cls.out_channels == 9 * channels


def test_bad_pi_is_refused():
    with pytest.raises(ValueError, match='pi is a probability'):
        RetinaHead(**config('focal_retinanet.'), pi=0)


def test_default_box_loss_is_that_of_the_papers_release():
    head = RetinaHead(num_classes=2, in_channels=8)
    assert type(head.loss_bbox).__name__ == 'SmoothL1Loss'
    assert head.loss_bbox.beta == pytest.approx(1 / 9)


def test_no_anchor_inside_is_named():
    ours, _ = two_heads(train_cfg=dict(allowed_border=0))
    with pytest.raises(ValueError, match='allowed_border=-1'):
        ours.loss_by_feat(*ours(features()), objects(1, 1), metas((4, 4), (4, 4)))


def test_shares_of_the_loss_by_hand():
    """Nine anchors of one cell: one object, an easy and a hard negative, ignored."""
    head = RetinaHead(**config('focal_retinanet.', num_classes=1))
    head.loss_cls.gamma, head.loss_cls.alpha = 0.0, None
    logits = torch.tensor([0.5, -3.0, 1.0, *[2.0] * 6])
    labels = torch.tensor([[0, 1, 1, *[-1] * 6]])
    maps = [logits.view(1, 9, 1, 1)]
    expected = sigmoid_focal_loss(logits[:, None], labels[0], gamma=0.0, alpha=None).t()
    losses = head.anchor_losses(maps, labels)
    torch.testing.assert_close(losses, expected)
    shares = loss_shares(maps, labels, 1, losses)
    for index, name in enumerate(['pos_share', 'easy_neg_share', 'hard_neg_share']):
        torch.testing.assert_close(shares[name], expected[0, index] / expected.sum())


@pytest.mark.parametrize('channels_last', [False, True])
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
def test_shares_of_any_loss_are_those_of_its_elements(loss_cls, channels_last):
    cfg = config('focal_retinanet.')
    cfg.loss_cls = ConfigDict(loss_cls)
    head = RetinaHead(**cfg)
    with torch.no_grad():
        maps = [m * 30 - 1 for m in head(features())[0]]
    if channels_last:
        maps = [m.to(memory_format=torch.channels_last) for m in maps]
    channels = head.cls_out_channels
    logits = flatten_levels(maps, channels)
    labels = torch.randint(-1, 6, (2, len(logits) // 2))
    flat = labels.flatten()
    targets = torch.where(flat < 0, 5, flat)  # a label that every loss knows
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


@pytest.mark.parametrize('loss_cls', ['focal_retinanet.FocalLoss', 'FocalLoss'])
def test_shares_take_little_memory(loss_cls):
    """Maps of 30 MiB; all their elements at once would take several times that."""
    cfg = config('focal_retinanet.', num_classes=80)
    cfg.loss_cls = ConfigDict(type=loss_cls, use_sigmoid=True)
    head = RetinaHead(**cfg)
    maps = [torch.randn(2, 9 * 80, 74, 74)]
    labels = torch.randint(-1, 81, (2, 9 * 74 * 74))
    size = maps[0].numel() * 4 / 2**20

    def shares():
        return loss_shares(maps, labels, 80, head.anchor_losses(maps, labels))

    shares()  # what is made once, such as threads, does not count
    peak = peak_memory(shares, torch.device('cpu'))
    if peak is None:
        pytest.skip('the system keeps no record of a peak')
    # A loss of mmdet takes an image of a level as rows, and some tensors of 4 MiB;
    # all at once it takes some 15 times the maps.
    assert peak < (0.2 * size if 'focal' in loss_cls else 4 * size)


def test_box_loss_on_a_gpu_is_that_on_a_cpu(monkeypatch):
    """There, all anchors go in, so that the host need not wait for their number."""
    for changes in (
        {},
        dict(
            reg_decoded_bbox=True,
            loss_bbox=ConfigDict(type='GIoULoss', loss_weight=2.0),
        ),
    ):
        cfg = config('focal_retinanet.')
        for key, value in changes.items():
            cfg[key] = value
        head = RetinaHead(**cfg)
        for parameter in head.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        expected = losses_and_gradients(head, objects(4, 17), metas())
        monkeypatch.setattr(RetinaHead, '_picks_positives', lambda self, matched: False)
        found = losses_and_gradients(head, objects(4, 17), metas())
        monkeypatch.undo()
        for a, b in zip(found, expected, strict=True):
            for name in b:
                torch.testing.assert_close(a[name], b[name], rtol=1e-5, atol=1e-7)


def test_what_the_network_says_of_background_adds_nothing_to_the_box_loss(monkeypatch):
    monkeypatch.setattr(RetinaHead, '_picks_positives', lambda self, matched: False)
    head = RetinaHead(**config('focal_retinanet.'))
    with torch.no_grad():
        scores, deltas = head(features())
    deltas[0][0, :, 0, 0] = torch.inf  # a corner without an object
    deltas = [level.requires_grad_() for level in deltas]
    gt = [InstanceData(bboxes=torch.tensor([[60.0, 60, 120, 120]]))] * 2
    for instances in gt:
        instances.labels = torch.tensor([1])
    (loss,) = head.loss_by_feat(scores, deltas, gt, metas())['loss_bbox']
    loss.backward()
    assert loss.isfinite() and loss > 0
    assert all(level.grad.isfinite().all() for level in deltas)


@pytest.mark.parametrize('pad_shape', [(128, 192), (64, 96), (100, 190), (1, 1)])
def test_anchors_in_the_padding_are_mmdets(pad_shape):
    head = RetinaHead(**config('focal_retinanet.'))
    sizes = [tuple(level.shape[-2:]) for level in features()]
    anchors = torch.cat(head.prior_generator.grid_priors(sizes, device='cpu'))
    metas = [dict(pad_shape=shape) for shape in [(128, 192), pad_shape]]
    excluded = exclude_anchors(anchors, sizes, head.prior_generator.strides, metas)
    valid = torch.cat(head.prior_generator.valid_flags(sizes, pad_shape, 'cpu'))
    if excluded is None:
        assert valid.all()
    else:
        assert not excluded[0].any()
        assert torch.equal(excluded[1], ~valid)


def with_atss(prefix=''):
    cfg = config(prefix)
    cfg.train_cfg.assigner = ConfigDict(type='ATSSAssigner', topk=9)
    return cfg


@pytest.mark.parametrize('shapes', [(), ((128, 192), (64, 96))])
@pytest.mark.parametrize('ignored', [None, (2, 0)])
def test_atss_assigner_gives_what_it_gives_atss(shapes, ignored):
    head = RetinaHead(**with_atss('focal_retinanet.'))
    gt = objects(3, 2) if shapes else objects(3, 6)
    for instances in gt if shapes else []:
        instances.bboxes = instances.bboxes / 2  # inside of the smaller image
    ignore = None if ignored is None else objects(*ignored)
    scores = head(features())[0]
    samples = []
    for b, instances in enumerate(gt):
        sample = DetDataSample(metainfo=metas(*shapes)[b])
        sample.gt_instances = instances
        sample.ignored_instances = (
            InstanceData(bboxes=torch.zeros(0, 4)) if ignore is None else ignore[b]
        )
        samples.append(sample)
    labels = head.assign(scores, samples)

    sizes = [tuple(level.shape[-2:]) for level in features()]
    levels = head.prior_generator.grid_priors(sizes, device='cpu')
    for b, meta in enumerate(metas(*shapes)):
        valid = head.prior_generator.valid_flags(sizes, meta['pad_shape'], 'cpu')
        priors = torch.cat([p[v] for p, v in zip(levels, valid, strict=True)])
        result = head.assigner.assign(
            InstanceData(priors=priors),
            [int(v.sum()) for v in valid],
            gt[b],
            samples[b].ignored_instances,
        )
        inside = torch.cat(valid)
        positive = (labels[b] >= 0) & (labels[b] < 5)
        assert int(positive.sum()) == int((result.gt_inds > 0).sum()) > 0
        assert torch.equal(positive[inside], result.gt_inds > 0)
        assert (labels[b][~inside] == -1).all()


@pytest.mark.parametrize(
    ('assigner', 'says'),
    [
        (dict(type='HungarianAssigner', match_costs=[]), 'HungarianAssigner'),
        (dict(type='SimOTAAssigner'), 'SimOTAAssigner'),
        (dict(type='TaskAlignedAssigner', topk=13), 'TaskAlignedAssigner'),
    ],
)
def test_an_assigner_that_does_not_fit_is_refused_by_name(assigner, says):
    cfg = config('focal_retinanet.')
    cfg.train_cfg.assigner = ConfigDict(assigner)
    if says == 'HungarianAssigner':
        cfg.train_cfg.assigner.match_costs = [dict(type='ClassificationCost')]
    head = RetinaHead(**cfg)
    with pytest.raises(TypeError, match=f'{says}.*use MaxIoUAssigner or ATSSAssigner'):
        losses_and_gradients(head, objects(3, 3), metas())


class HeadWithOwnParts(RetinaHead):
    """What users do: a head derived from ours, with a step of its own."""

    def _predict_by_feat_single(self, *args, **kwargs):
        results = super()._predict_by_feat_single(*args, **kwargs)
        results.scores = results.scores / 2
        return results

    def loss_by_feat_single(self, *args, **kwargs):
        loss_cls, loss_bbox = super().loss_by_feat_single(*args, **kwargs)
        return loss_cls * 3, loss_bbox


def test_a_derived_head_is_obeyed():
    ours, theirs = two_heads()
    derived = HeadWithOwnParts(**config('focal_retinanet.'))
    derived.load_state_dict(ours.state_dict())
    found = derived.predict_by_feat(*derived(features()), batch_img_metas=metas())
    expected = theirs.predict_by_feat(*theirs(features()), batch_img_metas=metas())
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a.scores * 2, b.scores)
    a, _ = losses_and_gradients(derived, objects(4, 6), metas())
    b, _ = losses_and_gradients(theirs, objects(4, 6), metas())
    torch.testing.assert_close(a['loss_cls'], b['loss_cls'] * 3)


@pytest.mark.parametrize(
    'name', ['_bbox_post_process', '_predict_by_feat_single', 'get_targets']
)
def test_every_step_that_a_derived_head_overrides_is_called(name):
    called = []

    def step(self, *args, **kwargs):
        called.append(name)
        return getattr(super(Derived, self), name)(*args, **kwargs)

    Derived = type('Derived', (RetinaHead,), {name: step})
    head = Derived(**config('focal_retinanet.'))
    if name == 'get_targets':
        losses_and_gradients(head, objects(4, 6), metas())
    else:
        head.predict_by_feat(*head(features()), batch_img_metas=metas())
    assert called


def test_own_targets_do_not_go_with_a_sampler_that_passes_them_over():
    cfg = config('focal_retinanet.')
    cfg.train_cfg.sampler = ConfigDict(type='focal_retinanet.HardNegativeSampler')
    Derived = type('Derived', (RetinaHead,), {'get_targets': lambda self: None})
    with pytest.raises(TypeError, match=r'overrides get_targets.*HardNegativeSampler'):
        losses_and_gradients(Derived(**cfg), objects(4, 6), metas())


def test_a_loss_of_sigmoids_leaves_predicting_to_this_head(monkeypatch):
    ours, _ = two_heads()
    cls_scores, bbox_preds = maps(5)

    def of_mmdet(*args, **kwargs):
        raise AssertionError("mmdet's slower way is taken")

    monkeypatch.setattr(MMDetRetinaHead, 'predict_by_feat', of_mmdet)
    found = ours.predict_by_feat(cls_scores, bbox_preds, batch_img_metas=metas())
    assert len(found) == 2
