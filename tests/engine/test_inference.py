"""Detections on the user's images: the right names, and no broken image stops them."""

import gc
import os
import subprocess
import sys
import warnings
import weakref
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
import pytest
import torch
from mmdet.apis import DetInferencer, inference_detector
from mmengine.dataset import Compose
from PIL import Image

from focal_retinanet import Detector
from focal_retinanet.cli.errors import UserError
from focal_retinanet.data.image_files import find_inputs

CLASSES = ('circle', 'square', 'triangle', 'star', 'cross')


def trained_on(*classes):
    return dict(dataset_meta=dict(classes=classes))


@pytest.mark.parametrize(
    ('meta', 'says'),
    [
        (None, None),
        ({}, None),
        (trained_on(*CLASSES), None),
        (dict(CLASSES=CLASSES), None),  # mmdet 2.x
        (trained_on(*CLASSES[::-1]), 'the same in another order'),
        (trained_on('a', 'b', 'c', 'd', 'e'), "the classes ('a', 'b', 'c', 'd', 'e')"),
    ],
)
def test_the_classes_are_the_configs(tiny_config, save, meta, says):
    said = []
    detector = Detector(tiny_config, save(meta), 'cpu', warn=said.append)
    assert detector.classes == CLASSES
    [found] = detector(np.zeros((64, 64, 3), np.uint8))
    assert len(found) > 0
    if says is None:
        assert said == [] and detector.warning is None
    else:
        assert said == [detector.warning]
        assert says in detector.warning
        assert 'model.pth' in detector.warning


def test_a_config_without_names_takes_the_checkpoints(tiny_config, save):
    for split in ('train', 'val', 'test'):
        tiny_config.pop(f'{split}_dataloader' if split != 'test' else 'unused', None)
    dataset = tiny_config.test_dataloader.dataset
    dataset.pop('metainfo')
    dataset.type = 'BaseDetDataset'
    detector = Detector(tiny_config, save(trained_on(*'abcde')), 'cpu')
    assert detector.classes == tuple('abcde')


def test_a_checkpoint_of_no_head_is_refused(tiny_config, save):
    def backbone(weights):
        return {k: v for k, v in weights.items() if k.startswith('backbone')}

    with pytest.raises(UserError, match=r'model\.pth has no weights of a head'):
        Detector(tiny_config, save(change=backbone), 'cpu')
    tiny_config.model.bbox_head.num_classes = 3
    with pytest.raises(UserError, match=r'model\.pth is of another model'):
        Detector(tiny_config, save(), 'cpu')


def test_each_output_has_a_name(tiny_config, save):
    dataset = tiny_config.test_dataloader.dataset
    dataset.metainfo = dict(classes=('a', 'b'))
    with pytest.raises(
        UserError, match=r'for 5 classes, and 2 have a name \(a, b\); set'
    ):
        Detector(tiny_config, save(), 'cpu')
    # The names of COCO, which mmdet's data set has by itself.
    for split in ('train', 'val', 'test'):
        tiny_config[f'{split}_dataloader'].dataset.pop('metainfo', None)
    with pytest.raises(UserError, match='for 5 classes, and 80 have a name'):
        Detector(tiny_config, save(), 'cpu')


def test_a_config_without_a_visualizer_draws(tiny_config, save, images):
    tiny_config.visualizer = None
    [found] = Detector(tiny_config, save(), 'cpu')(images[0])
    assert found.draw(0.0).shape == images[0].shape


def test_numbers_are_those_of_mmdet(detector, images):
    detector.model.cfg = detector._cfg
    for image, found in zip(images, detector(images), strict=True):
        expected = inference_detector(detector.model, image).pred_instances
        assert len(found) == len(expected) > 0
        np.testing.assert_array_equal(found.boxes, expected.bboxes)
        np.testing.assert_array_equal(found.scores, expected.scores)
        np.testing.assert_array_equal(found.labels, expected.labels)
        assert found.classes.tolist() == [CLASSES[label] for label in expected.labels]
        assert found.boxes.shape == (len(found), 4)
        height, width = image.shape[:2]
        assert found.boxes.min() >= 0
        assert (found.boxes <= [width, height, width, height]).all()
        drawn = found.draw(score_thr=float(found.scores.min()))
        assert drawn.shape == image.shape and drawn.dtype == np.uint8
        assert (drawn != image).any()
        np.testing.assert_array_equal(found.draw(score_thr=1.1), image)
        in_place = image.copy()
        assert found.draw(float(found.scores.min()), out=in_place) is in_place
        np.testing.assert_array_equal(in_place, drawn)


def test_batches_give_what_single_images_give(detector, images):
    alone = list(detector(images))
    for batch_size in (2, 3, 8):
        together = list(detector(images, batch_size=batch_size))
        assert [one.name for one in together] == [one.name for one in alone]
        for one, other in zip(alone, together, strict=True):
            np.testing.assert_allclose(other.boxes, one.boxes, atol=1e-3)
            np.testing.assert_allclose(other.scores, one.scores, atol=1e-5)
            np.testing.assert_array_equal(other.labels, one.labels)
    assert [one.name for one in alone[:2]] == ['array#000000', 'array#000001']
    assert list(detector([])) == []


def test_images_are_read_when_they_are_needed(detector, images):
    taken = []

    def camera():
        for number, image in enumerate(images):
            taken.append(number)
            yield image

    found = detector(camera(), batch_size=2)
    assert taken == []
    next(found)
    next(found)
    assert taken == [0, 1]
    next(found)
    assert taken == [0, 1, 2, 3]


def test_files_folders_globs_and_videos(detector, images, tmp_path):
    folder = tmp_path / 'images'
    folder.mkdir()
    for name, image in zip('abc', images, strict=False):
        cv2.imwrite(str(folder / f'{name}.png'), image)
    video = tmp_path / 'clip.avi'
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*'MJPG'), 5, (64, 64))
    for value in (50, 150):
        writer.write(np.full((64, 64, 3), value, np.uint8))
    writer.release()
    inputs = [str(folder / 'b.png'), folder, f'{folder}/[ac].png', images[0], video]
    found = list(detector(inputs, batch_size=3))
    files = [folder / f'{name}.png' for name in 'babcac']
    frames = [f'{video}#000000', f'{video}#000001']
    assert [one.name for one in found] == [*map(str, files), 'array#000000', *frames]
    assert [one.file for one in found] == [*files, None, video, video]
    # PNG keeps pixels.
    np.testing.assert_allclose(found[1].boxes, found[6].boxes, atol=1e-3)
    assert [one.name for one in detector(folder)] == [one.name for one in found[1:4]]


@pytest.mark.parametrize(
    ('color_type', 'shape'),
    [('color', (64, 32, 3)), ('color_ignore_orientation', (32, 64, 3))],
)
def test_a_photo_is_read_as_in_a_test(color_type, shape, tiny_config, save, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.new('RGB', (64, 32)).save(tmp_path / 'a.jpg', exif=exif)
    tiny_config.test_dataloader.dataset.pipeline[0].color_type = color_type
    (found,) = Detector(tiny_config, save(), 'cpu')(tmp_path / 'a.jpg')
    assert found.image.shape == shape


@pytest.mark.parametrize(
    ('changes', 'says'),
    [
        (dict(color_type='unchanged'), "color_type='unchanged'"),
        (dict(color_type='grayscale'), "color_type='grayscale'"),
        (dict(imdecode_backend='pillow'), "imdecode_backend='pillow'"),
        (dict(type='LoadMultiChannelImageFromFiles'), 'LoadMultiChannelImageFromFiles'),
    ],
)
def test_images_that_a_test_reads_in_another_way_are_refused(
    changes, says, tiny_config, save
):
    tiny_config.test_dataloader.dataset.pipeline[0].update(changes)
    with pytest.raises(UserError, match=f'the test pipeline reads images by .*{says}'):
        Detector(tiny_config, save(), 'cpu')


def test_the_default_of_mmcv_decides_where_a_config_leaves_it_to_mmcv(
    tiny_config, save, monkeypatch
):
    load = tiny_config.test_dataloader.dataset.pipeline[0]
    load.imdecode_backend = None
    Detector(tiny_config, save(), 'cpu')
    monkeypatch.setattr('mmcv.image.io.imread_backend', 'pillow')
    with pytest.raises(UserError, match="imdecode_backend='pillow'"):
        Detector(tiny_config, save(), 'cpu')


def test_pixels_in_fp32_are_those_of_a_test(tiny_config, save, images, tmp_path):
    """Resized in fp32, pixels are not rounded."""
    file = tmp_path / 'a.png'
    cv2.imwrite(str(file), images[1])
    pipeline = tiny_config.test_dataloader.dataset.pipeline
    pipeline[0].to_float32 = True
    pipeline[1].scale = (90, 90)
    seen = []
    detector = Detector(tiny_config, save(), 'cpu')
    step = detector.model.test_step
    detector.model.test_step = lambda data: seen.append(data['inputs'][0]) or step(data)
    list(detector(file))
    expected = Compose(pipeline)(dict(img_path=str(file), img_id=0, instances=[]))
    assert (expected['inputs'] % 1).any()
    torch.testing.assert_close(seen[0], expected['inputs'], rtol=0, atol=0)


def test_a_config_without_a_test_is_refused(tiny_config, save):
    tiny_config.test_dataloader = None
    with pytest.raises(UserError, match=r'has no test_dataloader'):
        Detector(tiny_config, save(), 'cpu')


def test_the_preprocessor_beside_the_model_is_taken(tiny_config, save, images):
    """As mmengine's runner does."""
    [expected] = Detector(tiny_config, save(), 'cpu')(images[0])
    tiny_config.data_preprocessor = tiny_config.model.pop('data_preprocessor')
    [found] = Detector(tiny_config, save(), 'cpu')(images[0])
    np.testing.assert_array_equal(found.scores, expected.scores)


def test_errors_name_the_input(detector, images, tmp_path):
    with pytest.raises(UserError, match=r'absent\.jpg does not exist'):
        detector([images[0], 'absent.jpg'])  # before anything is detected
    with pytest.raises(ValueError, match=r'not \(64, 64\) uint8'):
        detector(images[0][..., 0])
    with pytest.raises(ValueError, match='float64'):
        detector([images[0] / 255])
    with pytest.raises(ValueError, match='not a int'):
        detector([3])
    with pytest.raises(ValueError, match='batch_size must be at least 1'):
        detector(images, batch_size=0)
    broken = tmp_path / 'broken.png'
    broken.write_text('no image')
    with pytest.raises(UserError, match=r'broken\.png cannot be decoded'):
        list(detector(broken))
    said = []
    found = list(detector([images[0], broken, images[1]], 3, on_error=said.append))
    assert len(found) == 2 and 'broken.png' in str(said[0])


def test_an_input_that_does_not_exist_is_passed_over(detector, images, tmp_path):
    for name, image in zip('ac', images, strict=False):
        cv2.imwrite(str(tmp_path / f'{name}.png'), image)
    (tmp_path / 'b.png').symlink_to(tmp_path / 'gone')
    files = [str(tmp_path / f'{name}.png') for name in 'abc']
    assert find_inputs([str(tmp_path)]) == [Path(file) for file in files]
    for inputs in (files, iter(files), tmp_path):
        said = []
        found = list(detector(inputs, on_error=said.append))
        assert [one.name for one in found] == [files[0], files[2]]
        assert len(said) == 1 and 'b.png' in str(said[0])
    with pytest.raises(UserError, match=r'b\.png'):
        list(detector(tmp_path))


def test_a_config_file_and_a_row_and_no_device(tiny_config, save, tmp_path):
    config = tmp_path / 'tiny.py'
    tiny_config.dump(config)
    table = tmp_path / 'table.py'
    table.write_text("base = 'tiny.py'\nrows = {'a': {'model.test_cfg.nms_pre': 7}}\n")
    checkpoint = save()
    options = {'model.test_cfg.max_per_img': 5}
    [found] = Detector(config, Path(checkpoint), cfg_options=options)(
        np.zeros((64, 64, 3), np.uint8)
    )
    assert len(found) == 5
    assert Detector(f'{table}:a', checkpoint)._cfg.model.test_cfg.nms_pre == 7
    with pytest.raises(UserError, match='is a table; name one of its rows'):
        Detector(table, checkpoint)
    with pytest.raises(FileNotFoundError, match='absent'):
        Detector(config, 'absent.pth')
    assert repr(found) == '<Detections array#000000: 5 objects>'


def test_loading_leaves_the_process_as_it_was(tiny_config, save, monkeypatch):
    monkeypatch.delenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD')
    before = dict(os.environ)
    tiny_config.work_dir = 'mine'
    Detector(tiny_config, save(), 'cpu')
    assert dict(os.environ) == before
    assert tiny_config.work_dir == 'mine' and 'init_cfg' in tiny_config.model.backbone


def test_two_detectors_draw_with_their_own_classes(tiny_config, save):
    checkpoint = save()
    one = Detector(tiny_config, checkpoint, 'cpu')
    tiny_config.test_dataloader.dataset.metainfo = dict(classes=tuple('abcde'))
    other = Detector(tiny_config, checkpoint, 'cpu')
    black = np.zeros((64, 64, 3), np.uint8)
    [a], [b] = one(black), other(black)
    assert a.classes[0] in CLASSES and b.classes[0] in 'abcde'


def test_mmdets_inferencer_takes_the_checkpoints(tiny_config, runs, tmp_path, images):
    """By the config file, and without one, as checkpoints hold their config."""
    tiny_config.train_cfg.max_epochs = 1
    tiny_config.param_scheduler = []
    runs.train(tiny_config)
    checkpoint = f'{tiny_config.work_dir}/epoch_1.pth'
    config = tmp_path / 'tiny.py'
    tiny_config.dump(config)
    ours = Detector(config, checkpoint, 'cpu')
    [expected] = ours(images[0])
    for model in (str(config), None):
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            inferencer = DetInferencer(
                model, checkpoint, device='cpu', show_progress=False
            )
            result = inferencer(images[:2], batch_size=1, out_dir=str(tmp_path / 'out'))
        [found, _] = result['predictions']
        np.testing.assert_allclose(found['scores'], expected.scores, atol=1e-4)
        np.testing.assert_allclose(found['bboxes'], expected.boxes, atol=0.05)
        assert found['labels'] == expected.labels.tolist()
        assert inferencer.model.dataset_meta['classes'] == CLASSES
        assert len(list((tmp_path / 'out' / 'vis').iterdir())) >= 2


def test_a_large_image_needs_its_memory_once(tmp_path):
    """Read, drawn and written, 20 million pixels need 0.06 GB and little more."""
    file = tmp_path / 'large.png'
    cv2.imwrite(str(file), np.zeros((4000, 5000, 3), np.uint8))
    code = (
        'import resource, sys, torch\n'
        'from pathlib import Path\n'
        'from mmdet.structures import DetDataSample\n'
        'from mmengine.structures import InstanceData\n'
        'from focal_retinanet.data import image_files\n'
        'from focal_retinanet.engine.inference import Detections\n'
        'from focal_retinanet.visualization import DetVisualizer\n'
        'from focal_retinanet.visualization.picture_file import PictureFile\n'
        'def peak():\n'
        '    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n'
        'found = InstanceData(bboxes=torch.tensor([[9.0, 9, 4900, 3900]]),\n'
        '    scores=torch.ones(1), labels=torch.zeros(1, dtype=torch.int64))\n'
        'sample = DetDataSample(pred_instances=found)\n'
        'visualizer = DetVisualizer()\n'
        'visualizer.dataset_meta = dict(classes=("a",))\n'
        'before = peak()\n'
        'file = Path(sys.argv[1])\n'
        '[image] = image_files.read_frames(file)\n'
        'one = Detections("a", file, image, sample, visualizer)\n'
        'pictures = PictureFile(file.with_suffix(".jpg"))\n'
        'pictures.add(one.draw(0.3, out=image))\n'
        'assert pictures.error is None and image.any()\n'
        'allowed = 1.5 if image_files._DECODES_IN_PLACE else 2.5\n'
        'used = (peak() - before) / image.nbytes\n'
        'assert used < allowed, used\n'
    )
    subprocess.run([sys.executable, '-c', code, file], check=True)


def test_large_images_are_cut_and_small_ones_are_not(tiny_config, save, images):
    checkpoint = save()
    whole = Detector(tiny_config, checkpoint, 'cpu')
    tiled = Detector(tiny_config, checkpoint, 'cpu', tile=64, overlap=0.25)
    large = np.tile(images[0], (2, 3, 1))
    inputs = [images[0], images[1], large, images[2]]
    said = []
    found = list(
        tiled(inputs, 4, on_tiles=lambda *progress: said.append(progress)),
    )
    assert [one.name for one in found] == [f'array#{i:06d}' for i in range(4)]
    for index in (0, 1, 3):
        [expected] = whole(inputs[index])
        np.testing.assert_allclose(found[index].boxes, expected.boxes, atol=1e-3)
        np.testing.assert_array_equal(found[index].labels, expected.labels)
    # 3 rows of 4 tiles.
    assert said == [('array#000002', done, 12) for done in (4, 8, 12)]
    boxes = found[2].boxes
    assert found[2].sample.ori_shape == (128, 192) and len(boxes) > 100
    assert (boxes >= 0).all() and (boxes <= [192, 128, 192, 128]).all()
    assert (boxes.max(0) > [128, 64, 128, 64]).all()
    [alone] = tiled(large)  # one tile at a time
    np.testing.assert_allclose(alone.boxes, boxes, atol=1e-3)
    assert alone.draw().shape == large.shape
    with pytest.raises(ValueError, match='at least 32 pixels, not 8'):
        Detector(tiny_config, checkpoint, 'cpu', tile=8)


def test_no_image_is_kept_while_the_next_one_is_read(detector, tmp_path):
    """Two large images need no more memory than one."""
    for name in 'abc':
        Image.new('RGB', (64, 64)).save(tmp_path / f'{name}.png')
    alive = []

    def read_frames(path, ignores_orientation):
        gc.collect()
        assert all(image() is None for image in alive)
        yield read()

    def read():
        image = np.zeros((64, 64, 3), np.uint8)
        alive.append(weakref.ref(image))
        return image

    with mock.patch('focal_retinanet.engine.inference.read_frames', read_frames):
        for found in detector(tmp_path):
            assert alive[-1]() is found.image
            del found
    assert len(alive) == 3


def test_an_image_too_narrow_to_resize_is_named_or_passed_over(detector, images):
    narrow = np.zeros((3000, 1, 3), np.uint8)
    with pytest.raises(UserError, match=r'array#000000 has 1x3000 pixels, of which'):
        list(detector(narrow))
    errors = []
    found = list(detector([narrow, images[0]], 2, on_error=errors.append))
    assert [one.name for one in found] == ['array#000001']
    assert len(errors) == 1
