"""Facts about a ground truth: images, objects of each class, their sizes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pycocotools.coco import COCO

#: COCO's limits between small, medium and large: side of a square in pixels.
SMALL, MEDIUM = 32, 96


@dataclass(frozen=True)
class DatasetFacts:
    """Facts about a ground truth. Crowds are no objects.

    Attributes:
        images: Number of images.
        empty: Number of images without an object.
        image_sizes: (width, height) and number of images, the most common first.
        classes: Name, number of objects and number of images of each class.
        crowds: Number of crowds, which need not be found.
        sizes: Number of small, medium and large objects, as COCO defines them.
        sides: (G,) square root of each object's area, in pixels.
        per_image: (I,) number of objects of each image.
    """

    images: int
    empty: int
    image_sizes: list[tuple[tuple[int, int], int]]
    classes: list[tuple[str, int, int]]
    crowds: int
    sizes: dict[str, int]
    sides: np.ndarray
    per_image: np.ndarray

    @property
    def objects(self) -> int:
        return len(self.sides)


def dataset_facts(coco: COCO, cat_ids: Sequence[int]) -> DatasetFacts:
    """Return the facts about a ground truth, for the categories that count."""
    annotations = coco.loadAnns(coco.getAnnIds(catIds=list(cat_ids)))
    objects = [a for a in annotations if not a.get('iscrowd', 0)]
    per_image = Counter(a['image_id'] for a in objects)
    per_class = Counter(a['category_id'] for a in objects)
    images_with = Counter(
        cat_id for _, cat_id in {(a['image_id'], a['category_id']) for a in objects}
    )
    sides = np.sqrt([a['area'] for a in objects])
    return DatasetFacts(
        images=len(coco.imgs),
        empty=len(coco.imgs) - len(per_image),
        image_sizes=Counter(
            (image['width'], image['height']) for image in coco.imgs.values()
        ).most_common(),
        classes=[
            (coco.cats[cat_id]['name'], per_class[cat_id], images_with[cat_id])
            for cat_id in cat_ids
        ],
        crowds=len(annotations) - len(objects),
        # For pycocotools, an object of 32 x 32 is small and medium. Here it is small,
        # so that the three numbers add up.
        sizes={
            'small': int((sides <= SMALL).sum()),
            'medium': int(((sides > SMALL) & (sides <= MEDIUM)).sum()),
            'large': int((sides > MEDIUM).sum()),
        },
        sides=sides,
        per_image=np.array([per_image[img_id] for img_id in sorted(coco.imgs)]),
    )
