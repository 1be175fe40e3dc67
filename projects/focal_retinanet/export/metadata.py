"""What an exported file says of itself: classes, input, resizing, thresholds."""

import json
from dataclasses import asdict, dataclass

from mmengine.config import Config

from focal_retinanet.cli.errors import UserError
from focal_retinanet.config.dataset_configs import inner_datasets
from focal_retinanet.config.metric_configs import type_name
from focal_retinanet.version import __version__

#: Key of the metadata in each kind of file.
KEY = 'focal_retinanet'

#: Steps of a test pipeline that do not change the pixels.
_NEUTRAL = ('LoadImageFromFile', 'LoadAnnotations', 'PackDetInputs')


@dataclass(frozen=True)
class Metadata:
    """Description of an exported detector, a JSON object in its file.

    Attributes:
        classes: Names of the classes, by label.
        resize: ``scale``, the longer and the shorter side at most, and ``keep_ratio``,
            as in the ``Resize`` of the config; None if images keep their size.
        score_thr: Lowest score of a detection; None in a raw file.
        max_per_img: Number of detections of an image; None in a raw file.
        shape: (B, H, W) of the input; None where a side is free.
        raw: Whether decoding and suppression are left out.
        precision: 'fp32' or 'int8'.
        input: Layout of the input, for readers of the file.
        pad: Pixel (3,) uint8, BGR, that fills what a fixed shape has beyond an image.
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

    def as_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> 'Metadata':
        return cls(**json.loads(text))


def resize_rule(cfg: Config) -> dict | None:
    """Return scale and keep_ratio of the test pipeline's ``Resize``, or None.

    Raises:
        UserError: Another step changes the pixels, so no rule describes the pipeline.
    """
    dataset = next(inner_datasets(cfg.test_dataloader.dataset))
    rule = None
    for step in dataset.pipeline:
        name = type_name(step)
        if name == 'Resize' and rule is None and step.get('scale') is not None:
            scale = step.scale
            scale = [scale, scale] if isinstance(scale, int) else list(scale)
            rule = dict(scale=scale, keep_ratio=step.get('keep_ratio', False))
        elif name not in _NEUTRAL:
            raise UserError(
                f'the test pipeline has the step {name}, which an exported file cannot '
                f'describe; what it can describe is one Resize with a scale'
            )
    return rule
