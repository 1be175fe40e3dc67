"""Checks that an evaluator's ground truth belongs to the images that are tested."""

from collections import Counter
from collections.abc import Iterator, Sequence
from logging import Logger
from pathlib import Path

import numpy as np
from mmdet.datasets.api_wrappers import COCO
from mmdet.evaluation import MultiDatasetsEvaluator
from mmdet.evaluation.metrics import CocoMetric as MMDetCocoMetric
from mmengine.evaluator import Evaluator
from torch.utils.data import Dataset

from focal_retinanet.cli.naming import few
from focal_retinanet.data.built_datasets import inner_built_datasets
from focal_retinanet.data.check_data import DataError
from focal_retinanet.data.coco_file import as_coco
from focal_retinanet.evaluation.coco_metric import CocoMetric
from focal_retinanet.evaluation.ground_truth import check_and_prepare


def check_evaluator(
    evaluator: Evaluator,
    dataset: Dataset,
    ann_files: Sequence[str],
    key: str,
    logger: Logger,
) -> None:
    """Compare the images and classes of COCO metrics with those of a data set.

    If an id means different images in the two files, AP is near 0; if the order of
    the classes differs, they are mixed up. Neither mmdet nor pycocotools notices. The
    ground truth of mmdet's own ``CocoMetric`` is prepared as ours is. If the data set
    has ``indices``, AP is that of these images alone.

    Args:
        evaluator: Built evaluator.
        dataset: Built data set that it evaluates.
        ann_files: Annotation file of each COCO metric, for messages.
        key: Name of the evaluator in the config.
        logger: Logger for warnings.

    Raises:
        DataError: The evaluator and the data set do not belong together.
        UserError: The file of mmdet's own metric has an error.
    """
    names = iter(ann_files)
    for metric, own_dataset in _coco_metrics(evaluator, dataset):
        ann_file = next(names, "the evaluator's file")
        if not isinstance(metric, CocoMetric):
            metric._coco_api = as_coco(
                check_and_prepare(
                    metric._coco_api.dataset, ann_file, not metric.format_only
                )
            )
        where = f'{key}.ann_file={ann_file}'
        _check_classes(metric._coco_api, own_dataset, where)
        ids = _check_images(metric._coco_api, own_dataset, where, logger)
        if _is_cut(own_dataset) and ids is not None:
            metric.img_ids = ids


def _coco_metrics(
    evaluator: Evaluator, dataset: Dataset
) -> Iterator[tuple[MMDetCocoMetric, Dataset]]:
    """Yield the metrics with a ground truth of their own, each with its data set."""
    metrics = evaluator.metrics
    datasets = [dataset] * len(metrics)
    if isinstance(evaluator, MultiDatasetsEvaluator):
        datasets = inner_built_datasets(dataset)
    for metric, own_dataset in zip(metrics, datasets, strict=False):
        is_coco = type(metric) is MMDetCocoMetric or isinstance(metric, CocoMetric)
        if is_coco and metric._coco_api is not None:
            yield metric, own_dataset


def _check_classes(coco: COCO, dataset: Dataset, where: str) -> None:
    classes = getattr(dataset, 'metainfo', {}).get('classes')
    if not classes:
        return
    cat_ids = coco.get_cat_ids(cat_names=list(classes))
    names = [category['name'] for category in coco.load_cats(cat_ids)]
    missing = [name for name in classes if name not in names]
    if missing:
        raise DataError(
            f'{where} has no category {few(missing)}, which is a class of the data '
            f'set; it has {few(c["name"] for c in coco.dataset["categories"])}'
        )
    if names != list(classes):
        raise DataError(
            f'{where} has its categories in the order {tuple(names)}, by which mmdet '
            f'takes the labels, and the data set its classes in the order '
            f'{tuple(classes)}, so classes would be mixed up; bring them in one order'
        )


def _is_cut(dataset: Dataset) -> bool:
    """Return whether the config names the images of a data set by ``indices``."""
    parts = inner_built_datasets(dataset)
    return any(getattr(part, '_indices', None) is not None for part in parts)


def _check_images(
    coco: COCO, dataset: Dataset, where: str, logger: Logger
) -> list[int] | None:
    """Return the ids of the images of a data set; None if they are unknown."""
    images = _images(dataset)
    if images is None:
        return None
    counts = Counter(img_id for img_id, _, _ in images)
    double = [img_id for img_id, count in counts.items() if count > 1]
    if double:
        paths = [path for img_id, path, _ in images if img_id == double[0]]
        raise DataError(
            f'{where}: the data set has {len(double)} image ids more than once, such '
            f'as {double[0]} ({few(paths)}), so detections of several images would '
            'count as those of one; number the images of the files through, or '
            "evaluate each file by itself with type='MultiDatasetsEvaluator'"
        )
    unknown = [f'{i} ({path})' for i, path, _ in images if i not in coco.imgs]
    if unknown:
        raise DataError(
            f'{where} does not belong to the data set: it has no image '
            f'{few(unknown)} ({len(unknown)} of {len(images)}); {_REMEDY}'
        )
    others = [
        f'{img_id}, which is {path} in the data set and '
        f'{coco.imgs[img_id]["file_name"]} there'
        for img_id, path, _ in images
        if Path(path).stem != Path(coco.imgs[img_id]['file_name']).stem
    ]
    if others:
        raise DataError(
            f'{where} does not belong to the data set: {len(others)} of {len(images)} '
            f'images are others there, such as image {others[0]}; {_REMEDY}'
        )
    _compare_objects(coco, dataset, images, where, logger)
    untested = len(coco.imgs) - len(images)
    if untested and _is_cut(dataset):
        logger.warning(
            f"AP is that of the {len(images)} images that the data set's indices "
            f'name, of {len(coco.imgs)} in {where}'
        )
    elif untested:
        logger.warning(
            f'{where} has {untested} images that are not in the data set; all their '
            'objects count as missed'
        )
    return [img_id for img_id, _, _ in images]


_REMEDY = (
    "name the data set's own file, or leave ann_file out (None in --cfg-options), and "
    'it is taken'
)


def _compare_objects(
    coco: COCO,
    dataset: Dataset,
    images: Sequence[tuple[int, str, np.ndarray]],
    where: str,
    logger: Logger,
) -> None:
    """Warn if files of the same names have other objects."""
    if not any(len(boxes) for _, _, boxes in images):  # a file of images alone
        return
    classes = getattr(dataset, 'metainfo', {}).get('classes') or ()
    cat_ids = set(coco.get_cat_ids(cat_names=list(classes)))
    others = []
    for img_id, path, boxes in images:
        xywh = [
            a['bbox'] for a in coco.img_ann_map[img_id] if a['category_id'] in cat_ids
        ]
        truth = _sorted_boxes([(x, y, x + w, y + h) for x, y, w, h in xywh])
        if len(truth) != len(boxes) or not np.allclose(truth, boxes, atol=0.5):
            others.append(path)
    if others:
        logger.warning(
            f'{where} has other objects than the data set in {len(others)} of '
            f'{len(images)} images, such as {few(others)}: is it of another version, or '
            'of other images with the same names?'
        )


def _images(dataset: Dataset) -> list[tuple[int, str, np.ndarray]] | None:
    """Return id, path and boxes (G, 4) xyxy of each image; None if they are unknown."""
    get_data_info = getattr(dataset, 'get_data_info', None)
    if get_data_info is None:
        return None
    images = []
    for index in range(len(dataset)):
        info = get_data_info(index)
        if 'img_id' not in info or 'img_path' not in info:
            return None
        boxes = [i['bbox'] for i in info.get('instances', []) if 'bbox' in i]
        images.append((info['img_id'], info['img_path'], _sorted_boxes(boxes)))
    return images


def _sorted_boxes(boxes: Sequence[Sequence[float]]) -> np.ndarray:
    return np.array(sorted(map(tuple, boxes)), dtype=float).reshape(-1, 4)
