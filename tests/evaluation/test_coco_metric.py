"""The metric gives pycocotools' numbers to the last digit, with any backend."""

import contextlib
import importlib.util
import io
import json
from collections import defaultdict

import numpy as np
import pytest
import torch
from mmdet.datasets import CocoDataset
from mmdet.evaluation.metrics import CocoMetric as MMDetCocoMetric
from mmengine.logging import MMLogger
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from focal_retinanet.evaluation import CocoMetric

HAS_FAST = importlib.util.find_spec('faster_coco_eval') is not None
needs_fast = pytest.mark.skipif(not HAS_FAST, reason='needs faster-coco-eval')
PARTS = ('_50', '_75', '_s', '_m', '_l')
BACKENDS = ['pycocotools', pytest.param('faster_coco_eval', marks=needs_fast)]


@pytest.fixture
def example(shared_data):
    folder = shared_data / 'coco_eval'
    if not folder.is_dir():
        pytest.skip(f'COCO example is not there: {folder}')
    return (
        folder / 'instances_val2014_100.json',
        folder / 'instances_val2014_fakebbox100_results.json',
    )


def _samples(coco, results, classes):
    """Samples as a test loop gives them to the metric."""
    labels = {id_: label for label, id_ in enumerate(coco.getCatIds(classes))}
    found = defaultdict(list)
    for result in results:
        found[result['image_id']].append(result)
    for img_id in coco.getImgIds():
        mine = found[img_id]
        xywh = torch.tensor([r['bbox'] for r in mine], dtype=torch.float64)
        xywh = xywh.reshape(-1, 4)
        yield dict(
            img_id=img_id,
            ori_shape=(1, 1),
            pred_instances=dict(
                bboxes=torch.cat([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1),
                scores=torch.tensor([r['score'] for r in mine], dtype=torch.float64),
                labels=torch.tensor([labels[r['category_id']] for r in mine]),
            ),
        )


def _metric(metric_type, ann_file, samples, classes, **kwargs):
    with contextlib.redirect_stdout(io.StringIO()):
        metric = metric_type(ann_file=str(ann_file), metric='bbox', **kwargs)
        metric.dataset_meta = dict(classes=classes)
        for sample in samples:
            metric.process({}, [sample])
        return metric.evaluate(len(samples))


@pytest.mark.parametrize('backend', BACKENDS)
def test_metric_gives_what_mmdet_gives(example, backend):
    ann_file, result_file = example
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(ann_file))
    classes = CocoDataset.METAINFO['classes']
    samples = list(_samples(coco, json.loads(result_file.read_text()), classes))
    arguments = dict(proposal_nums=(1, 10, 100), classwise=True)
    ours = _metric(CocoMetric, ann_file, samples, classes, backend=backend, **arguments)
    reference = _metric(MMDetCocoMetric, ann_file, samples, classes, **arguments)
    np.testing.assert_equal(ours, reference)  # classes without objects give NaN
    assert ours['coco/bbox_mAP'] == 0.505
    assert ours['coco/bbox_mAP_50'] == 0.697


def _assert_equal(gt, dt, **params):
    from focal_retinanet.evaluation.fast_coco_eval import FastCOCOeval

    results = []
    for eval_type in (COCOeval, FastCOCOeval):
        run = eval_type(gt, dt, 'bbox')
        for name, value in params.items():
            setattr(run.params, name, value)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            run.evaluate()
            run.accumulate()
            run.summarize()
        table = [line for line in printed.getvalue().splitlines() if ' = ' in line]
        results.append((run, table))
    (reference, table), (ours, our_table) = results
    assert our_table == table and len(table) == 12
    np.testing.assert_array_equal(ours.stats, reference.stats)
    for name in ('precision', 'recall', 'scores'):
        np.testing.assert_array_equal(ours.eval[name], reference.eval[name])
    return ours


@needs_fast
def test_fast_evaluation_of_cocos_own_example(example):
    ann_file, result_file = example
    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO(str(ann_file))
        dt = gt.loadRes(str(result_file))
    assert _assert_equal(gt, dt).stats[0] == 0.5045806987249628
    _assert_equal(gt, dt, maxDets=[100, 300, 1000])
    _assert_equal(gt, dt, useCats=0)


def _random_boxes(rng, n):
    return np.concatenate([rng.uniform(0, 80, (n, 2)), rng.uniform(1, 120, (n, 2))], 1)


@needs_fast
@pytest.mark.parametrize('seed', range(12))
def test_fast_evaluation_of_random_detections(seed):
    """Crowds, equal scores, many and few objects, images without either."""
    rng = np.random.default_rng(seed)
    images, classes = int(rng.integers(1, 30)), int(rng.integers(1, 5))
    objects, found = [], []
    for image in range(images):
        boxes = _random_boxes(rng, int(rng.integers(0, 16)))
        for box in boxes:
            objects.append(
                dict(
                    id=len(objects) + 1,
                    image_id=image,
                    category_id=int(rng.integers(1, classes + 1)),
                    bbox=box.tolist(),
                    area=float(box[2] * box[3] * rng.uniform(0.3, 1)),
                    iscrowd=int(rng.random() < 0.15),
                )
            )
        near = boxes + rng.normal(0, 3, boxes.shape)
        for box in [*near, *near, *_random_boxes(rng, 150 if image % 9 == 0 else 2)]:
            score = rng.random() if seed % 2 else rng.integers(0, 6) / 6
            found.append(
                dict(
                    image_id=image,
                    category_id=int(rng.integers(1, classes + 1)),
                    bbox=[*box[:2].tolist(), *np.maximum(box[2:], 1).tolist()],
                    score=float(score),
                )
            )
    gt = COCO()
    gt.dataset = dict(
        images=[dict(id=i, width=200, height=200) for i in range(images)],
        categories=[dict(id=k, name=str(k)) for k in range(1, classes + 1)],
        annotations=objects,
    )
    with contextlib.redirect_stdout(io.StringIO()):
        gt.createIndex()
        dt = gt.loadRes(found)
    _assert_equal(gt, dt)
    _assert_equal(gt, dt, maxDets=[100, 300, 1000], useCats=seed % 2)


#: A detection of the first class.
ONE_FOUND = dict(
    img_id=0,
    ori_shape=(99, 99),
    pred_instances=dict(
        bboxes=torch.tensor([[10.0, 10, 30, 30]]),
        scores=torch.tensor([0.9]),
        labels=torch.tensor([0]),
    ),
)


@pytest.mark.parametrize('backend', BACKENDS)
def test_ap_of_a_class_whatever_the_order_of_the_ids(tmp_path, backend):
    box = dict(image_id=0, bbox=[10, 10, 20, 20], area=400, iscrowd=0)
    coco = dict(
        images=[dict(id=0, file_name='a.jpg', width=99, height=99)],
        categories=[dict(id=5, name='b'), dict(id=1, name='a'), dict(id=3, name='c')],
        annotations=[dict(box, id=n, category_id=n) for n in (1, 3, 5)],
    )
    file = tmp_path / 'val.json'
    file.write_text(json.dumps(coco))
    metrics = _metric(
        CocoMetric, file, [ONE_FOUND], ('b', 'a', 'c'), backend=backend, classwise=True
    )
    aps = [metrics[f'coco/{name}_precision'] for name in 'bac']
    assert aps == [1, 0, 0]


def test_unknown_and_missing_backends(monkeypatch):
    with pytest.raises(ValueError, match='quick'):
        CocoMetric(backend='quick')
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(ImportError, match='pip install faster-coco-eval'):
        CocoMetric(backend='faster_coco_eval')
    assert not CocoMetric()._is_fast


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize(
    ('classes', 'classwise', 'is_shown', 'is_metric'),
    [
        (1, None, False, False),
        (2, None, True, False),
        (20, None, True, False),
        (21, None, False, False),
        (21, True, True, True),
        (2, True, True, True),
        (2, False, False, False),
    ],
)
def test_ap_of_each_class(
    tmp_path, caplog, backend, classes, classwise, is_shown, is_metric
):
    """On the console of few classes, among the metrics if the config says so."""
    names = tuple(f'class {n}' for n in range(classes))
    box = dict(image_id=0, bbox=[10, 10, 20, 20], area=400, iscrowd=0)
    coco = dict(
        images=[dict(id=0, file_name='a.jpg', width=99, height=99)],
        categories=[dict(id=n, name=name) for n, name in enumerate(names)],
        annotations=[dict(box, id=n + 1, category_id=n) for n in range(classes)],
    )
    file = tmp_path / 'val.json'
    file.write_text(json.dumps(coco))
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    try:
        metrics = _metric(
            CocoMetric, file, [ONE_FOUND], names, backend=backend, classwise=classwise
        )
    finally:
        logger.removeHandler(caplog.handler)
    assert ('category' in caplog.text and 'class 0 ' in caplog.text) == is_shown
    assert metrics.get('coco/class 0_precision') == (1 if is_metric else None)
    ours = {key for key in metrics if not key.endswith('_precision')}
    assert ours == {f'coco/bbox_mAP{part}' for part in ('', *PARTS)}
    assert metrics['coco/bbox_mAP_50'] == pytest.approx(1 / classes, abs=1e-3)
