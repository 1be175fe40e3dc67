"""Pascal VOC data are found in each layout that tools write, and read the same."""

import shutil

import pytest
from layouts import (
    ALL,
    assert_is_truth,
    boxes_of,
    coco_own,
    replace,
    turn,
    voc,
    write_image,
)

from focal_retinanet.data.formats import FormatError, check_found, find_data


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
            lambda root: replace(
                root / 'Annotations/b.xml', '<anno', _declare('gb2312')
            ),
            r'b\.xml: is in an encoding that is not read \(multi-byte.*save it as UTF-8',
        ),
        (
            lambda root: replace(root / 'Annotations/b.xml', '<anno', _declare('oops')),
            r'b\.xml: is in an encoding that is not read \(.*oops',
        ),
        (
            lambda root: write_image(root / 'JPEGImages/c.jpg'),
            r'c\.jpg and c\.png have one file of boxes, .*c\.xml; keep one',
        ),
        (
            lambda root: replace(root / 'Annotations/a.xml', 'xmax', 'xMax'),
            r'a\.xml: object 1 has no bndbox/xmax',
        ),
        (
            lambda root: replace(root / 'Annotations/a.xml', '<ymin>', '<ymin>y'),
            r"a\.xml: object 1 has the bndbox/ymin 'y3', which is no number",
        ),
        (
            lambda root: replace(root / 'Annotations/a.xml', '<height>', '<height>h'),
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


def _declare(encoding):
    return f'<?xml version="1.0" encoding="{encoding}"?><anno'


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
    turn(tmp_path / 'turned/JPEGImages/a.png')
    with pytest.raises(FormatError, match=r'a\.png is 20x40 where .* EXIF rotation'):
        find_data(tmp_path / 'turned')
    voc(tmp_path / 'none', size=(0, 0))
    assert_is_truth(find_data(tmp_path / 'none'))


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


def test_voc_folders_of_one_split_are_ambiguous(tmp_path, supervision):
    voc(tmp_path, xml='{}', images='{}', lists=None)
    shutil.copytree(tmp_path / 'val', tmp_path / 'valid')
    with pytest.raises(FormatError, match='XML files in val and valid, which are one'):
        find_data(tmp_path)


def test_xml_files_of_another_kind_are_no_annotations(tmp_path, supervision):
    coco_own(tmp_path / 'coco')
    voc(tmp_path / 'voc')
    for file in ('coco/images.xml', 'coco/annotations/a.png.aux.xml'):
        (tmp_path / file).write_text('<PAMDataset></PAMDataset>')
    (tmp_path / 'voc/Annotations/a.png.aux.xml').write_text('<PAMDataset/>')
    for name in ('coco', 'voc'):
        assert_is_truth(find_data(tmp_path / name))


def test_polygons_are_read_as_boxes_alone(tmp_path, supervision, monkeypatch):
    """A mask of each object of a large data set would take all memory."""
    voc(tmp_path)
    polygon = '<polygon><x1>1</x1><y1>1</y1><x2>9</x2><y2>1</y2><x3>9</x3><y3>9</y3>'
    for name in 'ad':
        file = tmp_path / f'Annotations/{name}.xml'
        replace(file, '</object>', f'{polygon}</polygon></object>')
    kept = []
    make = supervision.Detections.__post_init__

    def note(self):
        make(self)
        kept.append(self.mask)

    monkeypatch.setattr(supervision.Detections, '__post_init__', note)
    assert_is_truth(find_data(tmp_path))
    assert kept and all(mask is None for mask in kept)


def test_voc_classes_that_differ_by_blanks_are_one(tmp_path, supervision):
    voc(tmp_path)
    replace(tmp_path / 'Annotations/a.xml', '<name>cat', '<name> cat')
    replace(tmp_path / 'Annotations/d.xml', 'cat</name>', 'cat\n</name>')
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
