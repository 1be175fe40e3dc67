"""COCO files are found in each layout that tools write, and read the same."""

import json

import pytest
from layouts import (
    ALL,
    TRUTH,
    assert_is_truth,
    boxes_of,
    coco_2017,
    coco_own,
    coco_subfolders,
    roboflow,
    write_coco,
    write_image,
)

from focal_retinanet.data.formats import FormatError, check_found, find_data


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


@pytest.mark.parametrize(
    ('change', 'error'),
    [
        (
            lambda coco: coco['images'][1].update(id=0),
            'image id 0 stands more than once',
        ),
        (
            lambda coco: coco['annotations'][0].update(image_id='0'),
            'annotation 0 has an image_id that is not',
        ),
        (lambda coco: coco['annotations'][0].update(image_id=99), 'that is no image'),
        (lambda coco: coco['annotations'][0].pop('image_id'), "has no 'image_id'"),
        (lambda coco: coco['images'][1].pop('id'), "has no 'id'"),
        (lambda coco: coco['images'][1].update(id=[1]), r'image \[1\] has an id that'),
        (lambda coco: coco['annotations'].append(7), 'annotation .*7'),
    ],
)
def test_one_coco_file_is_checked_before_it_is_split(change, error, tmp_path):
    """Otherwise its faults might be on neither side, or half on each."""
    content = write_coco(tmp_path / 'all.json', ALL)
    for name in ALL:
        write_image(tmp_path / f'images/{name}.png')
    change(content)
    (tmp_path / 'all.json').write_text(json.dumps(content))
    with pytest.raises(FormatError, match=rf'all\.json: .*{error}'):
        find_data(tmp_path)


def test_test_split_and_file_for_no_split(tmp_path):
    coco_own(tmp_path)
    write_coco(tmp_path / 'annotations/all.json', ALL)
    write_coco(tmp_path / 'annotations/test.json', {'d': []})
    data = find_data(tmp_path)
    assert list(data.splits) == ['train', 'val', 'test']
    check_found(data)


@pytest.mark.parametrize('name', ['training.json', 'labels_train.json'])
def test_two_files_of_a_split_are_ambiguous(name, tmp_path):
    coco_own(tmp_path)
    write_coco(tmp_path / 'annotations' / name, TRUTH['train'])
    with pytest.raises(FormatError, match=f'split train: .*{name}.*leave one'):
        find_data(tmp_path)


def test_coco_errors(tmp_path):
    coco_own(tmp_path)
    (tmp_path / 'annotations/train.json').unlink()
    with pytest.raises(FormatError, match='for val, and none for training'):
        find_data(tmp_path)
    write_coco(tmp_path / 'annotations/train.json', {'nosuch': []})
    with pytest.raises(FormatError, match=r'nosuch\.png, is in .*images'):
        find_data(tmp_path)


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
