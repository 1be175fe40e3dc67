"""Trained models on disk: their detections, configs and logs, for one seed or several."""

import json
import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from focal_retinanet.cli.errors import UserError
from focal_retinanet.config.dataset_configs import (
    ann_file_of,
    classes_of,
    ignores_orientation,
    inner_datasets,
)
from focal_retinanet.config.metric_configs import metric_configs
from focal_retinanet.evaluation.work_dirs import (
    SCALARS,
    NotInWorkDirError,
    read_scalars,
    read_work_dirs,
)

#: Detections that a validation or a test writes next to its log.
DETECTIONS = '*detections.bbox.json'
#: Keys of a detection in COCO's format.
KEYS = {'image_id', 'category_id', 'bbox', 'score'}


@dataclass(frozen=True)
class Run:
    """One training run, or the detections of any detector.

    Attributes:
        path: Work directory, or file of detections.
        detections: Detections in COCO's format, boxes xywh in absolute pixels.
        split: 'val' or 'test', the split of the detections.
        cfg: Config; None for a file of detections.
        scalars: Lines of mmengine's log that have a 'time'.
        note: Note that says which of several evaluations the detections are of, or None.
    """

    path: Path
    detections: list[dict]
    split: str = 'val'
    cfg: Config | None = None
    scalars: Sequence[dict] = ()
    note: str | None = None

    @property
    def seed(self) -> int | None:
        return self.cfg.get('randomness', {}).get('seed') if self.cfg else None

    @property
    def schedule(self) -> str | None:
        """Length of the training as in a model zoo, '24e' or '90k'."""
        train = self.cfg.get('train_cfg') if self.cfg else None
        if not train:
            return None
        if train.get('max_epochs'):
            return f'{train.max_epochs}e'
        iterations = train.get('max_iters')
        if not iterations:
            return None
        return f'{iterations / 1000:g}k' if iterations >= 1000 else f'{iterations}it'

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Class names of the config; None if it leaves them to the data set."""
        names = [classes_of(dataset.get('metainfo')) for dataset in self._datasets]
        return names[0] if names else None

    @property
    def img_dir(self) -> Path | None:
        """Image folder of the config; None without a config, or for several folders."""
        folders = {
            # As mmengine joins them: an absolute prefix stands for itself.
            Path(dataset.get('data_root') or '')
            / ((dataset.get('data_prefix') or {}).get('img') or '')
            for dataset in self._datasets
        }
        return folders.pop() if len(folders) == 1 else None

    @property
    def ignores_orientation(self) -> bool:
        """Whether images are read without their EXIF rotation."""
        return ignores_orientation(self._dataloader.get('dataset'))

    @property
    def ann_file(self) -> str | None:
        """First annotation file that the config's evaluator names, or else its data."""
        evaluator = self.cfg.get(f'{self.split}_evaluator') if self.cfg else None
        files = [metric.get('ann_file') for metric in metric_configs(evaluator)]
        files += [ann_file_of(dataset) for dataset in self._datasets]
        return next((file for file in files if file), None)

    @property
    def indices(self) -> int | Sequence[int] | None:
        """Images of the annotation file that are evaluated; None for all."""
        cuts = [dataset.get('indices') for dataset in self._datasets]
        return next((cut for cut in cuts if cut is not None), None)

    @property
    def seconds_per_iter(self) -> float | None:
        """Median over the training."""
        times = [line['time'] for line in self.scalars if 'loss' in line]
        return statistics.median(times) if times else None

    @property
    def images_per_second(self) -> float | None:
        """Speed of the last validation or test, with data loading."""
        times = [line['time'] for line in self.scalars if 'loss' not in line]
        if not times or not times[-1]:
            return None
        return self._dataloader.get('batch_size', 1) / times[-1]

    @property
    def memory_gb(self) -> float | None:
        """Peak GPU memory of the training in GB; None on a CPU, which logs none."""
        used = [line['memory'] for line in self.scalars if 'memory' in line]
        return max(used) / 1024 if used else None

    @property
    def _dataloader(self) -> Mapping:
        return (self.cfg.get(f'{self.split}_dataloader') if self.cfg else None) or {}

    @property
    def _datasets(self) -> list[Mapping]:
        """Configs of the data sets, without wrappers."""
        return list(inner_datasets(self._dataloader.get('dataset')))


@dataclass(frozen=True)
class Model:
    """A config that is trained with one seed or several.

    Attributes:
        name: Name of the config, the folder or the file.
        runs: One run per seed.
    """

    name: str
    runs: Sequence[Run]

    @property
    def cfg(self) -> Config | None:
        return self.runs[0].cfg


def find_models(
    paths: Sequence[str | Path], skip_errors: bool = False
) -> tuple[list[Model], list[str]]:
    """Read the models of work directories, folders of seeds and files of detections.

    Args:
        paths: See :func:`~focal_retinanet.evaluation.work_dirs.read_work_dirs`.
        skip_errors: If true, what cannot be read is left out instead of an error.

    Returns:
        The models in the order of the paths, and why others are left out.

    Raises:
        FileNotFoundError: There is no such path.
        UserError: A file has no valid detections, or nothing is left.
    """
    skip = (UserError, FileNotFoundError) if skip_errors else (NotInWorkDirError,)
    found, left_out = read_work_dirs(paths, _read_run, skip, 'nothing to compare')
    return [Model(name, runs) for name, runs in found], left_out


def _read_run(path: Path) -> Run:
    if path.is_file():
        return Run(path, _read_detections(path))
    # No deeper: a folder below may be the work directory of another training.
    files = [*path.glob(DETECTIONS), *path.glob(f'*/{DETECTIONS}')]
    files.sort(key=_time)
    if not files:
        raise NotInWorkDirError(
            f'{path}: no {DETECTIONS}; training writes it when it validates, and so '
            'does tools/test.py'
        )
    configs = list(path.glob('*/vis_data/config.py')) or list(path.glob('*.py'))
    if not configs:
        raise UserError(
            f'{path} has no config, so it is not a work directory: name the file '
            f'{files[-1]} itself, with --ann-file'
        )
    own = files[-1].parent / 'vis_data' / 'config.py'
    latest = max(configs, key=_time)
    config = own if own.exists() else latest
    scalars = [
        line for file in sorted(path.glob(SCALARS)) for line in read_scalars(file)
    ]
    scalars += _read_test_log(files[-1].parent)
    is_test = [file.name.startswith('test') for file in files]
    note = None
    stem = files[-1].name.removesuffix('.bbox.json')
    more = list(files[-1].parent.glob(f'{stem}_*.bbox.json'))
    if more:  # of a MultiDatasetsEvaluator
        note = f'{path}: of {1 + len(more)} data sets, the first counts, {files[-1]}'
    elif _time(latest)[0] > _time(config)[0]:
        note = f'{path} has a later run without detections; those of {files[-1]} count'
    elif len(files) > 1 and any(is_test):  # of a training alone, the last one is meant
        note = f'{path} has {len(files)} evaluations; the latest counts, {files[-1]}'
    return Run(
        path,
        _read_detections(files[-1]),
        'test' if is_test[-1] else 'val',
        Config.fromfile(config),
        [line for line in scalars if 'time' in line],
        note,
    )


def _time(file: Path) -> tuple[str, float]:
    """Return when a file was written, as a copy of the work directory tells it, too."""
    # mmengine names the folder of a run by its start.
    starts = [part for part in file.parts if re.fullmatch(r'\d{8}_\d{6}', part)]
    return starts[-1] if starts else '', file.stat().st_mtime


def _read_test_log(folder: Path) -> list[dict]:
    """Return the metrics and times that a test leaves, none for a validation."""
    file = folder / f'{folder.name}.json'  # mmengine's name, the time of the start
    try:
        return [json.loads(file.read_text())] if file.exists() else []
    except ValueError as error:
        raise UserError(f'{file} is not JSON: {error}') from error


def _read_detections(file: Path) -> list[dict]:
    try:
        detections = json.loads(file.read_text())
    except ValueError as error:
        raise UserError(f'{file} is not JSON: {error}') from error
    if not isinstance(detections, list) or not all(
        isinstance(detection, dict) and detection.keys() >= KEYS
        for detection in detections
    ):
        raise UserError(
            f'{file} is not a file of detections in COCO format: a list of '
            f'{{{", ".join(sorted(KEYS))}}}'
        )
    for number, detection in enumerate(detections):
        for key, (is_valid, expected) in _VALUES.items():
            if not is_valid(detection[key]):
                raise UserError(
                    f'{file}: detection {number} (counted from 0) has the {key} '
                    f'{detection[key]!r}, which is not {expected}'
                )
    return detections


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_finite(value: object) -> bool:
    return (_is_id(value) or isinstance(value, float)) and math.isfinite(value)


def _is_box(value: object) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_finite, value))


_VALUES = {
    'image_id': (_is_id, 'an integer'),
    'category_id': (_is_id, 'an integer'),
    'bbox': (_is_box, '4 finite numbers [x, y, width, height]'),
    'score': (_is_finite, 'a finite number'),
}
