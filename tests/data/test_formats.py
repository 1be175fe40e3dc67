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


@pytest.mark.parametrize('write', ['yolo', 'voc'])
def test_boxes_over_the_border_are_cut_off(write, tmp_path, supervision):
    if write == 'yolo':
        yolo(tmp_path)
        _write(tmp_path, '0 0.95 0.5 0.3 0.5\n1 0.5 0.5 0.5 1.01\n')
        file = 'labels/train/a.txt'
    else:
        voc(tmp_path)
        file = 'Annotations/a.xml'
        _replace(tmp_path / file, '<xmax>14', '<xmax>50')
    data = find_data(tmp_path)
    # Half a pixel is rounding.
    expected = dict(
        yolo=[(0, 32, 5, 8, 10), (1, 10, 0, 20, 20)],
        voc=[(0, 4, 2, 36, 8), (1, 20, 4, 16, 12)],
    )[write]
    assert boxes_of(data.splits['train'])['a'] == [
        pytest.approx(box, abs=0.02) for box in expected
    ]
    (warning,) = [line for line in check_found(data) if 'has no dog' not in line]
    assert f'1 of 3 boxes leave their image, in {tmp_path / file}; they' in warning


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


def voc(
    root, xml='Annotations', images='JPEGImages', lists='ImageSets/Main', size=SIZE
):
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
                f'<annotation><filename>{name}.png</filename><size><width>{size[0]}'
                f'</width><height>{size[1]}</height></size>{objects}</annotation>'
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
            lambda root: (root / 'Annotations/b.xml').write_text('<a>'),
            r'b\.xml: is not XML \(.*; correct the file',
        ),
        (
            lambda root: _replace(root / 'Annotations/a.xml', 'xmax', 'xMax'),
            r'a\.xml: object 1 has no bndbox/xmax',
        ),
        (
            lambda root: _replace(root / 'Annotations/a.xml', '<ymin>', '<ymin>y'),
            r"a\.xml: object 1 has the bndbox/ymin 'y3', which is no number",
        ),
        (
            lambda root: _replace(root / 'Annotations/a.xml', '<height>', '<height>h'),
            r'a\.xml: its size has the width 40 and the height h20',
        ),
        (lambda root: _list(root, val='x'), r'val\.txt: lists x'),
        (lambda root: _list(root, val='\n'), r'val\.txt: lists no image; write'),
        (lambda root: _list(root, train='a\nä\n'.encode('latin-1')), 'text in UTF-8'),
        (lambda root: _list(root, train='sub\\x.png\n'), "Windows; write '/'"),
        (
            lambda root: (root / 'ImageSets/Main/train.txt').unlink(),
            r'Main: has val\.txt, and no train\.txt',
        ),
    ],
)
def test_voc_errors(change, error, tmp_path, supervision):
    voc(tmp_path)
    change(tmp_path)
    with pytest.raises(FormatError, match=error):
        find_data(tmp_path)


def _replace(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def _list(root, **lists):
    for name, content in lists.items():
        file = root / f'ImageSets/Main/{name}.txt'
        file.write_bytes(content if isinstance(content, bytes) else content.encode())


def test_voc_with_the_size_of_another_image(tmp_path, supervision):
    voc(tmp_path / 'other', size=(80, 40))
    with pytest.raises(FormatError, match=r'40x20 where the file says 80x40.*4 of 4'):
        find_data(tmp_path / 'other')
    # OpenCV turns the image, but whoever drew the boxes did not see it so.
    voc(tmp_path / 'turned')
    _turn(tmp_path / 'turned/JPEGImages/a.png')
    with pytest.raises(FormatError, match=r'a\.png is 20x40 where .* EXIF rotation'):
        find_data(tmp_path / 'turned')
    voc(tmp_path / 'none', size=(0, 0))
    assert_is_truth(find_data(tmp_path / 'none'))


def _turn(file):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new('RGB', SIZE).save(file, exif=exif)


def test_rotation_where_no_size_is_known_is_a_warning(tmp_path, supervision):
    yolo(tmp_path / 'yolo')
    _turn(tmp_path / 'yolo/images/train/c.png')
    voc(tmp_path / 'voc', size=(0, 0))
    _turn(tmp_path / 'voc/JPEGImages/c.png')
    for root in ('yolo', 'voc'):
        warnings = check_found(find_data(tmp_path / root))
        assert 'c.png has an EXIF rotation or mirroring (1 of 3)' in warnings[0]
    # With sizes, those of the turned image tell.
    file = tmp_path / 'voc/Annotations/c.xml'
    size = '<size><width>{}</width><height>{}</height></size>'.format
    for name in 'abd':
        other = tmp_path / f'voc/Annotations/{name}.xml'
        _replace(other, size(0, 0), size(*SIZE))
    _replace(file, size(0, 0), size(*SIZE[::-1]))
    assert not any('EXIF' in line for line in check_found(find_data(tmp_path / 'voc')))


def test_voc_trains_on_trainval_and_keeps_test(tmp_path, supervision):
    voc(tmp_path)
    for name in ('train', 'val'):
        (tmp_path / f'ImageSets/Main/{name}.txt').unlink()
    _list(tmp_path, trainval='a\nb\nc\n', test='d\n')
    data = find_data(tmp_path)
    assert 'trainval.txt, test.txt' in data.notes[0]
    assert boxes_of(data.splits['test']).keys() == {'d'}
    train, val = (boxes_of(data.splits[name]) for name in ('train', 'val'))
    assert len(val) == 1 and {**train, **val}.keys() == {'a', 'b', 'c'}


def test_voc_lists_that_are_not_used_are_noted(tmp_path, supervision):
    voc(tmp_path)
    _list(tmp_path, trainval='a\nb\nc\nd\n', validation='d\n', test='d\nx\n')
    data = find_data(tmp_path)
    assert 'validation.txt, trainval.txt is not used' in data.notes[0]
    assert 'no test split' in data.notes[1] and 'lists x' in data.notes[1]
    _list(tmp_path, train='a\nb\na\n', test='d\n')
    first, second = find_data(tmp_path).notes
    assert '1 images are in none' in first
    assert (
        second == '1 images are listed more than once in train.txt: each counts once.'
    )


@pytest.mark.parametrize('name', ['2020.01.03_a', 'my photo 1', 'a.jpg', 'a b.png'])
@pytest.mark.parametrize(
    'line', ['{}', '{}.png', '{} 1', '{} -1\r', 'JPEGImages/{}.png', '\ufeff{}']
)
def test_voc_lists_names_with_dots_and_blanks(name, line, tmp_path, supervision):
    voc(tmp_path)
    for folder, suffix in (('Annotations', 'xml'), ('JPEGImages', 'png')):
        place = tmp_path / folder
        (place / f'a.{suffix}').rename(place / f'{name}.{suffix}')
    _list(tmp_path, train=line.format(name) + '\nb\n')
    data = find_data(tmp_path)
    assert boxes_of(data.splits['train']).keys() == {name, 'b'}


def test_voc_images_without_xml_are_noted(tmp_path, supervision):
    voc(tmp_path / 'own')
    write_image(tmp_path / 'own/JPEGImages/x.png')
    voc(tmp_path / 'folders', xml='{}', images='images', lists=None)
    data = find_data(tmp_path / 'own')
    assert (
        data.notes[0] == '1 images have no XML file, such as x.png: they are left out.'
    )
    assert_is_truth(data)
    # An image of another split is not without.
    assert find_data(tmp_path / 'folders').notes == []


def test_voc_classes_that_differ_by_blanks_are_one(tmp_path, supervision):
    voc(tmp_path)
    _replace(tmp_path / 'Annotations/a.xml', '<name>cat', '<name> cat')
    _replace(tmp_path / 'Annotations/d.xml', 'cat</name>', 'cat\n</name>')
    assert_is_truth(find_data(tmp_path))


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
    # Also those of a split of another folder.
    write_coco(tmp_path / 'annotations/test.json', {'a': []}, prefix='../images/')
    first, *others = check_found(find_data(tmp_path))
    assert first == warning
    assert [line.partition(', too')[0] for line in others] == [
        '1 of 1 test images are training images',
        '1 of 1 test images are validation images',
    ]


def test_an_image_that_a_split_has_twice_is_named(tmp_path):
    coco_own(tmp_path)
    file = tmp_path / 'annotations/train.json'
    content = json.loads(file.read_text())
    content['images'][1]['file_name'] = './a.png'
    file.write_text(json.dumps(content))
    (warning,) = [w for w in check_found(find_data(tmp_path)) if 'dog' not in w]
    assert 'train.json: lists image ' in warning
    assert 'images/a.png more than once (1 of 2)' in warning


def _break(file, how):
    text = file.read_text()
    content = dict(
        comma=text[:-1] + ',}',
        utf16=text.encode('utf-16'),
        key=text.replace('"annotations"', '"annotation"'),
        empty='',
    )[how]
    file.write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.mark.parametrize(
    ('how', 'says'),
    [
        ('comma', 'is not JSON'),
        ('utf16', r'is not JSON in UTF-8 .*; save it in this'),
        ('key', 'has no list annotations'),
        ('empty', 'is not JSON'),
    ],
)
def test_coco_file_that_cannot_be_read_is_not_replaced(how, says, tmp_path):
    """A random choice of validation images would hide the mistake."""
    coco_own(tmp_path / 'own')
    _break(tmp_path / 'own/annotations/val.json', how)
    with pytest.raises(FormatError, match=rf'val\.json: {says}.*; correct it, or move'):
        find_data(tmp_path / 'own')
    roboflow(tmp_path / 'roboflow')
    _break(tmp_path / 'roboflow/valid/_annotations.coco.json', how)
    with pytest.raises(FormatError, match=rf'coco\.json: {says}'):
        find_data(tmp_path / 'roboflow')
    # Beside the one file of all images.
    write_coco(tmp_path / 'one/a.json', ALL)
    write_image(tmp_path / 'one/a.png')
    find_data(tmp_path / 'one')
    write_coco(tmp_path / 'one/b.json', ALL)
    _break(tmp_path / 'one/b.json', how)
    if how == 'empty':  # nothing says that it has annotations
        find_data(tmp_path / 'one')
    else:
        with pytest.raises(FormatError, match=rf'b\.json: {says}'):
            find_data(tmp_path / 'one')


def test_json_files_that_have_no_annotations_are_no_error(tmp_path):
    coco_own(tmp_path)
    (tmp_path / 'settings.json').write_text('{"theme": "dark", "images": 3}')
    (tmp_path / 'annotations/tool.json').write_text('// no JSON')
    (tmp_path / 'train').mkdir()
    (tmp_path / 'train/state.json').write_text('[]')
    (tmp_path / 'train/folder.json').mkdir()
    assert_is_truth(find_data(tmp_path))
    # Without a split's name, it has nothing to tell beside train.json.
    (tmp_path / 'annotations/old.json').write_text('{"images": [], "annotations"')
    assert_is_truth(find_data(tmp_path))


def test_test_split_without_annotations_is_noted(tmp_path):
    coco_own(tmp_path)
    (tmp_path / 'annotations/test.json').write_text('{"images": [], "categories": []}')
    data = find_data(tmp_path)
    assert list(data.splits) == ['train', 'val']
    (note,) = data.notes
    assert 'There is no test split (' in note and 'has no list annotations' in note


def test_coco_names_of_windows(tmp_path):
    coco_own(tmp_path)
    write_coco(tmp_path / 'annotations/train.json', TRUTH['train'], prefix='sub\\')
    with pytest.raises(FormatError, match=r"sub\\a\.png, is in .*Windows; write '/'"):
        find_data(tmp_path)


def test_all_faults_of_the_data_are_said(tmp_path):
    coco_own(tmp_path)
    (tmp_path / 'images/a.png').unlink()
    write_coco(tmp_path / 'annotations/val.json', TRUTH['val'], CLASSES[::-1])
    with pytest.raises(FormatError, match=r'(?s)a\.png is missing .*another order'):
        check_found(find_data(tmp_path))
