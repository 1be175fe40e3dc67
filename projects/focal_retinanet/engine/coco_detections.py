"""Detections of images that belong to no data set, as a COCO file."""

from dataclasses import dataclass, field

from focal_retinanet.engine.inference import Detections


@dataclass
class CocoDetections:
    """Detections as a COCO file of its own: images, categories, annotations.

    Boxes are xywh in absolute pixels, each with its ``score``; categories
    count from 1.
    """

    classes: tuple[str, ...]
    images: list[dict] = field(default_factory=list)
    annotations: list[dict] = field(default_factory=list)

    def add(self, found: Detections) -> None:
        """Add the detections of an image, under its name."""
        image_id = len(self.images) + 1
        height, width = found.image.shape[:2]
        self.images.append(
            dict(id=image_id, file_name=found.name, width=width, height=height)
        )
        for (x1, y1, x2, y2), score, label in zip(
            found.boxes.tolist(),
            found.scores.tolist(),
            found.labels.tolist(),
            strict=True,
        ):
            self.annotations.append(
                dict(
                    id=len(self.annotations) + 1,
                    image_id=image_id,
                    category_id=label + 1,
                    bbox=[x1, y1, x2 - x1, y2 - y1],
                    area=(x2 - x1) * (y2 - y1),
                    iscrowd=0,
                    score=score,
                )
            )

    def as_dict(self) -> dict:
        categories = [dict(id=i, name=n) for i, n in enumerate(self.classes, start=1)]
        return dict(
            images=self.images, categories=categories, annotations=self.annotations
        )
