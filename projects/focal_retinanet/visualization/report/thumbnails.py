"""Thumbnails of a data set's images, each written once for all models."""

from pathlib import Path

from PIL import Image, ImageOps

#: Longest side in pixels, and quality of the JPEG.
LONGEST_SIDE = 640
QUALITY = 80
#: Tag of EXIF.
ORIENTATION = 0x0112


class Thumbnails:
    """JPEGs in one folder, with numbers as names.

    Args:
        folder: folder to write, which the first thumbnail creates.

    Attributes:
        missing: image files that do not exist or cannot be read, in order.
    """

    def __init__(self, folder: Path) -> None:
        self.missing: list[Path] = []
        self._folder = folder
        self._names: dict[Path, str | None] = {}

    def add(self, file: Path, size: tuple[int, int]) -> str | None:
        """Return the name of an image's thumbnail; None if there is no such image.

        Args:
            file: path of the image.
            size: (width, height) in which its boxes are annotated. It shows whether
                they belong to the stored photo or to the turned one.
        """
        if file not in self._names:
            name = f'{len(self._names):05d}.jpg'
            if not self._write(file, size, self._folder / name):
                self.missing.append(file)
                name = None
            self._names[file] = name
        return self._names[file]

    def _write(self, file: Path, size: tuple[int, int], thumbnail: Path) -> bool:
        try:
            with Image.open(file) as image:
                image_size = width, height = image.size
                # Decoding a JPEG at a fraction of its size is much faster.
                image.draft('RGB', (LONGEST_SIDE, LONGEST_SIDE))
                # By default mmcv turns an image by its EXIF orientation.
                is_turned = image.getexif().get(ORIENTATION, 1) > 4  # by 90 degrees
                is_as_stored = is_turned and width != height and image_size == size
                seen = image if is_as_stored else ImageOps.exif_transpose(image)
                small = seen.convert('RGB')
                small.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
        except OSError:
            return False
        thumbnail.parent.mkdir(parents=True, exist_ok=True)
        small.save(thumbnail, quality=QUALITY, optimize=True)
        return True
