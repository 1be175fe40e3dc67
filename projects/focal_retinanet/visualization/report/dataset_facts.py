"""What a ground truth holds: images, objects of each class, their sizes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pycocotools.coco import COCO

#: Sides of a square of COCO's limits between small, medium and large, in pixels.
SMALL, MEDIUM = 32, 96


@dataclass(frozen=True)
class DatasetFacts:
    """Numbers of a ground truth; crowds are counted apart.

    Attributes:
        images: how many.
        empty: images without an object.
        image_sizes: (width, height) with how many images, the most common first.
        classes: name, objects and images with one, of each class.
        crowds: annotations of a crowd, which need not be found.
        sizes: objects that are small, medium and large, in COCO's sense.
        sides: (G,) square root of each object's area, in pixels.
        per_image: (I,) objects of each image.
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
    """Of the classes that count."""
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
        # As pycocotools has them, what is just 32 x 32 is both small and medium;
        # here it is small, so that the three add up.
        sizes={
            'small': int((sides <= SMALL).sum()),
            'medium': int(((sides > SMALL) & (sides <= MEDIUM)).sum()),
            'large': int((sides > MEDIUM).sum()),
        },
        sides=sides,
        per_image=np.array([per_image[img_id] for img_id in sorted(coco.imgs)]),
    )
