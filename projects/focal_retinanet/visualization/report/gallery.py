"""Data files with the detections that the report's page draws.

A page from disk may load scripts, but no JSON. So each file is a script that stores
its content in ``reportData`` under its own name.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from focal_retinanet.evaluation.detection_errors import (
    CORRECT,
    IGNORED,
    KINDS,
    MISSED,
    ImageDetections,
    image_ap50,
)
from focal_retinanet.evaluation.score_thresholds import ScoredDetections
from focal_retinanet.visualization import style

#: Number of images in a data file, and on a page of the gallery.
PAGE = 24
#: Lowest score in the report, where the slider starts.
LOWEST_SCORE = 0.05
#: Number of detections of an image in the report, those with the best scores.
MOST_DETECTIONS = 100
#: Kinds of boxes, in the order of their numbers in the data files.
BOX_KINDS = (*KINDS, MISSED)
#: Groups of kinds: label, colour and line style.
GROUPS = {
    'right': ('correct', style.TRUE_POSITIVE, 'solid'),
    'wrong': ('wrong', style.FALSE_POSITIVE, 'dashed'),
    'missed': ('missed', style.MISSED, 'dotted'),
    'ignored': ('ignored', style.IGNORED, 'dash-dotted'),
}


def group_of(kind: str) -> str:
    """Return which of ``GROUPS`` a kind belongs to."""
    return {CORRECT: 'right', MISSED: 'missed', IGNORED: 'ignored'}.get(kind, 'wrong')


def worst_images(models: Sequence[Sequence[ImageDetections]]) -> list[int]:
    """Return the ids of all images, the lowest mean AP50 over the models first.

    Images without objects, which have no AP, come last.

    Args:
        models: Detections of each model in all images of the same ground truth.
    """
    ids = [image.image_id for image in models[0]]
    table = np.array([[image_ap50(image) for image in images] for images in models])
    means = table.mean(axis=0)  # NaN for an image without objects
    order = np.argsort(means, kind='stable')  # NaN is last
    return [ids[index] for index in order]


def write_gallery(
    folder: Path,
    name: str,
    images: Sequence[ImageDetections],
    infos: Mapping[int, dict],
    thumbnails: Mapping[int, str | None],
    class_ids: Sequence[int],
) -> None:
    """Write an index file, and data files of ``PAGE`` images each.

    Args:
        folder: Folder for the files NAME.js, NAME-0.js, NAME-1.js ...
        name: Name of the model in file names.
        images: Images to show, in this order.
        infos: COCO's entry of each image, by its id.
        thumbnails: File name of each thumbnail, by the image's id; None for no image.
        class_ids: Category ids in the order of their numbers in the files.
    """
    numbers = {cat_id: number for number, cat_id in enumerate(class_ids)}
    records = [
        _record(image, infos[image.image_id], thumbnails[image.image_id], numbers)
        for image in images
    ]
    _write_data(folder, name, list(map(_summary, records, images)))
    for number, start in enumerate(range(0, len(records), PAGE)):
        _write_data(folder, f'{name}-{number}', records[start : start + PAGE])


def write_scores(
    folder: Path, name: str, by_class: Mapping[int, ScoredDetections]
) -> None:
    """Write NAME-scores.js, from which the page counts at any score.

    An entry of each class, in the order of its number, has 'objects', and for each of
    ``THRESHOLDS`` the number of 'right' and of all 'found' detections from it on.
    """
    entries = []
    for one in by_class.values():
        right, found = (counts.tolist() for counts in one.counts)
        entries.append(dict(objects=one.objects, right=right, found=found))
    _write_data(folder, f'{name}-scores', entries)


def _write_data(folder: Path, name: str, content: object) -> None:
    """Write a script that stores its content in the page."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, separators=(',', ':'), allow_nan=False)
    (folder / f'{name}.js').write_text(f'reportData[{json.dumps(name)}]={text};\n')


def _record(
    image: ImageDetections, info: dict, thumbnail: str | None, numbers: dict[int, int]
) -> dict:
    """Everything that the page draws of an image; boxes are xyxy in its own pixels.

    An entry of 'detections' is [x1, y1, x2, y2, score, class, kind, object], an entry
    of 'objects' is [x1, y1, x2, y2, class, whether it is a crowd].
    """
    shown = np.flatnonzero(image.scores >= LOWEST_SCORE)[:MOST_DETECTIONS]
    return dict(
        file=info['file_name'],
        image=thumbnail,
        width=info['width'],
        height=info['height'],
        detections=[
            [
                *_rounded(image.bboxes[i]),
                # Rounded down, so that no score rises to a threshold.
                math.floor(round(image.scores[i] * 1000, 6)) / 1000,
                numbers[int(image.category_ids[i])],
                int(image.kinds[i]),
                int(image.objects[i]),
            ]
            for i in shown
        ],
        objects=[
            [*_rounded(box), numbers[int(category)], int(crowd)]
            for box, category, crowd in zip(
                image.gt_bboxes, image.gt_category_ids, image.gt_crowd, strict=True
            )
        ],
    )


def _summary(record: dict, image: ImageDetections) -> dict:
    """Everything that sorting and filtering need of an image, without its boxes.

    An entry of 'best' is [class, kind, best score], an entry of 'objects' is [class,
    score of the detection that has found it, or -1].
    """
    best: dict[tuple[int, int], float] = {}
    found: dict[int, float] = {}
    for *_, score, label, kind, about in record['detections']:
        best[label, kind] = max(score, best.get((label, kind), 0))
        if kind == KINDS.index(CORRECT):
            found[about] = score
    objects = []
    for number, (*_, label, crowd) in enumerate(record['objects']):
        if crowd:
            best[label, KINDS.index(IGNORED)] = 1.0  # drawn at any threshold
        else:
            objects.append([label, found.get(number, -1)])
    ap50 = image_ap50(image)
    return dict(
        file=record['file'],
        ap50=None if math.isnan(ap50) else round(ap50, 4),
        best=[[*key, score] for key, score in best.items()],
        objects=objects,
    )


def _rounded(box: np.ndarray) -> list[float]:
    return [round(float(value), 1) for value in box]
