"""Every config builds, follows the paper, and can be mixed with mmdet's."""

import itertools
from pathlib import Path

import mmdet
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from focal_retinanet.config.ablation_table import Table
from focal_retinanet.models import FocalLoss, RetinaHead

ROOT = Path(__file__).parent.parent
CONFIGS = sorted(
    p
    for p in (ROOT / 'configs').glob('*/*.py')
    if p.parent.name not in ('_base_', 'ablations', 'baselines', 'mine')
    and not p.name.startswith('steps')  # tables
)
#: Other detectors, with the data and the schedule of a RetinaNet.
RIVALS = [
    p
    for p in CONFIGS
    if p.name.startswith(('atss', 'faster-rcnn', 'fcos', 'ssdlite', 'yolov3'))
]
RETINANETS = [p for p in CONFIGS if p not in RIVALS]
MMDET_CONFIGS = Path(mmdet.__file__).parent / '.mim' / 'configs'


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmdet')


def samples(count, size, num_classes):
    """Return data samples with a few boxes each; the last has none."""
    batch = []
    for index in range(count):
        boxes = torch.tensor([[4.0, 8, 44, 60], [20, 30, 90, 100], [50, 10, 70, 30]])
        boxes = boxes[: 0 if index == count - 1 else 3]
        sample = DetDataSample(
            metainfo=dict(img_shape=size, pad_shape=size, batch_input_shape=size)
        )
        sample.gt_instances = InstanceData(
            bboxes=boxes, labels=torch.arange(len(boxes)) % num_classes
        )
        batch.append(sample)
    return batch


def without_pretrained(model):
    for part in (model, model.backbone):
        part.pop('init_cfg', None)
    return model


@pytest.mark.parametrize('file', RETINANETS, ids=lambda p: p.stem)
def test_builds_with_a_head_for_its_classes(file):
    cfg = Config.fromfile(file)
    model = MODELS.build(without_pretrained(cfg.model))
    assert type(model.bbox_head) is RetinaHead
    assert type(model.bbox_head.loss_cls) is FocalLoss
    classes = cfg.train_dataloader.dataset.get('metainfo', {}).get(
        'classes', [None] * 80
    )
    assert model.bbox_head.num_classes == len(classes)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        for step in loader.dataset.pipeline:
            mmdet.registry.TRANSFORMS.build(step)


@pytest.mark.parametrize('file', RIVALS, ids=lambda p: p.stem)
def test_rivals_train_as_retinanet_does(file):
    cfg = Config.fromfile(file)
    retinanet = Config.fromfile(
        ROOT / 'configs/bccd/retinanet_mobilenetv2_fpn_400i_bccd-320px.py'
    )
    changed = {key for key in cfg if cfg[key] != retinanet.get(key)}
    assert changed - {'norm_cfg'} == {'model'}
    for model in (cfg.model, retinanet.model):
        del model.backbone['out_indices']
    assert cfg.model.backbone == retinanet.model.backbone
    assert cfg.model.data_preprocessor == retinanet.model.data_preprocessor

    detector = MODELS.build(without_pretrained(Config.fromfile(file).model))
    detector.init_weights()
    head = getattr(detector, 'roi_head', detector).bbox_head
    assert head.num_classes == 3
    images = torch.randn(2, 3, 256, 320)
    batch = samples(2, (256, 320), 3)
    for sample in batch:
        sample.set_metainfo(dict(scale_factor=(1.0, 1.0)))
    found = detector.loss(images, batch)
    total = sum(sum(v) if isinstance(v, list) else v for v in found.values())
    assert total.isfinite()
    total.backward()
    assert detector.eval().predict(images, batch)[0].pred_instances.bboxes.shape[1] == 4


@pytest.mark.parametrize(
    'file',
    sorted((ROOT / 'configs/_base_/datasets').glob('*.py')) + CONFIGS,
    ids=lambda p: p.stem,
)
def test_a_step_that_others_change_by_its_type_is_there_once(file):
    cfg = Config.fromfile(file)
    for pipeline in (cfg.train_pipeline, cfg.test_pipeline):
        types = [step.type for step in pipeline]
        for name in ('Resize', 'RandomCrop'):
            assert types.count(name) <= 1


@pytest.mark.parametrize('depth', [50, 101])
@pytest.mark.parametrize('scale', [400, 500, 600, 700, 800])
def test_table_1e(depth, scale):
    cfg = Config.fromfile(
        ROOT / f'configs/retinanet/retinanet_r{depth}_fpn_90k_coco-{scale}px.py'
    )
    assert cfg.model.backbone.depth == depth
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        (resize,) = [t for t in loader.dataset.pipeline if t.type == 'Resize']
        assert min(resize.scale) == scale
        assert max(resize.scale) == round(scale * 5 / 3)
    # Section 4.1.
    assert cfg.train_cfg.max_iters == 90000
    steps = cfg.param_scheduler[1]
    assert (steps.milestones, steps.gamma) == ([60000, 80000], 0.1)
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.lr, optimizer.momentum, optimizer.weight_decay) == (
        0.01,
        0.9,
        1e-4,
    )
    assert cfg.auto_scale_lr.base_batch_size == 16
    # Section 4.
    head = cfg.model.bbox_head
    assert (head.pi, head.loss_cls.gamma, head.loss_cls.alpha) == (0.01, 2.0, 0.25)
    assert cfg.model.test_cfg.score_thr == 0.05
    assert cfg.model.test_cfg.nms_pre == 1000


def test_steps_end_at_torchvisions_recipe():
    recipes = ROOT / 'configs' / 'recipes'
    last = Table(recipes / 'steps.py').load('26e')
    recipe = Config.fromfile(recipes / 'retinanet_r50_fpn_26e_coco-multiscale.py')
    assert set(last) - set(recipe) == set()
    for key in set(last) - {'train_pipeline', 'epoch'}:
        assert last[key] == recipe[key], key


@pytest.mark.parametrize('table', ['steps.py', 'steps_small-data.py'])
def test_each_step_changes_one_thing(table):
    table = Table(ROOT / 'configs' / 'recipes' / table)
    back = ('smooth-l1', 'one-scale')  # which are no steps
    cfgs = [table.load(row) for row in table.rows if row not in back]
    for before, after in itertools.pairwise(cfgs):
        parts = {
            (key, part)
            for key in ('model', 'optim_wrapper', 'train_dataloader', 'train_cfg')
            for part in after[key]
            if before[key].get(part) != after[key][part]
        }
        # A step is in one part of the config; the learning rate goes with its optimizer.
        assert len({key for key, _ in parts}) == 1, parts


def test_pyramid_has_p6_from_c5_and_p7_from_relu_p6():
    (file,) = (ROOT / 'configs/retinanet').glob('*x101*')
    cfg = Config.fromfile(file)
    neck = MODELS.build(cfg.model.neck).eval()
    c5_channels = cfg.model.neck.in_channels[-1]
    maps = [
        torch.randn(1, channels, 64 // 2**i, 64 // 2**i)
        for i, channels in enumerate(cfg.model.neck.in_channels)
    ]
    p3, _, _, p6, p7 = neck(maps)
    assert maps[-1].shape[1] == c5_channels
    assert p3.shape[-1] == maps[1].shape[-1]
    torch.testing.assert_close(p6, neck.fpn_convs[3](maps[-1]))
    torch.testing.assert_close(p7, neck.fpn_convs[4](p6.relu()))


@pytest.mark.parametrize(
    'name',
    [
        'fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py',
        'atss/atss_r50_fpn_1x_coco.py',
    ],
)
def test_mmdets_own_detectors_run_with_our_focal_loss(name):
    losses = []
    for prefix in ('', 'focal_retinanet.'):
        cfg = Config.fromfile(MMDET_CONFIGS / name)
        model = without_pretrained(cfg.model)
        assert model.bbox_head.loss_cls.type == 'FocalLoss'
        model.bbox_head.loss_cls.type = prefix + 'FocalLoss'
        torch.manual_seed(0)
        detector = MODELS.build(model)
        detector.init_weights()
        assert (type(detector.bbox_head.loss_cls) is FocalLoss) == bool(prefix)
        torch.manual_seed(1)
        found = detector.loss(torch.randn(2, 3, 128, 128), samples(2, (128, 128), 80))
        total = sum(sum(v) if isinstance(v, list) else v for v in found.values())
        total.backward()
        losses.append(total.detach())
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-5, atol=0)


def test_mmdets_checkpoints_load():
    """The whole detector has the same state-dict keys and shapes."""
    ours = Config.fromfile(
        ROOT / 'configs/retinanet/retinanet_r50_fpn_90k_coco-800px.py'
    ).model
    theirs = Config.fromfile(
        MMDET_CONFIGS / 'retinanet' / 'retinanet_r50_fpn_1x_coco.py'
    ).model
    ours, theirs = (
        MODELS.build(without_pretrained(m)).state_dict() for m in (ours, theirs)
    )
    shapes = {key: value.shape for key, value in theirs.items()}
    assert {key: value.shape for key, value in ours.items()} == shapes
