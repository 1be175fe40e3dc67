"""mmdet's visualizer, which tells right from wrong where it has the ground truth."""

from pathlib import Path

import mmcv
import numpy as np
from mmdet.structures import DetDataSample
from mmdet.visualization import DetLocalVisualizer
from mmengine.structures import InstanceData

from focal_retinanet.evaluation.detection_errors import ImageDetections, classify_image
from focal_retinanet.registry import VISUALIZERS
from focal_retinanet.visualization.detections import draw_detections

# For a screen: one for each image of a data set.
_DPI = 120


@VISUALIZERS.register_module()
class DetVisualizer(DetLocalVisualizer):
    """As mmdet's, but detections beside their ground truth show what each is.

    So ``tools/test.py --show-dir`` draws, and ``DetVisualizationHook`` with
    ``draw=True`` during validation. Images without ground truth are drawn as
    mmdet draws them.
    """

    def add_datasample(
        self,
        name: str,
        image: np.ndarray,
        data_sample: DetDataSample | None = None,
        draw_gt: bool = True,
        draw_pred: bool = True,
        show: bool = False,
        wait_time: float = 0,
        out_file: str | None = None,
        pred_score_thr: float = 0.3,
        step: int = 0,
    ) -> None:
        """Draw, then show, write or hand to the backends; arguments as mmdet's."""
        if not (draw_gt and draw_pred and _has_both(data_sample)):
            super().add_datasample(
                *(name, image, data_sample, draw_gt, draw_pred, show, wait_time),
                *(out_file, pred_score_thr, step),
            )
            return
        classes = dict(enumerate(self.dataset_meta['classes']))
        drawn = draw_detections(
            image,
            _classify(data_sample),
            classes,
            pred_score_thr,
            title=Path(data_sample.get('img_path', name)).name,
            dpi=_DPI,
        )
        self.set_image(drawn)
        if show:
            self.show(drawn, win_name=name, wait_time=wait_time)
        if out_file is not None:
            mmcv.imwrite(drawn[..., ::-1], out_file)
        else:
            self.add_image(name, drawn, step)


def _has_both(data_sample: DetDataSample | None) -> bool:
    return (
        data_sample is not None
        and 'bboxes' in data_sample.get('gt_instances', InstanceData())
        and 'scores' in data_sample.get('pred_instances', InstanceData())
    )


def _classify(data_sample: DetDataSample) -> ImageDetections:
    """What the detections of a sample are; its labels are the categories."""
    found = data_sample.pred_instances.cpu().numpy()
    objects = data_sample.gt_instances.cpu().numpy()
    crowds = data_sample.get('ignored_instances', InstanceData()).cpu().numpy()
    gt_bboxes, gt_labels = objects.bboxes, objects.labels
    is_crowd = np.zeros(len(gt_bboxes), bool)
    if 'bboxes' in crowds:
        gt_bboxes = np.concatenate([gt_bboxes, crowds.bboxes])
        gt_labels = np.concatenate([gt_labels, crowds.labels])
        is_crowd = np.arange(len(gt_bboxes)) >= len(is_crowd)
    return classify_image(
        found.bboxes.astype(float),
        found.scores.astype(float),
        found.labels,
        gt_bboxes.astype(float),
        gt_labels,
        is_crowd,
    )
