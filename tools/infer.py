"""Detect objects in images and videos: pictures of them, and a COCO JSON file.

Examples:
    python tools/infer.py CONFIG CHECKPOINT photo.jpg
    python tools/infer.py CONFIG CHECKPOINT folder 'more/*.png' clip.mp4 --out-dir found
"""

import focal_retinanet.cli.cpu_threads  # noqa: F401

# isort: split
import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from mmdet.registry import VISUALIZERS
from mmengine.visualization import Visualizer
from tqdm import tqdm

from focal_retinanet.cli.arguments import add_cfg_options
from focal_retinanet.cli.console import quiet_warnings
from focal_retinanet.cli.errors import UserError, clear_errors
from focal_retinanet.cli.output_dir import check_output_dir, make_output_dir
from focal_retinanet.config.ablation_table import load_with_options
from focal_retinanet.engine.checkpoints.load import enforce_safe_loading
from focal_retinanet.engine.inference import (
    CocoDetections,
    Detector,
    find_inputs,
    is_video,
    read_frames,
)
from focal_retinanet.visualization.file_names import unique_names
from focal_retinanet.visualization.palette import with_class_colours
from focal_retinanet.visualization.picture_file import PictureFile, frames_per_second


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'config', help='config file, or TABLE.py:ROW for a row of configs/ablations'
    )
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        'inputs', nargs='+', help='images, folders, globs in quotes, videos'
    )
    parser.add_argument(
        '--out-dir',
        default='outputs',
        help='folder of the pictures (vis/) and of detections.json (default: outputs)',
    )
    parser.add_argument(
        '--score-thr',
        type=float,
        default=0.3,
        help='lowest score that is drawn; the JSON has all detections (default: 0.3)',
    )
    parser.add_argument(
        '--device',
        default='cuda:0' if torch.cuda.is_available() else 'cpu',
        help='device (default: the first GPU, or the CPU if there is none)',
    )
    parser.add_argument(
        '--overwrite', action='store_true', help='write into a folder that has results'
    )
    add_cfg_options(parser)
    parser.add_argument(
        '--unsafe-checkpoint',
        action='store_true',
        help='load any checkpoint file, running whatever code it holds; only for '
        'files that you trust',
    )
    return parser.parse_args()


def draw(
    visualizer: Visualizer, image: np.ndarray, found, score_thr: float
) -> np.ndarray:
    """The image with its detections, both (H, W, 3) uint8 BGR."""
    visualizer.add_datasample(
        'detections',
        image[..., ::-1],
        data_sample=found,
        draw_gt=False,
        show=False,
        pred_score_thr=score_thr,
    )
    return visualizer.get_image()[..., ::-1]


def picture_names(files: list[Path]) -> list[str]:
    """A file name for each picture; equal names from several folders get numbers."""
    return unique_names(
        file.stem + ('.mp4' if is_video(file) else '.jpg') for file in files
    )


def main() -> None:
    args = parse_args()
    files = find_inputs(args.inputs)
    check_output_dir(args.out_dir, '--out-dir', args.overwrite)
    quiet_warnings()
    enforce_safe_loading(allow_unsafe=args.unsafe_checkpoint)
    cfg = load_with_options(args.config, args.cfg_options)
    # What is drawn is written here; the visualizer keeps no copy of its own.
    cfg.visualizer.vis_backends = []
    detector = Detector(cfg, args.checkpoint, args.device)
    visualizer = VISUALIZERS.build(cfg.visualizer)
    visualizer.dataset_meta = with_class_colours(detector.model.dataset_meta)

    if detector.warning is not None:
        print(f'warning: {detector.warning}', file=sys.stderr)

    out_dir = make_output_dir(args.out_dir, '--out-dir', args.overwrite)
    (out_dir / 'vis').mkdir(exist_ok=True)
    detections = CocoDetections(detector.classes)
    unreadable, unwritten = 0, 0
    progress = tqdm(zip(files, picture_names(files), strict=True), total=len(files))
    try:
        for file, name in progress:
            progress.set_postfix_str(file.name)
            fps = frames_per_second(file) if is_video(file) else None
            pictures = PictureFile(out_dir / 'vis' / name, fps)
            try:
                for index, frame in enumerate(read_frames(file)):
                    found = detector(frame)
                    label = f'{file}#{index:06d}' if is_video(file) else str(file)
                    detections.add(label, frame, found)
                    if pictures.error is None:
                        pictures.add(draw(visualizer, frame, found, args.score_thr))
            except UserError as error:
                unreadable += 1
                tqdm.write(f'skipped: {error}', file=sys.stderr)
            finally:
                pictures.close()
            if pictures.error is not None:
                unwritten += 1
                tqdm.write(f'only detected: {pictures.error}', file=sys.stderr)
    finally:  # what was found is kept, whatever ends the work
        progress.close()
        write_detections(out_dir, detections)

    errors = []
    if unreadable:
        errors.append(f'{unreadable} of {len(files)} inputs could not be read')
    if unwritten:
        errors.append(
            f'{unwritten} of {len(files)} pictures and videos could not be written; '
            'their detections are in the JSON'
        )
    if errors:
        raise UserError('\n       '.join(errors))


def write_detections(out_dir: Path, detections: CocoDetections) -> None:
    file = out_dir / 'detections.json'
    file.write_text(json.dumps(detections.as_dict()))
    print(
        f'{len(detections.annotations)} detections in {len(detections.images)} images: '
        f'{file}, pictures in {out_dir / "vis"}'
    )


if __name__ == '__main__':
    with clear_errors():
        main()
