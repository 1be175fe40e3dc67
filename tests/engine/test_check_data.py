"""The data sets of a config are checked as mmdet is going to read them."""

import json
import logging
from types import SimpleNamespace
from typing import ClassVar

import pytest
from mmdet.datasets import CocoDataset
from mmdet.utils import register_all_modules
from mmengine.config import ConfigDict
from torch import nn

from focal_retinanet.engine.check_data import DataError, check_data

LOGGER = logging.getLogger('test_check_data')


@pytest.fixture(autouse=True)
def _modules():
    register_all_modules(init_default_scope=True)


@pytest.fixture
def dataset(tmp_path):
    """Config of a data set of one image and the classes cat and dog."""
    (tmp_path / 'images').mkdir()
    (tmp_path / 'images' / 'a.jpg').touch()
    coco = dict(
        images=[dict(id=1, file_name='a.jpg', width=100, height=80)],
        annotations=[dict(id=1, image_id=1, category_id=2, bbox=[5, 5, 9, 9], area=81)],
        categories=[dict(id=2, name='cat'), dict(id=1, name='dog')],
    )
    (tmp_path / 'ann.json').write_text(json.dumps(coco))
    return ConfigDict(
        type='CocoDataset',
        data_root=str(tmp_path),
        ann_file='ann.json',
        data_prefix=dict(img='images/'),
        metainfo=dict(classes=('cat', 'dog')),
    )


def head(num_classes):
    return SimpleNamespace(bbox_head=SimpleNamespace(num_classes=num_classes))


def check(*datasets, model=None):
    loaders = [ConfigDict(dataset=dataset) for dataset in datasets]
    check_data([*loaders, None], model or head(2), LOGGER)


def degrade(dataset, **values):
    path = f'{dataset.data_root}/ann.json'
    with open(path) as file:
        coco = json.load(file)
    coco['annotations'].append(coco['annotations'][0] | {'id': 2} | values)
    with open(path, 'w') as file:
        json.dump(coco, file)


def test_clean(dataset, caplog):
    check(dataset)
    assert caplog.messages == []


def test_warnings_are_logged_once_a_file(dataset, caplog):
    degrade(dataset, bbox=[1, 1, 0, 5])
    check(dataset, dataset)
    (message,) = caplog.messages
    assert 'ann.json: annotation 2 has a box' in message
    assert caplog.records[0].levelno == logging.WARNING


def test_all_errors_of_all_files_at_once(dataset):
    degrade(dataset, category_id=9)
    other = dataset.copy()
    other.ann_file = 'gone.json'
    with pytest.raises(DataError) as error:
        check(dataset, other)
    assert 'ann.json: annotation 2 has the unknown category_id 9' in str(error.value)
    assert 'gone.json: no such annotation file' in str(error.value)


@pytest.mark.parametrize(
    'wrap',
    [
        lambda d: ConfigDict(type='RepeatDataset', times=2, dataset=d),
        lambda d: ConfigDict(type='ConcatDataset', datasets=[d]),
        lambda d: ConfigDict(
            type='RepeatDataset',
            times=2,
            dataset=dict(type='ConcatDataset', datasets=[d]),
        ),
    ],
)
def test_inside_of_wrappers(dataset, wrap):
    with pytest.raises(DataError, match='built for 80 classes'):
        check(wrap(dataset), model=head(80))


@pytest.mark.parametrize(
    'model',
    [
        SimpleNamespace(roi_head=head(80)),
        SimpleNamespace(
            roi_head=SimpleNamespace(
                bbox_head=[head(2).bbox_head] * 2 + [head(80).bbox_head]
            )
        ),
        SimpleNamespace(module=head(80)),
    ],
)
def test_number_of_classes_of_other_detectors(dataset, model):
    with pytest.raises(DataError, match='built for 80 classes'):
        check(dataset, model=model)


def test_a_region_proposal_network_has_no_classes(dataset):
    from mmdet.models import RPNHead

    rpn_head = RPNHead.__new__(RPNHead)
    nn.Module.__init__(rpn_head)
    rpn_head.num_classes = 1
    check(dataset, model=SimpleNamespace(bbox_head=rpn_head))


def test_classes_from_a_file(dataset, tmp_path):
    (tmp_path / 'classes.txt').write_text('cat\ndog\n')
    dataset.metainfo = dict(classes=str(tmp_path / 'classes.txt'))
    check(dataset)


@pytest.mark.parametrize('kind', ['LVISV1Dataset', 'Objects365V1Dataset'])
def test_readers_of_other_files_are_left_alone(dataset, tmp_path, kind):
    (tmp_path / 'ann.json').write_text('{"images": [{"id": 1, "coco_url": "a.jpg"}]}')
    dataset.type = kind
    check(dataset)


def test_a_subclass_that_reads_as_coco_is_checked(dataset):
    class Cells(CocoDataset):
        METAINFO: ClassVar = {}  # names no classes

    dataset.type = Cells
    del dataset['metainfo']
    degrade(dataset, category_id=9)
    with pytest.raises(DataError, match='unknown category_id 9'):
        check(dataset)


def test_without_an_annotation_file_or_not_on_disk(dataset):
    check(ConfigDict(type='CocoDataset'))
    dataset.backend_args = dict(backend='petrel')
    dataset.ann_file = 's3://bucket/ann.json'
    check(dataset)
