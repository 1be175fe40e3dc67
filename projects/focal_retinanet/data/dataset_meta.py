"""Names and colors of the classes of a config or checkpoint."""

from collections.abc import Mapping

from mmdet.registry import DATASETS
from mmengine.config import Config

from focal_retinanet.config.dataset_configs import inner_datasets


def config_meta(cfg: Config) -> dict | None:
    """Return the ``metainfo`` of a config's data set, or None if it has no classes.

    Args:
        cfg: Config of a run. The first of its test, validation and training data sets
            that has classes counts. The default scope must be set.
    """
    for split in ('test', 'val', 'train'):
        dataloader = cfg.get(f'{split}_dataloader') or {}
        for dataset in inner_datasets(dataloader.get('dataset')):
            # Opens no file.
            lazy = dict(dataset, lazy_init=True, pipeline=[])
            meta = DATASETS.build(lazy).metainfo
            if meta.get('classes'):
                return dict(meta)
    return None


def meta_of(checkpoint: Mapping) -> dict | None:
    """Return the ``metainfo`` of a checkpoint, or None if it has no classes.

    Args:
        checkpoint: Loaded checkpoint, of mmdet 2.x or 3.x.
    """
    meta = checkpoint.get('meta')
    if not isinstance(meta, Mapping):
        return None
    known = meta.get('dataset_meta') or {'classes': meta.get('CLASSES')}
    if not isinstance(known, Mapping):
        return None
    known = {str(key).lower(): value for key, value in known.items()}
    return known if known.get('classes') else None


def describe_other_classes(
    checkpoint: str, known: Mapping | None, classes: tuple[str, ...]
) -> str | None:
    """Describe how a checkpoint's classes differ from the config's, if they do.

    Args:
        checkpoint: Name of the file.
        known: Result of :func:`meta_of`.
        classes: Names of the config's classes.
    """
    if known is None or tuple(known['classes']) == tuple(classes):
        return None
    names = known['classes']
    same = sorted(names) == sorted(classes)
    order = ', the same in another order' if same else ''
    return (
        f'{checkpoint} was trained on the classes {tuple(names)}, and the config has '
        f"{tuple(classes)}{order}: label 0 is the config's first class here, whatever "
        'it was in training'
    )
