"""Any detector's config on the data of another config.

``data_from = PATH`` in a config, relative to its file, takes the data sets, classes
and evaluators of that config; the detector keeps its own pipelines, batch sizes and
schedule.
"""

import copy
from pathlib import Path

from mmdet.datasets import CocoDataset
from mmengine.config import Config, ConfigDict

from focal_retinanet.cli.errors import UserError
from focal_retinanet.config.dataset_configs import classes_of, inner_datasets
from focal_retinanet.config.read_config import read_config

KEY = 'data_from'
_SPLITS = ('train', 'val', 'test')


def resolve_data_from(cfg: Config, other: str | Path | None = None) -> Config:
    """Return the config with the data of its ``data_from``, or itself without one.

    Args:
        cfg: Config of a detector, read from a file.
        other: Config that replaces the one that ``data_from`` names.

    Raises:
        FileNotFoundError: The other config does not exist.
        UserError: The other config lacks a data loader.
    """
    if other is None:
        if KEY not in cfg:
            return cfg
        other = Path(cfg.filename).parent / cfg[KEY]
    data = read_config(other)
    changes = cfg.to_dict()
    changes.pop(KEY, None)
    own_classes = num_classes(cfg.train_dataloader.dataset)
    for split in _SPLITS:
        loader, evaluator = f'{split}_dataloader', f'{split}_evaluator'
        if data.get(loader) is None:
            raise UserError(
                f'{other}, which {cfg.filename} has its data from, has no {loader}'
            )
        dataset = data[loader].dataset.to_dict()
        pipeline = next(inner_datasets(changes[loader]['dataset']))['pipeline']
        for part in inner_datasets(dataset):
            part['pipeline'] = pipeline
        holder = changes[loader]
        while 'dataset' in holder['dataset']:  # RepeatDataset and the like
            holder = holder['dataset']
        holder['dataset'] = dataset
        if split != 'train':
            changes[evaluator] = copy.deepcopy(data[evaluator].to_dict())
    _set_num_classes(
        changes['model'], own_classes, num_classes(data.train_dataloader.dataset)
    )
    return Config(changes, cfg_text=cfg.text, filename=cfg.filename)


def num_classes(dataset: ConfigDict) -> int:
    """Return the number of classes of a data set's config, wrapped or not.

    COCO's 80 where the config names no classes.
    """
    classes = classes_of(next(inner_datasets(dataset)).get('metainfo'))
    return len(CocoDataset.METAINFO['classes'] if classes is None else classes)


def _set_num_classes(part: dict | list, own: int, new: int) -> None:
    """Set the number of classes wherever a model's config has its own data's."""
    for key, value in part.items() if isinstance(part, dict) else enumerate(part):
        if key == 'num_classes' and value == own:
            part[key] = new
        elif isinstance(value, dict | list):
            _set_num_classes(value, own, new)
