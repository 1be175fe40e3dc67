"""COCO's average precision by the fastest installed library."""

import importlib.util
from collections.abc import Sequence
from unittest import mock

from mmdet.evaluation.metrics import CocoMetric as MMDetCocoMetric
from mmdet.evaluation.metrics import coco_metric as mmdet_coco_metric
from mmengine.logging import MMLogger

from focal_retinanet.cli.errors import UserError
from focal_retinanet.evaluation.category_order import InGivenOrder
from focal_retinanet.evaluation.ground_truth import describe_crowded, load_coco
from focal_retinanet.registry import METRICS

BACKENDS = ('auto', 'faster_coco_eval', 'pycocotools')
#: Largest number of classes whose APs are on the console without being asked for.
MOST_CLASSES = 20


@METRICS.register_module()
class CocoMetric(MMDetCocoMetric):
    """COCO's metrics, drop-in for mmdet's ``CocoMetric``.

    The ground truth is checked and prepared as for training, see
    :func:`focal_retinanet.data.coco_file.prepare_coco`. If the config has no
    ``ann_file``, :class:`focal_retinanet.engine.runner.Runner` gives that of the
    data set. The AP of each class is that of its name, whatever the order of the ids in
    the file.

    Args:
        backend: 'faster_coco_eval', 'pycocotools', or 'auto', which prefers the
            first. Their results are equal to the last digit. Masks, keypoints and
            mmdet's ``use_mp_eval`` always take pycocotools.
        classwise: Whether the AP of each class is on the console and among the
            metrics (default: on the console alone, for 2 to 20 classes).
        *args, **kwargs: Arguments of mmdet's metric.

    Raises:
        ValueError: There is no such backend.
        ImportError: The named backend is not installed.
        UserError: The annotation file has an error.
    """

    def __init__(
        self,
        *args,
        backend: str = 'auto',
        classwise: bool | None = None,
        **kwargs,
    ) -> None:
        if backend not in BACKENDS:
            raise ValueError(
                f'backend must be one of {", ".join(BACKENDS)}, not {backend!r}'
            )
        is_installed = importlib.util.find_spec('faster_coco_eval') is not None
        if backend == 'faster_coco_eval' and not is_installed:
            raise ImportError(
                "backend='faster_coco_eval' needs that package: "
                'pip install faster-coco-eval'
            )
        needs_boxes = not kwargs.get('format_only', False)
        # mmdet takes its COCO class from its module, not from an argument.
        with mock.patch(
            'mmdet.evaluation.metrics.coco_metric.COCO',
            lambda ann_file: load_coco(ann_file, needs_boxes),
        ):
            super().__init__(*args, classwise=bool(classwise), **kwargs)
        if self._coco_api is not None and (crowded := describe_crowded(self._coco_api)):
            MMLogger.get_current_instance().warning(crowded)
        self._is_classwise_open = classwise is None
        boxes_only = set(self.metrics) <= {'bbox', 'proposal', 'proposal_fast'}
        self._is_fast = is_installed and backend != 'pycocotools' and boxes_only

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Collect a batch, as mmdet's metric does.

        Raises:
            UserError: There is no ground truth for the detections.
        """
        needs_file = self._coco_api is None and not self.format_only
        if needs_file and any('instances' not in sample for sample in data_samples):
            raise UserError(
                "CocoMetric has no ann_file. This project's runner takes that of the "
                'data set. With another runner, name it in val_evaluator and '
                'test_evaluator'
            )
        super().process(data_batch, data_samples)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Return the metrics by name, rounded to three digits, as mmdet does."""
        classes = (self.dataset_meta or {}).get('classes') or ()
        if not self._is_classwise_open or not 2 <= len(classes) <= MOST_CLASSES:
            return self._compute(results)
        with mock.patch.object(self, 'classwise', True):
            metrics = self._compute(results)
        for name in classes:
            metrics.pop(f'{name}_precision', None)
        return metrics

    def _compute(self, results: list) -> dict[str, float]:
        """Compute the metrics by the chosen library."""
        coco = self._coco_api
        # faster-coco-eval stores ids as float64, which merges large ones.
        ids = () if coco is None else (*coco.imgs, *coco.cats)
        kind = mmdet_coco_metric.COCOeval
        if self._is_fast and not any(abs(id_) > 2**53 for id_ in ids):
            from focal_retinanet.evaluation.fast_coco_eval import FastCOCOeval as kind
        ordered = type(kind.__name__, (InGivenOrder, kind), {})
        with mock.patch.object(mmdet_coco_metric, 'COCOeval', ordered):
            return super().compute_metrics(results)
