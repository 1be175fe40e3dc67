"""What is said of data in any format, and of folders that have none or several."""

import json
import sys

import pytest
from layouts import (
    ALL,
    CLASSES,
    SIZE,
    TRUTH,
    boxes_of,
    coco_own,
    replace,
    turn,
    voc,
    write_coco,
    yolo,
)

from focal_retinanet.cli.errors import UserError
from focal_retinanet.data.formats import FormatError, check_found, find_data


@pytest.mark.parametrize('write', ['yolo', 'voc'])
def test_boxes_over_the_border_are_cut_off(write, tmp_path, supervision):
    if write == 'yolo':
        yolo(tmp_path)
        file = 'labels/train/a.txt'
        (tmp_path / file).write_text('0 0.95 0.5 0.3 0.5\n1 0.5 0.5 0.5 1.01\n')
    else:
        voc(tmp_path)
        file = 'Annotations/a.xml'
        replace(tmp_path / file, '<xmax>14', '<xmax>50')
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


def test_rotation_where_no_size_is_known_is_a_warning(tmp_path, supervision):
    yolo(tmp_path / 'yolo')
    turn(tmp_path / 'yolo/images/train/c.png')
    voc(tmp_path / 'voc', size=(0, 0))
    turn(tmp_path / 'voc/JPEGImages/c.png')
    for root in ('yolo', 'voc'):
        warnings = check_found(find_data(tmp_path / root))
        assert 'c.png has an EXIF rotation or mirroring (1 of 3)' in warnings[0]
    # With sizes, those of the turned image tell.
    file = tmp_path / 'voc/Annotations/c.xml'
    size = '<size><width>{}</width><height>{}</height></size>'.format
    for name in 'abd':
        other = tmp_path / f'voc/Annotations/{name}.xml'
        replace(other, size(0, 0), size(*SIZE))
    replace(file, size(0, 0), size(*SIZE[::-1]))
    assert not any('EXIF' in line for line in check_found(find_data(tmp_path / 'voc')))


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


def test_all_faults_of_the_data_are_said(tmp_path):
    coco_own(tmp_path)
    (tmp_path / 'images/a.png').unlink()
    write_coco(tmp_path / 'annotations/val.json', TRUTH['val'], CLASSES[::-1])
    with pytest.raises(FormatError, match=r'(?s)a\.png is missing .*another order'):
        check_found(find_data(tmp_path))
