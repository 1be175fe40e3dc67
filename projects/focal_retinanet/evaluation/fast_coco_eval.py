"""pycocotools' ``COCOeval`` with the loops of ``faster-coco-eval``."""

import copy

import numpy as np
from faster_coco_eval import COCOeval_faster
from pycocotools.cocoeval import COCOeval

_PARAMS = ('imgIds', 'catIds', 'iouThrs', 'recThrs', 'maxDets')
_PARAMS += ('areaRng', 'areaRngLbl', 'useCats')
# Between the recall of one object of n and that of two lies one of these.
_POWERS_OF_TWO = 0.5 ** np.arange(32)
# What pycocotools gives for a precision of 1 / 1, so as not to divide by zero.
_ONE_OF_ONE = 1 / (1 + np.spacing(1))


class FastCOCOeval(COCOeval):
    """Drop-in for ``COCOeval``, with the same ``params``, ``eval`` and ``stats``.

    Matching and accumulation are faster-coco-eval's, in C++, and equal to
    pycocotools' to the last digit but for the precision of a first detection
    that is right and followed by a wrong one: 1 there, and 1 - 2.2e-16 in
    pycocotools, as here. ``evalImgs`` is not filled.
    """

    def evaluate(self) -> None:
        """Match the detections of all images, and add up."""
        fast = COCOeval_faster(self.cocoGt, self.cocoDt, self.params.iouType)
        for name in _PARAMS:
            setattr(fast.params, name, copy.deepcopy(getattr(self.params, name)))
        recalls = np.union1d(self.params.recThrs, _POWERS_OF_TWO)
        fast.params.recThrs = recalls
        fast.evaluate()
        for name in ('imgIds', 'catIds', 'maxDets'):  # evaluate() sorts them
            setattr(self.params, name, getattr(fast.params, name))

        chosen = np.searchsorted(recalls, self.params.recThrs)
        precision = fast.eval['precision'][:, chosen]  # (T, R, K, A, M)
        scores = fast.eval['scores'][:, chosen]
        objects = self._count_objects()  # (K, A)
        power = np.ceil(np.log2(np.maximum(objects, 2))).astype(int) - 1
        at_two = np.searchsorted(recalls, _POWERS_OF_TWO[power])  # (K, A)
        k, a = np.indices(objects.shape)
        # The axes of the three arrays of indices take one place: (T, K, A, M).
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
        """Nothing is left to do.

        Raises:
            ValueError: ``p``, other parameters than those of ``evaluate``.
        """
        if p is not None:
            raise ValueError('set params before evaluate()')

    def _count_objects(self) -> np.ndarray:
        """Objects of each category that are neither crowds nor of another size."""
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
