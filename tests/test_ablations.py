"""Every row of the paper's tables builds, and changes only what the paper changes."""

from pathlib import Path

import pytest
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from focal_retinanet.config.ablation_table import Table

ROOT = Path(__file__).parent.parent
ABLATIONS = ROOT / 'configs' / 'ablations'
R50 = 'retinanet_r50_fpn_90k_coco-600px'
R101 = 'retinanet_r101_fpn_90k_coco-600px'
LOSS = 'model.bbox_head.loss_cls.'
SCALES = 'model.bbox_head.anchor_generator.scales_per_octave'
RATIOS = 'model.bbox_head.anchor_generator.ratios'
SAMPLER = 'model.train_cfg.sampler.'
CE = {LOSS + 'gamma': 0.0, LOSS + 'alpha': None}


def ohem(num, threshold, **changes):
    return {
        **CE,
        SAMPLER + 'type': 'focal_retinanet.OHEMSampler',
        SAMPLER + 'num': num,
        SAMPLER + 'nms_iou_thr': threshold,
        **{SAMPLER + key: value for key, value in changes.items()},
    }


def star(**changes):
    return {
        LOSS + 'type': 'focal_retinanet.FocalLossStar',
        **{LOSS + key: value for key, value in changes.items()},
    }


#: What each row changes, by the paper; values equal to the base's are left out.
ROWS = {
    'table1a': (
        R50,
        {
            f'alpha-{alpha}': {LOSS + 'gamma': 0.0, LOSS + 'alpha': float(alpha)}
            for alpha in ('.10', '.25', '.50', '.75', '.90', '.99', '.999')
        },
    ),
    'table1b': (
        R50,
        {
            f'gamma-{gamma}': {LOSS + 'gamma': float(gamma), LOSS + 'alpha': alpha}
            for gamma, alpha in (
                ('0', 0.75),
                ('0.1', 0.75),
                ('0.2', 0.75),
                ('0.5', 0.5),
                ('1.0', 0.25),
                ('2.0', 0.25),
                ('5.0', 0.25),
            )
        },
    ),
    'table1c': (
        R50,
        {
            f'scales-{scales}_ratios-{len(ratios)}': {SCALES: scales, RATIOS: ratios}
            for scales, ratios in (
                (1, [1.0]),
                (2, [1.0]),
                (3, [1.0]),
                (1, [0.5, 1.0, 2.0]),
                (2, [0.5, 1.0, 2.0]),
                (3, [0.5, 1.0, 2.0]),
                (4, [0.5, 1.0, 2.0]),
            )
        },
    ),
    'table1d': (
        R101,
        {
            'ohem_128_nms-.7': ohem(128, 0.7),
            'ohem_256_nms-.7': ohem(256, 0.7),
            'ohem_512_nms-.7': ohem(512, 0.7),
            'ohem_128_nms-.5': ohem(128, 0.5),
            'ohem_256_nms-.5': ohem(256, 0.5),
            'ohem_512_nms-.5': ohem(512, 0.5),
            'ohem-1-3_128_nms-.5': ohem(128, 0.5, neg_pos_ratio=3),
            'ohem-1-3_256_nms-.5': ohem(256, 0.5, neg_pos_ratio=3),
            'ohem-1-3_512_nms-.5': ohem(512, 0.5, neg_pos_ratio=3),
            'fl': {},
        },
    ),
    'table3': (
        R50,
        {
            'ce': {LOSS + 'gamma': 0.0, LOSS + 'alpha': 0.75},
            'fl': {},
            'fl-star_gamma-2_beta-1': star(gamma=2.0, beta=1.0),
            'fl-star_gamma-4_beta-0': star(gamma=4.0, beta=0.0),
        },
    ),
    'rivals': (
        R50,
        {
            'ce': CE,
            'ce_no-prior': {**CE, 'model.bbox_head.pi': 0.5},
            'fl_no-prior': {'model.bbox_head.pi': 0.5},
            'hinge': {
                LOSS + 'type': 'focal_retinanet.HingeLoss',
                LOSS + 'margin': 0.5,
                LOSS + 'alpha': 0.5,
                LOSS + 'use_sigmoid': None,  # the loss is always sigmoid
                LOSS + 'gamma': None,
                LOSS + 'loss_weight': None,
            },
            'hard-negatives': {
                **CE,
                SAMPLER + 'type': 'focal_retinanet.HardNegativeSampler',
                SAMPLER + 'neg_pos_ratio': 3,
            },
            'random-256': {
                **CE,
                SAMPLER + 'type': 'RandomSampler',
                SAMPLER + 'num': 256,
                SAMPLER + 'pos_fraction': 0.5,
                SAMPLER + 'neg_pos_ub': -1,
                SAMPLER + 'add_gt_as_proposals': False,
            },
        },
    ),
}
SCALES_1E = (400, 500, 600, 700, 800)


def flat(value, prefix=''):
    """Return a config as {dotted key: value}."""
    if isinstance(value, dict):
        return {
            key: leaf
            for name, inner in value.items()
            for key, leaf in flat(inner, f'{prefix}{name}.').items()
        }
    return {prefix[:-1]: value}


def load_base(name):
    return Config.fromfile(ROOT / 'configs' / 'retinanet' / f'{name}.py')


def build(cfg):
    init_default_scope('mmdet')
    cfg.model.backbone.init_cfg = None
    return MODELS.build(cfg.model)


@pytest.mark.parametrize('table', ROWS)
def test_table_has_the_papers_rows(table):
    base, rows = ROWS[table]
    assert Table(ABLATIONS / f'{table}.py').rows == list(rows)
    assert Table(ABLATIONS / f'{table}.py').base.resolve().stem == base


@pytest.mark.parametrize(
    'table, row', [(table, row) for table, (_, rows) in ROWS.items() for row in rows]
)
def test_row_is_the_base_and_what_it_says(table, row):
    base, rows = ROWS[table]
    cfg = Table(ABLATIONS / f'{table}.py').load(row)
    before, after = flat(load_base(base).to_dict()), flat(cfg.to_dict())
    changed = {
        key: after.get(key)
        for key in {*before, *after}
        if before.get(key, 'absent') != after.get(key, 'absent')
    }
    expected = rows[row]
    assert changed == {
        key: value
        for key, value in expected.items()
        if key not in before or before[key] != value
    }
    model = build(cfg)
    for key in ('gamma', 'alpha', 'beta', 'margin'):
        if expected.get(LOSS + key) is not None:
            assert getattr(model.bbox_head.loss_cls, key) == expected[LOSS + key]
    for key in ('num', 'nms_iou_thr', 'neg_pos_ratio'):
        if SAMPLER + key in expected:
            assert getattr(model.bbox_head.sampler, key) == expected[SAMPLER + key]
    if SCALES in expected:
        anchors = expected[SCALES] * len(expected[RATIOS])
        assert model.bbox_head.num_base_priors == anchors


def test_table_1e_is_the_configs_of_its_depths_and_scales():
    table = Table(ABLATIONS / 'table1e.py')
    assert table.rows == [f'r{d}_{px}px' for d in (50, 101) for px in SCALES_1E]
    for depth in (50, 101):
        for px in SCALES_1E:
            cfg = table.load(f'r{depth}_{px}px')
            name = f'retinanet_r{depth}_fpn_90k_coco-{px}px'
            assert cfg.to_dict() == load_base(name).to_dict()


@pytest.mark.parametrize('row, backbone', [('r101', 'ResNet'), ('x101', 'ResNeXt')])
def test_table_2_jitters_and_trains_longer(row, backbone):
    cfg = Table(ABLATIONS / 'table2.py').load(row)
    base = load_base('retinanet_r101_fpn_90k_coco-800px')
    changed = {
        key
        for key, value in flat(cfg.to_dict()).items()
        if flat(base.to_dict()).get(key) != value
    }
    backbone_keys = {'type', 'groups', 'base_width', 'init_cfg.checkpoint'}
    assert {key for key in changed if not key.startswith('model.')} == {
        'train_cfg.max_iters',
        'param_scheduler',
        'train_pipeline',
        'train_dataloader.dataset.pipeline',
    }
    assert {key for key in changed if key.startswith('model.')} == (
        {f'model.backbone.{key}' for key in backbone_keys} if row == 'x101' else set()
    )
    assert cfg.train_cfg.max_iters == 1.5 * base.train_cfg.max_iters
    assert cfg.param_scheduler[1].milestones == [
        1.5 * milestone for milestone in base.param_scheduler[1].milestones
    ]
    jitter = cfg.train_dataloader.dataset.pipeline[2]
    assert [min(scale) for scale in jitter.scales] == list(range(640, 801, 32))
    assert type(build(cfg).backbone).__name__ == backbone


def test_small_models_differ_in_their_data_alone():
    """The README compares these configs side by side."""
    bccd = Config.fromfile(
        ROOT / 'configs/bccd/retinanet_mobilenetv2_fpn_8e_bccd-320px.py'
    )
    cherry = Config.fromfile(
        ROOT / 'configs/cherry/retinanet_mobilenetv2_fpn_4e_cherry-320px.py'
    )
    cherry.model.bbox_head.num_classes = 3
    assert bccd.model == cherry.model
    assert bccd.optim_wrapper == cherry.optim_wrapper
    assert bccd.param_scheduler[0] == cherry.param_scheduler[0]
    for cfg in (bccd, cherry):  # the same step after three quarters
        (milestone,) = cfg.param_scheduler[1].milestones
        assert milestone / cfg.train_cfg.max_epochs == 0.75
        assert cfg.train_dataloader.batch_size == 8
