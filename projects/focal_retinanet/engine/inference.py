"""A trained model on images that belong to no data set, and what it finds."""

import copy
import itertools
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmdet.evaluation import get_classes
from mmdet.registry import MODELS, VISUALIZERS
from mmdet.structures import DetDataSample
from mmdet.utils import get_test_pipeline_cfg
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmengine.runner import load_checkpoint
from mmengine.visualization import Visualizer
from torch import nn

from focal_retinanet.acceleration.accelerate import accelerate
from focal_retinanet.acceleration.frozen import freeze_weights
from focal_retinanet.cli.arguments import default_device
from focal_retinanet.cli.errors import UserError
from focal_retinanet.config.ablation_table import load_with_options
from focal_retinanet.config.cfg_options import merge_options
from focal_retinanet.data.dataset_meta import (
    config_meta,
    describe_other_classes,
    meta_of,
)
from focal_retinanet.data.image_files import find_inputs, is_video, read_frames
from focal_retinanet.engine.checkpoints.fit import check_fits
from focal_retinanet.engine.checkpoints.load import safe_loading
from focal_retinanet.export import ExportedModel, is_exported, use_exported_model
from focal_retinanet.visualization.palette import with_class_colours

#: One input of a detector: image, folder, glob or video by its path, or an image
#: (H, W, 3) uint8 BGR.
Input = str | Path | np.ndarray


@dataclass(frozen=True, eq=False, repr=False)
class Detections:
    """The N detections in one image, the best scores first.

    Attributes:
        name: path of the image, ``clip.mp4#000012`` for a frame, or ``array#000003``;
            both count from 0.
        file: file of the image or the video; None for an array.
        image: image, (H, W, 3) uint8 BGR. Keep the numbers instead of this object if
            there are many images.
        sample: detections as mmdet has them, on the CPU.
    """

    name: str
    file: Path | None
    image: np.ndarray
    sample: DetDataSample
    _visualizer: Visualizer

    @property
    def boxes(self) -> np.ndarray:
        """Boxes xyxy in pixels of the image, float32 (N, 4)."""
        return self.sample.pred_instances.bboxes.numpy()

    @property
    def scores(self) -> np.ndarray:
        """Scores in [0, 1], float32 (N,)."""
        return self.sample.pred_instances.scores.numpy()

    @property
    def labels(self) -> np.ndarray:
        """Indices of the classes, int64 (N,)."""
        return self.sample.pred_instances.labels.numpy()

    @property
    def classes(self) -> np.ndarray:
        """Names of the classes, str (N,)."""
        return np.array(self._visualizer.dataset_meta['classes'])[self.labels]

    def draw(self, score_thr: float = 0.3) -> np.ndarray:
        """Return the image with the detections from a score on, (H, W, 3) uint8 BGR."""
        self._visualizer.add_datasample(
            'detections',
            self.image[..., ::-1],
            data_sample=self.sample,
            draw_gt=False,
            show=False,
            pred_score_thr=score_thr,
        )
        return self._visualizer.get_image()[..., ::-1]

    def __len__(self) -> int:
        return len(self.sample.pred_instances)

    def __repr__(self) -> str:
        return f'<{type(self).__name__} {self.name}: {len(self)} objects>'


class Detector:
    """A trained model, ready for images::

        detector = Detector('mine.py', 'work_dirs/mine/epoch_8.pth')
        for found in detector(['a.jpg', 'folder/', array]):
            print(found.classes, found.scores, found.boxes)

    Its classes are the config's, or the checkpoint's if the config names none.

    Args:
        config: config file, ``TABLE.py:ROW`` for a row of a table, or a config.
        checkpoint: file with the weights, or a file of ``tools/export.py``.
        device: device of the model, such as 'cpu' or 'cuda:0' (default: the first
            GPU, or the CPU without one). An exported file runs on the CPU.
        cfg_options: settings of the config to override, by their keys.
        unsafe_checkpoint: Whether to load any file and run the code that it may hold.
        warn: function that gets a line if the checkpoint was trained on other
            classes, or on the same classes in another order.

    Attributes:
        warning: the line that ``warn`` got, or None.

    Raises:
        UnsafeCheckpointError: the checkpoint holds code.
        FileNotFoundError: the config or the checkpoint does not exist.
        UserError: the checkpoint does not fit this model's head, there is no such row
            of a table, or no one reads an option.
    """

    def __init__(
        self,
        config: str | Path | Config,
        checkpoint: str | Path,
        device: str | None = None,
        *,
        cfg_options: Mapping[str, Any] | None = None,
        unsafe_checkpoint: bool = False,
        warn: Callable[[str], None] = warnings.warn,
    ) -> None:
        if isinstance(config, Config):
            cfg = copy.deepcopy(config)
            merge_options(cfg, cfg_options)
        else:
            cfg = load_with_options(str(config), cfg_options)
        init_default_scope(cfg.get('default_scope', 'mmdet'))
        checkpoint = str(checkpoint)
        if is_exported(checkpoint):
            device = 'cpu'
            use_exported_model(cfg, checkpoint)
            model = MODELS.build(cfg.model)
            known = model.dataset_meta
        else:
            if 'backbone' in cfg.model:
                cfg.model.backbone.init_cfg = None  # its weights are in the checkpoint
            model = revert_sync_batchnorm(MODELS.build(cfg.model))
            with safe_loading(unsafe_checkpoint):
                loaded = load_checkpoint(model, checkpoint, map_location='cpu')
            check_fits(model, loaded, checkpoint)
            known = meta_of(loaded)
        meta = config_meta(cfg) or known or {'classes': get_classes('coco')}
        if isinstance(model, ExportedModel):
            model.check_classes(meta['classes'])
        self.warning = describe_other_classes(checkpoint, known, meta['classes'])
        if self.warning is not None:
            warn(self.warning)
        model.dataset_meta = meta
        self.model: nn.Module = model.to(device or default_device()).eval()
        accelerate(self.model, cfg, logger='silent')
        freeze_weights(self.model)
        self._cfg = cfg

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.model.dataset_meta['classes'])

    def __call__(
        self,
        inputs: Input | Iterable[Input],
        batch_size: int = 1,
        on_error: Callable[[UserError], None] | None = None,
    ) -> Iterator[Detections]:
        """Detect objects in images, in the order of the inputs.

        Images are read as they are needed, so memory does not grow with their number.
        Those of equal size in a batch go through the model together; the detections
        are those of the images alone.

        Args:
            inputs: image, folder, glob or video by its path, image as an array
                (H, W, 3) uint8 BGR, or any iterable of these.
            batch_size: number of images that are read and detected at a time.
            on_error: function that gets the error of a file that cannot be read,
                which is then left out (default: the error is raised).

        Yields:
            Detections of each image, and of each frame of a video.

        Raises:
            UserError: an input does not exist, holds no image or video, or cannot be
                read.
            ValueError: an array is no image, or ``batch_size`` is below 1.
        """
        if batch_size < 1:
            raise ValueError(f'batch_size must be at least 1, not {batch_size}')
        if isinstance(inputs, Input):
            inputs = [inputs]
        if isinstance(inputs, Sequence):
            # A path that does not exist is an error now, not after all before it.
            inputs = [source for given in inputs for source in _sources(given)]
        return self._detect(inputs, batch_size, on_error)

    def _detect(
        self,
        inputs: Iterable[Input],
        batch_size: int,
        on_error: Callable[[UserError], None] | None,
    ) -> Iterator[Detections]:
        images = _read(inputs, on_error)
        while batch := list(itertools.islice(images, batch_size)):
            for one, sample in zip(batch, self._predict(batch), strict=True):
                yield Detections(*one, sample.cpu(), self._visualizer)

    def _predict(self, batch: Sequence['_Image']) -> list[DetDataSample]:
        """Detect objects in a batch.

        Padding changes what a model sees at the borders of an image, so only images
        of equal size go through it together.
        """
        data = [self._pipeline(dict(img=one.image, img_id=0)) for one in batch]
        by_shape = defaultdict(list)
        for index, one in enumerate(data):
            by_shape[one['inputs'].shape].append(index)
        found: dict[int, DetDataSample] = {}
        for indices in by_shape.values():
            together = {
                key: [data[i][key] for i in indices]
                for key in ('inputs', 'data_samples')
            }
            with torch.no_grad():
                samples = self.model.test_step(together)
            found.update(zip(indices, samples, strict=True))
        return [found[index] for index in range(len(batch))]

    @cached_property
    def _pipeline(self) -> Compose:
        """The config's pipeline of the test, from an array on."""
        steps = get_test_pipeline_cfg(self._cfg.copy())
        steps[0].type = 'mmdet.LoadImageFromNDArray'
        return Compose(steps)

    @cached_property
    def _visualizer(self) -> Visualizer:
        """The config's visualizer, which keeps no copy of the pictures."""
        default = dict(type='focal_retinanet.DetVisualizer')
        visualizer = VISUALIZERS.build(
            {
                **self._cfg.get('visualizer', default),
                'vis_backends': [],
                # mmengine has one visualizer for all who use the same name.
                'name': f'detector-{next(_numbers)}',
            }
        )
        visualizer.dataset_meta = with_class_colours(self.model.dataset_meta)
        return visualizer


class _Image(NamedTuple):
    """The first attributes of :class:`Detections`."""

    name: str
    file: Path | None
    image: np.ndarray


_numbers = itertools.count()


def _sources(given: Input) -> list[Path | np.ndarray]:
    """Return the files that an input stands for, or the array that it is."""
    if isinstance(given, np.ndarray):
        if given.ndim != 3 or given.shape[2] != 3 or given.dtype != np.uint8:
            raise ValueError(
                'an image is an array (H, W, 3) uint8, in BGR as OpenCV reads it, not '
                f'{given.shape} {given.dtype}'
            )
        if not given.size:
            raise ValueError(f'an image has pixels, this one is {given.shape}')
        return [given]
    if isinstance(given, str | Path):
        return find_inputs([str(given)])
    raise ValueError(
        f'an input is a path or an array (H, W, 3) uint8, not a {type(given).__name__}'
    )


def _read(
    inputs: Iterable[Input], on_error: Callable[[UserError], None] | None
) -> Iterator[_Image]:
    arrays = itertools.count()
    for given in inputs:
        for source in _sources(given):
            if isinstance(source, np.ndarray):
                yield _Image(f'array#{next(arrays):06d}', None, source)
                continue
            try:
                for index, frame in enumerate(read_frames(source)):
                    number = f'#{index:06d}' if is_video(source) else ''
                    yield _Image(f'{source}{number}', source, frame)
            except UserError as error:
                if on_error is None:
                    raise
                on_error(error)
