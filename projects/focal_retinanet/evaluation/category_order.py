"""Results of COCO's evaluation in the order of the categories that it was given."""

from pycocotools.cocoeval import COCOeval


class InGivenOrder(COCOeval):
    """Mixin of ``COCOeval`` whose results have the categories as they were given.

    ``evaluate`` sorts ``params.catIds``, and mmdet reads the AP of each class in the
    order of the annotation file, which need not be that of its ids.
    """

    _given: list[int]

    def evaluate(self) -> None:
        """Match the detections of all images."""
        self._given = list(self.params.catIds)
        super().evaluate()

    def accumulate(self, p=None) -> None:
        """Compute precision (T, R, K, A, M) and recall (T, K, A, M)."""
        super().accumulate(p)
        if not self.params.useCats or len(set(self._given)) < len(self._given):
            return
        position = {id_: k for k, id_ in enumerate(self.params.catIds)}
        order = [position[id_] for id_ in self._given]
        for name, axis in (('precision', 2), ('scores', 2), ('recall', 1)):
            self.eval[name] = self.eval[name].take(order, axis)
