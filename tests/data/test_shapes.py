"""The synthetic data set: deterministic, tight boxes, nothing overwritten."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

import focal_retinanet.data.shapes as shapes_module
from focal_retinanet.data.coco_check import check_coco
from focal_retinanet.data.shapes import CLASSES, ShapesConfig, draw_image, make_shapes

SMALL = ShapesConfig(train=8, val=3, width=96, height=80, max_size=32)


def read(root, split):
    return json.loads((root / 'annotations' / f'{split}.json').read_text())


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    root = tmp_path_factory.mktemp('data') / 'shapes'
    assert make_shapes(root, SMALL)
    return root


def test_same_seed_gives_the_same_files(shapes, tmp_path):
    make_shapes(tmp_path / 'again', SMALL)
    for file in shapes.rglob('*.*'):
        assert (
            file.read_bytes()
            == (tmp_path / 'again' / file.relative_to(shapes)).read_bytes()
        )


def test_more_images_or_another_seed(shapes, tmp_path):
    make_shapes(tmp_path / 'more', replace(SMALL, train=10))
    make_shapes(tmp_path / 'other', replace(SMALL, seed=1))
    first = 'images/train/000001.png'
    assert (shapes / first).read_bytes() == (tmp_path / 'more' / first).read_bytes()
    assert (shapes / first).read_bytes() != (tmp_path / 'other' / first).read_bytes()
    assert len(read(tmp_path / 'more', 'train')['images']) == 10


def test_is_clean_coco_data(shapes):
    for split, count in (('train', 8), ('val', 3)):
        report = check_coco(
            shapes / f'annotations/{split}.json',
            shapes / f'images/{split}',
            CLASSES,
            len(CLASSES),
        )
        assert report.errors == []
        assert report.warnings == []
        coco = read(shapes, split)
        assert len(coco['images']) == count
        image = cv2.imread(
            str(shapes / 'images' / split / coco['images'][0]['file_name'])
        )
        assert image.shape == (80, 96, 3)


def test_numbers_and_sizes_are_obeyed():
    config = replace(SMALL, min_objects=2, max_objects=4, min_size=12, max_size=20)
    counts = []
    for seed in range(60):
        _, boxes, labels, areas = draw_image(np.random.default_rng(seed), config)
        counts.append(len(boxes))
        assert len(labels) == len(areas) == len(boxes)
        assert (
            (boxes >= 0).all()
            and (boxes[:, 2] <= 96).all()
            and (boxes[:, 3] <= 80).all()
        )
        sides = boxes[:, 2:] - boxes[:, :2]
        assert (sides > 5).all() and (sides <= 21).all()
        assert (areas <= sides.prod(1)).all()
    assert max(counts) == 4
    assert 0 in counts  # images without objects


def test_boxes_are_tight_around_what_is_drawn():
    """Boxes match the pixels that differ from the same image without its object."""
    config = replace(SMALL, max_objects=1, empty_fraction=0.0)
    for seed in range(8):
        image, boxes, _, _ = draw_image(np.random.default_rng(seed), config)
        ground, none, _, _ = draw_image(
            np.random.default_rng(seed), replace(config, empty_fraction=1.0)
        )
        assert len(none) == 0
        difference = np.abs(image.astype(int) - ground.astype(int)).max(axis=2)
        ys, xs = np.nonzero(difference > 45)  # beyond the noise
        found = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
        assert np.abs(found - boxes[0]).max() <= 2


def test_second_run_changes_nothing(shapes):
    before = {file: file.stat().st_mtime_ns for file in shapes.rglob('*')}
    assert not make_shapes(shapes, SMALL)
    assert before == {file: file.stat().st_mtime_ns for file in shapes.rglob('*')}


def test_nothing_of_the_users_is_overwritten(shapes, tmp_path):
    with pytest.raises(FileExistsError, match='made with other arguments'):
        make_shapes(shapes, replace(SMALL, seed=5))
    (tmp_path / 'holiday.jpg').write_text('mine')
    with pytest.raises(FileExistsError, match='no shapes data set'):
        make_shapes(tmp_path, SMALL)
    assert (tmp_path / 'holiday.jpg').read_text() == 'mine'


def test_a_folder_of_the_users_beside_it_is_not_removed(tmp_path):
    mine = tmp_path / 'shapes.unfinished' / 'thesis.txt'
    mine.parent.mkdir()
    mine.write_text('mine')
    with pytest.raises(FileExistsError, match=r'shapes\.unfinished is needed'):
        make_shapes(tmp_path / 'shapes', SMALL)
    assert mine.read_text() == 'mine'


@pytest.mark.parametrize('content', ['', '{', '[]', 'null'])
def test_a_foreign_record_is_refused(tmp_path, content):
    (tmp_path / 'shapes.json').write_text(content)
    with pytest.raises(FileExistsError, match='other arguments'):
        make_shapes(tmp_path, SMALL)


def test_a_file_for_a_folder(tmp_path):
    (tmp_path / 'shapes').touch()
    with pytest.raises(FileExistsError, match='name another folder'):
        make_shapes(tmp_path / 'shapes', SMALL)


def test_lost_images_are_named(tmp_path):
    make_shapes(tmp_path / 'shapes', SMALL)
    (tmp_path / 'shapes/images/train/000002.png').unlink()
    with pytest.raises(FileExistsError, match=r'lost 1 .*train/000002\.png'):
        make_shapes(tmp_path / 'shapes', SMALL)


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / 'real').mkdir()
    (tmp_path / 'link').symlink_to('real')
    assert make_shapes(tmp_path / 'link', SMALL)
    assert (tmp_path / 'real' / 'shapes.json').exists()


def test_an_image_that_can_not_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(cv2, 'imwrite', lambda *args: False)  # a full disk
    with pytest.raises(OSError, match='could not write'):
        make_shapes(tmp_path / 'shapes', SMALL)
    assert not (tmp_path / 'shapes').exists()


@pytest.mark.parametrize('seed', [0, 6])  # 6 has three objects on one
def test_most_of_every_object_can_be_seen(seed, monkeypatch):
    config = ShapesConfig(min_objects=10, max_objects=12, min_size=60, max_size=90)
    config = replace(config, empty_fraction=0.0)
    masks, place = [], shapes_module._place

    def spy(*args):
        mask = place(*args)
        if mask is not None:
            masks.append(mask > 0.5)
        return mask

    monkeypatch.setattr(shapes_module, '_place', spy)
    draw_image(np.random.default_rng([0, 0, seed]), config)
    for i, mask in enumerate(masks):
        on_top = np.any(masks[i + 1 :], axis=0)
        assert (mask & ~on_top).sum() >= 0.7 * mask.sum()


def test_interrupted_run_is_made_anew(shapes, tmp_path, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(cv2, 'imwrite', interrupt)
        make_shapes(tmp_path / 'shapes', SMALL)
    assert (tmp_path / 'shapes.unfinished').exists()
    assert make_shapes(tmp_path / 'shapes', SMALL)
    assert not (tmp_path / 'shapes.unfinished').exists()
    assert read(tmp_path / 'shapes', 'val') == read(shapes, 'val')


@pytest.mark.parametrize(
    'options',
    [
        dict(min_size=50),
        dict(max_size=90),
        dict(min_objects=9),
        dict(empty_fraction=2),
        dict(train=0),
        dict(val=-1),
        dict(seed=-1),
    ],
)
def test_impossible_arguments_are_refused(options):
    with pytest.raises(ValueError, match=r'must be'):
        replace(SMALL, **options)
