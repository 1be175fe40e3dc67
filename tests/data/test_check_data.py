"""The data sets of a config are checked as mmdet reads them."""

import json
import logging
import os
import socket
import subprocess
import sys
import weakref
from types import SimpleNamespace
from typing import ClassVar
from unittest import mock

import pytest
from mmdet.datasets import CocoDataset
from mmdet.registry import DATASETS
from mmdet.utils import register_all_modules
from mmengine.config import ConfigDict
from PIL import Image
from torch import nn

from focal_retinanet.cli.errors import UserError
from focal_retinanet.data import check_data as module
from focal_retinanet.data.check_data import (
    DataError,
    check_data,
    checked_loading,
    coco_sources,
)

LOGGER = logging.getLogger('test_check_data')


@pytest.fixture(autouse=True)
def _modules():
    register_all_modules(init_default_scope=True)


@pytest.fixture
def dataset(tmp_path):
    """Return the config of a data set of one image and the classes cat and dog."""
    (tmp_path / 'images').mkdir()
    Image.new('RGB', (100, 80)).save(tmp_path / 'images' / 'a.jpg')
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
    check_data(sources(*datasets), model or head(2), LOGGER)


def sources(*datasets):
    return [source for dataset in datasets for source in coco_sources(dataset)]


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
    for absent in ('ann_file', 'data_prefix'):
        with pytest.raises(UserError, match=f'a CocoDataset .* has no {absent}: name'):
            check(ConfigDict({k: v for k, v in dataset.items() if k != absent}))
    degrade(dataset, category_id=9)
    dataset.backend_args = dict(backend='local')
    with pytest.raises(DataError, match='unknown category_id 9'):
        check(dataset)
    dataset.backend_args = dict(backend='petrel')
    dataset.ann_file = 's3://bucket/ann.json'
    check(dataset)


def load(*datasets, build=None, checked=None, model=None):
    """Build a data set, by default the first one, as the runner does."""
    checked = set() if checked is None else checked
    with checked_loading(sources(*datasets), model or head(2), LOGGER, checked):
        return DATASETS.build(build or datasets[0])


def test_one_parse_serves_the_check_and_the_data_set(dataset):
    dataset.pipeline = []
    plain = DATASETS.build(dataset)
    with mock.patch('json.load', wraps=json.load) as parse:
        checked = load(dataset)
    assert parse.call_count == 1
    assert checked.get_data_info(0) == plain.get_data_info(0)
    assert checked.cat_img_map == plain.cat_img_map
    assert CocoDataset.COCOAPI.__name__ == 'COCO'  # restored


def test_what_was_parsed_is_not_kept(dataset, monkeypatch):
    class Content(dict):
        """A dict that supports weak references."""

    watched = []

    def read(*args):
        content = Content(read_coco(*args))
        watched.append(weakref.ref(content))
        return content

    read_coco = module.read_coco
    monkeypatch.setattr(module, 'read_coco', read)
    other = dataset.copy()
    other.ann_file = f'{dataset.data_root}/other.json'
    with open(f'{dataset.data_root}/ann.json') as file:
        content = file.read()
    with open(other.ann_file, 'w') as file:
        file.write(content)
    built = load(ConfigDict(type='ConcatDataset', datasets=[dataset, other]))
    assert len(built) == 2
    assert [ref() for ref in watched] == [None, None]


@pytest.mark.parametrize(
    'mistake',
    [
        dict(category_id=9),
        dict(image_id=9),
        dict(id=1),
        dict(bbox=[1, 2, 3]),
        dict(area='9'),
    ],
)
def test_mistakes_are_named_where_mmdet_would_fail_while_building(dataset, mistake):
    degrade(dataset, **mistake)
    wrapped = ConfigDict(type='RepeatDataset', times=2, dataset=dataset)
    with pytest.raises(DataError, match=r'ann\.json: annotation'):
        load(wrapped)
    assert CocoDataset.COCOAPI.__name__ == 'COCO'


def test_errors_of_files_that_are_not_built_yet_are_raised_too(dataset):
    other = dataset.copy()
    other.ann_file = 'gone.json'
    load(dataset, other)  # the other is checked when it is built
    degrade(dataset, category_id=9)
    with pytest.raises(DataError) as error:
        load(dataset, other)
    assert 'ann.json: annotation 2 has the unknown category_id 9' in str(error.value)
    assert 'gone.json: no such annotation file' in str(error.value)


def test_a_file_is_checked_once(dataset, caplog):
    degrade(dataset, bbox=[1, 1, 0, 5])
    checked = set()
    both = ConfigDict(type='ConcatDataset', datasets=[dataset, dataset])
    assert len(load(both, checked=checked)) == 2
    load(dataset, checked=checked)
    (message,) = caplog.messages
    assert 'ann.json: annotation 2 has a box' in message
    # With other classes, the file is checked again.
    dataset.metainfo = dict(classes=('cat', 'bird'))
    with pytest.raises(DataError, match='class bird of metainfo'):
        load(dataset, checked=checked)


RANK = """
import logging, os, sys
import torch.distributed as dist
from mmdet.registry import DATASETS
from mmdet.utils import register_all_modules
from mmengine.config import ConfigDict
from types import SimpleNamespace
from focal_retinanet.data import check_data as module

def count(*args, **options):
    counts.append(1)
    return check_coco(*args, **options)

counts, check_coco = [], module.check_coco
module.check_coco = count
dist.init_process_group('gloo')
register_all_modules(init_default_scope=True)
rank = dist.get_rank()
root = sys.argv[1 + rank]
cfg = ConfigDict(type='CocoDataset', data_root=root, ann_file='ann.json',
                 data_prefix=dict(img='images/'), pipeline=[],
                 metainfo=dict(classes=('cat', 'dog')))
model = SimpleNamespace(bbox_head=SimpleNamespace(num_classes=2))
sources = module.coco_sources(cfg)
try:
    with module.checked_loading(sources, model, logging.getLogger('rank'), set()):
        dataset = DATASETS.build(cfg)
    print(f'rank {rank}: {len(dataset)} image, {len(counts)} checks')
except module.DataError as error:
    print(f'rank {rank}: {error}')
dist.barrier()
"""


def run_two_ranks(*roots):
    """Return the last line of each of two processes, which have a data root each."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = str(free.getsockname()[1])
    init = dict(MASTER_ADDR='127.0.0.1', MASTER_PORT=port, WORLD_SIZE='2')
    ranks = [
        subprocess.Popen(
            [sys.executable, '-c', RANK, *map(str, roots)],
            env=dict(os.environ, RANK=str(rank), **init),
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    return [rank.communicate(timeout=120)[0].splitlines()[-1] for rank in ranks]


def test_one_process_of_a_job_checks_and_all_hear_of_it(dataset, tmp_path):
    root, gone = dataset.data_root, tmp_path / 'gone'
    assert run_two_ranks(root, root) == [
        'rank 0: 1 image, 1 checks',
        'rank 1: 1 image, 0 checks',
    ]
    # A node without the file stops the others, which would wait for it.
    for line in run_two_ranks(root, gone):
        assert f'{gone}/ann.json: no such annotation file' in line
    degrade(dataset, category_id=9)
    for line in run_two_ranks(root, root):
        assert 'annotation 2 has the unknown category_id 9' in line
