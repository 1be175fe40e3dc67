"""What a detector is trained on: objects after the pipeline, and their anchors.

Draws images with their ground truth and, level by level, the anchors that are
positive, ignored, and low-quality matches; counts over the whole data set which
objects get no anchor, and says what change of anchors or input would cover them.
The output folder gets images/, coverage.png, summary.json, and not_covered.csv
with every object that has no anchor, or low-quality matches only.

Examples:
    python tools/browse_dataset.py CONFIG
    python tools/browse_dataset.py CONFIG --split val --output-dir browse --num 40
    python tools/browse_dataset.py CONFIG --cfg-options \\
        model.bbox_head.anchor_generator.octave_base_scale=2
"""

import argparse
import json
import os
import sys
from pathlib import Path

import cv2
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch.utils.data import DataLoader
from tqdm import tqdm

from focal_retinanet.anchors.advice import advise
from focal_retinanet.anchors.assignment import (
    AnchorRule,
    Assignment,
    Kind,
    NoAnchorsError,
)
from focal_retinanet.anchors.coverage import Coverage
from focal_retinanet.anchors.report import (
    as_dict,
    level_table,
    object_table,
    objects_without_anchor,
    write_not_covered,
)
from focal_retinanet.cli.arguments import add_cfg_options
from focal_retinanet.cli.console import quiet_mmengine, quiet_warnings
from focal_retinanet.cli.errors import UserError, clear_errors
from focal_retinanet.cli.output_dir import make_output_dir
from focal_retinanet.config.ablation_table import load_with_options
from focal_retinanet.data.training_images import Example, TrainingImages, build_dataset
from focal_retinanet.visualization.assignment import (
    save_assignment_picture,
    save_coverage_figure,
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'config', help='config file, or TABLE.py:ROW for a row of configs/ablations'
    )
    parser.add_argument(
        '--split',
        choices=['train', 'val'],
        default='train',
        help='data set and pipeline of this data loader (default: train)',
    )
    parser.add_argument(
        '--output-dir',
        default='outputs/browse',
        help='folder of what is written (default: outputs/browse)',
    )
    parser.add_argument(
        '--num',
        type=int,
        default=16,
        help='images to draw: up to half of them those with the most objects that '
        'are not covered, the rest spread over the data set (default: 16); the '
        'counts are of all images',
    )
    parser.add_argument(
        '--seed', type=int, default=0, help='of random augmentation (default: 0)'
    )
    parser.add_argument(
        '--overwrite', action='store_true', help='write into a folder that has results'
    )
    parser.add_argument(
        '--not-show',
        action='store_true',
        help='open no window; without a display none is opened anyway',
    )
    parser.add_argument(
        '--show-interval',
        type=float,
        default=2,
        help='seconds that a window shows each picture; 0 waits for a key (default: 2)',
    )
    add_cfg_options(
        parser,
        purpose='override settings of the config, e.g. data_from=OTHER_CONFIG.py or '
        'model.bbox_head.anchor_generator.octave_base_scale=2',
    )
    args = parser.parse_args()
    if args.num < 0:
        parser.error(f'--num is a number of images, got {args.num}')
    if args.show_interval < 0:
        parser.error(f'--show-interval is in seconds, got {args.show_interval}')
    return args


def load_config(args: argparse.Namespace) -> Config:
    with quiet_mmengine():
        cfg = load_with_options(args.config, args.cfg_options)
    for key in ('model', f'{args.split}_dataloader'):
        if cfg.get(key) is None:
            raise UserError(f'{args.config} has no {key}; is it the config of a run?')
    return cfg


def assign(rule: AnchorRule | None, example: Example) -> Assignment | None:
    if rule is None:
        return None
    return rule.assign(
        example.objects,
        example.sample.img_shape[:2],
        example.input_shape,
        example.crowds,
    )


def as_is(example: Example) -> Example:
    return example


def measure(
    images: TrainingImages, rule: AnchorRule | None, num_workers: int
) -> Coverage:
    """Go through the whole data set."""
    coverage = Coverage(0 if rule is None else len(rule.strides))
    loader = DataLoader(
        images, batch_size=None, num_workers=num_workers, collate_fn=as_is
    )
    for example in tqdm(loader, 'images', len(images), leave=False, disable=None):
        coverage.add(
            example.name,
            example.objects.bboxes,
            example.objects.labels,
            example.sample.img_shape[:2],
            example.input_shape,
            assign(rule, example),
        )
    return coverage


def choose_images(coverage: Coverage, num: int) -> list[int]:
    """Indices to draw: the worst for at most half, the rest spread evenly."""
    total = len(coverage.images)
    num = min(num, total)
    missed = torch.zeros(total)
    if len(coverage.kinds):
        # One object without any anchor is worse than many with bad ones.
        weight = torch.tensor([0.0, 1.0, 1000.0])[coverage.kinds]
        missed.index_add_(0, coverage.image, weight)
    order = missed.argsort(descending=True, stable=True)
    chosen = {i for i in order[: num // 2].tolist() if missed[i] > 0}
    spread = torch.linspace(0, total - 1, num).long().tolist()
    for i in [*spread, *range(total)]:
        if len(chosen) < num:
            chosen.add(i)
    return sorted(chosen)


def draw_images(
    indices: list[int],
    images: TrainingImages,
    rule: AnchorRule | None,
    classes: list[str],
    folder: Path,
) -> list[Path]:
    files = []
    for index in tqdm(indices, 'pictures', leave=False, disable=None):
        example = images[index]
        height, width = example.input_shape
        files.append(
            save_assignment_picture(
                folder / f'{index:06d}_{Path(example.name).stem}.png',
                example.image,
                assign(rule, example),
                example.objects.bboxes,
                [classes[label] for label in example.objects.labels.tolist()],
                f'{Path(example.name).name}, input {width}x{height}',
                [] if rule is None else rule.strides,
                None if example.crowds is None else example.crowds.bboxes,
            )
        )
    return files


def print_coverage(coverage: Coverage, rule: AnchorRule, classes: list[str]) -> None:
    thr = rule.assigner.pos_iou_thr
    print(
        f'\nObjects. The covered have anchors of IoU >= {thr:g}; "low quality only" have '
        f'none, so they get the best there is.\n{object_table(coverage)}'
        f'\n\nAnchors of each level of the pyramid.\n{level_table(coverage, rule)}'
    )
    without = coverage.kinds == Kind.NONE
    count = int(without.sum())
    if not count:
        return
    print(f'\nObjects that get no anchor: {count}. Boxes are in pixels of the input.')
    lines = objects_without_anchor(coverage, classes)
    print('\n'.join(lines))
    if count > len(lines):
        print(f'and {count - len(lines)} more, see not_covered.csv')
    taken = int((coverage.best_iou[without] >= thr).sum())
    if taken:
        print(f'Of {taken} of them other objects at the same place have the anchors.')


def show(files: list[Path], interval: float) -> None:
    """Open each picture in a window, where there is a display."""
    has_display = os.environ.get('DISPLAY') or os.environ.get('WAYLAND_DISPLAY')
    if sys.platform.startswith('linux') and not has_display:
        return
    try:
        for file in files:
            cv2.imshow('browse_dataset', cv2.imread(str(file)))
            cv2.waitKey(int(interval * 1000))
        cv2.destroyAllWindows()
    except cv2.error:  # an OpenCV without windows
        return


def main() -> None:
    args = parse_args()
    quiet_warnings()
    cfg = load_config(args)
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    with quiet_mmengine():
        model = MODELS.build(cfg.model)
    dataloader = cfg[f'{args.split}_dataloader']
    dataset = build_dataset(dataloader, model)
    output_dir = make_output_dir(args.output_dir, '--output-dir', args.overwrite)
    classes = list(dataset.metainfo['classes'])
    try:
        rule, no_anchors = AnchorRule.of_detector(model), ''
    except NoAnchorsError as error:
        rule, no_anchors = None, str(error)

    images = TrainingImages(dataset, model.data_preprocessor, args.seed, False)
    coverage = measure(images, rule, dataloader.get('num_workers', 0))
    num_images = len(coverage.images)
    without_objects = num_images - len(coverage.image.unique())
    print(
        f'{args.config}, {args.split}_dataloader after its pipeline: {num_images} '
        f'images ({without_objects} without objects), {len(coverage)} objects'
    )
    numbers = dict(
        config=args.config,
        split=args.split,
        seed=args.seed,
        num_images=num_images,
        num_objects=len(coverage),
    )
    advice = None
    if rule is not None and len(coverage):
        print_coverage(coverage, rule, classes)
        advice = advise(
            coverage.bboxes,
            coverage.input_shapes,
            rule.generator,
            rule.assigner.pos_iou_thr,
            rule.key,
            coverage.at_border,
        )
        numbers |= as_dict(coverage, rule, advice)
        write_not_covered(output_dir / 'not_covered.csv', coverage, rule, classes)
    (output_dir / 'summary.json').write_text(json.dumps(numbers, indent=1))
    if len(coverage):
        save_coverage_figure(output_dir / 'coverage.png', coverage, rule)
    images.with_image = True
    files = draw_images(
        choose_images(coverage, args.num), images, rule, classes, output_dir / 'images'
    )

    print(f'\nWritten to {output_dir}: {", ".join(sorted(os.listdir(output_dir)))}')
    if not len(coverage):
        print('There is no object in them: is it the right annotation file?')
    elif advice is None:
        print(f'There are no anchors to compare with the objects: {no_anchors}.')
    else:
        for option in advice.options:
            print(f'  {option.share:6.1%} covered: {option.change}')
        print(f'Advice: {advice.text}')
    if not args.not_show:
        show(files, args.show_interval)


if __name__ == '__main__':
    with clear_errors():
        main()
