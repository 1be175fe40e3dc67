"""What change of the anchors or of the input would cover more objects.

Each candidate is tried on the data: of all anchors of one shape, the one whose
centre is nearest to the object's overlaps it most, so the best IoU of an object
takes one IoU for each shape, and a whole data set takes a second.
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

#: Anchors that reach so many of the objects fit.
FITS = 0.98
# A change that covers less than this share more is not worth making.
WORTHWHILE = 0.01
# Enough to tell shares apart by less than that.
MOST_OBJECTS = 20_000
_SIZE_FACTORS = (0.75, 1.5, 0.5, 2.0, 0.375, 3.0, 0.25, 4.0)
_INPUT_FACTORS = (0.75, 1.25, 1.5, 0.5, 2.0)
_RATIOS = (0.5, 2.0, 1 / 3, 3.0, 0.25, 4.0, 0.2, 5.0)


@dataclass(frozen=True)
class Plan:
    """Anchors and input, in terms of what they are now.

    Attributes:
        size: Factor of the anchors' size.
        per_octave: Scales in each octave; None for the generator's own scales.
        ratios: Height / width; None for those of a generator of another kind
            than mmdet's plain one.
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
        share: Share of objects with an anchor of IoU >= ``pos_iou_thr``, as it is.
        options: The best change of each kind, best first.
        text: One line.
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
    """Which change would give more objects an anchor of IoU >= ``pos_iou_thr``.

    Args:
        boxes: (M, 4) xyxy in pixels of the input.
        input_shapes: (M, 2) height and width of the padded input.
        generator: Generator of the anchors as they are.
        pos_iou_thr: Lowest IoU of a positive.
        key: Key of the generator in the config.
        at_border: (M,) bool, objects that the border of the image may cut off.
    """
    if not len(boxes):
        return Advice(math.nan, [], 'There is no object to fit anchors to.')
    every = math.ceil(len(boxes) / MOST_OBJECTS)
    boxes, input_shapes = boxes[::every], input_shapes[::every]
    trial = Trial(boxes, input_shapes, generator, pos_iou_thr, key)
    start = trial.start
    now = trial.share(start)
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
    options = {kind: trial.best(plans) for kind, plans in trial.changes(start).items()}
    listed = [
        Option(trial.describe(plan), share)
        for plan, share in sorted(options.values(), key=lambda option: -option[1])
        if share > now
    ]
    plan, share = choose(options)
    if share < now + WORTHWHILE:
        text = (
            f'{problem} No change of scales, ratios or input size that was tried covers '
            'clearly more.'
        )
        return Advice(now, listed, text)

    if share < FITS:  # what a second change adds to the first
        options = {k: trial.best(plans) for k, plans in trial.changes(plan).items()}
        further = choose(options) if options else (plan, share)
        if further[1] >= share + WORTHWHILE:
            plan, share = further
    text = (
        f'{problem} To cover more, {trial.describe(plan)}: objects with such an anchor '
        f'go from {_percent(now)} to {_percent(share)}.'
    )
    return Advice(now, listed, text)


class Trial:
    """Plans for M objects, and what share of these each covers.

    Args:
        boxes: Objects (M, 4), xyxy in pixels of the input.
        input_shapes: Height and width (M, 2) of the padded input.
        generator: Generator of the anchors as they are.
        pos_iou_thr: Lowest IoU of a positive.
        key: Key of the generator in a config.
    """

    def __init__(
        self,
        boxes: Tensor,
        input_shapes: Tensor,
        generator: AnchorGenerator,
        pos_iou_thr: float,
        key: str = 'model.bbox_head.anchor_generator',
    ) -> None:
        self.boxes = boxes
        self.input_shapes = input_shapes
        self.generator = generator
        self.pos_iou_thr = pos_iou_thr
        self.key = key
        # Others, such as SSD's, have scales and ratios for each level.
        self.is_plain = (
            type(generator).gen_base_anchors is AnchorGenerator.gen_base_anchors
        )
        ratios = tuple(generator.ratios.tolist()) if self.is_plain else None
        per_octave = getattr(generator, 'scales_per_octave', None)
        self.start = Plan(per_octave=per_octave, ratios=ratios)

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

    def best_iou(self, plan: Plan) -> Tensor:
        return best_iou_on_grid(
            self.boxes * plan.input_size,
            self.input_shapes * plan.input_size,
            self.base_anchors(plan),
            self.generator.strides,
        )

    def share(self, plan: Plan) -> float:
        return (self.best_iou(plan) >= self.pos_iou_thr).float().mean().item()

    def best(self, plans: list[Plan]) -> tuple[Plan, float]:
        """The smallest change of about the highest share; small ones come first."""
        shares = [self.share(plan) for plan in plans]
        enough = max(shares) - WORTHWHILE / 2
        index = next(i for i, share in enumerate(shares) if share >= enough)
        return plans[index], shares[index]

    def changes(self, plan: Plan) -> dict[str, list[Plan]]:
        """Plans that differ from one in one thing, what costs least first."""
        changes = {}
        is_scaled = plan.size != 1 or plan.input_size != 1  # one way is enough
        if not is_scaled:
            changes['size'] = [replace(plan, size=factor) for factor in _SIZE_FACTORS]
        if self.is_plain and plan.ratios == self.start.ratios:
            more = [(ratio,) for ratio in _RATIOS]
            more += [(ratio, 1 / ratio) for ratio in _RATIOS if ratio < 1]
            ratios = {_with_ratios(plan.ratios, new): None for new in more}
            ratios.pop(plan.ratios, None)
            if ratios:
                changes['ratios'] = [replace(plan, ratios=r) for r in ratios]
        if self.is_plain and len(self.scales(plan)) < 3:
            changes['octave'] = [
                replace(plan, per_octave=n) for n in (2, 3) if n != plan.per_octave
            ]
        if not is_scaled:
            changes['input'] = [
                replace(plan, input_size=factor) for factor in _INPUT_FACTORS
            ]
        return changes

    def describe(self, plan: Plan) -> str:
        """Describe the settings of a plan, and the present ones."""
        words = []
        generator, key = self.generator, self.key
        resized, resampled = plan.size != 1, plan.per_octave != self.start.per_octave
        if not self.is_plain and resized:
            words.append(f'make all anchors of {key} {plan.size:g} times as large')
        elif not self.is_plain:
            pass  # nothing else of it can change
        elif generator.octave_base_scale is None:
            new, now = _list(self.scales(plan)), _list(generator.scales)
            if resized or resampled:
                words.append(f'set {key}.scales={new} (now {now})')
        else:
            now = generator.octave_base_scale
            if resized:
                new = now * plan.size
                words.append(f'set {key}.octave_base_scale={new:g} (now {now:g})')
            if resampled:
                new, now = plan.per_octave, self.start.per_octave
                words.append(f'set {key}.scales_per_octave={new} (now {now})')
        if plan.ratios != self.start.ratios:
            new, now = _list(plan.ratios), _list(self.start.ratios)
            words.append(f'set {key}.ratios={new} (now {now})')
        if plan.input_size != 1:
            words.append(
                f'make the images {plan.input_size:g} times as large in the pipeline'
            )
        return ' and '.join(words)

    def why_missed(self, plan: Plan | None = None) -> str:
        """Describe how the objects that a plan does not cover differ from its anchors.

        Args:
            plan: A plan with the input as it is; None for the anchors as they are.
        """
        plan = self.start if plan is None else plan
        missed = self.boxes[self.best_iou(plan) < self.pos_iou_thr]
        anchors = torch.cat(self.base_anchors(plan))
        sizes, ratios = box_sizes(missed), box_ratios(missed)
        least, most = box_sizes(anchors).aminmax()
        flattest, tallest = box_ratios(anchors).aminmax()
        fits = (sizes >= least) & (sizes <= most)
        reasons = {
            f'smaller than the smallest anchor ({least:.0f} pixels)': sizes < least,
            f'larger than the largest anchor ({most:.0f} pixels)': sizes > most,
            f'flatter than all anchors (height/width {flattest:.3g})': fits
            & (ratios < flattest),
            f'taller than all anchors (height/width {tallest:.3g})': fits
            & (ratios > tallest),
        }
        shares = {reason: of.float().mean().item() for reason, of in reasons.items()}
        told = [
            f'{_percent(share)} are {reason}'
            for reason, share in sorted(shares.items(), key=lambda item: -item[1])
            if share >= 0.1
        ]
        return ', '.join(told or ['most lie between the anchors of the grid'])

    def cut_off(self, at_border: Tensor) -> str:
        """A sentence where most of the objects that are missed are at the border."""
        is_covered = self.best_iou(self.start) >= self.pos_iou_thr
        share = at_border[~is_covered].float().mean().item()
        if share <= 0.5:
            return ''
        inside = is_covered[~at_border]
        others = _percent(inside.float().mean().item()) if len(inside) else 'none'
        return (
            f' {_percent(share)} of them reach the border of the image, of the others '
            f'{others} are covered: cropping may have cut them off.'
        )


def choose(options: dict[str, tuple[Plan, float]]) -> tuple[Plan, float]:
    """The first, cheapest kind of change that does about as well as the best."""
    enough = max(share for _, share in options.values()) - WORTHWHILE
    return next(option for option in options.values() if option[1] >= enough)


def _with_ratios(
    ratios: tuple[float, ...], more: tuple[float, ...]
) -> tuple[float, ...]:
    """Both, ascending, without those that are there already."""
    new = [r for r in more if all(abs(r - old) > 0.02 * old for old in ratios)]
    return tuple(sorted((*ratios, *new))) if new else ratios


def _enlarged(anchors: Tensor, factor: float) -> Tensor:
    """(A, 4) xyxy boxes, scaled about their centres."""
    center = (anchors[:, :2] + anchors[:, 2:]) / 2
    half = (anchors[:, 2:] - anchors[:, :2]) / 2 * factor
    return torch.cat([center - half, center + half], dim=1)


def _list(values: Sequence[float] | Tensor) -> str:
    """Format a value for --cfg-options, without blanks."""
    return f'[{",".join(f"{float(value):.3g}" for value in values)}]'


def _percent(share: float) -> str:
    return f'{100 * share:.1f} %'
