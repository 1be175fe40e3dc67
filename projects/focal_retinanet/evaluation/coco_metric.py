"""COCO's average precision, computed by the fastest library at hand."""

import importlib.util
from unittest import mock

from mmdet.evaluation.metrics import CocoMetric as MMDetCocoMetric

from focal_retinanet.registry import METRICS

BACKENDS = ('auto', 'faster_coco_eval', 'pycocotools')


@METRICS.register_module()
class CocoMetric(MMDetCocoMetric):
    """COCO's metrics, drop-in for mmdet's ``CocoMetric``.

    Args:
        backend: 'faster_coco_eval', 'pycocotools', or 'auto', which is the
            first where it is installed. The results are equal to the last
            digit; only boxes go through the first, everything else, and mmdet's
            ``use_mp_eval``, through pycocotools.
        *args, **kwargs: as mmdet's.

    Raises:
        ValueError: there is no such backend.
        ImportError: the backend that was named is not installed.
    """

    def __init__(self, *args, backend: str = 'auto', **kwargs) -> None:
        if backend not in BACKENDS:
            raise ValueError(
                f'backend is one of {", ".join(BACKENDS)}, not {backend!r}'
            )
        is_installed = importlib.util.find_spec('faster_coco_eval') is not None
        if backend == 'faster_coco_eval' and not is_installed:
            raise ImportError(
                "backend='faster_coco_eval' needs that package: "
                'pip install faster-coco-eval'
            )
        super().__init__(*args, **kwargs)
        boxes_only = set(self.metrics) <= {'bbox', 'proposal', 'proposal_fast'}
        self._is_fast = is_installed and backend != 'pycocotools' and boxes_only

    def compute_metrics(self, results: list) -> dict[str, float]:
        """As mmdet's: the metrics by name, rounded to three digits."""
        if not self._is_fast:
            return super().compute_metrics(results)
        from focal_retinanet.evaluation.fast_coco_eval import FastCOCOeval

        # mmdet names the class in its module and takes no other.
        with mock.patch('mmdet.evaluation.metrics.coco_metric.COCOeval', FastCOCOeval):
            return super().compute_metrics(results)
