"""Configs of data sets, which may be wrapped in others."""

import os
from collections.abc import Iterator, Mapping

import mmcv
from mmengine.fileio import list_from_file

from focal_retinanet.cli.errors import UserError
from focal_retinanet.config.metric_configs import type_name


def inner_datasets(dataset: Mapping | None) -> Iterator[Mapping]:
    """Yield the configs of the data sets inside of any wrappers, in order.

    Args:
        dataset: Config of a data set, or of a ``ConcatDataset``,
            ``RepeatDataset``, ``ClassBalancedDataset``, ... of others; None yields
            nothing.
    """
    if not dataset:
        return
    if 'dataset' not in dataset and 'datasets' not in dataset:
        yield dataset
    for part in dataset.get('datasets') or []:
        yield from inner_datasets(part)
    yield from inner_datasets(dataset.get('dataset'))


def ann_file_of(dataset: Mapping) -> str | None:
    """Return the path of the annotation file that a config names.

    Args:
        dataset: Config of a data set without wrappers.
    """
    ann_file = dataset.get('ann_file')
    if not ann_file:
        return None
    # As mmengine joins them: an absolute path stands for itself.
    return os.path.join(dataset.get('data_root') or '', ann_file)


def color_type_of(dataset: Mapping) -> str | None:
    """Return how the images of a data set are read, such as 'color'.

    Args:
        dataset: Config of a data set without wrappers.

    Returns:
        Flag of mmcv; None if the pipeline does not use mmcv's ``LoadImageFromFile``.
    """
    for step in dataset.get('pipeline') or []:
        if type_name(step) == 'LoadImageFromFile':
            return step.get('color_type', 'color')
    return None


def check_reads_colour(load: Mapping) -> None:
    """Check that a transform reads images as ``cv2.imread`` does, in colour.

    The EXIF rotation may be left out, see :func:`ignores_orientation`.

    Args:
        load: Config of the first transform of a test pipeline.

    Raises:
        UserError: It reads other pixels, or may do so.
    """
    name = type_name(load)
    if name not in ('LoadImageFromFile', 'LoadImageFromNDArray'):
        raise UserError(
            f'the test pipeline reads images by {name}, and only tools/test.py with a '
            'checkpoint reads them so; what can be read elsewhere is LoadImageFromFile'
        )
    color_type = load.get('color_type', 'color')
    # None is mmcv's default for the process.
    backend = load.get('imdecode_backend', 'cv2') or mmcv.image.io.imread_backend
    for key, value, allowed in (
        ('color_type', color_type, ('color', 'color_ignore_orientation')),
        ('imdecode_backend', backend, ('cv2',)),
    ):
        if value not in allowed:
            raise UserError(
                f'the test pipeline reads images by {name} with {key}={value!r}, and '
                'only tools/test.py with a checkpoint reads them so; what can be read '
                f'elsewhere is {key}={" or ".join(map(repr, allowed))}'
            )


def ignores_orientation(dataset: Mapping | None) -> bool:
    """Whether images are read as they are stored, without their EXIF rotation.

    Args:
        dataset: Config of a data set, wrapped or not, or None.
    """
    kinds = [color_type_of(inner) or '' for inner in inner_datasets(dataset)]
    return any(kind.endswith('ignore_orientation') for kind in kinds)


def classes_of(metainfo: Mapping | None) -> tuple[str, ...] | str | None:
    """Return the names of the classes, as mmengine reads them.

    Args:
        metainfo: ``metainfo`` of a data set; ``classes`` may be a file with a name in
            each line.

    Returns:
        Names of the classes; None if there are no ``classes``; the text itself if
        ``classes`` is a text that is not a file.
    """
    classes = (metainfo or {}).get('classes')
    if isinstance(classes, str) and os.path.isfile(classes):
        classes = list_from_file(classes)
    return classes if classes is None or isinstance(classes, str) else tuple(classes)
