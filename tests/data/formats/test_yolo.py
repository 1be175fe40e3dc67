"""YOLO data are found in each layout that tools write, and read the same."""

import json
import shutil

import pytest
from layouts import ALL, CLASSES, TRUTH, assert_is_truth, boxes_of, write_image, yolo
from PIL import Image

from focal_retinanet.data.formats import FormatError, check_found, find_data


@pytest.mark.parametrize(
    'layout',
    [
        dict(),
        dict(names={0: 'cat', 1: 'dog'}, path='.'),
        dict(path='/elsewhere/on/another/machine'),
        dict(lists=True),
        dict(folder='{}/images'),
    ],
    ids=['list', 'dict', 'path', 'lists', 'folders'],
)
def test_yolo(layout, tmp_path, supervision):
    yolo(tmp_path, **layout)
    data = find_data(tmp_path)
    assert data.format == 'YOLO'
    assert data.notes == [
        '1 images have no label file: they count as images without an object.'
    ]
    assert_is_truth(data)


def test_yolo_as_roboflow_writes_it(tmp_path, supervision):
    yolo(tmp_path, folder='{}/images')
    paths = {split: f'../{split}/images' for split in ('train', 'val', 'test')}
    paths['names'] = CLASSES
    (tmp_path / 'data.yaml').write_text(json.dumps(paths))
    (tmp_path / 'train/labels/b.txt').touch()
    data = find_data(tmp_path)
    # An empty label file is one, and nothing is in test/.
    assert len(data.notes) == 1 and 'There is no test split' in data.notes[0]
    assert_is_truth(data)


def test_yolo_without_validation_and_with_polygons(tmp_path, supervision, monkeypatch):
    kept = []  # a mask of each object of a large data set would take all memory
    make = supervision.Detections.__post_init__

    def note(self):
        make(self)
        kept.append(self.mask)

    monkeypatch.setattr(supervision.Detections, '__post_init__', note)
    yolo(tmp_path)
    content = json.loads((tmp_path / 'data.yaml').read_text())
    content['train'] = [content['train'], content.pop('val')]
    (tmp_path / 'data.yaml').write_text(json.dumps(content))
    polygon = '0 0.1 0.1 0.6 0.1 0.6 0.5\n'
    for name in TRUTH['train']:
        (tmp_path / f'labels/train/{name}.txt').write_text(polygon)
    data = find_data(tmp_path)
    found = boxes_of(data.splits['train']) | boxes_of(data.splits['val'])
    assert found.keys() == ALL.keys()
    assert found['a'] == [pytest.approx((0, 4, 2, 20, 8), abs=0.02)]
    assert kept and all(mask is None for mask in kept)


@pytest.mark.parametrize(
    ('change', 'error'),
    [
        (
            lambda root: shutil.rmtree(root / 'images/val'),
            'val is images/val, and there',
        ),
        (lambda root: (root / 'images/val/d.png').unlink(), 'val has no image'),
        (lambda root: _write(root, '2 0.5 0.5 0.1 0.1'), "a.png' contains class_id 2"),
        (lambda root: _write(root, '0 0.5 0.5'), r'a\.txt.*Invalid YOLO annotation'),
        (
            lambda root: (root / 'images/train/a.png').write_text('?'),
            r'cannot identify image file .*a\.png',
        ),
        (
            lambda root: (root / 'labels/train/c.txt').write_text('0 1', 'utf-16'),
            r'labels/train/c\.txt: is no text in UTF-8 \(.*; save it in this',
        ),
        (
            lambda root: write_image(root / 'images/train/a.jpg'),
            r'a\.jpg and a\.png have one file of boxes, .*a\.txt; keep one',
        ),
        (lambda root: _write_yaml(root, valid='images/train'), 'has val and valid, wh'),
        (lambda root: _write_yaml(root, train=None), 'train names no images'),
        (
            lambda root: shutil.copy(root / 'data.yaml', root / 'b.yaml'),
            'more than one',
        ),
        (lambda root: _write_yaml(root, nc=3), 'nc is 3, and names has 2 classes: cat'),
        (
            lambda root: _write_yaml(root, names='cat'),
            "names is 'cat', and has to be a",
        ),
        (lambda root: _write_yaml(root, names=[]), 'names is .., and has to be a list'),
        (lambda root: _write_yaml(root, names=[False, 'a']), 'False, .* in quotes'),
        (lambda root: _write_yaml(root, names=['a', None]), 'None, .* in quotes'),
        (
            lambda root: _write_yaml(root, names={0: 'a', 2: 'b'}),
            r'data\.yaml: names has the keys 0, 2, and 2 classes have the numbers 0 to 1',
        ),
        (lambda root: _write_yaml(root, names={1: 'a', 2: 'b'}), 'has the keys 1, 2'),
        (lambda root: _write_yaml(root, names={'a': 0, 'b': 1}), 'has the keys a, b'),
        (
            lambda root: _write_yaml(root, train='images\\train'),
            "and there is no .*Windows; write '/'",
        ),
        (
            lambda root: (
                (root / 'l.txt').write_text('.\\images\\train\\a.png\r\n'),
                _write_yaml(root, train='l.txt'),
            ),
            r"l\.txt: lists \.\\images.*Windows; write '/'",
        ),
    ],
)
def test_yolo_errors(change, error, tmp_path, supervision):
    yolo(tmp_path)
    change(tmp_path)
    with pytest.raises(FormatError, match=error):
        find_data(tmp_path)


def test_yolo_images_by_links(tmp_path, supervision):
    yolo(tmp_path)
    images = tmp_path / 'images' / 'train'
    before = len(find_data(tmp_path).splits['train'].coco['images'])
    (images / 'gone.png').symlink_to(tmp_path / 'nowhere.png')
    with pytest.raises(FormatError, match=r'gone\.png cannot be read; is it a link'):
        find_data(tmp_path)
    (images / 'gone.png').unlink()
    for kind in ('images', 'labels'):  # a part of the data on another disk
        part = tmp_path / 'store' / kind
        part.mkdir(parents=True)
        (tmp_path / kind / 'train' / 'part').symlink_to(part)
    Image.new('RGB', (40, 30)).save(images / 'part' / 'more.png')
    (tmp_path / 'store' / 'labels' / 'more.txt').write_text('0 0.5 0.5 0.2 0.2\n')
    coco = find_data(tmp_path).splits['train'].coco
    assert len(coco['images']) == before + 1
    (more,) = (i for i in coco['images'] if i['file_name'].endswith('part/more.png'))
    (box,) = (a['bbox'] for a in coco['annotations'] if a['image_id'] == more['id'])
    assert box == pytest.approx([16, 12, 8, 6])


def test_yolo_boxes_in_pixels(tmp_path, supervision):
    yolo(tmp_path)
    for name in 'ac':
        (tmp_path / f'labels/train/{name}.txt').write_text('0 20 10 9 9\n')
    data = find_data(tmp_path)
    with pytest.raises(FormatError) as caught:
        check_found(data)
    assert 'has no box to learn' in str(caught.value)
    assert '2 of 2 boxes are outside of their image, in ' in str(caught.value)
    assert 'labels/train/a.txt' in str(caught.value)
    assert 'from 0 to 1: are these pixels?' in str(caught.value)


def test_yolo_image_that_is_listed_twice_counts_once(tmp_path, supervision):
    yolo(tmp_path, lists=True)
    file = tmp_path / 'train.txt'
    file.write_text(file.read_text() + './images/train/b.png\n')
    data = find_data(tmp_path)
    assert data.notes == [
        '1 images are listed more than once for train: each counts once.',
        '1 images have no label file: they count as images without an object.',
    ]
    assert_is_truth(data)


@pytest.mark.parametrize(
    ('content', 'error'),
    [
        (b'train: images/train\nval: [\nnames: a\n', r'data\.yaml: is not YAML \('),
        ("names: ['ä']".encode('latin-1'), r'data\.yaml: is not YAML in UTF-8 \('),
    ],
)
def test_yaml_that_cannot_be_read_is_named(content, error, tmp_path):
    (tmp_path / 'data.yaml').write_bytes(content)
    with pytest.raises(FormatError, match=error):
        find_data(tmp_path)


def _write_yaml(root, **changes):
    content = json.loads((root / 'data.yaml').read_text())
    (root / 'data.yaml').write_text(json.dumps(content | changes))


def _write(root, line):
    (root / 'labels/train/a.txt').write_text(line)
