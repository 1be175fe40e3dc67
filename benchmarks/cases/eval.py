"""COCO evaluation of the detections in a file."""

import argparse
from collections import defaultdict
from collections.abc import Iterator

import torch
from mmdet.datasets.api_wrappers import COCO
from mmdet.evaluation import CocoMetric as MMDetCocoMetric
from mmengine.evaluator import BaseMetric

from focal_retinanet.cli.console import quiet_pycocotools
from focal_retinanet.cli.errors import UserError
from focal_retinanet.evaluation.coco_metric import BACKENDS, CocoMetric
from focal_retinanet.evaluation.ground_truth import read_ground_truth
from focal_retinanet.evaluation.runs import find_models
from harness.agreement import check_numbers
from harness.contest import Case, Contestant


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('--ann-file', required=True, help='annotations, COCO JSON')
    add('--results', required=True, help="detections, a JSON list in COCO's format")
    add('--backend', choices=BACKENDS, default='auto', help='backend of our metric')
    add('--classwise', action='store_true', help='AP of each class too')


def make_cases(args: argparse.Namespace) -> Iterator[Case]:
    if args.device != 'cpu':
        raise UserError('eval runs on the CPU; leave --device out')
    models, _ = find_models([args.results])
    detections = models[0].runs[0].detections
    if not detections:
        raise UserError(f'{args.results} has no detections')
    coco = read_ground_truth(models, args.ann_file).coco
    sizes = dict(
        images=len(coco.imgs),
        objects=len(coco.anns),
        detections=len(detections),
        classes=len(coco.cats),
        backend=args.backend,
    )
    classes = tuple(category['name'] for category in coco.cats.values())
    yield Case(sizes, (_as_samples(coco, detections), classes, args))


def ours(
    samples: list[dict], classes: tuple[str, ...], args: argparse.Namespace
) -> Contestant:
    with quiet_pycocotools():
        metric = CocoMetric(
            args.ann_file, classwise=args.classwise, backend=args.backend
        )
    return _evaluate(metric, samples, classes)


def mmdet(
    samples: list[dict], classes: tuple[str, ...], args: argparse.Namespace
) -> Contestant:
    with quiet_pycocotools():
        metric = MMDetCocoMetric(args.ann_file, classwise=args.classwise)
    return _evaluate(metric, samples, classes)


CONTESTANTS = dict(ours=ours, mmdet=mmdet)


def _as_samples(coco: COCO, detections: list[dict]) -> list[dict]:
    """Return COCO's detections as a detector gives them to a metric."""
    label_of = {cat_id: label for label, cat_id in enumerate(coco.cats)}
    found = defaultdict(list)
    for detection in detections:
        found[detection['image_id']].append(detection)
    samples = []
    for img_id, image in coco.imgs.items():
        of_image = found[img_id]
        bboxes = torch.tensor([d['bbox'] for d in of_image]).reshape(-1, 4)
        bboxes[:, 2:] += bboxes[:, :2]  # xywh to xyxy
        labels = [label_of[d['category_id']] for d in of_image]
        instances = dict(
            bboxes=bboxes,
            scores=torch.tensor([d['score'] for d in of_image]),
            labels=torch.tensor(labels, dtype=torch.int64),
        )
        shape = (image['height'], image['width'])
        samples.append(dict(img_id=img_id, ori_shape=shape, pred_instances=instances))
    return samples


def _evaluate(
    metric: BaseMetric, samples: list[dict], classes: tuple[str, ...]
) -> Contestant:
    """Give a metric the detections of all images, and evaluate them."""
    metric.dataset_meta = dict(classes=classes)

    def run() -> dict[str, float]:
        with quiet_pycocotools():
            metric.process({}, samples)
            return metric.evaluate(size=len(samples))

    return Contestant(run, lambda ours, theirs: check_numbers(ours, theirs, rtol=0.0))
