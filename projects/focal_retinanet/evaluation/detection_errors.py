"""What each detection is: right, or wrong in which way; and what each way costs.

The kinds of errors are TIDE's (Bolya et al., "TIDE: A General Toolbox for
Identifying Object Detection Errors", ECCV 2020), at an IoU of 0.5.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pycocotools import mask
from pycocotools.coco import COCO

from focal_retinanet.evaluation.average_precision import average_precision

#: IoU from which a box is at an object, and up to which it is at none.
FOREGROUND_IOU = 0.5
BACKGROUND_IOU = 0.1

CORRECT = 'correct'
#: Class of another object, right place.
CLASSIFICATION = 'classification'
#: Right class, near an object of it.
LOCALISATION = 'localisation'
#: Near an object of another class.
BOTH = 'both'
#: At an object that a better score has found.
DUPLICATE = 'duplicate'
#: At nothing.
BACKGROUND = 'background'
#: An object that no detection of the kinds above but ``BOTH`` is about.
MISSED = 'missed'
#: At a crowd, which counts neither way.
IGNORED = 'ignored'

#: Of a detection, in the order of ``ImageDetections.kinds``.
KINDS = (
    CORRECT,
    CLASSIFICATION,
    LOCALISATION,
    BOTH,
    DUPLICATE,
    BACKGROUND,
    IGNORED,
)
#: Those that cost AP.
ERRORS = (CLASSIFICATION, LOCALISATION, BOTH, DUPLICATE, BACKGROUND, MISSED)


@dataclass(frozen=True)
class ImageDetections:
    """An image's D detections and G objects, each with what it is.

    Boxes are xyxy in absolute pixels; the best scores come first. As matching
    is greedy by score, what has a score above some threshold is what it would
    be with that threshold.

    Attributes:
        image_id: in the ground truth.
        bboxes, scores, category_ids: of the detections, (D, 4), (D,), (D,).
        kinds: (D,) indices of ``KINDS``.
        objects: (D,) index of the object that the detection is about: that it
            found, would find with the right class or box, or found second; else -1.
        gt_bboxes, gt_category_ids: of the objects, (G, 4), (G,).
        gt_crowd: (G,) bool, those that need not be found.
        found_by: (G,) index of the detection that found the object, or -1.
        missed: (G,) bool, TIDE's ``MISSED``.
    """

    image_id: int
    bboxes: np.ndarray
    scores: np.ndarray
    category_ids: np.ndarray
    kinds: np.ndarray
    objects: np.ndarray
    gt_bboxes: np.ndarray
    gt_category_ids: np.ndarray
    gt_crowd: np.ndarray
    found_by: np.ndarray
    missed: np.ndarray

    def is_kind(self, kind: str) -> np.ndarray:
        """Which detections are of a kind, (D,) bool."""
        return self.kinds == KINDS.index(kind)

    def not_found(self, score_thr: float = 0.0) -> np.ndarray:
        """Which objects no detection from a score on has found, (G,) bool."""
        scores = np.append(self.scores, -np.inf)[self.found_by]  # of -1: the last
        return ~self.gt_crowd & (scores < score_thr)


def classify_detections(
    coco: COCO, detections: Sequence[dict], cat_ids: Sequence[int] | None = None
) -> list[ImageDetections]:
    """What each detection and each object is, for all images in the order of ids.

    Args:
        coco: the ground truth.
        detections: dicts with ``image_id``, ``category_id``, ``bbox`` (xywh,
            absolute pixels) and ``score``; the best 100 of a class in an image
            count, as in COCO's evaluation.
        cat_ids: categories that count; all of the ground truth's by default.
    """
    cat_ids = sorted(coco.cats if cat_ids is None else cat_ids)
    by_image: dict[int, list[dict]] = {img_id: [] for img_id in sorted(coco.imgs)}
    for detection in detections:
        if detection['category_id'] in cat_ids:
            by_image[detection['image_id']].append(detection)
    images = []
    for img_id, found in by_image.items():
        objects = coco.loadAnns(coco.getAnnIds(imgIds=img_id, catIds=cat_ids))
        images.append(
            classify_image(
                *_with_scores(found),
                *_arrays(objects),
                np.array([o.get('iscrowd', 0) for o in objects], bool),
                img_id,
            )
        )
    return images


def cost_of_errors(images: Sequence[ImageDetections]) -> dict[str, float]:
    """By how much AP50 would rise if all errors of one kind were put right.

    As TIDE has it: a wrong class or box is corrected, unless its object is found
    or has a better candidate, when it is deleted like all other wrong
    detections; a missed object is taken out of the ground truth.

    Returns:
        ``'AP50'`` itself and the rise for each of ``ERRORS``, in [0, 1]; NaN
        where there are no objects.
    """
    table = _Detections(images)
    found = table.kinds == KINDS.index(CORRECT)
    counts = table.kinds != KINDS.index(IGNORED)
    base = _mean_ap50(table.scores, table.classes, found, counts, table.objects)
    costs = {'AP50': base}
    for error in ERRORS:
        classes, objects = table.classes, table.objects
        if error == MISSED:
            right, kept = found, counts
            objects = {c: n - table.missed.get(c, 0) for c, n in objects.items()}
        else:
            wrong = table.kinds == KINDS.index(error)
            corrected = np.zeros_like(wrong)
            if error in (CLASSIFICATION, LOCALISATION):
                corrected = wrong & table.is_best_for_its_object(error)
                classes = np.where(corrected, table.object_classes, classes)
            right, kept = found | corrected, counts & ~(wrong & ~corrected)
        fixed = _mean_ap50(table.scores, classes, right, kept, objects)
        costs[error] = fixed - base
    return costs


def image_ap50(image: ImageDetections) -> float:
    """AP50 of one image, the mean over the classes in it; NaN without objects."""
    table = _Detections([image])
    return _mean_ap50(
        table.scores,
        table.classes,
        table.kinds == KINDS.index(CORRECT),
        table.kinds != KINDS.index(IGNORED),
        table.objects,
    )


class _Detections:
    """The detections of all images one after the other.

    Attributes:
        scores, classes, kinds: of each detection.
        object_classes: class of the object that it is about, -1 for none.
        objects, missed: how many there are of each class.
    """

    def __init__(self, images: Sequence[ImageDetections]) -> None:
        self.scores = np.concatenate([i.scores for i in images])
        self.classes = np.concatenate([i.category_ids for i in images])
        self.kinds = np.concatenate([i.kinds for i in images])
        self.object_classes = np.concatenate(
            [np.append(i.gt_category_ids, -1)[i.objects] for i in images]
        )
        # Numbers of the objects in all images, -1 for none; which are found.
        starts = np.cumsum([0, *(len(i.gt_bboxes) for i in images)])
        self._about = np.concatenate(
            [
                np.where(i.objects < 0, -1, i.objects + start)
                for i, start in zip(images, starts[:-1], strict=True)
            ]
        )
        self._is_found = np.concatenate([i.found_by >= 0 for i in images])
        self.objects = _count([i.gt_category_ids[~i.gt_crowd] for i in images])
        self.missed = _count([i.gt_category_ids[i.missed] for i in images])

    def is_best_for_its_object(self, kind: str) -> np.ndarray:
        """Whether a detection of a kind has an object that nothing has found, and
        the best score of its kind there; (D,) bool."""
        free = (self._about >= 0) & (self.kinds == KINDS.index(kind))
        free[free] = ~self._is_found[self._about[free]]
        best = np.zeros_like(free)
        order = np.flatnonzero(free)
        order = order[np.argsort(-self.scores[order], kind='stable')]
        _, first = np.unique(self._about[order], return_index=True)
        best[order[first]] = True
        return best


def _count(category_ids: Sequence[np.ndarray]) -> dict[int, int]:
    ids, counts = np.unique(np.concatenate(category_ids), return_counts=True)
    return dict(zip(ids.tolist(), counts.tolist(), strict=True))


def _mean_ap50(
    scores: np.ndarray,
    classes: np.ndarray,
    right: np.ndarray,
    kept: np.ndarray,
    objects: dict[int, int],
) -> float:
    """Mean AP of the classes with objects, from what is right and what counts."""
    aps = [
        average_precision(
            scores[kept & (classes == category)],
            right[kept & (classes == category)],
            count,
        )
        for category, count in objects.items()
        if count
    ]
    return float(np.mean(aps)) if aps else float('nan')


def classify_image(
    bboxes: np.ndarray,
    scores: np.ndarray,
    category_ids: np.ndarray,
    gt_bboxes: np.ndarray,
    gt_category_ids: np.ndarray,
    gt_crowd: np.ndarray,
    image_id: int = 0,
) -> ImageDetections:
    """What the detections and the objects of one image are.

    Args:
        bboxes, scores, category_ids: (D, 4) xyxy in absolute pixels, (D,), (D,)
            in any order; the best 100 of a class count.
        gt_bboxes, gt_category_ids, gt_crowd: (G, 4), (G,), (G,) bool.
        image_id: in the result.
    """
    kept = _best_of_each_class(scores, category_ids)
    bboxes, scores, category_ids = bboxes[kept], scores[kept], category_ids[kept]
    kinds = np.full(len(bboxes), KINDS.index(BACKGROUND))
    about = np.full(len(bboxes), -1)
    found_by = np.full(len(gt_bboxes), -1)
    missed = ~gt_crowd
    if len(bboxes) and len(gt_bboxes):
        iou = np.asarray(
            mask.iou(_to_xywh(bboxes), _to_xywh(gt_bboxes), gt_crowd.astype(np.uint8))
        )
        same = category_ids[:, None] == gt_category_ids[None]
        for index in range(len(bboxes)):
            found = _match(np.where(same[index], iou[index], 0), gt_crowd, found_by)
            if found is not None and gt_crowd[found]:
                kinds[index] = KINDS.index(IGNORED)
            elif found is not None:
                kinds[index], about[index] = KINDS.index(CORRECT), found
                found_by[found] = index
        for index in np.flatnonzero(kinds == KINDS.index(BACKGROUND)):
            kind, about[index] = _kind_of_error(
                np.where(gt_crowd, 0, iou[index]), same[index], found_by
            )
            kinds[index] = KINDS.index(kind)
        correctable = np.isin(
            kinds, [KINDS.index(k) for k in (CLASSIFICATION, LOCALISATION)]
        )
        missed &= found_by < 0
        missed[about[correctable]] = False
    return ImageDetections(
        image_id=image_id,
        bboxes=bboxes,
        scores=scores,
        category_ids=category_ids,
        kinds=kinds,
        objects=about,
        gt_bboxes=gt_bboxes,
        gt_category_ids=gt_category_ids,
        gt_crowd=gt_crowd,
        found_by=found_by,
        missed=missed,
    )


def _match(iou: np.ndarray, crowd: np.ndarray, found_by: np.ndarray) -> int | None:
    """COCO's matching of one detection: a free object first, else a crowd.

    Of equal IoUs the last one wins, as in pycocotools.
    """
    for candidates in (~crowd & (found_by < 0), crowd):
        of_candidates = np.where(candidates, iou, -1.0)
        best = len(iou) - 1 - int(of_candidates[::-1].argmax())
        if of_candidates[best] >= FOREGROUND_IOU:
            return best
    return None


def _kind_of_error(
    iou: np.ndarray, same: np.ndarray, found_by: np.ndarray
) -> tuple[str, int]:
    """Of a detection that found nothing, and the object that it is about.

    Args:
        iou: (G,) with the objects, 0 for crowds.
        same: (G,) bool, whose class it has.
        found_by: (G,) as of the image.
    """
    of_class, of_others = np.where(same, iou, 0), np.where(same, 0, iou)
    best, other = int(of_class.argmax()), int(of_others.argmax())
    if BACKGROUND_IOU <= of_class[best] < FOREGROUND_IOU:
        return LOCALISATION, best
    if of_others[other] >= FOREGROUND_IOU:
        return CLASSIFICATION, other
    taken = np.where(found_by >= 0, of_class, 0)
    if taken.max() >= FOREGROUND_IOU:
        return DUPLICATE, int(taken.argmax())
    if iou.max() <= BACKGROUND_IOU:
        return BACKGROUND, -1
    return BOTH, -1


def _best_of_each_class(
    scores: np.ndarray, category_ids: np.ndarray, at_most: int = 100
) -> np.ndarray:
    """Indices of what counts by COCO's limit, best scores first."""
    order = np.argsort(-scores, kind='stable')
    kept = np.zeros(len(scores), bool)
    for category in np.unique(category_ids):
        kept[order[category_ids[order] == category][:at_most]] = True
    return order[kept[order]]


def _arrays(annotations: Sequence[dict]) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (N, 4) xyxy and categories (N,) of COCO's dicts."""
    boxes = np.array([a['bbox'] for a in annotations], float).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes, np.array([a['category_id'] for a in annotations], np.int64)


def _with_scores(
    detections: Sequence[dict],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    boxes, category_ids = _arrays(detections)
    return boxes, np.array([d['score'] for d in detections], float), category_ids


def _to_xywh(boxes: np.ndarray) -> np.ndarray:
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
