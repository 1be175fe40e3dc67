"""What an exported file says of itself: classes, input, resizing, thresholds."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from mmengine.config import Config

from focal_retinanet.cli.errors import UserError
from focal_retinanet.config.dataset_configs import check_reads_colour, inner_datasets
from focal_retinanet.config.metric_configs import type_name
from focal_retinanet.models.nms import nms_type
from focal_retinanet.version import __version__

#: Key of the metadata in each kind of file.
KEY = 'focal_retinanet'

#: Steps of a test pipeline that do not change the pixels.
_NEUTRAL = ('LoadAnnotations', 'PackDetInputs')
#: OpenCV's names of mmcv's interpolations.
_INTERPOLATIONS = dict(
    nearest='INTER_NEAREST',
    bicubic='INTER_CUBIC',
    area='INTER_AREA',
    lanczos='INTER_LANCZOS4',
)


@dataclass(frozen=True)
class Metadata:
    """Description of an exported detector, a JSON object in its file.

    Attributes:
        classes: Names of the classes, by label.
        resize: ``scale``, the longer and the shorter side at most, and ``keep_ratio``,
            as in the ``Resize`` of the config, and ``interpolation``, the name in
            OpenCV, if it is not INTER_LINEAR; None if images keep their size.
        score_thr: Lowest score of a detection; None in a raw file.
        max_per_img: Number of detections of an image; None in a raw file.
        nms_pre: Number of candidates of a level, or -1 for all. Like the next two, it
            is None in a raw file, and in a file that does not say it.
        min_bbox_size: Size that both sides of a box exceed, or -1 for any.
        nms: ``type``, ``iou_threshold`` and ``class_agnostic`` of the suppression.
        shape: (B, H, W) of the input; None where a side is free.
        raw: Whether decoding and suppression are left out.
        precision: 'fp32' or 'int8'.
        input: Layout of the input, for readers of the file.
        pad: Pixel (3,) uint8, BGR, that fills what a fixed shape has beyond an image.
        clip_border: Whether boxes end at the border of the input.
        version: Version of this package.
    """

    classes: list[str]
    resize: dict | None
    score_thr: float | None
    max_per_img: int | None
    shape: list[int | None]
    raw: bool
    precision: str
    pad: list[int]
    input: str = 'images: uint8, (B, 3, H, W), BGR, resized by the rule in resize'
    version: str = __version__
    nms_pre: int | None = None
    min_bbox_size: float | None = None
    nms: dict | None = None
    clip_border: bool = True

    def as_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> 'Metadata':
        return cls(**json.loads(text))


def followed_settings(test_cfg: Mapping) -> dict:
    """Return the settings of a ``test_cfg`` that a file follows, by metadata's names.

    Those that the config leaves out have mmdet's defaults, and different values that
    mean the same are equal.
    """
    nms, nms_pre = test_cfg.get('nms') or {}, test_cfg.get('nms_pre', -1)
    return dict(
        score_thr=test_cfg.get('score_thr', 0),
        max_per_img=test_cfg.get('max_per_img', -1),
        nms_pre=nms_pre if nms_pre > 0 else -1,
        min_bbox_size=max(test_cfg.get('min_bbox_size', -1), -1),
        nms=dict(
            type=nms_type(nms),
            iou_threshold=nms.get('iou_threshold'),
            class_agnostic=nms.get('class_agnostic', False),
        ),
    )


def resize_rule(cfg: Config) -> dict | None:
    """Return the rule of the test pipeline's ``Resize``, or None without one.

    Returns:
        Value of :attr:`Metadata.resize`.

    Raises:
        UserError: No rule describes the pipeline: images are not read in colour by
            OpenCV, another step changes the pixels, or another library resizes them.
    """
    dataset = next(inner_datasets(cfg.test_dataloader.dataset))
    rule = None
    for step in dataset.pipeline:
        name = type_name(step)
        if name == 'Resize' and rule is None and step.get('scale') is not None:
            scale = step.scale
            scale = [scale, scale] if isinstance(scale, int) else list(scale)
            rule = dict(scale=scale, keep_ratio=step.get('keep_ratio', False))
            if step.get('backend', 'cv2') != 'cv2':
                raise UserError(
                    f'the test pipeline has Resize with backend={step.backend!r}, '
                    "which an exported file cannot describe; what it can is 'cv2'"
                )
            interpolation = step.get('interpolation', 'bilinear')
            if interpolation != 'bilinear':
                rule['interpolation'] = _INTERPOLATIONS[interpolation]
        elif name == 'LoadImageFromFile':
            check_reads_colour(step)
            if step.get('to_float32', False):
                raise UserError(
                    'the test pipeline has LoadImageFromFile with to_float32=True, and '
                    'an exported file takes images of uint8; what can be exported is '
                    'to_float32=False'
                )
        elif name not in _NEUTRAL:
            raise UserError(
                f'the test pipeline has the step {name}, which an exported file cannot '
                f'describe; what it can describe is one Resize with a scale'
            )
    return rule
