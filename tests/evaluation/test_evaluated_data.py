"""Whatever an annotation file looks like, its AP is the right one, or an error."""

import contextlib
import copy
import io
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import RUNNERS
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from focal_retinanet.cli.errors import UserError
from focal_retinanet.data.check_data import DataError
from focal_retinanet.evaluation import CocoMetric
from focal_retinanet.evaluation.average_precision import MatchedDetections
from focal_retinanet.evaluation.detection_errors import classify_detections
from focal_retinanet.evaluation.ground_truth import load_coco

SUFFIXES = ('', '_50', '_75', '_s', '_m', '_l')


def make_content(num_images=6, num_objects=5, seed=0):
    """A file of two classes, numbered from 1, and the boxes near its objects."""
    rng = np.random.default_rng(seed)
    images = [
        dict(id=i + 1, file_name=f'{i}.jpg', width=300, height=250)
        for i in range(num_images)
    ]
    annotations = []
    for image in images:
        for _ in range(num_objects):
            x, y, w, h = rng.integers((1, 1, 8, 8), (150, 120, 140, 120)).tolist()
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image['id'],
                    category_id=int(rng.integers(1, 3)),
                    bbox=[x, y, w, h],
                    area=w * h,
                    iscrowd=0,
                )
            )
    categories = [dict(id=1, name='cat'), dict(id=2, name='dog')]
    return dict(images=images, annotations=annotations, categories=categories)


def make_detections(content, seed=1):
    rng = np.random.default_rng(seed)
    return [
        dict(
            image_id=a['image_id'],
            category_id=a['category_id'],
            bbox=(np.array(a['bbox']) + rng.normal(0, 3, 4)).tolist(),
            score=float(rng.uniform(0.1, 0.9)),
        )
        for a in content['annotations']
    ]


def pycocotools_ap(content, detections):
    """AP of a well-formed file, by pycocotools alone."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = copy.deepcopy(content)
        truth.createIndex()
        evaluator = COCOeval(truth, truth.loadRes(copy.deepcopy(detections)), 'bbox')
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator.stats


def metric_ap(metric, content, detections):
    """AP of the metric that training and testing use."""
    metric.dataset_meta = dict(classes=('cat', 'dog'))
    labels = {c['id']: label for label, c in enumerate(content['categories'])}
    for image in content['images']:
        mine = [d for d in detections if d['image_id'] == image['id']]
        xywh = torch.tensor([d['bbox'] for d in mine], dtype=torch.float64)
        xywh = xywh.reshape(-1, 4)
        instances = dict(
            bboxes=torch.cat([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1),
            scores=torch.tensor([d['score'] for d in mine], dtype=torch.float64),
            labels=torch.tensor([labels[d['category_id']] for d in mine]),
        )
        sample = dict(img_id=image['id'], ori_shape=(250, 300))
        metric.process({}, [sample | dict(pred_instances=instances)])
    with contextlib.redirect_stdout(io.StringIO()):
        numbers = metric.evaluate(len(content['images']))
    return [numbers[f'coco/bbox_mAP{suffix}'] for suffix in SUFFIXES]


def renumber(content, detections, annotation=None, image=None, category=None):
    """The same data with other ids."""
    for key, entries, number in (
        ('id', content['annotations'], annotation),
        ('id', content['images'], image),
        ('image_id', content['annotations'], image),
        ('image_id', detections, image),
        ('id', content['categories'], category),
        ('category_id', content['annotations'], category),
        ('category_id', detections, category),
    ):
        for entry in entries if number else ():
            entry[key] = number(entry[key])


def zero_width(content, detections):
    for annotation in content['annotations'][:4]:
        extra = annotation | dict(id=1000 + annotation['id'], bbox=[3, 3, 0, 9])
        content['annotations'].append(extra)


def ignored(content, detections):
    extra = content['annotations'][0] | dict(id=999, bbox=[150, 100, 20, 20], ignore=1)
    content['annotations'].append(extra)


def without(*keys):
    def drop(content, detections):
        for annotation in content['annotations']:
            for key in keys:
                annotation.pop(key)

    return drop


def nulls(content, detections):
    for annotation in content['annotations']:
        annotation.update(area=None, iscrowd=None)


CHANGES = {
    'annotations from 0': lambda c, d: renumber(c, d, annotation=lambda i: i - 1),
    'annotations from -3': lambda c, d: renumber(c, d, annotation=lambda i: i - 4),
    'annotations of text': lambda c, d: renumber(c, d, annotation=lambda i: f'a{i}'),
    'annotations above 2**53': lambda c, d: renumber(
        c, d, annotation=lambda i: 2**60 + i
    ),
    'images from 0': lambda c, d: renumber(c, d, image=lambda i: i - 1),
    'images below 0': lambda c, d: renumber(c, d, image=lambda i: i - 9),
    'images above 2**53': lambda c, d: renumber(c, d, image=lambda i: 2**60 + i),
    'categories from 0': lambda c, d: renumber(c, d, category=lambda i: i - 1),
    'categories below 0': lambda c, d: renumber(c, d, category=lambda i: i - 5),
    'categories above 2**53': lambda c, d: renumber(c, d, category=lambda i: 2**60 + i),
    'boxes of no width': zero_width,
    'a box to ignore': ignored,
    'without iscrowd': without('iscrowd'),
    'without iscrowd and area': without('iscrowd', 'area'),
    'nulls': nulls,
}


@pytest.mark.parametrize('change', CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize('backend', ['pycocotools', 'auto'])
def test_ap_is_that_of_the_same_data_renumbered(tmp_path, change, backend):
    content = make_content()
    detections = make_detections(content)
    expected = pycocotools_ap(content, detections)
    change(content, detections)
    file = tmp_path / 'ann.json'
    file.write_text(json.dumps(content))

    metric = CocoMetric(ann_file=str(file), metric='bbox', backend=backend)
    assert metric_ap(metric, content, detections) == [
        round(value, 3) for value in expected[:6]
    ]

    coco = load_coco(file)
    ours = MatchedDetections(coco, detections).summarize()
    assert list(ours.values()) == pytest.approx(expected[[0, 1, 2, 3, 4, 5]])
    # Every object is either found or missed, none of those that are left out.
    images = classify_detections(coco, detections)
    assert sum(len(image.gt_bboxes) for image in images) == 30


@pytest.fixture
def content():
    return make_content(num_images=4)


@pytest.fixture
def own_data(tiny_config, content, tmp_path):
    """The tiny config, tested on data of its own, ``mine/val.json``."""
    root = tmp_path / 'mine'
    (root / 'images').mkdir(parents=True)
    for image in content['images']:
        Image.new('RGB', (300, 250)).save(root / 'images' / image['file_name'])
    write(root / 'val.json', content)
    tiny_config.test_dataloader.dataset.update(
        data_root=str(root),
        ann_file='val.json',
        data_prefix=dict(img='images/'),
        metainfo=dict(classes=('cat', 'dog')),
    )
    tiny_config.model.bbox_head.num_classes = 2
    return tiny_config


def write(file, content):
    file.write_text(json.dumps(content))
    return str(file)


def run_test(cfg):
    """Test a detector of random weights; the AP and what was logged.

    Runs of one name that start in the same second share a log file.
    """
    cfg = cfg.copy()
    cfg.work_dir = tempfile.mkdtemp(dir=Path(cfg.work_dir).parent)
    cfg.experiment_name = Path(cfg.work_dir).name
    runner = RUNNERS.build(cfg)
    numbers = runner.test()
    log = Path(runner.logger.log_file).read_text()
    return numbers, log


def test_an_evaluator_has_the_file_of_its_data_set(own_data):
    assert 'ann_file' not in own_data.test_evaluator
    without, _ = run_test(own_data)
    dataset = own_data.test_dataloader.dataset
    own_data.test_evaluator.ann_file = f'{dataset.data_root}/val.json'
    named, _ = run_test(own_data)
    assert without == named
    assert 'coco/bbox_mAP' in named


@pytest.mark.parametrize('metric', ['CocoMetric', 'focal_retinanet.CocoMetric'])
def test_the_file_of_another_split_is_refused(own_data, content, tmp_path, metric):
    """Ids coincide, as each split counts from 1."""
    for image in content['images']:
        image['file_name'] = f'train-{image["file_name"]}'
    own_data.test_evaluator.type = metric
    own_data.test_evaluator.ann_file = write(tmp_path / 'train.json', content)
    with pytest.raises(DataError, match='4 of 4 images are others there') as error:
        run_test(own_data)
    assert 'test_evaluator.ann_file=' in str(error.value)
    assert 'train.json' in str(error.value)


@pytest.mark.parametrize(
    'wrap',
    [
        lambda d: dict(type='RepeatDataset', times=1, dataset=d),
        lambda d: dict(type='ConcatDataset', datasets=[d]),
    ],
)
def test_so_it_is_where_the_data_set_is_wrapped(own_data, content, tmp_path, wrap):
    own_data.test_dataloader.dataset = wrap(own_data.test_dataloader.dataset)
    numbers, _ = run_test(own_data)
    assert 'coco/bbox_mAP' in numbers
    content['images'][2]['file_name'] = 'other.jpg'
    own_data.test_evaluator.ann_file = write(tmp_path / 'other.json', content)
    with pytest.raises(DataError, match='1 of 4 images are others there'):
        run_test(own_data)


def test_other_files_are_refused_or_said(own_data, content, tmp_path):
    def fails(match):
        own_data.test_evaluator.ann_file = write(tmp_path / 'other.json', content)
        with pytest.raises(DataError, match=match):
            run_test(own_data)

    images, categories = content['images'], content['categories']
    content['images'] = images[:3]
    content['annotations'] = [a for a in content['annotations'] if a['image_id'] < 4]
    fails(r'has no image 4 \(.*3.jpg\) \(1 of 4\)')
    content['images'] = images
    content['categories'] = categories[::-1]
    fails('classes would be mixed up')
    content['categories'] = [dict(id=1, name='cat'), dict(id=2, name='hound')]
    fails('has no category dog')

    content['categories'] = categories
    extra = dict(id=5, file_name='5.jpg', width=300, height=250)
    content['images'] = [*images, extra]
    own_data.test_evaluator.ann_file = write(tmp_path / 'other.json', content)
    _, log = run_test(own_data)
    assert 'has 1 images that are not in the data set; all their objects' in log
    # Objects were taken out of the image 4.
    assert 'has other objects than the data set in 1 of 4 images' in log


def test_the_same_names_with_other_boxes_are_said(own_data, content, tmp_path):
    _, log = run_test(own_data)
    assert 'other objects' not in log
    content['annotations'][0]['bbox'][0] += 3
    own_data.test_evaluator.ann_file = write(tmp_path / 'other.json', content)
    _, log = run_test(own_data)
    assert 'has other objects than the data set in 1 of 4 images' in log


@pytest.mark.parametrize('metric', ['focal_retinanet.CocoMetric', 'CocoMetric'])
def test_indices_of_a_data_set_are_all_that_is_evaluated(own_data, content, metric):
    own_data.test_dataloader.dataset.indices = [1, 3]
    own_data.test_evaluator.update(type=metric)
    if metric == 'CocoMetric':
        dataset = own_data.test_dataloader.dataset
        own_data.test_evaluator.ann_file = f'{dataset.data_root}/{dataset.ann_file}'
    runner = RUNNERS.build(own_data)
    evaluator = runner.build_test_loop(own_data.test_cfg).evaluator
    part = {
        **content,
        'images': [content['images'][i] for i in (1, 3)],
        'annotations': [a for a in content['annotations'] if a['image_id'] in (2, 4)],
    }
    detections = make_detections(part)
    expected = pycocotools_ap(part, detections)[:6]
    assert expected[0] > 0.2  # half of it, if the other images counted
    found = metric_ap(evaluator.metrics[0], part, detections)
    assert found == pytest.approx(expected, abs=6e-4)  # mmdet rounds
    log = Path(runner.logger.log_file).read_text()
    assert "AP is that of the 2 images that the data set's indices name, of 4" in log


def test_several_files_want_an_evaluator_each(own_data, content, tmp_path):
    dataset = own_data.test_dataloader.dataset
    for image in content['images']:
        image['id'] += 10
    for annotation in content['annotations']:
        annotation['image_id'] += 10
    other = copy.deepcopy(dataset)
    other.ann_file = write(tmp_path / 'other.json', content)
    both = dict(type='ConcatDataset', datasets=[dataset, other])
    own_data.test_dataloader.dataset = both
    with pytest.raises(UserError, match='names no ann_file, and its data set has 2'):
        run_test(own_data)
    metric = own_data.test_evaluator
    own_data.test_evaluator = dict(
        type='MultiDatasetsEvaluator',
        metrics=[metric, metric],
        dataset_prefixes=['one', 'two'],
    )
    numbers, _ = run_test(own_data)
    assert {'one/coco/bbox_mAP', 'two/coco/bbox_mAP'} < set(numbers)
    other.ann_file = dataset.ann_file
    own_data.test_dataloader.dataset = both
    own_data.test_evaluator = metric
    with pytest.raises(DataError, match='4 image ids more than once'):
        run_test(own_data)


def test_images_alone_are_enough_to_write_detections(own_data, content, tmp_path):
    """As for COCO's test-dev, whose file has no annotations."""
    root = Path(own_data.test_dataloader.dataset.data_root)
    del content['annotations']
    write(root / 'val.json', content)
    with pytest.raises(DataError, match='has no list annotations'):
        run_test(own_data)
    own_data.test_evaluator.format_only = True
    own_data.test_evaluator.outfile_prefix = str(tmp_path / 'found')
    run_test(own_data)
    found = json.loads((tmp_path / 'found.bbox.json').read_text())
    assert {d['image_id'] for d in found} == {1, 2, 3, 4}
    assert {d['category_id'] for d in found} <= {1, 2}


def test_a_file_of_images_with_the_objects_in_the_evaluators(own_data, content):
    root = Path(own_data.test_dataloader.dataset.data_root)
    expected, _ = run_test(own_data)
    own_data.test_evaluator.ann_file = write(root / 'objects.json', content)
    del content['annotations']
    write(root / 'val.json', content)
    numbers, _ = run_test(own_data)
    assert numbers == expected


def test_a_filter_that_leaves_no_image(own_data):
    own_data.test_dataloader.dataset.update(
        test_mode=False, filter_cfg=dict(min_size=1000)
    )
    with pytest.raises(DataError, match=r'val.json: no image is left by .*1000'):
        run_test(own_data)


def test_a_checkpoint_of_other_classes_is_said(own_data, tmp_path):
    runner = RUNNERS.build(own_data)
    weights = runner.model.state_dict()
    own_data.load_from = str(tmp_path / 'model.pth')
    for classes, says in (
        (('dog', 'cat'), "('dog', 'cat'), and the config has ('cat', 'dog'), the same"),
        (('cat', 'dog'), None),
    ):
        meta = dict(dataset_meta=dict(classes=classes))
        torch.save(dict(state_dict=weights, meta=meta), own_data.load_from)
        _, log = run_test(own_data)
        assert ('was trained on' in log) == (says is not None)
        assert says is None or says in log
    torch.save(
        dict(state_dict={'backbone.x': weights['backbone.conv1.weight']}),
        own_data.load_from,
    )
    with pytest.raises(UserError, match=r'model\.pth has no weights of a head'):
        run_test(own_data)
