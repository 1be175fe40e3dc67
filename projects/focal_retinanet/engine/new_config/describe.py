"""What was found in a folder and chosen for it, as text for the console."""

from collections import Counter
from pathlib import Path

from focal_retinanet.data.formats import DataFolder
from focal_retinanet.engine.new_config.choices import Choices

_INDENT = ' ' * 9
_MOST_CLASSES = 10


def describe_found(data: DataFolder, folder: Path) -> str:
    """Return the format, the splits with their classes, and the notes.

    Args:
        data: Data set without errors.
        folder: Folder of the data set.
    """
    lines = [f'Found    {data.format} in {folder}']
    for split_name, split in data.splits.items():
        coco = split.coco
        names = {category['id']: category['name'] for category in coco['categories']}
        counts = Counter(names[a['category_id']] for a in coco['annotations'])
        classes = [f'{name} {counts[name]}' for name in data.classes]
        if len(classes) > _MOST_CLASSES:
            classes[_MOST_CLASSES:] = [f'{len(classes) - _MOST_CLASSES} more']
        lines.append(
            f'{_INDENT}{split_name}: {len(coco["images"])} images, '
            f'{len(coco["annotations"])} boxes ({", ".join(classes)})'
        )
    return '\n'.join([*lines, *(_INDENT + note for note in data.notes)])


def describe_choices(choices: Choices) -> str:
    """Return each choice with its reason, a line each."""
    c = choices
    anchors = ', '.join(f'{key}={value}' for key, value in c.anchors.value.items())
    chosen = {f'input {_size(c.scale.value)}': c.scale}
    if c.crop:
        chosen[f'crops of {_size(c.crop.value)}'] = c.crop
    chosen |= {
        f'anchors {anchors}': c.anchors,
        f'batch size {c.batch_size.value}': c.batch_size,
        f'learning rate {c.lr.value}': c.lr,
        f'{c.max_iters.value} iterations': c.max_iters,
        f'weights {c.weights.value}': c.weights,
    }
    lines = [f'{what}: {choice.reason}' for what, choice in chosen.items()]
    return 'Chose    ' + f'\n{_INDENT}'.join(lines)


def _size(sides: tuple[int, int]) -> str:
    return 'x'.join(map(str, sides))
