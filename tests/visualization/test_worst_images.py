"""Pictures of the images that a detector is worst at."""

import contextlib
import io

from pycocotools.coco import COCO

from focal_retinanet.evaluation.detection_errors import classify_detections
from focal_retinanet.evaluation.ground_truth import GroundTruth
from focal_retinanet.evaluation.worst_images import worst_images
from focal_retinanet.visualization.worst_images import save_worst_images


def test_pictures_are_of_one_run(ground_truth, detections, tmp_path):
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(ground_truth))
    truth = GroundTruth(ground_truth, coco, {1: 'cat', 2: 'dog'})
    out = tmp_path / 'worst'

    def save(found, topk):
        images = classify_detections(coco, found)
        for name, worst in worst_images(images, 0.05, topk).items():
            save_worst_images(
                worst, truth, ground_truth.parent / 'images', out / name, 0.05
            )

    def written(folder):
        return sorted(file.name for file in folder.iterdir())

    save(detections[:1], 2)
    assert written(out) == [
        *('lowest_ap50', 'lowest_ap50.png', 'most_missed', 'most_missed.png')
    ]
    assert written(out / 'most_missed') == ['000_a.png', '001_b.png']
    own = [out / 'mine.png', out / 'lowest_ap50' / 'mine.png']
    own += [out / 'lowest_ap50' / '000_a.txt', out / 'most_missed' / '12_a.png']
    for file in own:
        file.write_text('')
    save(detections, 1)  # which misses nothing
    assert written(out) == ['lowest_ap50', 'lowest_ap50.png', 'mine.png', 'most_missed']
    assert written(out / 'most_missed') == ['12_a.png']
    assert written(out / 'lowest_ap50') == ['000_a.txt', '000_b.png', 'mine.png']
