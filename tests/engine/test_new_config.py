"""A config that was written for a folder trains, is short, and says why."""

import ast
import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from focal_retinanet.cli.errors import UserError
from focal_retinanet.data.formats import DataFolder, FormatError, Split, find_data
from focal_retinanet.data.shapes import ShapesConfig, make_shapes
from focal_retinanet.engine.new_config import (
    choose_recipe,
    choose_settings,
    write_config,
)

ROOT = Path(__file__).parent.parent.parent
BASES = ROOT / 'configs' / 'recipes'


@pytest.fixture(autouse=True)
def without_gpu_and_weights(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setenv('MOBILENETV2', str(tmp_path / 'nosuch.pth'))


def data_of(width, height, side, num=20, classes=('a', 'b')):
    """A data set whose objects are squares, one in each image."""
    coco = dict(
        images=[
            dict(id=i, file_name=f'{i}.png', width=width, height=height)
            for i in range(num)
        ],
        annotations=[
            dict(id=i, image_id=i, category_id=1, bbox=[7 * i, 5 * i, side, side])
            for i in range(num)
        ],
        categories=[dict(id=i, name=name) for i, name in enumerate(classes, 1)],
    )
    split = Split(coco, Path('/data/images'), Path('/data'))
    return DataFolder('COCO', dict(train=split, val=split))


def choose(*args, **kwargs):
    return choose_settings(data_of(*args, **kwargs), choose_recipe(), BASES)


def write(data, out):
    recipe = choose_recipe()
    choices = choose_settings(data, recipe, BASES)
    write_config(out, data, recipe, choices, BASES, 'python tools/new_config.py DATA')
    return Config.fromfile(out)


def test_input_makes_objects_large_enough():
    # 32 pixels in 480, the least; the same share of the image.
    assert choose(1280, 960, 100).scale.value == (480, 360)
    assert choose(1280, 960, 64).scale.value == (640, 480)
    # At most 1024, and never more than the image has.
    assert choose(4000, 3000, 20).scale.value == (1024, 768)
    assert choose(640, 480, 10).scale.value == (640, 480)
    assert choose(100, 50, 10).scale.value == (100, 50)
    assert '640x480 pixels; so 100.0 %' in choose(640, 480, 10).scale.reason


def test_small_objects_are_cropped():
    assert choose(1280, 960, 100).crop is None  # the input is small
    assert choose(1000, 1000, 30).crop.value == (448, 448)


def test_anchors_fit_or_say_why_not():
    choice = choose(640, 480, 100).anchors
    assert choice.value == dict(octave_base_scale=4)
    assert choice.reason == '100.0 % of the objects have an anchor of IoU >= 0.5'
    choice = choose(640, 480, 12).anchors
    assert choice.value['octave_base_scale'] < 4
    assert "0.0 % with the paper's" in choice.reason
    assert 'are smaller than the smallest anchor' in choose(640, 480, 3).anchors.reason


def test_schedule_follows_the_number_of_images():
    assert choose(640, 480, 100, num=20).max_iters.value == 400
    few = choose(640, 480, 100, num=3)
    assert (few.batch_size.value, few.lr.value) == (3, 0.00087)
    many = choose(640, 480, 100, num=1000)
    assert (many.batch_size.value, many.max_iters.value) == (4, 2000)
    assert many.max_iters.reason == '8 passes over 1000 images'


def test_no_box_is_an_error():
    data = data_of(64, 64, 10)
    data.splits['train'].coco['annotations'] = []
    with pytest.raises(FormatError, match='no box to learn'):
        choose_settings(data, choose_recipe(), BASES)


def test_starting_weights(tmp_path, monkeypatch):
    cfg = write(data_of(64, 64, 10), tmp_path / 'hub.py')
    assert cfg.model.backbone.init_cfg.checkpoint == 'open-mmlab://mmdet/mobilenet_v2'
    assert cfg.model.data_preprocessor.mean == [123.675, 116.28, 103.53]
    assert f'no file {tmp_path}/nosuch.pth; set MOBILENETV2' in cfg.text

    file = tmp_path / 'weights.pth'
    monkeypatch.setenv('MOBILENETV2', str(file))
    for variance, mean in ((torch.ones(4), 127.5), (torch.rand(4), 123.675)):
        torch.save({'conv1.bn.running_var': variance}, file)
        cfg = write(data_of(64, 64, 10), tmp_path / 'file.py')
        assert cfg.model.backbone.init_cfg.checkpoint == str(file)
        assert cfg.model.data_preprocessor.mean[0] == mean


def test_gpu_gets_resnet_50(tmp_path, monkeypatch):
    properties = type('Properties', (), dict(total_memory=24e9))
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 1)
    monkeypatch.setattr(torch.cuda, 'get_device_properties', lambda _: properties)
    cfg = write(data_of(1280, 960, 100), tmp_path / 'gpu.py')
    assert cfg.model.backbone.depth == 50
    assert cfg.train_dataloader.batch_size == 16  # of 0.48 megapixels
    assert cfg.optim_wrapper.optimizer.lr == 0.01


def assert_is_short_and_says_why(file):
    lines = file.read_text().splitlines()
    assert len(lines) <= 30
    for line in lines[5:]:
        is_bracket = line.strip() in ('', 'model = dict(', 'bbox_head=dict(', '),', ')')
        assert is_bracket or '  # ' in line, line


def train_one_iteration(runs, cfg, work_dir):
    changes = {
        'model.backbone.init_cfg': None,
        # Hardly trained, it still has to find something.
        'model.test_cfg.score_thr': 0.0,
        'train_cfg.max_iters': 1,
    }
    for split in ('train', 'val', 'test'):
        changes[f'{split}_dataloader.num_workers'] = 0
        changes[f'{split}_dataloader.persistent_workers'] = False
    runner = runs.train(cfg, work_dir, **changes)
    assert runner.iter == 1
    assert 'coco/bbox_mAP' in runs.log_of(runner)  # validated on its own file


@pytest.fixture
def new_config(monkeypatch):
    """The tool, called with arguments."""
    spec = importlib.util.spec_from_file_location(
        'new_config', ROOT / 'tools' / 'new_config.py'
    )
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)

    def call(*args):
        monkeypatch.setattr(sys, 'argv', ['tools/new_config.py', *map(str, args)])
        tool.main()

    call.parse_args = tool.parse_args
    return call


def test_tool_writes_a_config_that_trains(
    new_config, shapes_root, tmp_path, runs, capsys
):
    before = sorted(shapes_root.rglob('*'))
    out = tmp_path / 'mine' / 'shapes.py'
    new_config(shapes_root, '--out', out)
    output = capsys.readouterr().out
    words = ('Found    COCO in', 'train: 16 images', 'Chose    input 64x64', 'anchors ')
    for expected in (*words, 'learning rate', f'Next     python tools/train.py {out}'):
        assert expected in output
    assert sorted(shapes_root.rglob('*')) == before
    assert_is_short_and_says_why(out)

    text = out.read_text()
    with pytest.raises(UserError, match='exists: name another --out, or add --overw'):
        new_config(shapes_root, '--out', out)
    (tmp_path / 'taken' / 'annotations').mkdir(parents=True)
    (tmp_path / 'taken' / 'annotations' / 'train.json').touch()
    with pytest.raises(
        UserError, match='annotations has files already: name another --out,'
    ):
        new_config(shapes_root, '--out', tmp_path / 'taken.py')
    assert out.read_text() == text and not (tmp_path / 'taken.py').exists()

    cfg = Config.fromfile(out)
    assert cfg.data_root == f'{shapes_root}/'
    assert cfg.train_dataloader.dataset.ann_file == 'annotations/train.json'
    train_one_iteration(runs, cfg, tmp_path / 'run')


@pytest.mark.parametrize('flags', [(), ('--overwrite',)])
@pytest.mark.parametrize('out', ['{}.py', '{}/mine.py', '{}/../{}/annotations/a.py'])
def test_nothing_is_written_into_the_data(out, flags, new_config, tmp_path):
    """Also where it would be the user's own annotations/train.json."""
    data = tmp_path / 'data'
    make_shapes(data, ShapesConfig(train=6, val=2, width=64, height=64, max_size=32))
    (data / 'annotations' / 'val.json').unlink()
    before = {file: file.read_bytes() for file in data.rglob('*') if file.is_file()}
    with pytest.raises(UserError, match='inside of the data, where nothing is written'):
        new_config(data, '--out', out.format(data, 'data'), *flags)
    after = {file: file.read_bytes() for file in data.rglob('*') if file.is_file()}
    assert after == before and sorted(tmp_path.iterdir()) == [data]


@pytest.mark.parametrize('given', ['..', '.', 'data/../data'])
def test_config_is_named_as_the_folder(given, new_config, tmp_path, monkeypatch):
    data = tmp_path / 'helmets'
    (data / 'data').mkdir(parents=True)
    monkeypatch.chdir(data / 'data' if given == '..' else data)
    monkeypatch.setattr(sys, 'argv', ['tools/new_config.py', given])
    name = 'data' if given.endswith('data') else 'helmets'
    out = new_config.parse_args().out
    assert out.name == f'{name}.py' and out.parent.name == 'mine'


def test_annotations_that_are_made_lie_beside_the_config(shapes_root, tmp_path, runs):
    data = find_data(shapes_root)
    for name, split in data.splits.items():
        split.ann_file = None
        images = split.coco['images'][:4]
        split.coco = dict(split.coco, images=images)
        data.splits[name] = split
    ids = {i['id'] for i in data.splits['val'].coco['images']}
    annotations = data.splits['val'].coco['annotations']
    data.splits['val'].coco['annotations'] = [
        a for a in annotations if a['image_id'] in ids
    ]
    data.splits['train'] = data.splits['test'] = data.splits['val']
    out = tmp_path / 'shapes.py'
    cfg = write(data, out)
    assert_is_short_and_says_why(out)
    for split in ('train', 'val', 'test'):
        file = tmp_path / 'shapes' / 'annotations' / f'{split}.json'
        assert cfg[f'{split}_dataloader'].dataset.ann_file == str(file)
        assert file.is_file()
    # mmengine writes the name of the folder into the text.
    quoted = tmp_path / "John's" / 'shapes.py'
    cfg = write(data, quoted)
    made = quoted.with_suffix('') / 'annotations' / 'train.json'
    assert cfg.train_dataloader.dataset.ann_file == str(made)
    assert made.is_file()
    # The command of Windows, with what begins a code in a docstring.
    recipe, choices = choose_recipe(), choose_settings(data, choose_recipe(), BASES)
    command = 'python tools\\new_config.py C:\\Users\\x'
    write_config(tmp_path / 'own.py', data, recipe, choices, BASES, command)
    Config.fromfile(tmp_path / 'own.py')
    assert command in ast.get_docstring(ast.parse((tmp_path / 'own.py').read_text()))
    # Moved together, they still fit.
    (tmp_path / 'moved').mkdir()
    moved = tmp_path / 'moved' / 'shapes.py'
    text = out.read_text().replace("_base_ = '", f"_base_ = '{tmp_path}/")
    moved.write_text(text)
    dataset = Config.fromfile(moved).train_dataloader.dataset
    assert dataset.ann_file == f'{tmp_path}/moved/shapes/annotations/train.json'
