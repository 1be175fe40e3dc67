"""What a detector is trained on: objects after the pipeline, and their anchors.

Draws images with their ground truth and, level by level, the anchors that are
positive, ignored, and low-quality matches; counts over the whole data set which
objects get no anchor, and says what change of anchors or input would cover them.
The output folder gets images/, coverage.png, summary.json, and not_covered.csv
with every object that has no anchor, or low-quality matches only.

Examples:
    python tools/browse_dataset.py CONFIG
    python tools/browse_dataset.py CONFIG --split val --out-dir browse --num 40
    python tools/browse_dataset.py CONFIG --cfg-options \\
        model.bbox_head.anchor_generator.octave_base_scale=2
"""

import argparse

from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from focal_retinanet.anchors.advice import advise_for
from focal_retinanet.anchors.assignment import AnchorRule, NoAnchorsError
from focal_retinanet.anchors.measure import choose_images, measure_coverage
from focal_retinanet.anchors.report import (
    advice_text,
    coverage_text,
    write_not_covered,
    write_summary,
)
from focal_retinanet.cli.arguments import (
    add_cfg_options,
    add_config,
    add_num,
    add_out_dir,
    add_seed,
    add_split,
    tool_parser,
)
from focal_retinanet.cli.console import quiet_mmengine, quiet_warnings
from focal_retinanet.cli.errors import UserError, clear_errors
from focal_retinanet.cli.output_dir import make_output_dir
from focal_retinanet.config.ablation_table import load_with_options
from focal_retinanet.config.data_preprocessor import give_model_its_preprocessor
from focal_retinanet.data.training_images import TrainingImages, annotated_dataset
from focal_retinanet.visualization.assignment import save_coverage_figure
from focal_retinanet.visualization.training_pictures import (
    save_training_pictures,
    show_pictures,
)


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__)
    add_config(parser)
    add_split(parser, ['train', 'val'], 'train')
    add_out_dir(parser, 'outputs/browse', 'the results', ['--output-dir'])
    add_num(
        parser,
        'to draw: up to half of them have the most objects that are not covered, the '
        'rest are spread over the data set; the counts are over all images',
        default=16,
        minimum=0,
    )
    add_seed(parser, 'random augmentation')
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
    add_cfg_options(parser)
    args = parser.parse_args()
    if args.show_interval < 0:
        parser.error(f'--show-interval must be at least 0, got {args.show_interval}')
    return args


def load_config(args: argparse.Namespace) -> Config:
    with quiet_mmengine():
        cfg = load_with_options(args.config, args.cfg_options)
    for key in ('model', f'{args.split}_dataloader'):
        if cfg.get(key) is None:
            raise UserError(f'{args.config} has no {key}; is it the config of a run?')
    give_model_its_preprocessor(cfg)
    init_default_scope(cfg.get('default_scope') or 'mmdet')
    return cfg


def main() -> None:
    args = parse_args()
    quiet_warnings()
    cfg = load_config(args)
    with quiet_mmengine():
        model = MODELS.build(cfg.model)
    dataset = annotated_dataset(cfg, args.split, model)
    out_dir = make_output_dir(args.out_dir, args.overwrite)
    classes = list(dataset.metainfo['classes'])
    try:
        rule, no_anchors = AnchorRule.of_detector(model), ''
    except NoAnchorsError as error:
        rule, no_anchors = None, str(error)

    images = TrainingImages(dataset, model.data_preprocessor, args.seed, False)
    num_workers = cfg[f'{args.split}_dataloader'].get('num_workers', 0)
    coverage = measure_coverage(images, rule, num_workers)
    without_objects = len(coverage.images) - len(coverage.image.unique())
    print(
        f'{args.config}, {args.split}_dataloader after its pipeline: '
        f'{len(coverage.images)} images ({without_objects} without objects), '
        f'{len(coverage)} objects'
    )
    # An earlier run may have written what this one does not.
    for name in ('coverage.png', 'not_covered.csv'):
        (out_dir / name).unlink(missing_ok=True)
    written = ['summary.json']
    advice = None
    if not len(coverage):
        last_words = 'There is no object in them: is it the right annotation file?'
    elif rule is None:
        last_words = f'There are no anchors to compare with the objects: {no_anchors}.'
    else:
        print(f'\n{coverage_text(coverage, rule, classes)}')
        advice = advise_for(coverage, rule)
        last_words = advice_text(advice)
        write_not_covered(out_dir / 'not_covered.csv', coverage, rule, classes)
        written.append('not_covered.csv')
    facts = dict(config=args.config, split=args.split, seed=args.seed)
    write_summary(out_dir / 'summary.json', coverage, rule, advice, **facts)
    if len(coverage):
        save_coverage_figure(out_dir / 'coverage.png', coverage, rule)
        written.append('coverage.png')
    images.with_image = True
    chosen = choose_images(coverage, args.num)
    files = save_training_pictures(chosen, images, rule, classes, out_dir / 'images')
    if files:
        written.append('images')
    print(f'\nWritten to {out_dir}: {", ".join(sorted(written))}\n{last_words}')
    if not args.not_show:
        show_pictures(files, args.show_interval)


if __name__ == '__main__':
    with clear_errors():
        main()
