"""COCO evaluation of detections in a file."""

import argparse
import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path

import torch

from focal_retinanet.cli.errors import UserError
from focal_retinanet.evaluation.coco_metric import CocoMetric
from harness.agreement import check_numbers
from harness.contest import (
    OURS,
    Case,
    Contestant,
    add_peers,
    import_peer,
)


def build(args: argparse.Namespace) -> Iterator[Case]:
    if args.device != 'cpu':
        raise UserError('eval runs on the CPU; leave --device out')
    annotations = read_json(args.ann_file, dict)
    samples = read_samples(annotations, read_json(args.results, list), args.results)
    classes = tuple(c['name'] for c in annotations['categories'])
    arguments = dict(ann_file=args.ann_file, metric='bbox', classwise=args.classwise)

    def mmdet() -> Contestant:
        module = import_peer('mmdet.evaluation')
        return metric_contestant(
            'mmdet', module.CocoMetric, arguments, classes, samples
        )

    case = Case(
        'eval',
        dict(
            images=len(samples),
            objects=len(annotations['annotations']),
            detections=sum(len(s['pred_instances']['scores']) for s in samples),
            classes=len(classes),
            backend=args.backend,
        ),
        [
            metric_contestant(
                OURS,
                CocoMetric,
                arguments | dict(backend=args.backend),
                classes,
                samples,
            )
        ],
    )
    yield add_peers(case, args.peers, dict(mmdet=mmdet))


def metric_contestant(
    name: str, metric_type, arguments: dict, classes: tuple[str, ...], samples: list
) -> Contestant:
    """A metric that gets the detections of all images and evaluates them."""
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools is talkative
        metric = metric_type(**arguments)
    metric.dataset_meta = dict(classes=classes)

    def run():
        with contextlib.redirect_stdout(io.StringIO()):
            metric.process({}, samples)
            return metric.evaluate(size=len(samples))

    return Contestant(name, run, None if name == OURS else agree)


def agree(ours: dict, theirs: dict) -> str:
    return check_numbers(ours, theirs, rtol=0.0)


def read_json(file: str, kind: type):
    """Contents of a JSON file.

    Raises:
        UserError: it cannot be read, or is not a ``kind``.
    """
    path = Path(file)
    try:
        content = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f'{path} cannot be read as JSON: {error}') from error
    if not isinstance(content, kind):
        raise UserError(f'{path} holds no JSON {kind.__name__}')
    return content


def read_samples(annotations: dict, results: list, file: str) -> list[dict]:
    """Detections of each image as a detector gives them to a metric.

    Args:
        annotations: of a COCO file.
        results: COCO's list of detections.
        file: where they are from, for errors.

    Raises:
        UserError: there are none, or one is of an unknown image or category.
    """
    if not results:
        raise UserError(f'{file} has no detections')
    label_of = {c['id']: i for i, c in enumerate(annotations['categories'])}
    found: dict[int, list] = {image['id']: [] for image in annotations['images']}
    for number, detection in enumerate(results):
        try:
            x, y, w, h = detection['bbox']
            found[detection['image_id']].append(
                (
                    [x, y, x + w, y + h],
                    detection['score'],
                    label_of[detection['category_id']],
                )
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f'{file}: detection {number} lacks something, or is of an unknown '
                f'image or category: {error!r}'
            ) from error
    samples = []
    for image in annotations['images']:
        boxes, scores, labels = (
            zip(*found[image['id']], strict=True)
            if found[image['id']]
            else ((), (), ())
        )
        samples.append(
            dict(
                img_id=image['id'],
                ori_shape=(image['height'], image['width']),
                pred_instances=dict(
                    bboxes=torch.tensor(boxes).reshape(-1, 4),
                    scores=torch.tensor(scores),
                    labels=torch.tensor(labels, dtype=torch.int64),
                ),
            )
        )
    return samples
