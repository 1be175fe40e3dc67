"""Which change of the anchors or of the input size would cover more objects.

Each candidate is tried on the data. Of all anchors of one shape, the one with the
nearest center overlaps an object most, so an object's best IoU takes only one IoU per
shape, and a data set takes a second.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from mmdet.models.task_modules import AnchorGenerator
from torch import Tensor

from focal_retinanet.anchors.assignment import AnchorRule
from focal_retinanet.anchors.coverage import (
    Coverage,
    best_iou_on_grid,
    box_ratios,
    box_sizes,
)

#: Lowest share of covered objects with which the anchors fit.
FITS = 0.98
# A change must raise the share by this much to be worth making.
_WORTHWHILE = 0.01
# Enough objects to measure shares more precisely than that.
_MOST_OBJECTS = 20_000
_SIZE_FACTORS = (0.75, 1.5, 0.5, 2.0, 0.375, 3.0, 0.25, 4.0)
_INPUT_FACTORS = (0.75, 1.25, 1.5, 0.5, 2.0)
_RATIOS = (0.5, 2.0, 1 / 3, 3.0, 0.25, 4.0, 0.2, 5.0)


@dataclass(frozen=True)
class Plan:
    """A change of anchors and input size.

    Attributes:
        size: Factor of the anchors' size.
        per_octave: Number of scales per octave; None keeps the generator's scales.
        ratios: height / width of the anchors; None for a generator other than mmdet's
            plain one.
        input_size: Factor of the images' size.
    """

    size: float = 1.0
    per_octave: int | None = None
    ratios: tuple[float, ...] | None = None
    input_size: float = 1.0


@dataclass(frozen=True)
class Option:
    """A change, in words, and the share of objects that it would cover."""

    change: str
    share: float


@dataclass(frozen=True)
class Advice:
    """Advice about the anchors.

    Attributes:
        share: Share of objects that now have an anchor of IoU >= ``pos_iou_thr``.
        options: Best change of each kind, the best first.
        text: The advice in one line.
    """

    share: float
    options: list[Option]
    text: str


def advise_for(coverage: Coverage, rule: AnchorRule) -> Advice:
    """Return :func:`advise` for the objects of a data set and a detector's anchors."""
    return advise(
        coverage.bboxes,
        coverage.input_shapes,
        rule.generator,
        rule.assigner.pos_iou_thr,
        rule.key,
        coverage.at_border,
    )


def advise(
    boxes: Tensor,
    input_shapes: Tensor,
    generator: AnchorGenerator,
    pos_iou_thr: float,
    key: str = 'model.bbox_head.anchor_generator',
    at_border: Tensor | None = None,
) -> Advice:
    """Find the change that gives more objects an anchor of IoU >= ``pos_iou_thr``.

    Args:
        boxes: (M, 4) xyxy in pixels of the input.
        input_shapes: (M, 2) height and width of the padded input.
        generator: Generator of the present anchors.
        pos_iou_thr: Lowest IoU of a positive.
        key: Key of the generator in the config.
        at_border: (M,) bool, objects that the border of the image may cut off.
    """
    if not len(boxes):
        return Advice(math.nan, [], 'There is no object to fit anchors to.')
    every = math.ceil(len(boxes) / _MOST_OBJECTS)
    boxes, input_shapes = boxes[::every], input_shapes[::every]
    trial = _Trial(boxes, input_shapes, generator, pos_iou_thr, key)
    now = trial.is_covered.float().mean().item()
    goal = f'IoU >= {pos_iou_thr:g}'
    if now >= FITS:
        text = f'The anchors fit: {_percent(now)} of the objects have one with {goal}.'
        return Advice(now, [], text)

    problem = (
        f'{_percent(1 - now)} of the objects have no anchor with {goal}; of them '
        f'{trial.why_missed()}.'
    )
    if at_border is not None:
        problem += trial.cut_off(at_border[::every])
    options = trial.best_changes(trial.start)
    listed = [
        Option(trial.describe(plan), share)
        for plan, share in sorted(options, key=lambda option: -option[1])
        if share > now
    ]
    plan, share = _choose(options)
    if share < now + _WORTHWHILE:
        text = (
            f'{problem} No change of scales, ratios or input size that was tried covers '
            'clearly more.'
        )
        return Advice(now, listed, text)

    if share < FITS and (options := trial.best_changes(plan)):  # add a second change
        further = _choose(options)
        if further[1] >= share + _WORTHWHILE:
            plan, share = further
    text = (
        f'{problem} To cover more, {trial.describe(plan)}: objects with such an anchor '
        f'go from {_percent(now)} to {_percent(share)}.'
    )
    return Advice(now, listed, text)


@dataclass
class _Trial:
    """Plans for M objects, and the share of objects that each covers."""

    boxes: Tensor
    input_shapes: Tensor
    generator: AnchorGenerator
    pos_iou_thr: float
    key: str

    def __post_init__(self) -> None:
        generator = self.generator
        # Others, such as SSD's, have scales and ratios per level.
        self.is_plain = (
            type(generator).gen_base_anchors is AnchorGenerator.gen_base_anchors
        )
        ratios = tuple(generator.ratios.tolist()) if self.is_plain else None
        per_octave = getattr(generator, 'scales_per_octave', None)
        self.start = Plan(per_octave=per_octave, ratios=ratios)
        self.is_covered = self.covers(self.start)

    def scales(self, plan: Plan) -> Tensor:
        own = self.generator.scales * plan.size
        if plan.per_octave == self.start.per_octave:
            return own
        octave = torch.arange(plan.per_octave) / plan.per_octave
        return own[0] * 2**octave

    def base_anchors(self, plan: Plan) -> list[Tensor]:
        generator = self.generator
        if not self.is_plain:
            return [_enlarged(anchors, plan.size) for anchors in generator.base_anchors]
        return [
            generator.gen_single_level_base_anchors(
                base_size,
                self.scales(plan),
                torch.tensor(plan.ratios),
                None if generator.centers is None else generator.centers[level],
            )
            for level, base_size in enumerate(generator.base_sizes)
        ]

    def covers(self, plan: Plan) -> Tensor:
        """Return (M,) bool: whether each object has an anchor of enough IoU."""
        best_iou = best_iou_on_grid(
            self.boxes * plan.input_size,
            self.input_shapes * plan.input_size,
            self.base_anchors(plan),
            self.generator.strides,
        )
        return best_iou >= self.pos_iou_thr

    def best_changes(self, plan: Plan) -> list[tuple[Plan, float]]:
        """Return the best plan of each kind of change, and its share."""
        return [self._best(plans) for plans in self._changes(plan)]

    def _best(self, plans: list[Plan]) -> tuple[Plan, float]:
        """Return the smallest change of about the highest share; small ones first."""
        shares = [self.covers(plan).float().mean().item() for plan in plans]
        enough = max(shares) - _WORTHWHILE / 2
        index = next(i for i, share in enumerate(shares) if share >= enough)
        return plans[index], shares[index]

    def _changes(self, plan: Plan) -> list[list[Plan]]:
        """Return plans that differ in one thing, by kind, the cheapest kind first."""
        changes = []
        is_scaled = plan.size != 1 or plan.input_size != 1  # one way is enough
        if not is_scaled:
            changes.append([replace(plan, size=factor) for factor in _SIZE_FACTORS])
        if self.is_plain and plan.ratios == self.start.ratios:
            more = [(ratio,) for ratio in _RATIOS]
            more += [(ratio, 1 / ratio) for ratio in _RATIOS if ratio < 1]
            ratios = dict.fromkeys(_with_ratios(plan.ratios, new) for new in more)
            ratios.pop(plan.ratios, None)
            if ratios:
                changes.append([replace(plan, ratios=r) for r in ratios])
        if self.is_plain and len(self.scales(plan)) < 3:
            numbers = [n for n in (2, 3) if n != plan.per_octave]
            changes.append([replace(plan, per_octave=n) for n in numbers])
        if not is_scaled:
            changes.append([replace(plan, input_size=x) for x in _INPUT_FACTORS])
        return changes

    def describe(self, plan: Plan) -> str:
        """Describe the settings of a plan, and the present ones."""
        words, settings = [], {}
        now = self.generator.octave_base_scale if self.is_plain else None
        if not self.is_plain and plan.size != 1:
            words.append(f'make all anchors of {self.key} {plan.size:g} times as large')
        elif self.is_plain and now is None:
            settings['scales'] = _list(self.scales(plan)), _list(self.generator.scales)
        elif self.is_plain:
            settings['octave_base_scale'] = f'{now * plan.size:g}', f'{now:g}'
            settings['scales_per_octave'] = plan.per_octave, self.start.per_octave
        if self.is_plain:
            settings['ratios'] = _list(plan.ratios), _list(self.start.ratios)
        for name, (new, old) in settings.items():
            if new != old:
                words.append(f'set {self.key}.{name}={new} (now {old})')
        if plan.input_size != 1:
            words.append(
                f'make the images {plan.input_size:g} times as large in the pipeline'
            )
        return ' and '.join(words)

    def why_missed(self) -> str:
        """Describe how the objects that are not covered differ from the anchors."""
        missed = self.boxes[~self.is_covered]
        anchors = torch.cat(list(self.generator.base_anchors))
        sizes, ratios = box_sizes(missed), box_ratios(missed)
        least, most = box_sizes(anchors).aminmax()
        flattest, tallest = box_ratios(anchors).aminmax()
        fits = (sizes >= least) & (sizes <= most)
        flat, tall = fits & (ratios < flattest), fits & (ratios > tallest)
        reasons = {
            f'smaller than the smallest anchor ({least:.0f} pixels)': sizes < least,
            f'larger than the largest anchor ({most:.0f} pixels)': sizes > most,
            f'flatter than all anchors (height/width {flattest:.3g})': flat,
            f'taller than all anchors (height/width {tallest:.3g})': tall,
        }
        shares = [
            (is_.float().mean().item(), reason) for reason, is_ in reasons.items()
        ]
        shares.sort(key=lambda pair: -pair[0])
        told = [f'{_percent(x)} are {reason}' for x, reason in shares if x >= 0.1]
        return ', '.join(told or ['most lie between the anchors of the grid'])

    def cut_off(self, at_border: Tensor) -> str:
        """Return a sentence if most of the missed objects are at the border."""
        share = at_border[~self.is_covered].float().mean().item()
        if share <= 0.5:
            return ''
        inside = self.is_covered[~at_border]
        others = _percent(inside.float().mean().item()) if len(inside) else 'none'
        return (
            f' {_percent(share)} of them reach the border of the image, of the others '
            f'{others} are covered: cropping may have cut them off.'
        )


def _choose(options: list[tuple[Plan, float]]) -> tuple[Plan, float]:
    """Return the first, cheapest change that does about as well as the best."""
    enough = max(share for _, share in options) - _WORTHWHILE
    return next(option for option in options if option[1] >= enough)


def _with_ratios(
    ratios: tuple[float, ...], more: tuple[float, ...]
) -> tuple[float, ...]:
    """Add the ratios that are not there yet, in ascending order."""
    new = [r for r in more if all(abs(r - old) > 0.02 * old for old in ratios)]
    return tuple(sorted((*ratios, *new))) if new else ratios


def _enlarged(anchors: Tensor, factor: float) -> Tensor:
    """Scale (A, 4) xyxy boxes about their centers."""
    center = (anchors[:, :2] + anchors[:, 2:]) / 2
    half = (anchors[:, 2:] - anchors[:, :2]) / 2 * factor
    return torch.cat([center - half, center + half], dim=1)


def _list(values: Sequence[float] | Tensor) -> str:
    """Format a list for --cfg-options, which takes no blanks."""
    return f'[{",".join(f"{float(value):.3g}" for value in values)}]'


def _percent(share: float) -> str:
    return f'{100 * share:.1f} %'
