"""Errors that name an image file that cannot be read or has another size."""

from mmcv.transforms import BaseTransform, LoadImageFromFile
from mmengine.dataset import Compose
from torch.utils.data import Dataset

from focal_retinanet.cli.errors import UserError
from focal_retinanet.data.built_datasets import inner_built_datasets


class NamedImageErrors(BaseTransform):
    """mmcv's ``LoadImageFromFile``, whose errors name the file.

    Args:
        load: Transform that loads the image.
    """

    def __init__(self, load: LoadImageFromFile) -> None:
        self.load = load

    def transform(self, results: dict) -> dict | None:
        """Load the image of ``img_path``.

        Raises:
            UserError: The file cannot be read, or its size is not the ``width`` and
                ``height`` of its annotations, so that boxes are at the wrong place.
        """
        path = results.get('img_path')
        expected = (results.get('height'), results.get('width'))
        try:
            loaded = self.load(results)
        except Exception as error:  # whatever a decoder makes of foreign bytes
            raise UserError(
                f'image {path} cannot be read ({type(error).__name__}: {error}); '
                'replace it, or take it out of the annotation file'
            ) from error
        if loaded is None or None in expected:
            return loaded
        height, width = loaded['ori_shape'][:2]
        if (height, width) != expected:
            raise UserError(
                f'image {path} is {width}x{height} where its annotation file says '
                f'{expected[1]:g}x{expected[0]:g}: correct the file, or turn the image '
                'if it has an EXIF rotation'
            )
        return loaded

    def __repr__(self) -> str:
        return repr(self.load)


def name_image_errors(dataset: Dataset) -> None:
    """Let a data set, wrapped or not, name the images that cannot be used."""
    for inner in inner_built_datasets(dataset):
        pipeline = getattr(inner, 'pipeline', None)
        if isinstance(pipeline, Compose):
            pipeline.transforms = [
                NamedImageErrors(step) if type(step) is LoadImageFromFile else step
                for step in pipeline.transforms
            ]
