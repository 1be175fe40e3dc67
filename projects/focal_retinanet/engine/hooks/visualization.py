"""Pictures of tests and validations, each with a file name of its own."""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path

import cv2
import mmcv
from mmdet.engine.hooks import DetVisualizationHook as MMDetVisualizationHook
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.dist import barrier, get_rank, get_world_size
from mmengine.fileio import get
from mmengine.runner import Runner

from focal_retinanet.config.dataset_configs import ignores_orientation
from focal_retinanet.registry import HOOKS
from focal_retinanet.visualization.file_names import unique_names


@HOOKS.register_module()
class DetVisualizationHook(MMDetVisualizationHook):
    """mmdet's hook with unique file names.

    In a test, a second ``a.jpg`` from another folder becomes ``a_2.jpg``, and so does
    a picture that would replace a file of an earlier test. Names follow the order of
    the data set, however many processes test it. The log names the folder at the end.

    Every validation draws the same images, as ``val_img_BATCH`` at the training's
    iteration. mmdet's hook would draw other images each time, and overwrite some.

    Args:
        kwargs: Arguments of mmdet's hook. ``interval`` counts batches of a validation;
            ``test_out_dir`` is a folder inside the run's, or an absolute path.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self._names: PictureNames | None = None
        self._folder: Path | None = None

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict,
        outputs: Sequence[DetDataSample],
    ) -> None:
        """Draw the first image of every ``interval``-th batch."""
        if self.draw and batch_idx % self.interval == 0:
            name = f'val_img_{batch_idx}'
            self._draw(outputs[0], name, None, runner.iter, _flag(runner, 'val'))

    def before_test(self, runner: Runner) -> None:
        """Name all pictures before any process writes one."""
        self._test_index = 0
        self._names = None
        if not self.draw or self.test_out_dir is None:
            return
        self._folder = Path(runner.work_dir, runner.timestamp, self.test_out_dir)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._names = PictureNames(
            _keys_of(runner.test_dataloader.dataset),
            taken=sorted(path.name for path in self._folder.iterdir()),
        )
        barrier()

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict,
        outputs: Sequence[DetDataSample],
    ) -> None:
        """Draw each image of the batch with its detections."""
        if not self.draw:
            return
        for sample in outputs:
            self._test_index += 1
            out_file = None
            if self._names is not None:
                name = self._names.take(_key(sample.img_path, sample))
                out_file = str(self._folder / name)
            self._draw(
                *(sample, 'test_img', out_file),
                *(self._test_index, _flag(runner, 'test')),
            )

    def after_test(self, runner: Runner) -> None:
        if self._names is not None:
            runner.logger.info(f'Pictures: {self._folder}')

    def _draw(
        self,
        sample: DetDataSample,
        name: str,
        out_file: str | None,
        step: int,
        flag: str,
    ) -> None:
        image = get(sample.img_path, backend_args=self.backend_args)
        self._visualizer.add_datasample(
            Path(sample.img_path).name if self.show else name,
            mmcv.imfrombytes(image, flag=flag, channel_order='rgb'),
            data_sample=sample,
            show=self.show,
            wait_time=self.wait_time,
            pred_score_thr=self.score_thr,
            out_file=out_file,
            step=step,
        )


def _flag(runner: Runner, split: str) -> str:
    """Return the flag by which mmcv reads images as the model sees them, in colour."""
    dataloader = runner.cfg.get(f'{split}_dataloader') or {}
    is_stored = ignores_orientation(dataloader.get('dataset'))
    return 'color_ignore_orientation' if is_stored else 'color'


class PictureNames:
    """File names of the pictures of all images.

    Args:
        keys: (path, id) of each image, in the order of the data set.
        taken: Names of existing files.
    """

    def __init__(
        self, keys: Iterable[tuple[str, Hashable]], taken: Sequence[str] = ()
    ) -> None:
        keys = list(keys)
        names = [_picture_name(path) for path, _ in keys]
        self._all = dict.fromkeys(unique_names([*taken, *names]))
        self._of: dict[tuple, list[str]] = {}
        for key, name in zip(keys, list(self._all)[len(taken) :], strict=True):
            self._of.setdefault(key, []).append(name)
        self._used: Counter = Counter()

    def take(self, key: tuple[str, Hashable]) -> str:
        """Return the name of an image's next picture, another one each time."""
        names = self._of.get(key, [])
        number = self._used[key]
        self._used[key] += 1
        several = get_world_size() > 1
        if number < len(names) and not (several and len(names) > 1):
            return names[number]
        if several and len(names) == 1:
            # Some images are tested twice if processes do not divide them evenly.
            return names[0]
        # The names that other processes use for these are unknown.
        name = _picture_name(key[0])
        if several:
            name = f'{Path(name).stem}_process{get_rank()}{Path(name).suffix}'
        *_, name = unique_names([*self._all, name])
        self._all[name] = None
        return name


def use_visualization_hook(
    cfg: Config, show: bool, show_dir: str | None, wait_time: float
) -> None:
    """Draw a test's pictures with this package's hook instead of mmdet's.

    Args:
        cfg: Config of the run, changed in place.
        show: Whether to show each picture in a window.
        show_dir: Folder of the pictures; None writes none.
        wait_time: Seconds between shown pictures.
    """
    hooks = cfg.get('default_hooks') or {}
    hook = hooks.get('visualization') or dict(type='DetVisualizationHook')
    named = hook['type']
    name = named if isinstance(named, str) else named.__name__
    # A hook of the user's own is kept.
    if name.rpartition('.')[2] == 'DetVisualizationHook':
        hook['type'] = 'focal_retinanet.DetVisualizationHook'
    hook['draw'] = True
    if show:
        hook.update(show=True, wait_time=wait_time)
    if show_dir is not None:
        hook['test_out_dir'] = show_dir
    cfg.default_hooks = {**hooks, 'visualization': hook}
    if cfg.get('visualizer') is None:  # mmengine's default draws no detections
        cfg.visualizer = dict(type='focal_retinanet.DetVisualizer')


def _keys_of(dataset: object) -> list[tuple[str, Hashable]]:
    """Return the path and id of each image, if the data set provides them."""
    if not hasattr(dataset, 'get_data_info'):
        return []
    infos = (dataset.get_data_info(index) for index in range(len(dataset)))
    return [_key(info['img_path'], info) for info in infos if 'img_path' in info]


def _key(path: str, info: object) -> tuple[str, Hashable]:
    """Return the key of an image, the same for a data set and its samples."""
    return str(path), info.get('img_id')


def _picture_name(path: str) -> str:
    """Return the image's name, with a suffix that OpenCV can write."""
    name = Path(path).name
    return name if cv2.haveImageWriter(name) else f'{Path(name).stem}.png'
