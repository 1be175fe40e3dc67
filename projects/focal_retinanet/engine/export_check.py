"""Whether an exported file detects what PyTorch detects, and with what AP."""

import copy
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torch.utils.data import Dataset

from focal_retinanet.cli.console import progress, quiet_mmengine, quiet_pycocotools
from focal_retinanet.cli.errors import UserError
from focal_retinanet.config.dataset_configs import inner_datasets
from focal_retinanet.data.built_datasets import unite_metainfo
from focal_retinanet.data.check_data import checked_loading, coco_sources
from focal_retinanet.data.image_errors import name_image_errors
from focal_retinanet.data.training_images import evenly_spread
from focal_retinanet.evaluation.check_evaluator import check_evaluator
from focal_retinanet.evaluation.coco_metric import CocoMetric
from focal_retinanet.evaluation.evaluator_files import (
    coco_metrics,
    copy_evaluator,
    name_ann_files,
)
from focal_retinanet.export.exported_model import ExportedModel
from focal_retinanet.export.runtimes import Runtime
from focal_retinanet.ops.matching import pairwise_iou

#: Largest differences of equal detections, in pixels and in score.
BOX_TOLERANCE = 1e-2
SCORE_TOLERANCE = 1e-5
#: Largest difference of an AP.
AP_TOLERANCE = 1e-3
#: Largest difference of a logit, a delta, or an anchor's coordinate.
RAW_TOLERANCE = 1e-3
# How near to the threshold of the suppression an IoU has to be to fall on either side.
_IOU_TOLERANCE = 1e-3

_BATCH = 4


@dataclass(frozen=True)
class TestImages:
    """Images of a config's test set, and its evaluator.

    Attributes:
        dataset: Data set of the tests.
        indices: Images to take.
        evaluator: Evaluator of exactly these images; None if the config's is not
            COCO's, which alone can evaluate a part of a data set, or only writes a file.
    """

    __test__ = False  # pytest, look away

    dataset: Dataset
    indices: Sequence[int]
    evaluator: Evaluator | None

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[dict]:
        for index in self.indices:
            yield self.dataset[index]


def load_test_images(cfg: Config, model: nn.Module, num: int | None) -> TestImages:
    """Load the test set of a config, checked as for a test.

    Args:
        cfg: Config of the run.
        model: Detector whose head must fit the classes.
        num: Number of images, spread over the data set; None takes all.

    Raises:
        UserError: The data set or its annotations have an error.
    """
    config = cfg.test_dataloader.dataset
    logger = MMLogger.get_current_instance()
    evaluator = copy_evaluator(cfg.get('test_evaluator') or [])
    name_ann_files(evaluator, config, 'test_evaluator')
    configs = [metric for metric, _ in coco_metrics(evaluator, config)]
    with quiet_mmengine(), quiet_pycocotools():
        with checked_loading(coco_sources(config), model, logger, set()):
            dataset = DATASETS.build(config)
        unite_metainfo(dataset)
        name_image_errors(dataset)
        indices = evenly_spread(len(dataset), num)
        built = None
        if (
            len(configs) == 1
            and configs[0].get('ann_file') is not None
            and not configs[0].get('format_only')
        ):
            # The file with the prefix is a result of tools/test.py, of all images.
            left_out = ('type', 'prefix', 'outfile_prefix', 'format_only')
            own = {k: v for k, v in configs[0].items() if k not in left_out}
            built = Evaluator(CocoMetric(**own))
            built.dataset_meta = dataset.metainfo
            files = [str(configs[0]['ann_file'])]
            check_evaluator(built, dataset, files, 'test_evaluator', logger)
            infos = [dataset.get_data_info(index) for index in indices]
            built.metrics[0].img_ids = [info['img_id'] for info in infos]
    return TestImages(dataset, indices, built)


def load_calibration_images(cfg: Config, num: int) -> Iterator[dict]:
    """Load images of the training set, resized as in a test, not augmented.

    Args:
        cfg: Config of the run.
        num: Number of images, spread over the data set.

    Returns:
        Samples, each of which is loaded when it is needed.

    Raises:
        UserError: The config has no training set; or, when an image is needed, it
            cannot be read.
    """
    if cfg.get('train_dataloader') is None:
        raise UserError(
            f'{cfg.filename or "the config"} has no train_dataloader, whose images '
            '--int8 needs'
        )
    config = copy.deepcopy(next(inner_datasets(cfg.train_dataloader.dataset)))
    test = next(inner_datasets(cfg.test_dataloader.dataset))
    config.pipeline, config.test_mode = test.pipeline, True
    with quiet_mmengine(), quiet_pycocotools():
        dataset = DATASETS.build(config)
    name_image_errors(dataset)
    return (dataset[index] for index in evenly_spread(len(dataset), num))


def detect(
    model: nn.Module, images: TestImages, name: str, batch_size: int = _BATCH
) -> tuple[list[InstanceData], dict[str, float]]:
    """Detect objects in images, and evaluate the detections.

    Args:
        model: Detector with mmdet's ``test_step``.
        images: Images.
        name: Name of the work, for the bar that shows progress.
        batch_size: Number of images that the model gets at a time.

    Returns:
        Detections of each image, and the metrics, if there is an evaluator.
    """
    found: list[InstanceData] = []
    iterator = iter(progress(images, name))
    while batch := list(itertools.islice(iterator, batch_size)):
        data = {key: [one[key] for one in batch] for key in ('inputs', 'data_samples')}
        with torch.no_grad():
            samples = model.test_step(data)
        if images.evaluator is not None:
            images.evaluator.process(data_samples=samples, data_batch=data)
        found += [sample.pred_instances.cpu() for sample in samples]
    metrics = {}
    if images.evaluator is not None:
        with quiet_mmengine(), quiet_pycocotools():
            metrics = images.evaluator.evaluate(len(images))
    return found, metrics


def check_equal(
    expected: Iterable[InstanceData],
    found: Iterable[InstanceData],
    score_thr: float,
    iou_thr: float,
    max_per_img: int,
) -> None:
    """Check that two runtimes have the same detections.

    Boxes may differ by 0.01 pixels, scores by 0.00001. A detection may be missing if
    such a difference decides about it: at the score threshold, at the number of
    detections of an image, or at the threshold of the suppression.

    Args:
        expected: Detections of PyTorch in each image.
        found: Detections of the exported file in each image.
        score_thr: Lowest score of a detection.
        iou_thr: Threshold of the suppression.
        max_per_img: Highest number of detections of an image.

    Raises:
        UserError: They are not the same; the error has the first that differs.
    """
    for index, (ours, theirs) in enumerate(zip(expected, found, strict=True)):
        limits = [score_thr]
        limits += [
            float(one.scores.min()) for one in (ours, theirs) if len(one) >= max_per_img
        ]
        for one, other, where in (
            (ours, theirs, 'PyTorch alone'),
            (theirs, ours, 'the file alone'),
        ):
            for i in (~_has_twin(one, other)).nonzero().flatten().tolist():
                if not _is_on_the_edge(one, other, i, limits, iou_thr):
                    x1, y1, x2, y2 = one.bboxes[i].tolist()
                    raise UserError(
                        f'image {index} of the check: {where} has a detection of class '
                        f'{int(one.labels[i])} with score {float(one.scores[i]):.6f} at '
                        f'({x1:.2f}, {y1:.2f}, {x2:.2f}, {y2:.2f}); {len(ours)} '
                        f'detections by PyTorch, {len(theirs)} by the file'
                    )


def check_raw_equal(expected: Runtime, found: Runtime, images: Iterable[dict]) -> None:
    """Check that the outputs of a raw file are those of PyTorch.

    Raises:
        UserError: A logit or a delta differs by more than 0.001.
    """
    model = ExportedModel('the exported model', runtime=expected)
    for index, sample in enumerate(images):
        for batch in model.prepare(sample['inputs'][None].numpy()):
            for name, ours, theirs in zip(
                ('logits', 'deltas', 'anchors'),
                expected(batch),
                found(batch),
                strict=True,
            ):
                difference = float(np.abs(ours - theirs).max())
                if not difference <= RAW_TOLERANCE:
                    raise UserError(
                        f'image {index} of the check: {name} differ by {difference:.2g}'
                    )


def check_same_ap(expected: dict[str, float], found: dict[str, float]) -> None:
    """Check that metrics differ by at most 0.001.

    Raises:
        UserError: One differs by more.
    """
    for name, value in expected.items():
        if abs(value - found[name]) > AP_TOLERANCE + 1e-9:
            raise UserError(
                f'{name} is {value:.4f} by PyTorch and {found[name]:.4f} by the file'
            )


def _has_twin(one: InstanceData, other: InstanceData) -> Tensor:
    """Return for each detection whether the other runtime has it as well (n,)."""
    if not len(other):
        return torch.zeros(len(one), dtype=torch.bool)
    boxes = (one.bboxes[:, None] - other.bboxes[None]).abs().amax(dim=2)
    scores = (one.scores[:, None] - other.scores[None]).abs()
    same = one.labels[:, None] == other.labels[None]
    near = same & (boxes <= BOX_TOLERANCE) & (scores <= SCORE_TOLERANCE)
    return near.any(dim=1)


def _is_on_the_edge(
    one: InstanceData,
    other: InstanceData,
    index: int,
    limits: Sequence[float],
    iou_thr: float,
) -> bool:
    """Return whether rounding decides about a detection that has no twin."""
    score, label = float(one.scores[index]), one.labels[index]
    if any(abs(score - limit) <= 2 * SCORE_TOLERANCE for limit in limits):
        return True
    better = torch.cat(
        [x.bboxes[(x.labels == label) & (x.scores >= score)] for x in (one, other)]
    )
    ious = pairwise_iou(one.bboxes[index][None].float(), better.float())
    return bool(((ious - iou_thr).abs() <= _IOU_TOLERANCE).any())
