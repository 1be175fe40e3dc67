"""Trained models on disk: their detections, configs and logs, several seeds as one."""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from focal_retinanet.cli.errors import UserError
from focal_retinanet.config.dataset_configs import (
    ann_file_of,
    classes_of,
    inner_datasets,
)
from focal_retinanet.config.metric_configs import metric_configs

#: The detections that a validation or a test leaves next to its log.
DETECTIONS = '*detections.bbox.json'
#: Keys of a detection in COCO's format.
KEYS = {'image_id', 'category_id', 'bbox', 'score'}


@dataclass(frozen=True)
class Run:
    """One training run, or the detections of any detector.

    Attributes:
        path: work directory, or file of detections.
        detections: in COCO's format, boxes xywh in absolute pixels.
        split: 'val' or 'test', of which they are.
        cfg: the config; None for a file of detections.
        scalars: what mmengine logged, line by line.
    """

    path: Path
    detections: list[dict]
    split: str = 'val'
    cfg: Config | None = None
    scalars: Sequence[dict] = ()

    @property
    def seed(self) -> int | None:
        return self.cfg.get('randomness', {}).get('seed') if self.cfg else None

    @property
    def schedule(self) -> str | None:
        """'24e' or '90k', as the model zoo has it."""
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
        """Names of the classes that the config gives; None for the data set's own."""
        if self.cfg is None:
            return None
        names = [classes_of(dataset.get('metainfo')) for dataset in self._datasets]
        return names[0] if names else None

    @property
    def img_dir(self) -> Path | None:
        """Folder of the images that the config names.

        None for a file of detections, and where the data set is several that have
        their images in different folders.
        """
        folders = {
            # As mmengine joins them: an absolute prefix stands for itself.
            Path(dataset.get('data_root') or '')
            / ((dataset.get('data_prefix') or {}).get('img') or '')
            for dataset in self._datasets
        }
        return folders.pop() if len(folders) == 1 else None

    @property
    def ann_file(self) -> str | None:
        """Ground truth that the config names, of several the first.

        The evaluator names it, or else the data set is its own.
        """
        evaluator = self.cfg.get(f'{self.split}_evaluator') if self.cfg else None
        metrics = metric_configs(evaluator)
        named = next((m['ann_file'] for m in metrics if m.get('ann_file')), None)
        if named is not None:
            return named
        files = (ann_file_of(dataset) for dataset in self._datasets)
        return next((file for file in files if file is not None), None)

    @property
    def seconds_per_iter(self) -> float | None:
        """Median of training."""
        times = [line['time'] for line in self.scalars if _is_training(line)]
        return statistics.median(times) if times else None

    @property
    def images_per_second(self) -> float | None:
        """Of the last validation or test, with data loading."""
        times = [line['time'] for line in self.scalars if not _is_training(line)]
        if not times or not times[-1]:
            return None
        return self._dataloader.get('batch_size', 1) / times[-1]

    @property
    def _dataloader(self) -> dict:
        return self.cfg.get(f'{self.split}_dataloader') or {}

    @property
    def _datasets(self) -> list[Mapping]:
        """The data sets' own configs, out of any wrappers."""
        if self.cfg is None:
            return []
        return list(inner_datasets(self._dataloader.get('dataset')))

    @property
    def memory_gb(self) -> float | None:
        """Peak GPU memory of training in GB; None on a CPU, which logs none."""
        used = [line['memory'] for line in self.scalars if 'memory' in line]
        return max(used) / 1024 if used else None


@dataclass(frozen=True)
class Model:
    """A config, trained with one seed or several.

    Attributes:
        name: of the config, the folder or the file.
        runs: one a seed.
    """

    name: str
    runs: Sequence[Run]

    @property
    def cfg(self) -> Config | None:
        return self.runs[0].cfg


def find_models(paths: Sequence[str | Path]) -> tuple[list[Model], list[str]]:
    """The models of work directories and of files of detections.

    A folder with ``seed-*`` in it, as ``tools/sweep.py`` makes them, is one
    model with several seeds.

    Returns:
        The models in the order of the paths, and what was left out with why.

    Raises:
        FileNotFoundError: there is no such path.
        UserError: a file is not one of detections, or nothing is left.
    """
    models, left_out = [], []
    for path in map(Path, paths):
        if path.is_file():
            models.append(Model(path.stem, [Run(path, _read_detections(path))]))
            continue
        if not path.is_dir():
            raise FileNotFoundError(f'there is no {path}')
        folders = sorted(path.glob('seed-*'), key=_by_number) or [path]
        runs = []
        for folder in folders:
            files = sorted(folder.rglob(DETECTIONS), key=lambda f: f.stat().st_mtime)
            if files:
                runs.append(_read_work_dir(folder, files[-1]))
            else:
                left_out.append(
                    f'{folder}: no {DETECTIONS}, which training writes when it '
                    'validates, and tools/test.py'
                )
        if runs:
            name = path.resolve().name
            models.append(Model(name, runs))
    if not models:
        raise UserError('\n'.join(['nothing to compare', *left_out]))
    names = [model.name for model in models]
    return [
        Model(str(path), model.runs) if names.count(model.name) > 1 else model
        for model, path in zip(models, _paths(models), strict=True)
    ], left_out


def _paths(models: list[Model]) -> list[Path]:
    """Where each model is: what tells those of the same name apart."""
    return [
        model.runs[0].path.parent
        if model.runs[0].path.name.startswith('seed-')
        else model.runs[0].path
        for model in models
    ]


def _by_number(folder: Path) -> tuple[int, str]:
    number = folder.name.partition('-')[2]
    return (int(number) if number.isdigit() else 0, number)


def _read_work_dir(folder: Path, detections: Path) -> Run:
    configs = list(folder.glob('*/vis_data/config.py')) or list(folder.glob('*.py'))
    if not configs:
        raise UserError(
            f'{folder} has no config: it is not a work directory; name the file '
            f'{detections} itself, with --ann-file'
        )
    config = max(configs, key=lambda file: file.stat().st_mtime)
    scalars = []
    for file in sorted(folder.glob('*/vis_data/scalars.json')):
        scalars += [json.loads(line) for line in file.read_text().splitlines()]
    return Run(
        folder,
        _read_detections(detections),
        'test' if detections.name.startswith('test') else 'val',
        Config.fromfile(config),
        [line for line in scalars if 'time' in line],
    )


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
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value)


def _is_box(value: object) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_finite, value))


_VALUES = {
    'image_id': (_is_id, 'a whole number'),
    'category_id': (_is_id, 'a whole number'),
    'bbox': (_is_box, '4 finite numbers [x, y, width, height]'),
    'score': (_is_finite, 'a finite number'),
}


def _is_training(line: dict) -> bool:
    return 'loss' in line
