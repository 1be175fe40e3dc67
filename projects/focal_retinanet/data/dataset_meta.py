"""Names and colours of the classes that a config is about."""

from collections.abc import Mapping

from mmdet.registry import DATASETS
from mmengine.config import Config

from focal_retinanet.config.dataset_configs import inner_datasets


def config_meta(cfg: Config) -> dict | None:
    """The ``metainfo`` of a config's data set, with its ``classes``.

    Args:
        cfg: config of a run; its test data set is asked first, then the validation's
            and the training's. The default scope is set.

    Returns:
        None where the config names no classes.
    """
    for split in ('test', 'val', 'train'):
        dataloader = cfg.get(f'{split}_dataloader') or {}
        for dataset in inner_datasets(dataloader.get('dataset')):
            # No file is opened for it.
            lazy = dict(dataset, lazy_init=True, pipeline=[])
            meta = DATASETS.build(lazy).metainfo
            if meta.get('classes'):
                return dict(meta)
    return None


def meta_of(checkpoint: Mapping) -> dict | None:
    """The ``metainfo`` that a checkpoint was trained on; None where it has no classes.

    Args:
        checkpoint: checkpoint as it was loaded, also of mmdet 2.x.
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
    """What a checkpoint's classes are, if they are not the config's; else None.

    Args:
        checkpoint: name of the file.
        known: result of :func:`meta_of`.
        classes: names of the config's classes.
    """
    if known is None or tuple(known['classes']) == tuple(classes):
        return None
    names = known['classes']
    same = sorted(names) == sorted(classes)
    return (
        f'{checkpoint} was trained on the classes {tuple(names)}, and the config has '
        f'{tuple(classes)}'
        + (', the same in another order' if same else '')
        + ": label 0 is the config's first class here, whatever it was in training"
    )
