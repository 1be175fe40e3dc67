"""The same tiny data set in each layout is found, and read the same."""

import json
import shutil
import sys

import pytest
from PIL import Image

from focal_retinanet.cli.errors import UserError
from focal_retinanet.data.formats import FormatError, check_found, find_data

CLASSES = ('cat', 'dog')
SIZE = 40, 20
#: Boxes of each image: class, xywh in pixels.
TRUTH = {
    'train': {
        'a': [(0, 4, 2, 10, 8), (1, 20, 4, 16, 12)],
        'b': [],
        'c': [(1, 2, 2, 8, 6)],
    },
    'val': {'d': [(0, 10, 5, 20, 10)]},
}
ALL = {**TRUTH['train'], **TRUTH['val']}


def write_image(file):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', SIZE).save(file)


def write_coco(file, images, classes=CLASSES, prefix=''):
    boxes = [(i, *box) for i, name in enumerate(images) for box in images[name]]
    content = dict(
        images=[
            dict(id=i, file_name=f'{prefix}{name}.png', width=SIZE[0], height=SIZE[1])
            for i, name in enumerate(images)
        ],
        annotations=[
            dict(
                id=n, image_id=i, category_id=label + 1, bbox=box, area=box[2] * box[3]
            )
            for n, (i, label, *box) in enumerate(boxes)
        ],
        categories=[dict(id=i, name=name) for i, name in enumerate(classes, 1)],
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))
    return content


def boxes_of(split):
    """Boxes by the stem of the image; every image is there."""
    coco, boxes = split.coco, {}
    for image in coco['images']:
        assert (image['width'], image['height']) == SIZE
        file = split.img_dir / image['file_name']
        assert file.is_file()
        boxes[file.stem] = [
            (a['category_id'] - coco['categories'][0]['id'], *a['bbox'])
            for a in coco['annotations']
            if a['image_id'] == image['id']
        ]
    return boxes


def assert_is_truth(data):
    assert data.classes == CLASSES
    assert check_found(data) == [f'{_where(data)}: has no dog']
    for split, truth in TRUTH.items():
        found = boxes_of(data.splits[split])
        assert found.keys() == truth.keys()
        for name, boxes in truth.items():
            for box, expected in zip(found[name], boxes, strict=True):
                assert box == pytest.approx(expected, abs=0.02)


def _where(data):
    val = data.splits['val']
    return val.ann_file or f'{val.source}, val'


# COCO


def coco_own(root):
    for split, images in TRUTH.items():
        write_coco(root / f'annotations/{split}.json', images)
        for name in images:
            write_image(root / f'images/{name}.png')


def coco_2017(root):
    for split, images in TRUTH.items():
        write_coco(root / f'annotations/instances_{split}2017.json', images)
        (root / f'annotations/captions_{split}2017.json').write_text('{}')
        for name in images:
            write_image(root / f'{split}2017/{name}.png')


def coco_subfolders(root):
    for split, images in TRUTH.items():
        write_coco(root / f'{split}.json', images, prefix=f'images/{split}/')
        for name in images:
            write_image(root / f'images/{split}/{name}.png')


def roboflow(root):
    for split, images in TRUTH.items():
        folder = root / dict(train='train', val='valid')[split]
        content = write_coco(folder / '_annotations.coco.json', images)
        for category in content['categories']:
            category['supercategory'] = 'dog'
        content['categories'].insert(0, dict(id=0, name='dog', supercategory='none'))
        (folder / '_annotations.coco.json').write_text(json.dumps(content))
        for name in images:
            write_image(folder / f'{name}.png')


@pytest.mark.parametrize('write', [coco_own, coco_2017, coco_subfolders, roboflow])
def test_coco(write, tmp_path):
    write(tmp_path)
    data = find_data(tmp_path)
    assert_is_truth(data)
    if write is roboflow:
        assert data.format == 'COCO as Roboflow writes it'
        assert 'dog with the id 0 is the parent' in data.notes[0]
        # Training reads a file without the parent.
        assert data.splits['train'].ann_file is None
    else:
        assert data.format == 'COCO' and not data.notes
        assert data.splits['train'].ann_file.is_relative_to(tmp_path)


@pytest.mark.parametrize(
    ('ann_file', 'images'),
    [
        ('annotations/instances_default.json', 'images'),
        ('annotations/instances_default.json', 'images/default'),
        ('labels.json', '.'),
        ('result.json', 'images'),
    ],
)
def test_one_coco_file_is_split_by_seed(ann_file, images, tmp_path):
    many = {f'{i:02}': ALL['a'] for i in range(10)}
    write_coco(tmp_path / ann_file, many)
    for name in many:
        write_image(tmp_path / images / f'{name}.png')
    data, again, other = (find_data(tmp_path, seed) for seed in (0, 0, 1))
    train, val = (boxes_of(data.splits[name]) for name in ('train', 'val'))
    assert len(train) == 8 and len(val) == 2 and {**train, **val}.keys() == many.keys()
    assert data.splits['val'].coco == again.splits['val'].coco
    assert data.splits['val'].coco != other.splits['val'].coco
    assert '2 of 10 images were drawn for it at random, seed 0' in data.notes[0]
    assert data.splits['train'].ann_file is None
    assert ('CVAT' in data.format) == ('default' in ann_file)


def test_test_split_and_file_for_no_split(tmp_path):
    coco_own(tmp_path)
    write_coco(tmp_path / 'annotations/all.json', ALL)
    write_coco(tmp_path / 'annotations/test.json', {'d': []})
    data = find_data(tmp_path)
    assert list(data.splits) == ['train', 'val', 'test']
    check_found(data)


# YOLO and Pascal VOC


@pytest.fixture
def supervision():
    return pytest.importorskip(
        'supervision', reason='YOLO and Pascal VOC need supervision'
    )


def yolo(root, lists=False, folder='images/{}', names=CLASSES, **more):
    content = dict(names=names, **more)
    for split, images in TRUTH.items():
        place = root / folder.format(split)
        labels = root / folder.format(split).replace('images', 'labels')
        labels.mkdir(parents=True)
        for name, boxes in images.items():
            write_image(place / f'{name}.png')
            lines = [
                f'{label} {(x + w / 2) / SIZE[0]} {(y + h / 2) / SIZE[1]} '
                f'{w / SIZE[0]} {h / SIZE[1]}\n'
                for label, x, y, w, h in boxes
            ]
            if boxes:
                (labels / f'{name}.txt').write_text(''.join(lines))
        content[split] = folder.format(split)
        if lists:
            paths = [f'./{folder.format(split)}/{name}.png\n' for name in images]
            (root / f'{split}.txt').write_text(''.join(paths))
            content[split] = f'{split}.txt'
    (root / 'data.yaml').write_text(json.dumps(content))  # YAML, too


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


def test_yolo_without_validation_and_with_polygons(tmp_path, supervision):
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
        (lambda root: _write_yaml(root, train=None), 'train names no images'),
        (
            lambda root: shutil.copy(root / 'data.yaml', root / 'b.yaml'),
            'more than one',
        ),
    ],
)
def test_yolo_errors(change, error, tmp_path, supervision):
    yolo(tmp_path)
    change(tmp_path)
    with pytest.raises(FormatError, match=error):
        find_data(tmp_path)


def _write_yaml(root, **changes):
    content = json.loads((root / 'data.yaml').read_text())
    (root / 'data.yaml').write_text(json.dumps(content | changes))


def _write(root, line):
    (root / 'labels/train/a.txt').write_text(line)


def voc(root, xml='Annotations', images='JPEGImages', lists='ImageSets/Main'):
    for split, names in TRUTH.items():
        for name, boxes in names.items():
            # Pixels are counted from 1.
            objects = ''.join(
                f'<object><name>{CLASSES[label]}</name><bndbox><xmin>{x + 1}</xmin>'
                f'<ymin>{y + 1}</ymin><xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox>'
                '</object>'
                for label, x, y, w, h in boxes
            )
            file = root / xml.format(split) / f'{name}.xml'
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(
                f'<annotation><filename>{name}.png</filename><size><width>{SIZE[0]}'
                f'</width><height>{SIZE[1]}</height></size>{objects}</annotation>'
            )
            write_image(root / images.format(split) / f'{name}.png')
        if lists:
            (root / lists).mkdir(parents=True, exist_ok=True)
            (root / lists / f'{split}.txt').write_text('\n'.join(names) + '\n')


@pytest.mark.parametrize(
    'layout',
    [
        dict(),
        dict(images='images'),
        dict(xml='.', images='../images', lists='.'),
        dict(xml='{}', images='{}', lists=None),
    ],
    ids=['own', 'images', 'beside', 'folders'],
)
def test_voc(layout, tmp_path, supervision):
    root = tmp_path / 'voc'
    voc(root, **layout)
    data = find_data(root)
    assert data.format == 'Pascal VOC'
    assert_is_truth(data)


def test_voc_without_lists_is_split_by_seed(tmp_path, supervision):
    voc(tmp_path, lists=None)
    data = find_data(tmp_path)
    assert 'drawn for it at random' in data.notes[-1]
    found = boxes_of(data.splits['train']) | boxes_of(data.splits['val'])
    assert found == ALL


@pytest.mark.parametrize(
    ('change', 'error'),
    [
        (lambda root: (root / 'JPEGImages/a.png').unlink(), 'no image in .* for a.xml'),
        (lambda root: shutil.rmtree(root / 'JPEGImages'), 'no image of their names'),
        (
            lambda root: (root / 'Annotations/a.xml').write_text('<a>'),
            'Annotations: an',
        ),
        (
            lambda root: (root / 'ImageSets/Main/val.txt').write_text('x'),
            r'val\.txt: lists x',
        ),
    ],
)
def test_voc_errors(change, error, tmp_path, supervision):
    voc(tmp_path)
    change(tmp_path)
    with pytest.raises(FormatError, match=error):
        find_data(tmp_path)


def test_voc_of_real_data(shared_data, supervision):
    data = find_data(shared_data / 'bccd' / 'voc')
    assert data.classes == ('Platelets', 'RBC', 'WBC')
    assert 'train.txt, val.txt' in data.notes[0]
    for warning in check_found(data):  # without width in the XML file
        assert '1 of ' in warning and 'narrower or lower than 2 pixels' in warning
    reference = find_data(shared_data / 'bccd')
    for split, others in reference.splits.items():
        found, expected = (_by_file(s.coco) for s in (data.splits[split], others))
        assert found.keys() == expected.keys()
        for name, boxes in expected.items():
            # Two boxes without width are left out of the COCO files.
            assert len(found[name]) - len(boxes) in (0, 1)
            for box in boxes:  # whose corner is not counted from 1
                assert any(box == pytest.approx(other, abs=1) for other in found[name])


def _by_file(coco):
    names = {image['id']: image['file_name'] for image in coco['images']}
    boxes = {name: [] for name in names.values()}
    for annotation in coco['annotations']:
        boxes[names[annotation['image_id']]].append(annotation['bbox'])
    return boxes


# What is wrong


def test_package_that_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'supervision', None)
    for write in (yolo, voc):
        write(tmp_path / write.__name__)
        with pytest.raises(UserError, match='pip install supervision'):
            find_data(tmp_path / write.__name__)


def test_two_formats_are_ambiguous(tmp_path, supervision):
    coco_own(tmp_path)
    voc(tmp_path, xml='Annotations')
    with pytest.raises(FormatError, match=r'more than one format: COCO .*Pascal VOC'):
        find_data(tmp_path)


@pytest.mark.parametrize('name', ['training.json', 'labels_train.json'])
def test_two_files_of_a_split_are_ambiguous(name, tmp_path):
    coco_own(tmp_path)
    write_coco(tmp_path / 'annotations' / name, TRUTH['train'])
    with pytest.raises(FormatError, match=f'split train: .*{name}.*leave one'):
        find_data(tmp_path)


def test_unknown_folder_says_what_was_looked_for(tmp_path):
    with pytest.raises(FormatError, match=r'there is no folder .*nosuch'):
        find_data(tmp_path / 'nosuch')
    (tmp_path / 'train.json').write_text('{"images": []}')
    with pytest.raises(FormatError, match='is a file; unpack it'):
        find_data(tmp_path / 'train.json')
    with pytest.raises(FormatError) as caught:
        find_data(tmp_path)
    for words in (
        'annotations/*.json',
        'data.yaml',
        '*.xml',
        'train.json: has no list',
    ):
        assert words in str(caught.value)


def test_coco_errors(tmp_path):
    coco_own(tmp_path)
    (tmp_path / 'annotations/train.json').unlink()
    with pytest.raises(FormatError, match='for val, and none for training'):
        find_data(tmp_path)
    write_coco(tmp_path / 'annotations/train.json', {'nosuch': []})
    with pytest.raises(FormatError, match=r'nosuch\.png, is in .*images'):
        find_data(tmp_path)


def test_images_in_two_splits_are_named(tmp_path):
    coco_own(tmp_path)
    write_coco(tmp_path / 'annotations/val.json', ALL)
    (warning,) = check_found(find_data(tmp_path))
    assert warning.startswith('3 of 4 validation images are training images, too')


def test_all_faults_of_the_data_are_said(tmp_path):
    coco_own(tmp_path)
    (tmp_path / 'images/a.png').unlink()
    write_coco(tmp_path / 'annotations/val.json', TRUTH['val'], CLASSES[::-1])
    with pytest.raises(FormatError, match=r'(?s)a\.png is missing .*another order'):
        check_found(find_data(tmp_path))
