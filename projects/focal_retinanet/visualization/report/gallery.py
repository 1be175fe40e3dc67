"""Detections as data files that the report's page draws, a few images each.

A page that is opened from disk may load scripts, but no JSON: each file hands
its content to ``reportData`` under its own name.
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
from focal_retinanet.visualization import style

#: Images of one data file, and of one page of the gallery.
PAGE = 24
#: What is below is not in the report; the slider starts here.
LOWEST_SCORE = 0.05
#: Of an image, the best by score.
MOST_DETECTIONS = 100
#: What a box can be, in the order of their numbers in the data files: the kinds
#: of detections, and an object that nothing has found.
BOX_KINDS = (*KINDS, MISSED)

#: How each kind is drawn: its group, which has a colour and a line style.
GROUPS = {
    'right': ('correct', style.TRUE_POSITIVE, 'solid'),
    'wrong': ('wrong', style.FALSE_POSITIVE, 'dashed'),
    'missed': ('missed', style.MISSED, 'dotted'),
    'ignored': ('ignored', style.IGNORED, 'dash-dotted'),
}


def group_of(kind: str) -> str:
    """Which of ``GROUPS`` a kind is drawn as."""
    return {CORRECT: 'right', MISSED: 'missed', IGNORED: 'ignored'}.get(kind, 'wrong')


def worst_images(models: Sequence[Sequence[ImageDetections]]) -> list[int]:
    """Ids of the images, the lowest AP50 first, on average over the models.

    Args:
        models: of each, the detections in all images of the same ground truth.

    Returns:
        All ids; those without an object, which have no AP, at the end.
    """
    ids = [image.image_id for image in models[0]]
    table = np.array([[image_ap50(image) for image in images] for images in models])
    means = table.mean(axis=0)  # an image has an AP of every model, or of none
    order = np.argsort(np.where(np.isnan(means), np.inf, means), kind='stable')
    return [ids[index] for index in order]


def write_gallery(
    folder: Path,
    name: str,
    images: Sequence[ImageDetections],
    infos: Mapping[int, dict],
    thumbnails: Mapping[int, str | None],
    class_ids: Sequence[int],
) -> None:
    """An index file and files of ``PAGE`` images each, in their order.

    Args:
        folder: to write NAME.js, NAME-0.js, NAME-1.js ... into.
        name: of the model in file names.
        images: that are shown.
        infos: COCO's entry of each image, by its id.
        thumbnails: file name of each image's, by its id; None for no image.
        class_ids: categories in the order of their numbers in the files.
    """
    numbers = {cat_id: number for number, cat_id in enumerate(class_ids)}
    records = [
        _record(image, infos[image.image_id], thumbnails[image.image_id], numbers)
        for image in images
    ]
    index = [
        _summary(record, image) for record, image in zip(records, images, strict=True)
    ]
    write_data(folder, name, index)
    for number, start in enumerate(range(0, len(records), PAGE)):
        write_data(folder, f'{name}-{number}', records[start : start + PAGE])


def write_data(folder: Path, name: str, content: object) -> Path:
    """A script that hands its content to the page."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, separators=(',', ':'), allow_nan=False)
    file = folder / f'{name}.js'
    file.write_text(f'reportData[{json.dumps(name)}]={text};\n')
    return file


def _record(
    image: ImageDetections, info: dict, thumbnail: str | None, numbers: dict[int, int]
) -> dict:
    """What is drawn of an image; boxes xyxy in its own pixels.

    'detections' are [x1, y1, x2, y2, score, class, kind, object], 'objects'
    [x1, y1, x2, y2, class, is a crowd].
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
                # Down: what is below a threshold has to stay there.
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
    """What sorting and filtering need of an image, without its boxes.

    'best' are [class, kind, best score], 'objects' of each object that counts
    [class, score of what has found it, or -1].
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
