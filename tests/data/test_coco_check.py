"""Every mistake in an annotation file gives one message that names it."""

import copy
import itertools
import json

import pytest
from PIL import Image

from focal_retinanet.data.coco_check import check_coco
from focal_retinanet.data.coco_file import CocoFileError, read_coco

INF, NAN = float('inf'), float('nan')
CLASSES = ('cat', 'dog')
CLEAN = dict(
    images=[
        dict(id=1, file_name='a.jpg', width=100, height=80),
        dict(id=2, file_name='sub/b.jpg', width=100, height=80),
    ],
    annotations=[
        dict(id=11, image_id=1, category_id=1, bbox=[5, 5, 20, 20], area=400),
        dict(id=12, image_id=2, category_id=7, bbox=[0, 0, 100, 80], area=8000),
    ],
    categories=[dict(id=1, name='cat'), dict(id=7, name='dog')],
)


@pytest.fixture
def check(tmp_path):
    (tmp_path / 'sub').mkdir()
    for name in ('a.jpg', 'sub/b.jpg'):
        Image.new('RGB', (100, 80)).save(tmp_path / name)

    def run(change=None, classes=CLASSES, num_classes=2):
        coco = copy.deepcopy(CLEAN)
        if change is not None:
            coco = change(coco) or coco
        file = tmp_path / 'ann.json'
        file.write_text(coco if isinstance(coco, str) else json.dumps(coco))
        return check_coco(file, tmp_path, classes, num_classes)

    return run


def test_clean_file(check):
    report = check()
    assert report.errors == []
    assert report.warnings == []


def change(key, index, **values):
    return lambda coco: coco[key][index].update(values)


def remove(key, index, name):
    return lambda coco: coco[key][index].pop(name) and None


@pytest.mark.parametrize(
    ('mistake', 'says'),
    [
        (lambda c: '{"images": [', 'is not JSON'),
        (lambda c: '[]', 'has no list images, annotations, categories'),
        (lambda c: c.pop('categories') and None, 'has no list categories'),
        (
            change('annotations', 0, category_id=3),
            'annotation 11 has the unknown category_id 3',
        ),
        (
            change('annotations', 1, image_id=99),
            'annotation 12 has an image_id that is no',
        ),
        (change('annotations', 1, id=11), 'annotation id 11 stands more than once'),
        (change('images', 1, id=1), 'image id 1 stands more than once'),
        (
            change('annotations', 0, bbox=[1, 2, 3]),
            'annotation 11 has a bbox that is not 4',
        ),
        (change('annotations', 0, bbox=[1, 2, 3, 'x']), 'annotation 11 has a bbox'),
        (remove('annotations', 0, 'bbox'), "annotation 11 has no 'bbox'"),
        (remove('images', 1, 'width'), "image 2 has no 'width'"),
        (
            change('images', 0, file_name='gone.jpg'),
            'gone.jpg is missing on disk (1 of 2)',
        ),
        (
            change('images', 0, file_name='no/folder.jpg'),
            'folder.jpg is missing on disk',
        ),
        (lambda c: c['annotations'].clear(), 'has no box to learn or to find'),
        (
            lambda c: [a.update(iscrowd=1) for a in c['annotations']] and None,
            'no box to learn or to find, of 2 annotations, 2 of them crowds',
        ),
        (lambda c: c['images'].clear(), 'its list images is empty'),
        (change('annotations', 0, area='9'), 'annotation 11 has an area that is not'),
        (change('annotations', 0, iscrowd=2), 'annotation 11 has an iscrowd that is'),
        (change('annotations', 0, iscrowd='0'), 'annotation 11 has an iscrowd that is'),
        (change('images', 0, id='a'), 'image a has an id that is not a whole number'),
        (change('images', 0, id=2**63), 'has an id that is not a whole number of 64'),
        (change('categories', 0, id='cat'), 'category cat has an id that is not a who'),
        (change('annotations', 0, bbox=[1, 2, float('inf'), 4]), '4 finite numbers'),
        (change('annotations', 0, bbox=[NAN, 2, INF, 4]), '4 finite numbers'),
        (change('annotations', 0, bbox=[1, 2, 10**400, 4]), '4 finite numbers'),
        (change('annotations', 0, bbox=[1, 2, True, 4]), '4 finite numbers'),
        (change('annotations', 0, bbox={'x': 1}), 'annotation 11 has a bbox'),
        (change('annotations', 0, area=True), 'annotation 11 has an area that is not'),
        (change('annotations', 0, id=True), 'annotation True has an id that is not'),
        (change('images', 0, width=10**400), 'image 1 has a width that is not'),
        (change('annotations', 0, category_id=[1]), 'annotation 11 has a category_id'),
        (change('images', 0, id=[1]), 'image [1] has an id that is not'),
        (change('images', 0, width='100'), 'image 1 has a width that is not'),
        (change('images', 0, height=None), 'image 1 has a height that is not'),
        (change('images', 0, file_name=None), 'image 1 has a file_name that is not'),
        (lambda c: c['images'].append('c.jpg'), 'image c.jpg is no object'),
        (change('categories', 1, name='cat'), 'the categories name cat more than once'),
    ],
)
def test_errors(check, mistake, says):
    report = check(mistake)
    assert len(report.errors) == 1
    assert says in report.errors[0]
    assert 'ann.json' in report.errors[0]


@pytest.mark.parametrize(
    ('classes', 'num_classes', 'says'),
    [
        (CLASSES, 80, 'built for 80 classes'),
        (('cat', 'dogs'), 2, 'class dogs of metainfo is no category'),
        (('dog', 'cat'), 2, "write classes=('cat', 'dog')"),
        ('cat', 1, "('cat',)"),
        ((), 0, 'classes is empty'),
        (('cat', 'dog', 'dog'), 3, 'metainfo classes name dog more than once'),
    ],
)
def test_classes_that_do_not_fit(check, classes, num_classes, says):
    report = check(classes=classes, num_classes=num_classes)
    assert len(report.errors) == 1
    assert says in report.errors[0]


def test_mmdet_labels_by_the_order_of_the_file(tmp_path):
    """The error about the order of classes rests on this."""
    from mmdet.datasets import CocoDataset

    coco = copy.deepcopy(CLEAN)
    (tmp_path / 'ann.json').write_text(json.dumps(coco))
    dataset = CocoDataset(
        ann_file=str(tmp_path / 'ann.json'),
        data_prefix=dict(img=''),
        metainfo=dict(classes=('dog', 'cat')),
        pipeline=[],
    )
    first = dataset.get_data_info(0)['instances'][0]
    assert first['bbox_label'] == 0  # a cat, which metainfo calls a dog


@pytest.mark.parametrize(
    'bbox', [[5, 5, 0, 20], [5, 5, 20, -3], [200, 5, 20, 20], [5, 5, float('nan'), 20]]
)
def test_degenerate_box_is_one_warning(check, bbox):
    report = check(change('annotations', 0, bbox=bbox))
    assert report.errors == []
    assert len(report.warnings) == 1
    assert 'annotation 11' in report.warnings[0]


def test_category_left_out_is_one_warning(check):
    report = check(classes=('cat',), num_classes=1)
    assert report.errors == []
    assert 'category dog is not among' in report.warnings[0]


def test_many_findings_are_counted(check):
    def many(coco):
        coco['annotations'] = [
            dict(id=i, image_id=1, category_id=5, bbox=[1, 1, 5, 5], area=25)
            for i in range(1000)
        ]

    (error,) = check(many).errors
    assert 'annotation 0, 1, 2 and 997 more' in error


def test_missing_file():
    (error,) = check_coco('nowhere/ann.json').errors
    assert 'nowhere/ann.json: no such annotation file' in error


def mmdet_instances(root, coco, classes):
    """Return all instances that mmdet reads from a file."""
    from mmdet.datasets import CocoDataset

    (root / 'ann.json').write_text(json.dumps(coco))
    dataset = CocoDataset(
        ann_file=str(root / 'ann.json'),
        data_prefix=dict(img=''),
        metainfo=dict(classes=classes),
        pipeline=[],
    )
    return [
        i for n in range(len(dataset)) for i in dataset.get_data_info(n)['instances']
    ]


@pytest.mark.parametrize(
    ('bbox', 'area'),
    [
        ([5, 5, 20, 20], 400),
        ([5, 5, 20, 20], 0),
        ([5, 5, 20, 20], -1),
        ([5, 5, 1, 1], 1),
        ([5, 5, 0.9, 20], 18),
        ([5, 5, 20, 0.9], 18),
        ([5, 5, -20, 20], 400),
        ([-30, 5, 20, 20], 400),
        ([-10, -10, 20, 20], 400),
        ([100, 5, 20, 20], 400),
        ([99, 79, 20, 20], 400),
        ([5, 80, 20, 20], 400),
        ([NAN, 5, 20, 20], 400),
        ([5, NAN, 20, 20], 400),
        ([5, 5, NAN, 20], 400),
        ([5, 5, 20, NAN], 400),
    ],
)
def test_warns_of_just_the_boxes_that_mmdet_leaves_out(check, tmp_path, bbox, area):
    alter = change('annotations', 0, bbox=bbox, area=area)
    report = check(alter)
    coco = copy.deepcopy(CLEAN)
    alter(coco)
    left_out = len(mmdet_instances(tmp_path, coco, CLASSES)) == 1
    assert report.errors == []
    said = [w for w in report.warnings if 'is left out' in w]
    assert [('annotation 11' in w) for w in said] == [True] * left_out


@pytest.mark.parametrize(
    'classes',
    [c for n in (1, 2, 3) for c in itertools.permutations(('cat', 'dog', 'bird'), n)],
)
def test_order_is_an_error_just_where_mmdet_swaps_names(tmp_path, classes):
    names = ('cat', 'dog', 'bird')
    coco = copy.deepcopy(CLEAN)
    coco['categories'] = [
        dict(id=id_, name=name) for id_, name in zip((9, 2, 5), names, strict=True)
    ]
    coco['annotations'] = [
        dict(id=i, image_id=1, category_id=id_, bbox=[i, 1, 30, 30], area=900)
        for i, id_ in enumerate((9, 2, 5))  # x of the corner encodes the class
    ]
    instances = mmdet_instances(tmp_path, coco, classes)
    swapped = any(classes[i['bbox_label']] != names[i['bbox'][0]] for i in instances)
    errors = check_coco(tmp_path / 'ann.json', classes=classes).errors
    assert [('another order' in e) for e in errors] == [True] * swapped


def test_boxes_of_no_class_that_is_learned(check):
    def only_dogs(coco):
        coco['annotations'][0]['category_id'] = 7

    (error,) = check(only_dogs, classes=('cat',), num_classes=1).errors
    assert 'has no box to learn or to find, of 2 annotations' in error


def test_an_image_without_boxes_is_fine(check):
    report = check(lambda coco: coco['annotations'].pop() and None)
    assert (report.errors, report.warnings) == ([], [])


def test_a_folder_for_a_file(tmp_path):
    (error,) = check_coco(tmp_path).errors
    assert 'cannot be read' in error


def test_a_file_that_was_read_already_is_not_read_again(tmp_path):
    (tmp_path / 'ann.json').write_text(json.dumps(CLEAN))
    coco = read_coco(tmp_path / 'ann.json')
    assert coco == CLEAN
    coco['annotations'][0]['category_id'] = 3
    (error,) = check_coco(tmp_path / 'ann.json', coco=coco).errors
    assert 'annotation 11 has the unknown category_id 3' in error
    (tmp_path / 'ann.json').write_text('[]')
    with pytest.raises(CocoFileError, match=r'ann\.json: has no list images'):
        read_coco(tmp_path / 'ann.json')


def test_a_byte_order_mark_is_no_part_of_the_json(tmp_path):
    """Editors on Windows write one."""
    file = tmp_path / 'ann.json'
    file.write_text(json.dumps(CLEAN), encoding='utf-8-sig')
    assert read_coco(file) == CLEAN
