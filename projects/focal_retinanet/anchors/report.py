"""What the anchors cover, as text for people and as numbers for programs."""

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from focal_retinanet.anchors.advice import Advice
from focal_retinanet.anchors.assignment import AnchorRule, Kind
from focal_retinanet.anchors.coverage import Coverage, count_by_kind

_NAMES = {
    Kind.COVERED: 'covered',
    Kind.LOW_QUALITY: 'low quality only',
    Kind.NONE: 'no anchor',
}
_COLUMNS = (
    *('image', 'class', 'x1', 'y1', 'x2', 'y2', 'size', 'ratio'),
    *('anchors', 'best_iou', 'best_stride'),
)


def coverage_text(coverage: Coverage, rule: AnchorRule, classes: Sequence[str]) -> str:
    """Return the tables, and the objects without any anchor.

    There must be at least one object.
    """
    thr = rule.assigner.pos_iou_thr
    parts = [
        f'Objects. Covered ones have anchors of IoU >= {thr:g}; those of "low quality '
        f'only" have none, and get the best anchor there is.\n{object_table(coverage)}',
        f'Anchors of each level of the pyramid.\n{level_table(coverage, rule)}',
    ]
    without = coverage.kinds == Kind.NONE
    count = int(without.sum())
    if count:
        lines = objects_without_anchor(coverage, classes)
        if count > len(lines):
            lines.append(f'and {count - len(lines)} more, see not_covered.csv')
        taken = int((coverage.best_iou[without] >= thr).sum())
        if taken:
            lines.append(
                f'Other objects at the same place have the anchors of {taken} of them.'
            )
        parts.append(
            f'Objects that get no anchor: {count}. Boxes are in pixels of the input.\n'
            + '\n'.join(lines)
        )
    return '\n\n'.join(parts)


def advice_text(advice: Advice) -> str:
    """Return the changes with the share of objects that they cover, and the advice."""
    return '\n'.join(
        [
            *(f'  {o.share:6.1%} covered: {o.change}' for o in advice.options),
            f'Advice: {advice.text}',
        ]
    )


def object_table(coverage: Coverage) -> str:
    """Return a table of the objects by size and by what they get.

    There must be at least one object.
    """
    edges = _octaves(coverage)
    counts = count_by_kind(coverage.sizes, coverage.kinds, edges)
    rows = [['size, pixels', 'objects', *_NAMES.values()]]
    for i, row in enumerate(counts.T):
        if row.sum():
            rows.append([f'{edges[i]:g} to {edges[i + 1]:g}', *_with_shares(row)])
    rows.append(['all', *_with_shares(counts.sum(dim=1))])
    return _aligned(rows)


def level_table(coverage: Coverage, rule: AnchorRule) -> str:
    """Return a table of the levels: their anchors, and the objects they fit best."""
    best = torch.bincount(coverage.best_level, minlength=len(rule.strides))
    columns = (
        rule.strides,
        (coverage.level_positive - coverage.level_low_quality).tolist(),
        coverage.level_low_quality.tolist(),
        coverage.level_ignored.tolist(),
        best.tolist(),
    )
    head = ['stride', 'positive', 'low quality', 'ignored', 'best anchor of']
    return _aligned(
        [head, *([str(n) for n in row] for row in zip(*columns, strict=True))]
    )


def objects_without_anchor(
    coverage: Coverage, classes: Sequence[str], most: int = 20
) -> list[str]:
    """Return a line for each of the first objects without a positive anchor."""
    lines = []
    for i in (coverage.kinds == Kind.NONE).nonzero().squeeze(1)[:most].tolist():
        box = ', '.join(f'{x:.0f}' for x in coverage.bboxes[i].tolist())
        lines.append(
            f'{coverage.images[coverage.image[i]]}: {classes[coverage.labels[i]]} '
            f'[{box}], best IoU {coverage.best_iou[i]:.2f}'
        )
    return lines


def write_not_covered(
    file: Path, coverage: Coverage, rule: AnchorRule, classes: Sequence[str]
) -> None:
    """Write a CSV file of the objects that are not covered, those without anchor first.

    Boxes are xyxy in pixels of the input; ``anchors`` is the number of positives, and
    ``best_stride`` the stride of the level that has the best anchor.
    """
    with file.open('w', newline='') as stream:
        writer = csv.writer(stream)
        writer.writerow(_COLUMNS)
        for kind in (Kind.NONE, Kind.LOW_QUALITY):
            for i in (coverage.kinds == kind).nonzero().squeeze(1).tolist():
                writer.writerow(
                    [
                        coverage.images[coverage.image[i]],
                        classes[coverage.labels[i]],
                        *(f'{x:.1f}' for x in coverage.bboxes[i].tolist()),
                        f'{coverage.sizes[i]:.1f}',
                        f'{coverage.ratios[i]:.2f}',
                        coverage.num_positives[i].item(),
                        f'{coverage.best_iou[i]:.3f}',
                        rule.strides[coverage.best_level[i]],
                    ]
                )


def write_summary(
    file: Path,
    coverage: Coverage,
    rule: AnchorRule | None,
    advice: Advice | None,
    **facts: object,
) -> None:
    """Write a JSON file of all numbers.

    Args:
        file: File to write.
        coverage: Objects of a data set and what they get.
        rule: Anchors and their assigner; None if there are no anchors.
        advice: Advice on the anchors; None leaves out what concerns them.
        **facts: Other facts, which come first.
    """
    facts |= dict(num_images=len(coverage.images), num_objects=len(coverage))
    if advice is not None:
        facts |= as_dict(coverage, rule, advice)
    file.write_text(json.dumps(facts, indent=1))


def as_dict(coverage: Coverage, rule: AnchorRule, advice: Advice) -> dict:
    """Return all numbers for a JSON file; there must be at least one object."""
    names = [name.replace(' ', '_') for name in _NAMES.values()]
    edges = _octaves(coverage)
    counts = count_by_kind(coverage.sizes, coverage.kinds, edges)
    levels = zip(
        rule.strides,
        coverage.level_positive.tolist(),
        coverage.level_low_quality.tolist(),
        coverage.level_ignored.tolist(),
        strict=True,
    )
    return dict(
        pos_iou_thr=rule.assigner.pos_iou_thr,
        objects=dict(zip(names, counts.sum(dim=1).tolist(), strict=True)),
        size_edges=edges.tolist(),
        objects_by_size=dict(zip(names, counts.tolist(), strict=True)),
        anchors_by_level=[
            dict(stride=stride, positive=positive, low_quality=low, ignored=ignored)
            for stride, positive, low, ignored in levels
        ],
        advice=asdict(advice),
    )


def _octaves(coverage: Coverage) -> Tensor:
    """Return edges of sizes: 0, 8, 16, 32, ..., the last above the largest object."""
    last = int(coverage.sizes.max().clamp(min=8).log2().floor()) + 1
    return torch.tensor([0.0, *(2.0**i for i in range(3, last + 1))])


def _with_shares(counts: Tensor) -> list[str]:
    """Return the sum, and each count with its share of the sum."""
    total = int(counts.sum())
    return [str(total), *(f'{n} ({n / total:6.1%})' for n in counts.tolist())]


def _aligned(rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return '\n'.join(
        '  '.join(
            cell.rjust(width) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    )
