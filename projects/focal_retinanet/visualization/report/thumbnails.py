"""Thumbnails of a data set's images, each written once for all models."""

from pathlib import Path

import cv2

from focal_retinanet.cli.errors import UserError
from focal_retinanet.data.image_files import read_annotated_image

#: Longest side in pixels, and quality of the JPEG.
LONGEST_SIDE = 640
QUALITY = 80


class Thumbnails:
    """JPEGs in one folder, with numbers as names.

    Args:
        folder: Folder to write, which the first thumbnail creates.

    Attributes:
        missing: Image files that do not exist, in order.
        unfit: What is wrong with each file that cannot be decoded, or that has another
            size than the image of the boxes, in order.
    """

    def __init__(self, folder: Path) -> None:
        self.missing: list[Path] = []
        self.unfit: list[str] = []
        self._folder = folder
        self._names: dict[Path, str | None] = {}

    def add(
        self, file: Path, size: tuple[int, int], ignores_orientation: bool = False
    ) -> str | None:
        """Return the name of an image's thumbnail; None if there is no such image.

        Args:
            file: Path of the image.
            size: (width, height) in which its boxes are annotated.
            ignores_orientation: Whether the boxes are those of the image without its
                EXIF rotation, where the size does not tell.
        """
        if file not in self._names:
            name = f'{len(self._names):05d}.jpg'
            try:
                self._write(file, size, ignores_orientation, self._folder / name)
            except UserError as error:
                name = None
                if file.exists():
                    self.unfit.append(str(error))
                else:
                    self.missing.append(file)
            self._names[file] = name
        return self._names[file]

    def _write(
        self,
        file: Path,
        size: tuple[int, int],
        ignores_orientation: bool,
        thumbnail: Path,
    ) -> None:
        image = read_annotated_image(file, size, ignores_orientation)
        height, width = image.shape[:2]
        factor = LONGEST_SIDE / max(height, width)
        if factor < 1:
            small = (max(round(width * factor), 1), max(round(height * factor), 1))
            image = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
        _, data = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        thumbnail.parent.mkdir(parents=True, exist_ok=True)
        thumbnail.write_bytes(data.tobytes())
