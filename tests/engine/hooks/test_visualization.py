"""A test writes one picture per image, each with a unique name."""

import logging
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.structures import InstanceData
from PIL import Image

from focal_retinanet.engine.hooks import visualization as visualization_hook
from focal_retinanet.engine.hooks.visualization import (
    DetVisualizationHook,
    PictureNames,
    use_visualization_hook,
)
from focal_retinanet.visualization import DetVisualizer


class Images(list):
    """A data set of paths and ids."""

    def get_data_info(self, index):
        path, img_id = self[index]
        return dict(img_path=path, img_id=img_id)


@pytest.fixture
def images(tmp_path):
    """Write two images of the same name, and a third, of gray levels 50, 100, 150."""
    found = Images()
    for number, name in enumerate(['x/a.png', 'y/a.png', 'x/b.png'], 1):
        file = tmp_path / 'data' / name
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), np.full((40, 40, 3), 50 * number, np.uint8))
        found.append((str(file), number))
    return found


def sample(path, img_id):
    result = DetDataSample(metainfo=dict(img_path=path, img_id=img_id))
    result.pred_instances = InstanceData(
        bboxes=torch.zeros(0, 4),
        labels=torch.zeros(0, dtype=int),
        scores=torch.zeros(0),
    )
    return result


def reading(color_type='color'):
    """Return a config whose data sets read images in a way."""
    load = dict(type='LoadImageFromFile', color_type=color_type)
    dataloader = dict(dataset=dict(type='CocoDataset', pipeline=[load]))
    return Config(dict(val_dataloader=dataloader, test_dataloader=dataloader))


def run_test(images, folder, show_dir='pictures', order=None, color_type='color'):
    """Run a test's hooks over the images; return lines of the log, and the pictures."""
    logger = logging.getLogger('test_visualization_hook')
    lines = []
    logger.info = lines.append
    DetVisualizer.get_instance(f'v{folder.name}').dataset_meta = dict(classes=('a',))
    runner = SimpleNamespace(
        work_dir=str(folder),
        timestamp='now',
        test_dataloader=SimpleNamespace(dataset=images),
        cfg=reading(color_type),
        logger=logger,
    )
    hook = DetVisualizationHook(draw=True, test_out_dir=show_dir)
    hook.before_test(runner)
    for index in order or range(len(images)):
        hook.after_test_iter(runner, 0, {}, [sample(*images[index])])
    hook.after_test(runner)
    return lines


def brightness(folder):
    """Return the gray level of each picture's left half, the image, by its name."""
    return {
        file.name: int(cv2.imread(str(file))[20, 20, 0]) for file in folder.iterdir()
    }


@pytest.mark.parametrize('order', [(0, 1, 2), (2, 1, 0)])
def test_images_of_one_name_have_a_picture_each(images, tmp_path, order):
    lines = run_test(images, tmp_path / 'run', order=order)
    folder = tmp_path / 'run' / 'now' / 'pictures'
    assert brightness(folder) == {'a.png': 50, 'a_2.png': 100, 'b.png': 150}
    assert lines == [f'Pictures: {folder}']


@pytest.mark.parametrize(
    ('color_type', 'height'), [('color', 80), ('color_ignore_orientation', 40)]
)
def test_a_photo_is_drawn_as_the_model_sees_it(tmp_path, color_type, height):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    file = tmp_path / 'a.jpg'
    Image.new('RGB', (80, 40)).save(file, exif=exif)
    photos = Images([(str(file), 1)])
    run_test(photos, tmp_path / 'run', color_type=color_type)
    (picture,) = (tmp_path / 'run' / 'now' / 'pictures').iterdir()
    assert cv2.imread(str(picture)).shape[0] == height


def test_an_earlier_tests_pictures_stay(images, tmp_path):
    mine = tmp_path / 'mine'
    for _ in range(2):
        run_test(images, tmp_path / 'run', show_dir=str(mine))
    names = {'a.png', 'a_2.png', 'b.png', 'a_3.png', 'a_4.png', 'b_2.png'}
    assert set(brightness(mine)) == names


def test_without_a_folder_nothing_is_written_or_said(images, tmp_path):
    assert run_test(images, tmp_path / 'run', show_dir=None) == []
    assert not (tmp_path / 'run').exists()


def test_a_data_set_that_tells_nothing(images, tmp_path):
    run_test(list(images), tmp_path / 'run')
    names = brightness(tmp_path / 'run' / 'now' / 'pictures')
    assert names == {'a.png': 50, 'a_2.png': 100, 'b.png': 150}


def test_each_validation_draws_the_same_images(images, tmp_path):
    visualizer = DetVisualizer.get_instance(
        'val', vis_backends=[dict(type='LocalVisBackend')], save_dir=str(tmp_path)
    )
    visualizer.dataset_meta = dict(classes=('a',))
    hook = DetVisualizationHook(draw=True, interval=2)
    for iteration in (1, 2, 3):
        for batch, image in enumerate(images):
            runner = SimpleNamespace(iter=iteration, cfg=reading())
            hook.after_val_iter(runner, batch, {}, [sample(*image)])
    names = {file.name for file in (tmp_path / 'vis_data' / 'vis_image').iterdir()}
    assert names == {f'val_img_{b}_{i}.png' for b in (0, 2) for i in (1, 2, 3)}


@pytest.mark.parametrize(
    'keys, expected',
    [
        # One process tests each image; the last one is repeated for an even share.
        ([('x/a.jpg', 1), ('y/a.jpg', 2)], {'a.jpg', 'a_2.jpg'}),
        # Images with the same key: each process uses its own names.
        ([('a.jpg', 1), ('a.jpg', 1)], {'a_process0.jpg', 'a_process1.jpg'}),
    ],
)
def test_processes_do_not_write_one_file(monkeypatch, keys, expected):
    monkeypatch.setattr(visualization_hook, 'get_world_size', lambda: 2)
    names = set()
    for rank in (0, 1):
        monkeypatch.setattr(visualization_hook, 'get_rank', lambda rank=rank: rank)
        names.add(PictureNames(keys).take(keys[rank]))
    assert names == expected


def test_an_image_that_is_tested_again():
    names = PictureNames([('a.jpg', 1), ('a.jpg', 1), ('b.heic', 2)], ['b.png'])
    taken = [names.take(('a.jpg', 1)) for _ in range(3)]
    assert taken == ['a.jpg', 'a_2.jpg', 'a_3.jpg']
    # OpenCV writes no HEIC.
    assert [names.take(('b.heic', 2)) for _ in range(2)] == ['b_2.png', 'b_3.png']


@pytest.mark.parametrize(
    'hooks, expected',
    [
        (None, 'focal_retinanet.DetVisualizationHook'),
        (dict(timer=dict(type='T')), 'focal_retinanet.DetVisualizationHook'),
        (
            dict(visualization=dict(type='DetVisualizationHook', score_thr=0.5)),
            'focal_retinanet.DetVisualizationHook',
        ),
        (
            dict(visualization=dict(type='mmdet.DetVisualizationHook')),
            'focal_retinanet.DetVisualizationHook',
        ),
        (dict(visualization=dict(type='mine.MyHook')), 'mine.MyHook'),
    ],
)
def test_whatever_hook_a_config_names(hooks, expected):
    cfg = Config({} if hooks is None else dict(default_hooks=hooks))
    use_visualization_hook(cfg, show=False, show_dir='out', wait_time=2)
    hook = cfg.default_hooks.visualization
    assert hook.type == expected and hook.draw and hook.test_out_dir == 'out'
    assert 'show' not in hook
    if hooks and 'score_thr' in hooks.get('visualization', {}):
        assert hook.score_thr == 0.5
    use_visualization_hook(cfg, show=True, show_dir=None, wait_time=2)
    assert cfg.default_hooks.visualization.wait_time == 2


@pytest.mark.parametrize('own', [None, dict(type='Visualizer')])
def test_a_config_without_a_visualizer_gets_one_that_draws_boxes(own):
    cfg = Config(dict(default_hooks={}, visualizer=own))
    use_visualization_hook(cfg, show=False, show_dir='out', wait_time=2)
    assert cfg.visualizer == (own or dict(type='focal_retinanet.DetVisualizer'))
