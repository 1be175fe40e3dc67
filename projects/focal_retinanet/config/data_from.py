"""Any detector's config on the data of another config.

``data_from = PATH`` in a config, relative to its file, takes that config's data
sets, classes and evaluators; the detector keeps its own pipelines, batch sizes
and schedule.
"""

import copy
from pathlib import Path

from mmdet.datasets import CocoDataset
from mmengine.config import Config, ConfigDict

from focal_retinanet.cli.errors import UserError
from focal_retinanet.config.dataset_configs import classes_of, inner_datasets

KEY = 'data_from'
_SPLITS = ('train', 'val', 'test')


def resolve_data_from(cfg: Config, other: str | Path | None = None) -> Config:
    """The config with its ``data_from`` carried out, itself where there is none.

    Args:
        cfg: of a detector, read from a file.
        other: config that takes the place of what ``data_from`` names.

    Raises:
        FileNotFoundError: there is no such config.
        UserError: it has no data sets with classes.
    """
    if other is None:
        if KEY not in cfg:
            return cfg
        other = Path(cfg.filename).parent / cfg[KEY]
    data = Config.fromfile(other)
    changes = cfg.to_dict()
    changes.pop(KEY, None)
    own_classes = num_classes(cfg.train_dataloader.dataset)
    for split in _SPLITS:
        loader, evaluator = f'{split}_dataloader', f'{split}_evaluator'
        if data.get(loader) is None:
            raise UserError(
                f'{other}, which {cfg.filename} has its data from, has no {loader}'
            )
        holder = changes[loader]
        while 'dataset' in holder['dataset']:  # RepeatDataset and the like
            holder = holder['dataset']
        holder['dataset'] = _with_pipeline(
            data[loader].dataset.to_dict(),
            next(inner_datasets(holder['dataset']))['pipeline'],
        )
        if split != 'train':
            changes[evaluator] = copy.deepcopy(data[evaluator].to_dict())
    _set_num_classes(
        changes['model'], own_classes, num_classes(data.train_dataloader.dataset)
    )
    return Config(changes, cfg_text=cfg.text, filename=cfg.filename)


def num_classes(dataset: ConfigDict) -> int:
    """Of a data set's config, inside any wrappers; COCO's 80 where it names none."""
    while 'dataset' in dataset or 'datasets' in dataset:
        dataset = dataset['dataset'] if 'dataset' in dataset else dataset.datasets[0]
    classes = classes_of(dataset.get('metainfo'))
    return len(CocoDataset.METAINFO['classes'] if classes is None else classes)


def _with_pipeline(dataset: dict, pipeline: list[dict]) -> dict:
    """A data set's config whose images go through another pipeline."""
    if 'datasets' in dataset:
        parts = [_with_pipeline(part, pipeline) for part in dataset['datasets']]
        return {**dataset, 'datasets': parts}
    if 'dataset' in dataset:
        return {**dataset, 'dataset': _with_pipeline(dataset['dataset'], pipeline)}
    return {**dataset, 'pipeline': pipeline}


def _set_num_classes(part: dict | list, own: int, new: int) -> None:
    """Wherever a model's config has the classes of its own data."""
    for key, value in part.items() if isinstance(part, dict) else enumerate(part):
        if key == 'num_classes' and value == own:
            part[key] = new
        elif isinstance(value, dict | list):
            _set_num_classes(value, own, new)
