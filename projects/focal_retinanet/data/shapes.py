"""A COCO-format data set of synthetic shapes, for a first run without any data.

Images show a few small objects of five classes on textured ground with unlabelled
clutter. About thirty of the 9,000 anchors of an image are positive, the imbalance
that the focal loss addresses. Each image has its own random stream, so it depends on
the seed and its index alone.
"""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

CLASSES = ('circle', 'square', 'triangle', 'star', 'cross')
#: Written last, so a folder with this file is complete.
RECORD = 'shapes.json'
#: Written first, and renamed to RECORD last.
_STARTED = 'shapes.started.json'

_MIN_VISIBLE = 0.7
_SUPERSAMPLING = 4
_MAX_TURN = np.pi / 9


@dataclass(frozen=True)
class ShapesConfig:
    """Sizes and numbers of the shapes; sizes are in pixels.

    Args:
        train: Number of training images.
        val: Number of validation images.
        width: Width of an image.
        height: Height of an image.
        min_objects: Fewest objects of a non-empty image; it gets fewer if there is
            no room for more.
        max_objects: Most objects of an image.
        min_size: Smallest diameter of the circle around an object.
        max_size: Largest diameter of the circle around an object.
        empty_fraction: Share of images without objects.
        seed: Seed of all randomness.

    Raises:
        ValueError: A number or range is impossible, or an object does not fit into
            an image.
    """

    train: int = 500
    val: int = 100
    width: int = 224
    height: int = 224
    min_objects: int = 1
    max_objects: int = 6
    min_size: int = 20
    max_size: int = 64
    empty_fraction: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.train, self.val) < 1 or self.seed < 0:
            raise ValueError(
                'train and val must be at least 1, seed at least 0, got '
                f'{self.train}, {self.val} and {self.seed}'
            )
        if not 4 <= self.min_size <= self.max_size <= min(self.width, self.height):
            raise ValueError(
                'object sizes must be 4 <= min_size <= max_size <= the shorter side of '
                f'the image, got {self.min_size}, {self.max_size} and '
                f'{self.width}x{self.height}'
            )
        if not 1 <= self.min_objects <= self.max_objects:
            raise ValueError(
                'numbers of objects must be 1 <= min_objects <= max_objects, got '
                f'{self.min_objects} and {self.max_objects}'
            )
        if not 0 <= self.empty_fraction <= 1:
            raise ValueError(f'empty_fraction must be in [0, 1]: {self.empty_fraction}')


def make_shapes(out: Path, config: ShapesConfig) -> bool:
    """Write ``annotations/{train,val}.json`` and ``images/{train,val}/*.png``.

    Args:
        out: Folder of the data set; created if it does not exist.
        config: Sizes and numbers.

    Returns:
        False if the folder already holds the same data set.

    Raises:
        FileExistsError: The folder, or the temporary one beside it, holds something
            else. Nothing in either is changed.
        OSError: An image cannot be written.
    """
    out = out.resolve()  # '.' has no name, and a link cannot be renamed onto
    arguments = json.dumps(asdict(config), indent=2) + '\n'
    if (out / RECORD).exists():
        _check_made(out, arguments, config)
        return False
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f'{out} is no shapes data set: name another folder')

    unfinished = out.with_name(out.name + '.unfinished')
    if unfinished.exists():
        if unfinished.is_symlink() or not (unfinished / _STARTED).is_file():
            raise FileExistsError(
                f'{unfinished} is needed as a temporary folder, but no interrupted run '
                'has left it: move it away, or name another folder'
            )
        shutil.rmtree(unfinished)
    unfinished.mkdir(parents=True)
    (unfinished / _STARTED).write_text(arguments)
    for index, (split, count) in enumerate(_counts(config).items()):
        _write_split(unfinished, split, index, count, config)
    (unfinished / _STARTED).rename(unfinished / RECORD)
    if out.exists():
        out.rmdir()  # empty, as seen above
    unfinished.rename(out)
    return True


def _counts(config: ShapesConfig) -> dict[str, int]:
    """Return the number of images of each split."""
    return {'train': config.train, 'val': config.val}


def _check_made(out: Path, arguments: str, config: ShapesConfig) -> None:
    """Raise unless ``out`` is the complete data set of these arguments."""
    if (out / RECORD).read_text() != arguments:
        raise FileExistsError(
            f'{out} holds shapes made with other arguments (see {out / RECORD}): name '
            'another folder, or delete that one'
        )
    wanted: set[Path] = set()
    for split, count in _counts(config).items():
        wanted.add(out / 'annotations' / f'{split}.json')
        wanted |= {out / 'images' / split / _file_name(i) for i in range(count)}
    lost = sorted(wanted.difference(out.glob('*/*.json'), out.glob('images/*/*.png')))
    if lost:
        raise FileExistsError(
            f'{out} has lost {len(lost)} of its files, such as {lost[0]}: delete the '
            'folder to make it again'
        )


def _file_name(index: int) -> str:
    return f'{index + 1:06d}.png'


def _write_split(
    root: Path, split: str, split_index: int, count: int, config: ShapesConfig
) -> None:
    folder = root / 'images' / split
    folder.mkdir(parents=True)
    images, annotations = [], []
    size = dict(width=config.width, height=config.height)
    progress = tqdm(range(count), desc=f'{split} images', leave=False, disable=None)
    for index in progress:
        rng = np.random.default_rng([config.seed, split_index, index])
        image, boxes, labels, areas = draw_image(rng, config)
        name = _file_name(index)
        if not cv2.imwrite(str(folder / name), image):  # e.g. the disk is full
            raise OSError(f'could not write {folder / name}')
        images.append(dict(id=index + 1, file_name=name, **size))
        boxes[:, 2:] -= boxes[:, :2]  # COCO's xywh
        for box, label, area in zip(boxes, labels, areas, strict=True):
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=index + 1,
                    category_id=int(label) + 1,
                    bbox=box.tolist(),
                    area=float(area),
                    iscrowd=0,
                )
            )
    coco = dict(
        info=dict(description='Synthetic shapes'),  # pycocotools 2.0.9 needs it
        licenses=[],
        images=images,
        categories=[dict(id=i, name=name) for i, name in enumerate(CLASSES, start=1)],
        annotations=annotations,
    )
    path = root / 'annotations' / f'{split}.json'
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(coco))


def draw_image(
    rng: np.random.Generator, config: ShapesConfig
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Draw one image.

    Args:
        rng: Source of all randomness.
        config: Sizes and numbers.

    Returns:
        - image (height, width, 3) uint8 BGR;
        - boxes (N, 4) float64 xyxy in pixels, tight around the whole object, even
          where another one covers it;
        - labels (N,) int64, indices into CLASSES;
        - areas (N,) float64, pixels of the whole object.
    """
    image = _ground(rng, config.width, config.height)
    count = 0
    if rng.random() >= config.empty_fraction:
        count = int(rng.integers(config.min_objects, config.max_objects + 1))
    masks: list[np.ndarray] = []
    labels: list[int] = []
    for _ in range(count):
        label = int(rng.integers(len(CLASSES)))
        mask = _place(rng, label, masks, config)
        if mask is None:  # no room left without hiding another object
            continue
        color = _contrasting_color(rng, image, mask)
        image = image * (1 - mask[..., None]) + color * mask[..., None]
        masks.append(mask)
        labels.append(label)
    noise = rng.normal(0, 4, image.shape)
    image = np.clip(image + noise, 0, 255).astype(np.uint8)
    boxes = np.array([_tight_box(mask) for mask in masks], float).reshape(-1, 4)
    areas = np.array([(mask >= 0.5).sum() for mask in masks], dtype=np.float64)
    return image, boxes, np.array(labels, dtype=np.int64), areas


def _ground(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """Return a cloudy texture with strokes, (height, width, 3) float64 BGR."""
    texture = np.zeros((height, width, 3))
    for cells, strength in ((3, 25), (8, 12), (32, 6)):
        coarse = rng.normal(0, strength, (cells, cells, 3))
        texture += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    texture += rng.uniform(70, 185, 3)
    canvas = np.clip(texture, 0, 255).astype(np.uint8)
    for _ in range(rng.integers(4, 12)):
        start = rng.integers(0, (width, height))
        stop = start + rng.integers(-60, 61, 2)
        color = canvas[start[1], start[0]].astype(int) + rng.integers(-45, 46, 3)
        color = np.clip(color, 0, 255).tolist()
        thickness = int(rng.integers(1, 4))
        cv2.line(canvas, start.tolist(), stop.tolist(), color, thickness, cv2.LINE_AA)
    return canvas.astype(np.float64)


def _place(
    rng: np.random.Generator, label: int, others: list[np.ndarray], config: ShapesConfig
) -> np.ndarray | None:
    """Return the mask (height, width) in [0, 1] of a shape that hides little of others."""
    whole = [mask > 0.5 for mask in others]
    # The part of each that the later shapes leave visible.
    visible = [o & ~np.any(whole[i + 1 :], axis=0) for i, o in enumerate(whole)]
    for _ in range(20):
        size = np.exp(rng.uniform(np.log(config.min_size), np.log(config.max_size)))
        radius = size / 2
        center = rng.uniform(radius, (config.width - radius, config.height - radius))
        angle = rng.uniform(-_MAX_TURN, _MAX_TURN)
        polygon = center + radius * _outline(label, angle)
        mask = _rasterize(polygon, config.width, config.height)
        shape = mask > 0.5
        if not shape.any():
            continue
        hidden = [(shape & other).sum() / other.sum() for other in whole]
        left = [
            (seen & ~shape).sum() / other.sum()
            for seen, other in zip(visible, whole, strict=True)
        ]
        # One shape hides at most half of what may be hidden, to leave room for another.
        one_hides_little = max(hidden, default=0) <= (1 - _MIN_VISIBLE) / 2
        if one_hides_little and min(left, default=1) >= _MIN_VISIBLE:
            return mask
    return None


def _outline(label: int, angle: float) -> np.ndarray:
    """Return the corners (P, 2) of a shape in the unit circle, turned by ``angle``."""
    name = CLASSES[label]
    if name == 'cross':
        a, b = 0.33, 0.94
        quarter = [(a, a), (a, b), (-a, b), (-a, a)]
        opposite = [(-x, -y) for x, y in quarter]
        corners = np.array([*quarter, (-b, a), (-b, -a), *opposite, (b, -a), (b, a)])
    else:
        count = {'circle': 48, 'square': 4, 'triangle': 3, 'star': 10}[name]
        theta = 2 * np.pi * np.arange(count) / count + np.pi / 4
        corners = np.stack([np.cos(theta), np.sin(theta)], 1)
        if name == 'star':
            corners[1::2] *= 0.42
    cos, sin = np.cos(angle), np.sin(angle)
    return corners @ np.array([(cos, sin), (-sin, cos)])


def _rasterize(polygon: np.ndarray, width: int, height: int) -> np.ndarray:
    """Return how much a polygon (P, 2) of x, y in pixels covers each pixel."""
    s = _SUPERSAMPLING
    fine = np.zeros((height * s, width * s), np.uint8)
    cv2.fillPoly(fine, [np.round(polygon * s).astype(np.int32)], 1)
    return cv2.resize(
        fine.astype(np.float64), (width, height), interpolation=cv2.INTER_AREA
    )


def _contrasting_color(
    rng: np.random.Generator, image: np.ndarray, mask: np.ndarray
) -> np.ndarray:
    """Return a random BGR color that stands out from the image under the mask."""
    ground = image[mask > 0.5].mean(axis=0)
    while True:
        color = rng.uniform(0, 255, 3)
        if np.linalg.norm(color - ground) > 110:
            return color


def _tight_box(mask: np.ndarray) -> tuple[float, float, float, float]:
    """Return the xyxy edges of the pixels that are at least half covered."""
    ys, xs = np.nonzero(mask >= 0.5)
    return xs.min(), ys.min(), xs.max() + 1, ys.max() + 1
