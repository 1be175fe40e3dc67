"""The text of a new config, and the annotation files beside it."""

import json
import os
from pathlib import Path

from focal_retinanet.data.formats import DataFolder, Split
from focal_retinanet.engine.new_config.choices import Choices
from focal_retinanet.engine.new_config.recipes import Recipe


def annotation_dir(out: Path) -> Path:
    """Return the folder for the annotation files of a config, beside it."""
    return out.with_suffix('') / 'annotations'


def write_config(
    out: Path,
    data: DataFolder,
    recipe: Recipe,
    choices: Choices,
    bases: Path,
    command: str,
) -> list[Path]:
    """Write a config, and COCO files of the splits that have none of their own.

    Args:
        out: File of the config.
        data: Data set.
        recipe: Model and optimizer.
        choices: Settings.
        bases: Folder of the configs that it inherits from.
        command: Command that writes it.

    Returns:
        The files that were written, the config first.
    """
    written = [out]
    for name, split in data.splits.items():
        if split.ann_file is None:
            file = annotation_dir(out) / f'{name}.json'
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(split.coco))
            written.append(file)
    out.parent.mkdir(parents=True, exist_ok=True)
    text = config_text(out, data, recipe, choices, bases, command)
    out.write_text(text, encoding='utf-8')
    return written


def config_text(
    out: Path,
    data: DataFolder,
    recipe: Recipe,
    choices: Choices,
    bases: Path,
    command: str,
) -> str:
    """Return the text of a config, see :func:`write_config`."""
    c, out = choices, out.absolute()
    root = data_root(data)
    base = Path(os.path.relpath(bases / recipe.base, out.parent)).as_posix()
    counts = ', '.join(f'{len(s.coco["images"])} {n}' for n, s in data.splits.items())
    anchors = ', '.join(f'{key}={value!r}' for key, value in c.anchors.value.items())
    preprocessor = ', '.join(
        f'{key}={value!r}' for key, value in c.preprocessor.items()
    )
    loader = {}
    for name, split in data.splits.items():
        ann_file, prefix = _files(name, split, out, root)
        ann_file = _quoted(ann_file, out.parent)
        loader[name] = f'ann_file={ann_file}, data_prefix=dict(img={prefix!r})'
    shared = 'data_root=data_root, metainfo=metainfo, pipeline=_base_'
    lines = [
        f'"""{data.format}, images: {counts}. Each line says why it is as it is.',
        '',
        # A backslash begins a code in this text.
        'Written by: ' + command.replace('\\', '\\\\'),
        '"""',
        '',
        f'_base_ = {base!r}  # {recipe.why}',
        '',
        f'data_root = {f"{root.as_posix()}/"!r}  # the data; paths are relative to it',
        f'metainfo = dict(classes={data.classes!r})  # in the order of the categories',
        f'max_iters = {c.max_iters.value}  # {c.max_iters.reason}',
        '',
        'model = dict(',
        f'    data_preprocessor=dict({preprocessor}),  # as the weights were trained'
        if preprocessor
        else None,
        f'    backbone=dict(init_cfg=dict(checkpoint={c.weights.value!r})),'
        f'  # {c.weights.reason}',
        '    bbox_head=dict(',
        f'        num_classes={len(data.classes)},  # those of metainfo',
        f'        anchor_generator=dict({anchors}),  # {c.anchors.reason}',
        '    ),',
        ')',
        f'{_step("train_pipeline", "RandomResize")}.scale = {c.scale.value!r}'
        '  # as in the test',
        '_base_.train_pipeline.insert([step.type for step in _base_.train_pipeline]'
        ".index('RandomFlip'), dict(type='RandomCrop', "
        f'crop_size={c.crop.value!r}, allow_negative_crop=True))  # {c.crop.reason}'
        if c.crop
        else None,
        f'{_step("test_pipeline", "Resize")}.scale = {c.scale.value!r}'
        f'  # {c.scale.reason}',
        f'train_dataloader = dict(batch_size={c.batch_size.value}, dataset=dict({shared}'
        f'.train_pipeline, {loader["train"]}))  # {c.batch_size.reason}',
        f'val_dataloader = dict(dataset=dict({shared}.test_pipeline, {loader["val"]}))'
        '  # evaluated on the same file',
        f'test_dataloader = dict(dataset=dict({shared}.test_pipeline, {loader["test"]}))'
        '  # the test split'
        if 'test' in loader
        else 'test_dataloader = val_dataloader  # there is no other split',
        f'optim_wrapper = dict(optimizer=dict(lr={c.lr.value!r}))  # {c.lr.reason}',
        'train_cfg = dict(max_iters=max_iters, val_interval=max_iters // 4)'
        '  # validated 4 times',
        f'{_step("param_scheduler", "CosineAnnealingLR")}.end = max_iters'
        '  # down to 0 along a cosine',
        'default_hooks = dict(checkpoint=dict(interval=max_iters // 4))'
        '  # saved when validated',
    ]
    return '\n'.join(line for line in lines if line is not None) + '\n'


def _quoted(ann_file: str, folder: Path) -> str:
    """Return the text of a file in quotes that the name of its folder does not have.

    mmengine puts the name in the place of ``fileDirname`` before it reads the text.
    """
    if 'fileDirname' not in ann_file:
        return repr(ann_file)
    text = f'{folder}/{ann_file}'
    quote = next((q for q in ("'", '"') if q not in text), '"""')
    return f'{quote}{ann_file}{quote}'


def _step(key: str, kind: str) -> str:
    """Return the text for a step of a base's list; without the step, it fails."""
    return f'{{step.type: step for step in _base_.{key}}}[{kind!r}]'


def data_root(data: DataFolder) -> Path:
    """Return the folder that all images and the user's annotation files are in."""
    folders = [split.img_dir for split in data.splits.values()]
    folders += [s.ann_file.parent for s in data.splits.values() if s.ann_file]
    return Path(os.path.commonpath(folders))


def _files(name: str, split: Split, out: Path, root: Path) -> tuple[str, str]:
    """Return the annotation file of a split, and the folder of its images."""
    img_dir = split.img_dir.relative_to(root).as_posix()
    prefix = '' if img_dir == '.' else f'{img_dir}/'
    if split.ann_file is not None:
        return split.ann_file.relative_to(root).as_posix(), prefix
    beside = annotation_dir(out).relative_to(out.parent).as_posix()
    return f'{{{{ fileDirname }}}}/{beside}/{name}.json', prefix
