"""A trained model on images that belong to no data set, and what it finds."""

import copy
import functools
import itertools
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import cv2
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
from focal_retinanet.acceleration.fast_conv import freeze_weights
from focal_retinanet.cli.arguments import default_device
from focal_retinanet.cli.errors import UserError
from focal_retinanet.cli.naming import few
from focal_retinanet.config.ablation_table import load_with_options
from focal_retinanet.config.cfg_options import merge_options
from focal_retinanet.config.data_preprocessor import give_model_its_preprocessor
from focal_retinanet.config.dataset_configs import (
    check_reads_colour,
    ignores_orientation,
)
from focal_retinanet.data.check_data import count_classes
from focal_retinanet.data.dataset_meta import (
    config_meta,
    describe_other_classes,
    meta_of,
)
from focal_retinanet.data.image_files import find_inputs, is_video, read_frames
from focal_retinanet.engine.checkpoints.fit import check_fits
from focal_retinanet.engine.checkpoints.load import safe_loading
from focal_retinanet.engine.tiles import (
    Tiling,
    array_pipeline,
    merge_tiles,
    nms_of,
    predict_tiles,
)
from focal_retinanet.export import ExportedModel, is_exported, use_exported_model
from focal_retinanet.visualization.det_visualizer import DetVisualizer
from focal_retinanet.visualization.palette import with_class_colours

#: One input of a detector: image, folder, glob or video by its path, or an image
#: (H, W, 3) uint8 BGR.
Input = str | Path | np.ndarray


@dataclass(frozen=True, eq=False, repr=False)
class Detections:
    """The N detections in one image, the best scores first.

    Attributes:
        name: Path of the image, ``clip.mp4#000012`` for a frame, or ``array#000003``;
            both count from 0.
        file: File of the image or the video; None for an array.
        image: Image, (H, W, 3) uint8 BGR. Keep the numbers instead of this object if
            there are many images.
        sample: Detections as mmdet has them, on the CPU.
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

    def draw(self, score_thr: float = 0.3, out: np.ndarray | None = None) -> np.ndarray:
        """Return the image with the detections from a score on, (H, W, 3) uint8 BGR.

        Args:
            score_thr: Lowest score that is drawn.
            out: Array that holds the image and is drawn on, such as ``image`` itself
                if nobody needs it any more (default: a copy).
        """
        visualizer = self._visualizer
        if isinstance(visualizer, DetVisualizer) and (
            'masks' not in self.sample.pred_instances
        ):
            # cv2 draws on contiguous arrays only.
            out = np.array(self.image, order='C') if out is None else out
            _swap_channels(out)
            visualizer.draw_in_place(out, self.sample, score_thr)
            _swap_channels(out)
            return out
        visualizer.add_datasample(
            'detections',
            self.image[..., ::-1],
            data_sample=self.sample,
            draw_gt=False,
            show=False,
            pred_score_thr=score_thr,
        )
        return visualizer.get_image()[..., ::-1]

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
        config: Config file, ``TABLE.py:ROW`` for a row of a table, or a config.
        checkpoint: File with the weights, or a file of ``tools/export.py``.
        device: Device of the model, such as 'cpu' or 'cuda:0' (default: the first
            GPU, or the CPU without one). An exported file runs on the CPU.
        cfg_options: Settings of the config to override, by their keys.
        unsafe_checkpoint: Whether to load any file and run the code that it may hold.
        tile: Side of the tiles into which larger images are cut, in pixels (default:
            no image is cut), see :mod:`focal_retinanet.engine.tiles`.
        overlap: Share of a side that neighbouring tiles have in common at least.
        full_image: Whether a large image also goes through the model as a whole, for
            objects that are larger than the overlap.
        warn: Function that gets a line if the checkpoint was trained on other
            classes, or on the same classes in another order, or if an exported file
            has other settings.

    Attributes:
        warning: The line about the classes that ``warn`` got, or None.

    Raises:
        UnsafeCheckpointError: The checkpoint holds code.
        FileNotFoundError: The config or the checkpoint does not exist.
        UserError: The checkpoint or the names of the classes do not fit this model's
            head, there is no such row of a table, no one reads an option, or the test
            pipeline reads images in another way than ``cv2.imread`` in colour.
        ValueError: ``tile`` is below 32, or ``overlap`` is not in [0, 1).
    """

    def __init__(
        self,
        config: str | Path | Config,
        checkpoint: str | Path,
        device: str | None = None,
        *,
        cfg_options: Mapping[str, Any] | None = None,
        unsafe_checkpoint: bool = False,
        tile: int | None = None,
        overlap: float = 0.2,
        full_image: bool = False,
        warn: Callable[[str], None] = warnings.warn,
    ) -> None:
        self._tiling = None if tile is None else Tiling(tile, overlap, full_image)
        if isinstance(config, Config):
            cfg = copy.deepcopy(config)
            merge_options(cfg, cfg_options)
        else:
            cfg = load_with_options(str(config), cfg_options)
        init_default_scope(cfg.get('default_scope') or 'mmdet')
        if cfg.get('test_dataloader') is None:
            raise UserError(
                f'{cfg.filename or "the config"} has no test_dataloader, whose pipeline '
                'says how images are resized'
            )
        check_reads_colour(get_test_pipeline_cfg(cfg)[0])
        checkpoint = str(checkpoint)
        if is_exported(checkpoint):
            device = 'cpu'
            use_exported_model(cfg, checkpoint)
            model = MODELS.build(cfg.model)
            known = model.dataset_meta
        else:
            give_model_its_preprocessor(cfg)
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
            if other := model.describe_other_settings(cfg):
                warn(other)
        _check_number_of_classes(model, meta['classes'])
        self.warning = describe_other_classes(checkpoint, known, meta['classes'])
        if self.warning is not None:
            warn(self.warning)
        model.dataset_meta = meta
        device = device or default_device()
        self.model: nn.Module = model.to(device).eval()
        accelerate(self.model, cfg, 'silent', device)
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
        on_tiles: Callable[[str, int, int], None] | None = None,
    ) -> Iterator[Detections]:
        """Detect objects in images, in the order of the inputs.

        Images are read as they are needed, so memory does not grow with their number.
        Those of equal size in a batch go through the model together; the detections
        are those of the images alone.

        Args:
            inputs: Image, folder, glob or video by its path, image as an array
                (H, W, 3) uint8 BGR, or any iterable of these.
            batch_size: Number of images that are read and detected at a time, and of
                tiles of a large image, which is read alone.
            on_error: Function that gets the error of an input that does not exist or
                cannot be read, which is then left out (default: the error is raised).
            on_tiles: Function that gets the name of a large image after each batch of
                its tiles, the number of tiles that are done, and the number of all.

        Yields:
            Detections of each image, and of each frame of a video.

        Raises:
            UserError: An input does not exist, holds no image or video, or cannot be
                read.
            ValueError: An array is no image, or ``batch_size`` is below 1.
        """
        if batch_size < 1:
            raise ValueError(f'batch_size must be at least 1, not {batch_size}')
        if isinstance(inputs, Input):
            inputs = [inputs]
        sources = _sources(inputs, on_error)
        if isinstance(inputs, Sequence):
            # A path that does not exist is an error now, not after all before it.
            sources = iter(list(sources))
        is_stored = ignores_orientation(self._cfg.test_dataloader.dataset)
        images = self._resizable(_read(sources, on_error, is_stored), on_error)
        return self._detect(images, batch_size, on_tiles)

    def _resizable(
        self,
        images: Iterator['_Image'],
        on_error: Callable[[UserError], None] | None,
    ) -> Iterator['_Image']:
        """Yield the images of which the test pipeline leaves something.

        OpenCV fails on an image that is so narrow that a resized side has no pixel.
        """
        for one in images:
            height, width = one.image.shape[:2]
            if max(height, width) > 16 * min(height, width):
                try:
                    self._pipeline(dict(img=one.image, img_id=0))
                except cv2.error:
                    error = UserError(
                        f'{one.name} has {width}x{height} pixels, of which the test '
                        'pipeline leaves none on one side'
                    )
                    if on_error is None:
                        raise error from None
                    on_error(error)
                    continue
            yield one
            del one  # before the next image is read

    def _detect(
        self,
        images: Iterator['_Image'],
        batch_size: int,
        on_tiles: Callable[[str, int, int], None] | None,
    ) -> Iterator[Detections]:
        for batch in _batches(images, batch_size, self._is_cut):
            if self._is_cut(batch[0]):
                samples = [self._predict_tiles(batch[0], batch_size, on_tiles)]
            else:
                samples = self._predict([one.image for one in batch])
            # A large image must be gone when the next one is read.
            while batch:
                yield Detections(*batch.pop(0), samples.pop(0).cpu(), self._visualizer)

    def _is_cut(self, one: '_Image') -> bool:
        return self._tiling is not None and self._tiling.cuts(one.image)

    def _predict_tiles(
        self,
        one: '_Image',
        batch_size: int,
        on_tiles: Callable[[str, int, int], None] | None,
    ) -> DetDataSample:
        progress = None if on_tiles is None else functools.partial(on_tiles, one.name)
        samples = predict_tiles(
            self._predict, one.image, self._tiling, batch_size, progress
        )
        size = one.image.shape[:2]
        return DetDataSample(
            metainfo=dict(img_id=0, ori_shape=size, img_shape=size),
            pred_instances=merge_tiles(samples, nms_of(self._cfg.model)),
        )

    def _predict(self, images: Sequence[np.ndarray]) -> list[DetDataSample]:
        """Detect objects in a batch.

        Padding changes what a model sees at the borders of an image, so only images
        of equal size go through it together.
        """
        data = [self._pipeline(dict(img=image, img_id=0)) for image in images]
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
        return [found[index] for index in range(len(images))]

    @cached_property
    def _pipeline(self) -> Compose:
        """The config's pipeline of the test, from an array on."""
        return Compose(array_pipeline(self._cfg))

    @cached_property
    def _visualizer(self) -> Visualizer:
        """The config's visualizer, which keeps no copy of the pictures."""
        default = dict(type='focal_retinanet.DetVisualizer')
        visualizer = VISUALIZERS.build(
            {
                **(self._cfg.get('visualizer') or default),
                'vis_backends': [],
                # mmengine has one visualizer for all who use the same name.
                'name': f'detector-{next(_numbers)}',
            }
        )
        visualizer.dataset_meta = with_class_colours(self.model.dataset_meta)
        return visualizer


def _check_number_of_classes(model: nn.Module, classes: Sequence[str]) -> None:
    """Check that each output of a detector's head has a name.

    Raises:
        UserError: There are more names or fewer.
    """
    outputs = count_classes(model)
    if outputs not in (None, len(classes)):
        raise UserError(
            f'the head is built for {outputs} classes, and {len(classes)} have a name '
            f'({few(classes)}); set test_dataloader.dataset.metainfo.classes, which '
            'names each in the order of its training'
        )


class _Image(NamedTuple):
    """The first attributes of :class:`Detections`."""

    name: str
    file: Path | None
    image: np.ndarray


_numbers = itertools.count()


def _swap_channels(image: np.ndarray) -> None:
    """Turn BGR into RGB in place, or RGB into BGR, without a copy of the image."""
    for top in range(0, len(image), 64):
        rows = image[top : top + 64]
        rows[:] = cv2.cvtColor(rows, cv2.COLOR_BGR2RGB)


def _batches(
    images: Iterator[_Image], batch_size: int, is_alone: Callable[[_Image], bool]
) -> Iterator[list[_Image]]:
    """Yield batches of images; those that ``is_alone`` picks have their own."""
    batch: list[_Image] = []
    for one in images:
        alone = is_alone(one)
        if alone and batch:
            yield batch
            batch = []
        batch.append(one)
        del one
        if alone or len(batch) == batch_size:
            yield batch
            batch = []
    if batch:
        yield batch


def _sources(
    inputs: Iterable[Input], on_error: Callable[[UserError], None] | None
) -> Iterator[Path | np.ndarray]:
    """Yield the files that inputs stand for, and the arrays among them."""
    for given in inputs:
        try:
            sources = _sources_of(given)
        except UserError as error:
            if on_error is None:
                raise
            on_error(error)
            continue
        yield from sources


def _sources_of(given: Input) -> list[Path | np.ndarray]:
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
    sources: Iterator[Path | np.ndarray],
    on_error: Callable[[UserError], None] | None,
    ignores_orientation: bool,
) -> Iterator[_Image]:
    arrays = itertools.count()
    for source in sources:
        if isinstance(source, np.ndarray):
            yield _Image(f'array#{next(arrays):06d}', None, source)
            continue
        try:
            for index, frame in enumerate(read_frames(source, ignores_orientation)):
                number = f'#{index:06d}' if is_video(source) else ''
                yield _Image(f'{source}{number}', source, frame)
                del frame  # while the next one is read
        except UserError as error:
            if on_error is None:
                raise
            on_error(error)
