"""The kind of each detection, correct or wrong in some way, and the cost of each kind.

The kinds of errors are TIDE's (Bolya et al., "TIDE: A General Toolbox for
Identifying Object Detection Errors", ECCV 2020), at an IoU of 0.5.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pycocotools import mask
from pycocotools.coco import COCO

from focal_retinanet.evaluation.average_precision import precision_recall

#: A detection is on an object from the first IoU on, and on none up to the second.
FOREGROUND_IOU = 0.5
BACKGROUND_IOU = 0.1

CORRECT = 'correct'
CLASSIFICATION = 'classification'
LOCALISATION = 'localisation'
BOTH = 'both'
DUPLICATE = 'duplicate'
BACKGROUND = 'background'
MISSED = 'missed'
#: On a crowd, which is neither correct nor wrong.
IGNORED = 'ignored'

#: Kinds of detections, in the order of ``ImageDetections.kinds``.
KINDS = (CORRECT, CLASSIFICATION, LOCALISATION, BOTH, DUPLICATE, BACKGROUND, IGNORED)
#: Kinds that cost AP, and what they mean.
ERRORS = {
    CLASSIFICATION: 'right place, wrong class',
    LOCALISATION: f'right class, IoU of {BACKGROUND_IOU} to {FOREGROUND_IOU}',
    BOTH: 'near an object of another class',
    DUPLICATE: 'a detection with a better score has found the object',
    BACKGROUND: 'on no object',
    MISSED: 'an object without a detection in its place or of its class nearby',
}


@dataclass(frozen=True)
class ImageDetections:
    """The D detections and G objects of an image, and their kinds.

    Boxes are xyxy in absolute pixels. The best scores come first. Matching is greedy
    by score, so a score threshold changes no kind of the detections above it.

    Attributes:
        image_id: Id in the ground truth.
        bboxes, scores, category_ids: Detections, (D, 4), (D,), (D,).
        kinds: (D,) indices into ``KINDS``.
        objects: (D,) index of the object that the detection has found, would find
            with the right class or box, or repeats; else -1.
        gt_bboxes, gt_category_ids: Objects, (G, 4), (G,).
        gt_crowd: (G,) bool, whether the object is a crowd, which is never missed.
        found_by: (G,) index of the detection that has found the object, or -1.
        missed: (G,) bool, whether the object is ``MISSED``.
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
        """Return which detections are of a kind, (D,) bool."""
        return self.kinds == KINDS.index(kind)

    def not_found(self, score_thr: float = 0.0) -> np.ndarray:
        """Return which objects no detection from a score on has found, (G,) bool."""
        scores = np.append(self.scores, -np.inf)[self.found_by]  # -1 is the last
        return ~self.gt_crowd & ((self.found_by < 0) | (scores < score_thr))

    def missed_from(self, score_thr: float) -> np.ndarray:
        """Return which objects are ``MISSED`` by detections from a score on, (G,) bool."""
        correctable = [KINDS.index(CLASSIFICATION), KINDS.index(LOCALISATION)]
        about = np.isin(self.kinds, correctable) & (self.scores >= score_thr)
        missed = self.not_found(score_thr)
        missed[self.objects[about]] = False
        return missed


def classify_detections(
    coco: COCO, detections: Sequence[dict], cat_ids: Sequence[int] | None = None
) -> list[ImageDetections]:
    """Return the kinds of all detections and objects, images in the order of ids.

    Args:
        coco: Ground truth.
        detections: Dicts with ``image_id``, ``category_id``, ``bbox`` (xywh,
            absolute pixels) and ``score``. The best 100 of a class in an image count,
            as in COCO's evaluation.
        cat_ids: Categories that count (default: all categories).
    """
    cat_ids = sorted(coco.cats if cat_ids is None else cat_ids)
    by_image: dict[int, list[dict]] = {img_id: [] for img_id in sorted(coco.imgs)}
    for detection in detections:
        if detection['category_id'] in cat_ids:
            by_image[detection['image_id']].append(detection)
    images = []
    for img_id, found in by_image.items():
        objects = coco.loadAnns(coco.getAnnIds(imgIds=img_id, catIds=cat_ids))
        bboxes, category_ids = _boxes_and_categories(found)
        scores = np.array([d['score'] for d in found], float)
        crowd = np.array([o.get('iscrowd', 0) for o in objects], bool)
        images.append(
            classify_image(
                *(bboxes, scores, category_ids),
                *(*_boxes_and_categories(objects), crowd),
                img_id,
            )
        )
    return images


def classify_image(
    bboxes: np.ndarray,
    scores: np.ndarray,
    category_ids: np.ndarray,
    gt_bboxes: np.ndarray,
    gt_category_ids: np.ndarray,
    gt_crowd: np.ndarray,
    image_id: int = 0,
) -> ImageDetections:
    """Return the kinds of the detections and objects of one image.

    Args:
        bboxes, scores, category_ids: (D, 4) xyxy in absolute pixels, (D,), (D,), in
            any order. The best 100 of a class count.
        gt_bboxes, gt_category_ids, gt_crowd: (G, 4), (G,), (G,) bool.
        image_id: Id of the result.
    """
    kept = _best_of_each_class(scores, category_ids)
    bboxes, scores, category_ids = bboxes[kept], scores[kept], category_ids[kept]
    kinds = np.full(len(bboxes), KINDS.index(BACKGROUND))
    about = np.full(len(bboxes), -1)
    found_by = np.full(len(gt_bboxes), -1)
    missed = ~gt_crowd
    if len(bboxes) and len(gt_bboxes):
        iou = mask.iou(to_xywh(bboxes), to_xywh(gt_bboxes), gt_crowd.astype(np.uint8))
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
        correctable = [KINDS.index(CLASSIFICATION), KINDS.index(LOCALISATION)]
        missed &= found_by < 0
        missed[about[np.isin(kinds, correctable)]] = False
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


def cost_of_errors(images: Sequence[ImageDetections]) -> dict[str, float]:
    """Return by how much AP50 would rise without the errors of each kind.

    As in TIDE, a wrong class or box is corrected, unless its object is found or has
    a better candidate. All other wrong detections are deleted. Missed objects are
    taken out of the ground truth.

    Returns:
        ``'AP50'`` itself, and the rise for each of ``ERRORS``, in [0, 1]; NaN where
        there are no objects.
    """
    table = _Detections(images)
    costs = {'AP50': table.ap50()}
    for error in ERRORS:
        if error == MISSED:
            left = {c: n - table.missed.get(c, 0) for c, n in table.objects.items()}
            fixed = table.ap50(objects=left)
        else:
            wrong = table.kinds == KINDS.index(error)
            corrected = np.zeros_like(wrong)
            if error in (CLASSIFICATION, LOCALISATION):
                corrected = wrong & table.is_best_for_its_object(error)
            fixed = table.ap50(corrected, wrong & ~corrected)
        costs[error] = fixed - costs['AP50']
    return costs


def image_ap50(image: ImageDetections) -> float:
    """Return the mean AP50 of an image over its classes; NaN without objects."""
    return _Detections([image]).ap50()


class _Detections:
    """The detections of all images in one table.

    Attributes:
        scores, classes, kinds: (D,) each.
        object_classes: (D,) class of the object that each is about, or -1.
        objects, missed: Number of objects of each class.
    """

    def __init__(self, images: Sequence[ImageDetections]) -> None:
        self.scores = np.concatenate([i.scores for i in images])
        self.classes = np.concatenate([i.category_ids for i in images])
        self.kinds = np.concatenate([i.kinds for i in images])
        self.object_classes = np.concatenate(
            [np.append(i.gt_category_ids, -1)[i.objects] for i in images]
        )
        # Indices of objects count over all images.
        starts = np.cumsum([0, *(len(i.gt_bboxes) for i in images)])[:-1]
        self._about = np.concatenate(
            [
                np.where(i.objects < 0, -1, i.objects + start)
                for i, start in zip(images, starts, strict=True)
            ]
        )
        self._is_found = np.concatenate([i.found_by >= 0 for i in images])
        self.objects = _count([i.gt_category_ids[~i.gt_crowd] for i in images])
        self.missed = _count([i.gt_category_ids[i.missed] for i in images])

    def ap50(
        self,
        corrected: np.ndarray | bool = False,
        deleted: np.ndarray | bool = False,
        objects: dict[int, int] | None = None,
    ) -> float:
        """Mean AP50 of the classes with objects; NaN if there are none.

        Args:
            corrected: bool (D,), detections that get the class of their object and
                count as correct.
            deleted: bool (D,), detections that do not count.
            objects: Number of objects of each class, if not all of them count.
        """
        classes = np.where(corrected, self.object_classes, self.classes)
        right = (self.kinds == KINDS.index(CORRECT)) | corrected
        kept = (self.kinds != KINDS.index(IGNORED)) & ~np.asarray(deleted)
        aps = []
        for category, count in (self.objects if objects is None else objects).items():
            if count:
                mine = kept & (classes == category)
                aps.append(
                    precision_recall(self.scores[mine], right[mine], count).mean()
                )
        return float(np.mean(aps)) if aps else float('nan')

    def is_best_for_its_object(self, kind: str) -> np.ndarray:
        """Which detections of a kind are the best for an object not found, bool (D,)."""
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


def _match(iou: np.ndarray, crowd: np.ndarray, found_by: np.ndarray) -> int | None:
    """Match one detection as COCO does: to a free object, or else to a crowd.

    Of equal IoUs the last one wins, as in pycocotools.
    """
    for candidates in (~crowd & (found_by < 0), crowd):
        candidate_iou = np.where(candidates, iou, -1.0)
        best = len(iou) - 1 - int(candidate_iou[::-1].argmax())
        if candidate_iou[best] >= FOREGROUND_IOU:
            return best
    return None


def _kind_of_error(
    iou: np.ndarray, same: np.ndarray, found_by: np.ndarray
) -> tuple[str, int]:
    """Kind of a detection that has found nothing, and the object that it is about.

    Args:
        iou: (G,) IoU with each object, 0 for crowds.
        same: (G,) bool, whether the object has the detection's class.
        found_by: (G,) as in :class:`ImageDetections`.
    """
    same_iou, other_iou = np.where(same, iou, 0), np.where(same, 0, iou)
    best, other = int(same_iou.argmax()), int(other_iou.argmax())
    if BACKGROUND_IOU <= same_iou[best] < FOREGROUND_IOU:
        return LOCALISATION, best
    if other_iou[other] >= FOREGROUND_IOU:
        return CLASSIFICATION, other
    taken = np.where(found_by >= 0, same_iou, 0)
    if taken.max() >= FOREGROUND_IOU:
        return DUPLICATE, int(taken.argmax())
    return (BACKGROUND if iou.max() <= BACKGROUND_IOU else BOTH), -1


def _best_of_each_class(
    scores: np.ndarray, category_ids: np.ndarray, at_most: int = 100
) -> np.ndarray:
    """Indices of the detections within COCO's limit, the best scores first."""
    order = np.argsort(-scores, kind='stable')
    by_class = [order[category_ids[order] == c] for c in np.unique(category_ids)]
    kept = [index for indices in by_class for index in indices[:at_most]]
    return order[np.isin(order, kept)]


def _boxes_and_categories(annotations: Sequence[dict]) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (N, 4) xyxy and category ids (N,) of COCO's dicts."""
    boxes = np.array([a['bbox'] for a in annotations], float).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes, np.array([a['category_id'] for a in annotations], np.int64)


def to_xywh(boxes: np.ndarray) -> np.ndarray:
    """Return boxes (N, 4) xyxy as xywh."""
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
