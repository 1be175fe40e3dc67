"""Detections of many files, as pictures and as one COCO file."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmdet.registry import VISUALIZERS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.visualization import Visualizer
from tqdm import tqdm

from focal_retinanet.cli.errors import UserError
from focal_retinanet.data.image_files import is_video, read_frames
from focal_retinanet.engine.inference import CocoDetections, Detector
from focal_retinanet.visualization.file_names import unique_names
from focal_retinanet.visualization.palette import with_class_colours
from focal_retinanet.visualization.picture_file import PictureFile, frames_per_second


def build_visualizer(cfg: Config, detector: Detector) -> Visualizer:
    """Return the visualizer of a config, with the detector's classes.

    It keeps no copy of the pictures. Changes the config.
    """
    cfg.visualizer.vis_backends = []
    visualizer = VISUALIZERS.build(cfg.visualizer)
    visualizer.dataset_meta = with_class_colours(detector.model.dataset_meta)
    return visualizer


def detect_files(
    detector: Detector,
    visualizer: Visualizer,
    files: Sequence[Path],
    out_dir: Path,
    score_thr: float,
) -> None:
    """Write ``vis/`` and ``detections.json``, whatever ends the work.

    Equal names of files from several folders get numbers in ``vis/``.

    Args:
        detector: detector to run.
        visualizer: visualizer that draws what was found.
        files: images and videos; a file that cannot be read is passed over.
        out_dir: folder of the results, which exists.
        score_thr: lowest score that is drawn; the JSON has all detections.

    Raises:
        UserError: after the work, if files could not be read or pictures could not
            be written.
    """
    (out_dir / 'vis').mkdir(exist_ok=True)
    detections = CocoDetections(detector.classes)
    unreadable, unwritten = 0, 0
    names = unique_names(
        file.stem + ('.mp4' if is_video(file) else '.jpg') for file in files
    )
    bar = tqdm(zip(files, names, strict=True), total=len(files))
    try:
        for file, name in bar:
            bar.set_postfix_str(file.name)
            fps = frames_per_second(file) if is_video(file) else None
            pictures = PictureFile(out_dir / 'vis' / name, fps)
            try:
                for index, frame in enumerate(read_frames(file)):
                    found = detector(frame)
                    label = f'{file}#{index:06d}' if is_video(file) else str(file)
                    detections.add(label, frame, found)
                    if pictures.error is None:
                        pictures.add(_draw(visualizer, frame, found, score_thr))
            except UserError as error:
                unreadable += 1
                tqdm.write(f'skipped: {error}', file=sys.stderr)
            finally:
                pictures.close()
            if pictures.error is not None:
                unwritten += 1
                tqdm.write(f'only detected: {pictures.error}', file=sys.stderr)
    finally:
        bar.close()
        _write_detections(out_dir, detections)
    _raise_errors(len(files), unreadable, unwritten)


def _draw(
    visualizer: Visualizer, image: np.ndarray, found: DetDataSample, score_thr: float
) -> np.ndarray:
    """Return the image with its detections, both (H, W, 3) uint8 BGR."""
    visualizer.add_datasample(
        'detections',
        image[..., ::-1],
        data_sample=found,
        draw_gt=False,
        show=False,
        pred_score_thr=score_thr,
    )
    return visualizer.get_image()[..., ::-1]


def _write_detections(out_dir: Path, detections: CocoDetections) -> None:
    file = out_dir / 'detections.json'
    file.write_text(json.dumps(detections.as_dict()))
    print(
        f'{len(detections.annotations)} detections in {len(detections.images)} images: '
        f'{file}, pictures in {out_dir / "vis"}'
    )


def _raise_errors(count: int, unreadable: int, unwritten: int) -> None:
    errors = []
    if unreadable:
        errors.append(f'{unreadable} of {count} inputs could not be read')
    if unwritten:
        errors.append(
            f'{unwritten} of {count} pictures and videos could not be written; '
            'their detections are in the JSON'
        )
    if errors:
        raise UserError('\n       '.join(errors))
