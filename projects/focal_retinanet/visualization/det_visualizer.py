"""mmdet's visualizer, which also shows what is correct, wrong and missed."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import mmcv
import numpy as np
from mmdet.structures import DetDataSample
from mmdet.visualization import DetLocalVisualizer, get_palette
from mmengine.dist import is_main_process
from mmengine.structures import InstanceData

from focal_retinanet.evaluation.detection_errors import ImageDetections, classify_image
from focal_retinanet.registry import VISUALIZERS
from focal_retinanet.visualization.boxes import best_last
from focal_retinanet.visualization.detections import draw_detections
from focal_retinanet.visualization.labels.drawing import (
    draw_labels,
    label_text,
    letter_sizes,
)
from focal_retinanet.visualization.labels.fonts import (
    font_families,
    without_glyph_warnings,
)
from focal_retinanet.visualization.palette import (
    Colour,
    class_colours,
    with_class_colours,
)

# Resolution of a picture for the screen, as there is one per image of a data set.
_DPI = 120
# Side (sqrt of the area) of an image in which lines have the given width.
_LINE_SIDE = 900
# Rows of an image that are drawn at a time.
_BAND = 1024


@VISUALIZERS.register_module()
class DetVisualizer(DetLocalVisualizer):
    """mmdet's visualizer with these differences:

    - Beside their ground truth, detections show whether they are correct, as in
      ``tools/test.py --show-dir`` and in ``DetVisualizationHook`` with ``draw=True``.
    - Elsewhere labels do not overlap, the best detections are on top, and scores
      read 'cat 0.90'.
    - Text may be in any script that an installed font has.
    - Any number of classes has colours, even with a short palette.
    - Each of several processes writes the pictures of its images.

    mmdet draws masks, with these colours, names and scores.

    Args:
        name: Name of the instance.
        bbox_color: Colour of all boxes (default: the palette's).
        text_color: Colour of all letters (default: black or white).
        line_width: Width of the lines in pixels, in an image of about 900x900;
            smaller images have thinner lines.
        kwargs: Further arguments of mmdet's visualizer.
    """

    _blank = -1  # number of artists on the canvas of an image without drawings

    def __init__(
        self,
        name: str = 'visualizer',
        *args,
        text_color: str | Colour | None = None,
        **kwargs,
    ) -> None:
        # mmdet's grey stays the default for masks.
        super().__init__(
            name, *args, text_color=text_color or (200, 200, 200), **kwargs
        )
        self._letters = text_color

    @property
    def dataset_meta(self) -> dict | None:
        """Metainfo of the data set with a colour for each class, in every process."""
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, dataset_meta: dict | None) -> None:
        self._dataset_meta = with_class_colours(dataset_meta)

    def set_image(self, image: np.ndarray) -> None:
        """Set the image to draw on, (H, W, 3) RGB."""
        super().set_image(image)
        self._image = image.astype(np.uint8)  # in every process
        self._blank = len(self.ax_save.get_children())

    def get_image(self) -> np.ndarray:
        """Return the image with all drawings, (H, W, 3) uint8 RGB."""
        if len(self.ax_save.get_children()) == self._blank:
            return self._image.copy()  # matplotlib has drawn nothing
        with without_glyph_warnings():
            return super().get_image()

    def draw_texts(self, texts: str | list[str], *args, **kwargs) -> 'DetVisualizer':
        """Draw texts in any script. The arguments are mmengine's."""
        if isinstance(texts, str):
            texts = [texts]
        if len(args) < 6:  # font_families is the seventh argument
            kwargs.setdefault('font_families', [font_families(texts)] * len(texts))
        return super().draw_texts(texts, *args, **kwargs)

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
        """Draw an image, then show it, write it or pass it to the backends, as mmdet."""
        if not is_main_process() and out_file is None:
            return  # only the main process has windows and backends
        sample = DetDataSample() if data_sample is None else data_sample
        has_both = draw_gt and draw_pred and _has_both(sample)
        if not has_both and _has_masks(sample):
            super().add_datasample(
                *(name, image, data_sample, draw_gt, draw_pred, show, wait_time),
                *(out_file, pred_score_thr, step),
            )
            return
        if image.dtype != np.uint8:
            image = image.clip(0, 255).astype(np.uint8)
        if has_both:
            found = _classify(sample)
            labels = [*found.category_ids.tolist(), *found.gt_category_ids.tolist()]
            drawn = draw_detections(
                image,
                found,
                _names(labels, (self.dataset_meta or {}).get('classes')),
                pred_score_thr,
                title=Path(sample.get('img_path', name)).name,
                dpi=_DPI,
            )
        elif data_sample is not None:
            drawn = self._draw_boxes_of(
                image, sample.cpu(), draw_gt, draw_pred, pred_score_thr
            )
        else:
            drawn = image
        self.set_image(drawn)
        if show:
            self.show(drawn, win_name=name, wait_time=wait_time)
        if out_file is not None:
            mmcv.imwrite(drawn[..., ::-1], out_file)
        else:
            self.add_image(name, drawn, step)

    def draw_in_place(
        self, image: np.ndarray, sample: DetDataSample, score_thr: float
    ) -> None:
        """Draw detections without masks, and copy no more than a part of the image.

        Args:
            image: (H, W, 3) uint8 RGB, contiguous, changed in place.
            sample: Sample with ``pred_instances``.
            score_thr: Lowest score that is drawn.
        """
        found = sample.pred_instances
        meta = self.dataset_meta or {}
        self._draw_labelled_boxes(
            image,
            found[found.scores >= score_thr],
            meta.get('classes'),
            meta.get('palette'),
        )

    def _draw_boxes_of(
        self,
        image: np.ndarray,
        sample: DetDataSample,
        draw_gt: bool,
        draw_pred: bool,
        score_thr: float,
    ) -> np.ndarray:
        """Draw objects, detections or both side by side, (H, W or 2 W, 3) uint8 RGB."""
        sides = []
        if draw_gt:
            sides.append(sample.get('gt_instances', InstanceData()))
        if draw_pred:
            found = sample.get('pred_instances', InstanceData())
            sides.append(
                found[found.scores >= score_thr] if 'scores' in found else found
            )
        meta = self.dataset_meta or {}
        look = (meta.get('classes'), meta.get('palette'))
        drawn = [self._draw_instances(image, side, *look) for side in sides]
        return np.concatenate(drawn, axis=1) if drawn else image

    def _draw_instances(
        self,
        image: np.ndarray,
        instances: InstanceData,
        classes: Sequence[str] | None,
        palette: object,
    ) -> np.ndarray:
        """Draw boxes with labels on a copy of an image, and masks as mmdet does.

        ``instances`` has 'labels' (N,) on the CPU; 'bboxes' (N, 4) xyxy in pixels,
        'scores' (N,) and 'masks' are optional. ``palette`` may have any length.
        """
        if 'masks' not in instances:
            drawn = image.copy()
            self._draw_labelled_boxes(drawn, instances, classes, palette)
            return drawn
        if len(instances) == 0:
            return image.copy()
        instances, texts, palette = _described(instances, classes, palette)
        # Without scores, mmdet writes label_names unchanged.
        drawn = InstanceData(
            label_names=texts, labels=instances.labels, masks=instances.masks
        )
        if 'bboxes' in instances:
            drawn.bboxes = instances.bboxes
        return super()._draw_instances(image, drawn, classes, palette)

    def _draw_labelled_boxes(
        self,
        image: np.ndarray,
        instances: InstanceData,
        classes: Sequence[str] | None,
        palette: object,
    ) -> None:
        """Draw boxes with labels in place; the arguments of ``_draw_instances``."""
        if len(instances) == 0 or 'bboxes' not in instances:
            return
        instances, texts, palette = _described(instances, classes, palette)
        if self.bbox_color is not None:
            palette = get_palette(self.bbox_color, len(palette))
        boxes = instances.bboxes
        self._draw_boxes(
            image,
            np.asarray(getattr(boxes, 'tensor', boxes), float),
            texts,
            [tuple(palette[label]) for label in instances.labels.tolist()],
        )

    def _draw_boxes(
        self,
        image: np.ndarray,
        boxes: np.ndarray,
        texts: Sequence[str],
        colours: Sequence[Colour],
    ) -> None:
        """Draw boxes and labels in place, the last on top."""
        height, width = image.shape[:2]
        # A diverged model has boxes that are not finite. The best come first here.
        good = np.flatnonzero(np.isfinite(boxes).all(1))[::-1]
        # OpenCV limits the size of numbers; far outside nothing is visible.
        far = np.array([width, height] * 2)
        corners = boxes[good].clip(-far, 2 * far).round().astype(int)
        # A side on the border would lie just outside the last pixels.
        corners[:, 2:] -= corners[:, 2:] == (width, height)
        colours = [tuple(int(part) for part in colours[i]) for i in good]
        side = (width * height) ** 0.5
        thickness = max(1, round(self.line_width * min(side / _LINE_SIDE, 2)))
        # Band by band, as transparency needs a copy, and an image can be large.
        for top in range(0, height, _BAND):
            band = image[top : top + _BAND]
            before = band.copy() if self.alpha < 1 else None
            y1, y2 = corners[:, 1] - top, corners[:, 3] - top
            here = np.flatnonzero((y1 - thickness < len(band)) & (y2 + thickness >= 0))
            for i in here[::-1]:
                x1, _, x2, _ = corners[i].tolist()
                start, end = (x1, int(y1[i])), (x2, int(y2[i]))
                cv2.rectangle(band, start, end, colours[i], thickness)
            if before is not None:
                cv2.addWeighted(band, self.alpha, before, 1 - self.alpha, 0, dst=band)
        draw_labels(
            image,
            corners,
            [texts[i] for i in good],
            colours,
            letter_sizes(corners, (width, height)),
            self._letters and get_palette(self._letters, len(good)),
        )


def _described(
    instances: InstanceData, classes: Sequence[str] | None, palette: object
) -> tuple[InstanceData, list[str], list[Colour]]:
    """Return the instances, the best one last, their texts, and colours of all classes.

    ``palette`` may have any length.
    """
    if 'scores' in instances:
        instances = instances[best_last(instances.scores.numpy()).copy()]
    labels = instances.labels.tolist()
    palette = class_colours(max([*labels, len(classes or ()) - 1]) + 1, palette)
    names = _names(labels, classes)
    texts = [
        label_text(name, score)
        for name, score in zip(
            instances.get('label_names', [names[label] for label in labels]),
            instances.get('scores', [None] * len(labels)),
            strict=True,
        )
    ]
    return instances, texts, palette


def _names(labels: Sequence[int], classes: Sequence[str] | None) -> dict[int, str]:
    """Names of the labels that occur; 'class 3' for a label without a name."""
    classes = [classes] if isinstance(classes, str) else list(classes or ())
    return {
        label: classes[label] if label < len(classes) else f'class {label}'
        for label in set(labels)
    }


def _has_masks(sample: DetDataSample) -> bool:
    """Whether a sample has masks of objects or of pixels, which mmdet draws."""
    return any(
        f'{side}_sem_seg' in sample
        or f'{side}_panoptic_seg' in sample
        or 'masks' in sample.get(f'{side}_instances', InstanceData())
        for side in ('gt', 'pred')
    )


def _has_both(sample: DetDataSample) -> bool:
    """Whether a sample has objects and detections."""
    objects = sample.get('gt_instances', InstanceData())
    found = sample.get('pred_instances', InstanceData())
    return 'bboxes' in objects and 'scores' in found


def _classify(sample: DetDataSample) -> ImageDetections:
    """Kinds of the detections of a sample, whose labels are the categories."""
    found = sample.pred_instances.cpu().numpy()
    objects = sample.gt_instances.cpu().numpy()
    crowds = sample.get('ignored_instances', InstanceData()).cpu().numpy()
    parts = [objects, crowds] if 'bboxes' in crowds else [objects]
    return classify_image(
        found.bboxes.astype(float),
        found.scores.astype(float),
        found.labels,
        np.concatenate([part.bboxes for part in parts]).astype(float),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([np.full(len(part.bboxes), part is crowds) for part in parts]),
    )
