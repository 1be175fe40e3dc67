"""Options that somebody reads are set, and all others are refused."""

import argparse
import copy
from pathlib import Path

import mmdet
import pytest
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from focal_retinanet.cli.arguments import add_cfg_options
from focal_retinanet.cli.errors import UserError
from focal_retinanet.config.ablation_table import Table, is_table, load_config_or_row
from focal_retinanet.config.cfg_options import merge_options
from focal_retinanet.config.parameters import parameters

ROOT = Path(__file__).parents[2]
FILES = sorted(
    file for file in (ROOT / 'configs').glob('*/*.py') if file.parent.name != '_base_'
)
SHAPES = ROOT / 'configs/demo/retinanet_r18-slim_fpn_8e_shapes.py'
BCCD = ROOT / 'configs/bccd/retinanet_r18_fpn_24e_bccd-320px.py'


def parse(*options):
    parser = argparse.ArgumentParser()
    add_cfg_options(parser)
    return parser.parse_args(['--cfg-options', *options]).cfg_options


def configs_of(file):
    """Return the config of a file, or the configs of all rows of a table."""
    if not is_table(Config.fromfile(file)):
        return [load_config_or_row(str(file))]
    table = Table(file)
    return [table.load(row) for row in table.rows]


def at(cfg, key):
    for name in key.split('.'):
        cfg = cfg[int(name)] if isinstance(cfg, list) else cfg[name]
    return cfg


OF_ANY_CONFIG = [
    'randomness.seed=3',
    'randomness.deterministic=True',
    'work_dir=elsewhere',
    'load_from=weights.pth',
    'resume=True',
    'experiment_name=mine',
    'log_level=DEBUG',
    'default_scope=mmdet',
    'find_unused_parameters=True',
    'sync_bn=torch',
    'model_wrapper_cfg.find_unused_parameters=True',
    'compile=True',
    'channels_last=True',
    'activation_checkpointing=[backbone]',
    'env_cfg.cudnn_benchmark=True',
    'env_cfg.mp_cfg.mp_start_method=spawn',
    'env_cfg.dist_cfg.timeout=3600',
    'train_dataloader.batch_size=3',
    'train_dataloader.num_workers=0',
    'train_dataloader.pin_memory=True',
    'train_dataloader.prefetch_factor=4',
    'train_dataloader.num_batch_per_epoch=9',
    'val_dataloader.persistent_workers=False',
    'val_dataloader.dataset.ann_file=val.json',
    'val_dataloader.dataset.indices=100',
    'test_evaluator.ann_file=test.json',
    'val_evaluator.classwise=True',
    'train_cfg.val_interval=5',
    'optim_wrapper.optimizer.lr=0.5',
    'optim_wrapper.accumulative_counts=4',
    'optim_wrapper.clip_grad.max_norm=35',
    'optim_wrapper.paramwise_cfg.norm_decay_mult=0',
    'optim_wrapper.paramwise_cfg.custom_keys.backbone.lr_mult=0.1',
    'optim_wrapper.paramwise_cfg.custom_keys.backbone.weight_decay=0',
    'param_scheduler.0.end=7',
    'auto_scale_lr.base_batch_size=16',
    'default_hooks.checkpoint.save_best=auto',
    'default_hooks.checkpoint.max_keep_ckpts=1',
    'default_hooks.logger.interval=7',
    'default_hooks.timer=None',
    'default_hooks.mine.type=EMAHook',
    'visualizer.vis_backends=[]',
    'log_processor.window_size=7',
    'model.data_preprocessor.pad_size_divisor=64',
    'custom_imports.imports=[json]',
]
OF_RETINANET = [
    'model.bbox_head.loss_bbox.loss_weight=2.0',
    'model.bbox_head.anchor_generator.octave_base_scale=2',
    'model.bbox_head.pi=0.1',
    'model.bbox_head.stacked_convs=2',
    'model.backbone.with_cp=True',
    'model.backbone.init_cfg.checkpoint=weights.pth',
    'model.neck.norm_cfg.type=GN',
    'model.train_cfg.assigner.pos_iou_thr=0.6',
    'model.test_cfg.score_thr=0.3',
    'model.test_cfg.nms.iou_threshold=0.6',
    'model.test_cfg.nms.split_thr=100',
    'train_dataloader.dataset.ann_file=train.json',
    'train_dataloader.dataset.filter_cfg.min_size=8',
    'train_dataloader.dataset.pipeline.1.with_bbox=True',
    'custom_hooks.0.priority=LOW',
]
NOT_READ = {
    # mmdet 2.x
    'optimizer.lr=0.5': 'optim_wrapper.optimizer.lr',
    'data.samples_per_gpu=3': 'train_dataloader.batch_size',
    'runner.max_epochs=3': 'train_cfg.max_epochs',
    'evaluation.interval=3': 'train_cfg.val_interval',
    'checkpoint_config.interval=3': 'default_hooks.checkpoint.interval',
    'optimizer_config.grad_clip.max_norm=3': 'optim_wrapper.clip_grad.max_norm',
    'total_epochs=3': 'train_cfg.max_epochs',
    'seed=3': 'randomness.seed',
    # One name is missing.
    'lr=0.5': 'optim_wrapper.optimizer.lr',
    'batch_size=3': 'train_dataloader.batch_size',
    'checkpoint.max_keep_ckpts=3': 'default_hooks.checkpoint.max_keep_ckpts',
    'model.bbox_head.gamma=3': 'model.bbox_head.loss_cls.gamma',
    # One is misspelt, at any depth.
    'optim_wraper.optimizer.lr=0.5': 'optim_wrapper.optimizer.lr',
    'randomnes.seed=3': 'randomness.seed',
    'randomness.sed=3': 'randomness.seed',
    'train_cfg.max_epoch=3': 'train_cfg.max_epochs',
    'train_dataloader.batchsize=3': 'train_dataloader.batch_size',
    'train_dataloader.sampler.shufle=False': 'train_dataloader.sampler.shuffle',
    'train_dataloader.dataset.indicies=9': 'train_dataloader.dataset.indices',
    'train_dataloader.dataset.pipeline.1.with_box=True': (
        'train_dataloader.dataset.pipeline.1.with_bbox'
    ),
    'default_hooks.loger.interval=3': 'default_hooks.logger.interval',
    'default_hooks.logger.intervall=3': 'default_hooks.logger.interval',
    'model.bbox_head.loss_cls.gama=3': 'model.bbox_head.loss_cls.gamma',
    'model.bbox_head.loss_clas.gamma=3': 'model.bbox_head.loss_cls.gamma',
    'model.backbone.norm_cfg.require_grad=False': (
        'model.backbone.norm_cfg.requires_grad'
    ),
    'model.test_cfg.scor_thr=0.3': 'model.test_cfg.score_thr',
    'model.test_cfg.Score_thr=0.3': 'model.test_cfg.score_thr',
    'model.test_cfg.nms.iou_treshold=0.3': 'model.test_cfg.nms.iou_threshold',
    'env_cfg.cudnn_benchmarks=True': 'env_cfg.cudnn_benchmark',
    'env_cfg.mp_cfg.start_method=spawn': 'env_cfg.mp_cfg.mp_start_method',
    'optim_wrapper.clip_grad.max_norms=3': 'optim_wrapper.clip_grad.max_norm',
    'param_scheduler.0.ends=3': 'param_scheduler.0.end',
    'val_evaluator.class_wise=True': 'val_evaluator.classwise',
    'log_processor.window=3': 'log_processor.window_size',
}


@pytest.mark.parametrize('file', FILES, ids=lambda file: file.stem)
def test_options_that_users_give_are_accepted_for_every_config(file):
    first, *others = configs_of(file)
    options = list(OF_ANY_CONFIG)
    if first.model.type == 'RetinaNet':
        options += OF_RETINANET
    if file.parent.name == 'torchvision':  # its anchors have sizes instead
        generator = 'model.bbox_head.anchor_generator'
        options.remove(f'{generator}.octave_base_scale=2')
        options.append(f'{generator}.ratios=[1.0]')
    for option in options:
        cfg = first.copy()
        values = parse(option)
        merge_options(cfg, values)
        ((key, value),) = values.items()
        assert at(cfg, key) == value, option
    for cfg in (first, *others):
        own = options
        if cfg.get('model', {}).get('train_cfg', {}).get('assigner', {}).get('topk'):
            own = [x for x in options if 'assigner.' not in x]  # ATSS has no thresholds
        merge_options(cfg, parse(*own))  # together
        assert '_delete_' not in str(cfg.to_dict())


@pytest.mark.parametrize(('option', 'meant'), NOT_READ.items())
def test_what_no_one_reads_is_refused(option, meant):
    cfg = Config.fromfile(BCCD)
    before = cfg.to_dict()
    with pytest.raises(UserError) as caught:
        merge_options(cfg, parse(option))
    message = str(caught.value)
    assert f'no one reads {option.split("=")[0]}:' in message
    assert f'did you mean {meant}' in message
    assert cfg.to_dict() == before


@pytest.mark.parametrize('file', FILES, ids=lambda file: file.stem)
def test_misspelt_options_are_refused_for_every_config(file):
    cfg = configs_of(file)[0]
    for option in (
        'optimizer.lr=1',
        'optim_wrapper.optimiser.lr=1',
        'train_cfg.maxepochs=1',
        'train_dataloader.num_worker=1',
        'train_dataloader.dataset.anns_file=x',
        'val_evaluator.annfile=x',
        'model.bbox_heads.num_classes=1',
        'model.backbone.depht=1',
        'default_hooks.checkpoints.interval=1',
        'no_such_thing=1',
    ):
        with pytest.raises(UserError, match='no one reads'):
            merge_options(cfg.copy(), parse(option))


def test_variables_of_the_file_are_named_with_what_has_their_value():
    cfg = Config.fromfile(BCCD)
    for option in ('data_root=x/', 'train_pipeline.0.x=1', 'metainfo.classes=[a]'):
        with pytest.raises(UserError, match='it is a variable of the config file'):
            merge_options(cfg, parse(option))
    with pytest.raises(UserError) as caught:
        merge_options(cfg, parse('data_root=x/'))
    for key in (
        'train_dataloader.dataset.data_root',
        'val_dataloader.dataset.data_root',
    ):
        assert key in str(caught.value)  # although the latter starts with it
    cfg = Config(
        dict(
            size=(64, 64),
            batch_size=4,
            mine=dict(rate=0.1),
            root='data',
            near='data/x',
            train_dataloader=dict(batch_size=4, dataset=dict(scale=(64, 64))),
            val_evaluator=dict(ann_file='data/x.json'),
        )
    )
    for key, by in [
        ('size', 'train_dataloader.dataset.scale'),
        ('batch_size', 'train_dataloader.batch_size'),
        ('root', 'val_evaluator.ann_file'),
    ]:
        with pytest.raises(UserError, match=rf'Set {by}; or'):
            merge_options(cfg, {key: 'new'})
    # mmengine marks the variables of a base of another package.
    steps = [dict(type='Resize', scale=(64, 64))]
    cfg.steps = [dict(steps[0], _scope_='mmdet')]
    cfg.train_dataloader.dataset.pipeline = steps
    with pytest.raises(UserError, match=r'Set train_dataloader\.dataset\.pipeline; or'):
        merge_options(cfg, {'steps.0.scale': (32, 32)})
    # A hook of the user's own may read these.
    merge_options(cfg, {'mine.rate': 0.2, 'near': 'y'})
    assert (cfg.mine.rate, cfg.near) == (0.2, 'y')


def test_a_preprocessor_beside_a_model_that_has_one_is_not_read():
    preprocessor = dict(type='DetDataPreprocessor', pad_size_divisor=32)
    cfg = Config(dict(model=dict(data_preprocessor=preprocessor)))
    options = {'data_preprocessor.pad_size_divisor': 1}
    with pytest.raises(UserError, match=r'mean model\.data_preprocessor'):
        merge_options(cfg, options)
    cfg = Config(dict(model=dict(type='RetinaNet')))
    merge_options(cfg, options)
    assert cfg.data_preprocessor.pad_size_divisor == 1


@pytest.mark.parametrize(
    ('option', 'says'),
    [
        ('param_scheduler.9.end=1', r'no param_scheduler\.9: .* entries 0 to 1'),
        ('param_scheduler.end=1', r'no param_scheduler\.end: .* entries 0 to 1'),
        ('param_scheduler.-1.end=1', r'no param_scheduler\.-1'),
        ('train_dataloader.batch_size.x=1', 'batch_size is 4 in the config'),
        ('custom_imports.imports=[no_such_module]', 'custom_imports: .*no_such_module'),
    ],
)
def test_what_does_not_lead_anywhere_is_said(option, says):
    with pytest.raises(UserError, match=says):
        merge_options(Config.fromfile(BCCD), parse(option))


def test_entries_of_lists_are_set_whatever_they_are():
    cfg = Config.fromfile(BCCD)
    options = {
        'model.neck.in_channels.1': 99,
        'param_scheduler.0': dict(_delete_=True, type='ConstantLR', factor=0.5),
        'train_dataloader.dataset.pipeline': [dict(type='LoadImageFromFile')],
        'custom_hooks.0.priority': 70,
    }
    given = copy.deepcopy(options)
    merge_options(cfg, options)
    assert options == given
    assert cfg.model.neck.in_channels[1] == 99
    assert cfg.param_scheduler[0] == dict(type='ConstantLR', factor=0.5)
    # They are attributes, too.
    assert cfg.train_dataloader.dataset.pipeline[0].type == 'LoadImageFromFile'
    assert cfg.custom_hooks[0].priority == 70


def test_options_that_contradict_each_other_are_refused():
    with pytest.raises(UserError, match=r'train_cfg\.max_epochs leads into train_cfg'):
        merge_options(
            Config.fromfile(BCCD), {'train_cfg': 1, 'train_cfg.max_epochs': 2}
        )


@pytest.mark.parametrize(
    'option', ['foo', 'foo =1', '=1', 'a..b=1', '.a=1', 'a=[1,2', 'a=(1']
)
def test_what_is_not_key_and_value_is_an_error_of_the_parser(option, capsys):
    with pytest.raises(SystemExit) as caught:
        parse(*option.split(' '))
    assert caught.value.code == 2
    assert f'--cfg-options {option.split(" ")[0]}: ' in capsys.readouterr().err


def test_several_options_add_up():
    parser = argparse.ArgumentParser()
    add_cfg_options(parser)
    words = ['--cfg-options', 'a=1', 'b=[x,2]', '--cfg-options', 'c="1.5"']
    assert parser.parse_args(words).cfg_options == dict(a=1, b=['x', 2], c=1.5)


def test_a_new_type_brings_its_own_keys():
    cfg = Config.fromfile(BCCD)
    options = {'optim_wrapper.optimizer.type': 'AdamW'}
    with pytest.raises(UserError, match='SGD has no betas'):
        merge_options(cfg.copy(), {'optim_wrapper.optimizer.betas': (0.9, 0.99)})
    merge_options(cfg, options | {'optim_wrapper.optimizer.betas': (0.9, 0.99)})
    merge_options(
        cfg, {'train_cfg': dict(_delete_=True, type='IterBasedTrainLoop', max_iters=9)}
    )
    assert cfg.train_cfg == dict(type='IterBasedTrainLoop', max_iters=9)
    sampler = dict(type='focal_retinanet.OHEMSampler', num=9)
    merge_options(cfg, {'model.train_cfg.sampler': sampler})
    with pytest.raises(UserError, match='OHEMSampler has no nums'):
        merge_options(cfg, {'model.train_cfg.sampler': sampler | dict(nums=9)})
    with pytest.raises(UserError, match=r'Resize has no scal\b'):
        merge_options(
            cfg,
            {'train_dataloader.dataset.pipeline': [dict(type='Resize', scal=(1, 1))]},
        )


def test_classes_of_the_users_own_are_known_by_their_parameters():
    class MineHook(Hook):
        def __init__(self, rate, **others):
            self.rate, self.others = rate, others

    cfg = Config(dict(custom_hooks=[dict(type='MineHook', rate=1, depth=2)]))
    # Nothing is known about an unregistered class.
    merge_options(cfg, {'custom_hooks.0.anything': 1})
    HOOKS.register_module(module=MineHook)
    try:
        merge_options(cfg, {'custom_hooks.0.something': 1})
        with pytest.raises(UserError, match=r'mean custom_hooks\.0\.rate'):
            merge_options(cfg, {'custom_hooks.0.rates': 1})
        with pytest.raises(UserError, match=r'mean custom_hooks\.0\.depth'):
            merge_options(cfg, {'custom_hooks.0.dept': 1})
    finally:
        HOOKS.module_dict.pop('MineHook')


def test_parameters_follow_kwargs_as_far_as_they_are_handed_on():
    class A:
        def __init__(self, a, *, b=1):
            pass

    class HandsOn(A):
        def __init__(self, c, *args, **kwargs):
            if 'b' in kwargs:
                kwargs['b'] = kwargs.pop('d', 1)
            super().__init__(*args, **kwargs)

    class Inherits(HandsOn):
        pass

    class Keeps(A):
        def __init__(self, c, **kwargs):
            self.kwargs = kwargs
            super().__init__(1, **kwargs)

    class Stops(A):
        def __init__(self, c):
            super().__init__(c)

    assert parameters(Inherits) == (frozenset('abcd'), True)
    assert parameters(Keeps) == (frozenset('c'), False)
    assert parameters(Stops) == (frozenset('c'), True)
    assert parameters(lambda a, b: 0) == (frozenset('ab'), True)


def test_nothing_in_mmdets_own_configs_is_called_a_mistake():
    """Every key is accepted as an option after it was removed from the config."""
    folder = Path(mmdet.__file__).parent / '.mim' / 'configs'
    names = [
        *('retinanet/retinanet_r50_fpn_1x_coco.py', 'ssd/ssd300_coco.py'),
        *('yolox/yolox_s_8xb8-300e_coco.py', 'dino/dino-4scale_r50_8xb2-12e_coco.py'),
        'mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
        'rtmdet/rtmdet_s_8xb32-300e_coco.py',
        'swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py',
        'dcn/faster-rcnn_r50-dconv-c3-c5_fpn_1x_coco.py',
        'gn+ws/faster-rcnn_r50_fpn_gn-ws-all_1x_coco.py',
    ]
    for name in names:
        whole = Config.fromfile(folder / name)
        for part in ('model', 'train_dataloader', 'optim_wrapper', 'train_cfg'):
            for key, value in _leaves(whole[part], part):
                cfg = whole.copy()
                owner = at(cfg, key.rpartition('.')[0])
                del owner[key.rpartition('.')[2]]
                merge_options(cfg, {key: value})


def _leaves(node, key):
    """Yield the keys and values of the leaves that are in a dict."""
    pairs = node.items() if isinstance(node, dict) else enumerate(node)
    for name, value in pairs:
        inner = f'{key}.{name}'
        is_plain = not ('.' in str(name) or str(name) in ('type', 'custom_keys'))
        if isinstance(value, dict) or (
            isinstance(value, list) and value and isinstance(value[0], dict)
        ):
            yield from _leaves(value, inner)
        elif isinstance(node, dict) and is_plain:
            yield inner, value
