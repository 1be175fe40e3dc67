"""The evaluation that the tools run, on COCO's own example."""

import json
from collections import defaultdict

import numpy as np
import pytest
import torch
from mmdet.datasets import CocoDataset
from mmdet.evaluation.metrics import CocoMetric, coco_metric
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


@pytest.fixture
def example(shared_data):
    folder = shared_data / 'coco_eval'
    if not folder.is_dir():
        pytest.skip(f'COCO example is not there: {folder}')
    return (
        folder / 'instances_val2014_100.json',
        folder / 'instances_val2014_fakebbox100_results.json',
    )


def test_average_precision_to_the_last_digit(example, monkeypatch):
    ann_file, result_file = example
    kept = []

    class Keep(coco_metric.COCOeval):
        def summarize(self, *args, **kwargs):
            super().summarize(*args, **kwargs)
            kept.append(np.array(self.stats))

    monkeypatch.setattr(coco_metric, 'COCOeval', Keep)
    metric = CocoMetric(
        ann_file=str(ann_file), metric='bbox', proposal_nums=(1, 10, 100)
    )
    metric.dataset_meta = dict(classes=CocoDataset.METAINFO['classes'])
    coco = COCO(str(ann_file))
    labels = {
        id_: label
        for label, id_ in enumerate(coco.getCatIds(metric.dataset_meta['classes']))
    }
    found = defaultdict(list)
    for result in json.loads(result_file.read_text()):
        found[result['image_id']].append(result)
    for img_id in coco.getImgIds():
        results = found[img_id]
        xywh = torch.tensor([r['bbox'] for r in results], dtype=torch.float64)
        xywh = xywh.reshape(-1, 4)
        sample = dict(
            img_id=img_id,
            ori_shape=(1, 1),
            pred_instances=dict(
                bboxes=torch.cat([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1),
                scores=torch.tensor([r['score'] for r in results], dtype=torch.float64),
                labels=torch.tensor([labels[r['category_id']] for r in results]),
            ),
        )
        metric.process({}, [sample])
    printed = metric.evaluate(len(coco.getImgIds()))
    assert kept[0][0] == pytest.approx(0.5045806987249628, rel=1e-12)
    assert printed['coco/bbox_mAP'] == 0.505
    assert printed['coco/bbox_mAP_50'] == 0.697
    assert printed['coco/bbox_mAP_75'] == 0.573

    reference = COCOeval(coco, coco.loadRes(str(result_file)), 'bbox')
    reference.params.maxDets = [1, 10, 100]
    reference.evaluate()
    reference.accumulate()
    reference.summarize()
    np.testing.assert_allclose(kept[0][:6], reference.stats[:6], rtol=1e-12)
