"""pycocotools' ``COCOeval`` with the loops of ``faster-coco-eval``."""

import copy

import numpy as np
from faster_coco_eval import COCOeval_faster
from pycocotools.cocoeval import COCOeval

_PARAMS = ('imgIds', 'catIds', 'iouThrs', 'recThrs', 'maxDets')
_PARAMS += ('areaRng', 'areaRngLbl', 'useCats')
# One of these lies between the recalls of one and of two objects out of n.
_POWERS_OF_TWO = 0.5 ** np.arange(32)
# pycocotools' precision of 1 / 1: it avoids a division by zero.
_ONE_OF_ONE = 1 / (1 + np.spacing(1))


class FastCOCOeval(COCOeval):
    """Drop-in for ``COCOeval``, with the same ``params``, ``eval`` and ``stats``.

    faster-coco-eval matches and accumulates in C++. Its results equal pycocotools'
    to the last digit with one exception: if the first detection is correct and the
    second is wrong, its precision is 1, where pycocotools and this class give
    1 - 2.2e-16. ``evalImgs`` is not filled.
    """

    def evaluate(self) -> None:
        """Match and accumulate the detections of all images."""
        fast = COCOeval_faster(self.cocoGt, self.cocoDt, self.params.iouType)
        for name in _PARAMS:
            setattr(fast.params, name, copy.deepcopy(getattr(self.params, name)))
        recalls = np.union1d(self.params.recThrs, _POWERS_OF_TWO)
        fast.params.recThrs = recalls
        fast.evaluate()
        for name in ('imgIds', 'catIds', 'maxDets'):  # sorted by evaluate()
            setattr(self.params, name, getattr(fast.params, name))

        chosen = np.searchsorted(recalls, self.params.recThrs)
        precision = fast.eval['precision'][:, chosen]  # (T, R, K, A, M)
        scores = fast.eval['scores'][:, chosen]
        objects = self._count_objects()  # (K, A)
        power = np.ceil(np.log2(np.maximum(objects, 2))).astype(int) - 1
        at_two = np.searchsorted(recalls, _POWERS_OF_TWO[power])  # (K, A)
        k, a = np.indices(objects.shape)
        # The three index arrays share one place of the axes: (T, K, A, M).
        two_of_two = fast.eval['precision'][:, at_two, k, a] == 1
        two_of_two &= (objects > 1)[None, ..., None]
        precision[(precision == 1) & ~two_of_two[:, None]] = _ONE_OF_ONE
        self.eval = dict(
            params=self.params,
            counts=list(precision.shape),
            precision=precision,
            recall=fast.eval['recall'],
            scores=scores,
        )

    def accumulate(self, p=None) -> None:
        """Do nothing, since ``evaluate`` accumulates too.

        Raises:
            ValueError: ``p`` is given, which would be other parameters.
        """
        if p is not None:
            raise ValueError('set params before evaluate()')

    def _count_objects(self) -> np.ndarray:
        """Number of objects of each category and area range, without crowds, (K, A)."""
        params = self.params
        row = {category: k for k, category in enumerate(params.catIds)}
        counts = np.zeros((len(row) if params.useCats else 1, len(params.areaRng)), int)
        ids = self.cocoGt.getAnnIds(
            imgIds=params.imgIds, catIds=params.catIds if params.useCats else []
        )
        for ann in self.cocoGt.loadAnns(ids):
            if not ann.get('iscrowd', 0):
                k = row[ann['category_id']] if params.useCats else 0
                counts[k] += [low <= ann['area'] <= up for low, up in params.areaRng]
        return counts
