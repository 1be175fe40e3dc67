"""Small copies of a data set's images, each written once for all models."""

from pathlib import Path

from PIL import Image, ImageOps

#: Longest side in pixels, and JPEG quality.
LONGEST_SIDE = 640
QUALITY = 80


class Thumbnails:
    """JPEGs in one folder, named by number.

    Args:
        folder: to write into; made when the first one is written.

    Attributes:
        missing: image files that are not there or cannot be read, in order.
    """

    def __init__(self, folder: Path) -> None:
        self.missing: list[Path] = []
        self._folder = folder
        self._names: dict[Path, str | None] = {}

    def add(self, file: Path) -> str | None:
        """The name of an image's thumbnail; None where there is no such image."""
        if file not in self._names:
            name = f'{len(self._names):05d}.jpg'
            if not self._write(file, self._folder / name):
                self.missing.append(file)
                name = None
            self._names[file] = name
        return self._names[file]

    def _write(self, file: Path, thumbnail: Path) -> bool:
        try:
            with Image.open(file) as image:
                # Decodes a JPEG at a fraction of its size, which is much faster.
                image.draft('RGB', (LONGEST_SIDE, LONGEST_SIDE))
                # Boxes are of the turned image, as mmcv reads it.
                small = ImageOps.exif_transpose(image).convert('RGB')
                small.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
        except OSError:
            return False
        thumbnail.parent.mkdir(parents=True, exist_ok=True)
        small.save(thumbnail, quality=QUALITY, optimize=True)
        return True
