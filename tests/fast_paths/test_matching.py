"""Matching by each backend, called in every way that a framework may call it.

The references are mmdet's assigner, called image by image, and exact fractions. Without
a GPU, Triton's kernels run in its interpreter.
"""

import functools
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import pytest
import torch
from mmdet.models.task_modules import MaxIoUAssigner
from mmengine.structures import InstanceData
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode

from focal_retinanet.ops.fast_paths import triton_probe
from focal_retinanet.ops.fast_paths.eager import is_compiling
from focal_retinanet.ops.matching import MatchingRule, match_max_iou_batch
from focal_retinanet.ops.matching import native as matching_native
from focal_retinanet.ops.matching import plain as matching_plain
from focal_retinanet.ops.matching import triton as matching_triton

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
INTERPRET = '1' if DEVICE == 'cpu' else '0'
with pytest.MonkeyPatch.context() as environment:
    environment.setenv('TRITON_INTERPRET', INTERPRET)  # read by the import
    try:
        import triton

        from focal_retinanet.ops.matching import triton_kernels as matching_kernels

        HAS_TRITON = int(triton.__version__.split('.')[0]) >= 3
    except ImportError:
        HAS_TRITON = False

BACKENDS = {
    'native': matching_native,
    'triton': matching_triton,
    'plain': matching_plain,
}
PAPER = dict(
    pos_iou_thr=0.5,
    neg_iou_thr=(0.0, 0.4),
    min_pos_iou=1e-6,
    match_low_quality=True,
    gt_max_assign_all=True,
)
INF, NAN = float('inf'), float('nan')


class Calls(list):
    """Names of the backends that were called, in order."""


@pytest.fixture(params=BACKENDS)
def backend(request, monkeypatch):
    """Selects a backend, and records which one serves; plain PyTorch does if it cannot.

    Returns:
        Calls with the ``name`` and the ``device`` of the selected backend.
    """
    calls = Calls()
    calls.name = request.param
    calls.device = DEVICE if request.param == 'triton' else 'cpu'
    if request.param == 'triton':
        if not HAS_TRITON:
            pytest.skip('no Triton 3.0 or later')
        monkeypatch.setenv('TRITON_INTERPRET', INTERPRET)
        monkeypatch.setattr(triton_probe, 'works', lambda *args: True)
    elif request.param == 'native' and matching_native._kernel() is None:
        pytest.skip('needs a C++ compiler')
    if request.param != 'native':
        monkeypatch.setattr(matching_native, 'is_available', lambda *args: False)
    for name, module in BACKENDS.items():
        monkeypatch.setattr(module, 'match', _recorded(module.match, name, calls))
    return calls


def _recorded(match, name, calls):
    @functools.wraps(match)
    def record(*args):
        # Compiled code must not change the list.
        if not is_compiling():
            calls.append(name)
        return match(*args)

    return record


def boxes_on_a_grid(count, seed=0):
    """Return boxes whose IoUs are exact and tie, some without area or inverted."""
    torch.manual_seed(seed)
    corner = torch.randint(0, 12, (count, 2))
    extent = torch.randint(-1, 8, (count, 2))
    return torch.cat([corner, corner + extent], 1).float()


def inputs(device='cpu'):
    """Return anchors for three blocks of a Triton kernel, and objects of three images."""
    anchors = boxes_on_a_grid(150).repeat(2, 1)
    gt_bboxes = [boxes_on_a_grid(count, seed=count) for count in (6, 0, 3)]
    return anchors.to(device), [gts.to(device) for gts in gt_bboxes]


def by_mmdet(anchors, gt_bboxes, options=PAPER):
    """Match by mmdet, with objects counted over all images."""
    matched, max_ious, offset = [], [], 0
    for gts in gt_bboxes:
        instances = InstanceData(bboxes=gts, labels=torch.zeros(len(gts)).long())
        result = MaxIoUAssigner(**options).assign(
            InstanceData(priors=anchors), instances
        )
        gt_inds = result.gt_inds
        matched.append(torch.where(gt_inds > 0, gt_inds + offset, gt_inds))
        max_ious.append(result.max_overlaps)
        offset += len(gts)
    return torch.stack(matched), torch.stack(max_ious)


def assert_same(ours, expected):
    """Assert that results are bitwise equal, where NaN equals NaN."""
    for tensor, reference in zip(ours, expected, strict=True):
        assert tensor.dtype == reference.dtype
        torch.testing.assert_close(
            tensor.cpu(), reference.cpu(), rtol=0, atol=0, equal_nan=True
        )
        assert not tensor.requires_grad


def match_plainly(anchors, gt_bboxes):
    return match_max_iou_batch(anchors, gt_bboxes, MatchingRule(**PAPER))


def in_inference_mode_before_training(anchors, gt_bboxes):
    with torch.inference_mode():
        match_plainly(anchors + 0, gt_bboxes)
    return match_plainly(anchors, gt_bboxes)


def with_default_dtype(anchors, gt_bboxes):
    torch.set_default_dtype(torch.float64)
    try:
        return match_plainly(anchors, gt_bboxes)
    finally:
        torch.set_default_dtype(torch.float32)


def under(make_context):
    def call(anchors, gt_bboxes):
        with make_context():
            return match_plainly(anchors, gt_bboxes)

    return call


def with_anchors_that_require_a_gradient(anchors, gt_bboxes):
    return match_plainly(
        anchors.clone().requires_grad_(), [gts.requires_grad_() for gts in gt_bboxes]
    )


def with_strided_boxes(anchors, gt_bboxes):
    def strided(boxes):
        wider = boxes.new_full((len(boxes), 9), NAN)
        wider[:, 1::2] = boxes
        return wider[:, 1::2]

    assert not strided(anchors).is_contiguous()
    return match_plainly(strided(anchors), [strided(gts) for gts in gt_bboxes])


def with_anchors_at_an_odd_address(anchors, gt_bboxes):
    memory = anchors.new_full((anchors.numel() + 1,), NAN)
    memory[1:] = anchors.flatten()
    return match_plainly(memory[1:].view(-1, 4), gt_bboxes)


def with_objects_of(dtype):
    return lambda anchors, gts: match_plainly(anchors, [x.to(dtype) for x in gts])


def with_a_parameter(anchors, gt_bboxes):
    return match_plainly(torch.nn.Parameter(anchors), gt_bboxes)


EAGER = {
    'grad mode': match_plainly,
    'no_grad': under(torch.no_grad),
    'inference_mode': under(torch.inference_mode),
    'inference_mode before training': in_inference_mode_before_training,
    'autocast': under(lambda: torch.autocast('cpu', torch.bfloat16)),
    'default dtype float64': with_default_dtype,
    'default device meta': under(lambda: torch.device('meta')),
    'anchors that require a gradient': with_anchors_that_require_a_gradient,
    'anchors as a parameter': with_a_parameter,
    'not contiguous': with_strided_boxes,
    'at an odd address': with_anchors_at_an_odd_address,
    'float64 objects': with_objects_of(torch.float64),
    'bfloat16 objects': with_objects_of(torch.bfloat16),
    'integer objects': with_objects_of(torch.int64),
}


@pytest.mark.parametrize('call', EAGER.values(), ids=EAGER)
def test_eager(call, backend):
    expected = by_mmdet(*inputs())
    assert_same(call(*inputs(backend.device)), expected)
    assert set(backend) == {backend.name}


def test_several_threads(backend):
    if backend.name == 'triton' and DEVICE == 'cpu':
        pytest.skip("Triton's interpreter is for one thread")
    expected = by_mmdet(*inputs())
    anchors, gt_bboxes = inputs(backend.device)
    with ThreadPoolExecutor(4) as threads:
        jobs = [threads.submit(match_plainly, anchors, gt_bboxes) for _ in range(4)]
        for job in jobs:
            assert_same(job.result(), expected)
    assert backend == [backend.name] * 4


def recorded_by_a_mode(anchors, gt_bboxes):
    class Recorder(TorchDispatchMode):
        operators = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.operators += 1
            return func(*args, **kwargs or {})

    with Recorder() as recorder:
        result = match_plainly(anchors, gt_bboxes)
    assert recorder.operators > 50  # the mode sees the arithmetic
    return result


def replayed(transform):
    """Record a call with other boxes than those of the replay."""

    def call(anchors, gt_bboxes):
        def match(anchors, *gt_bboxes):
            return match_plainly(anchors, gt_bboxes)

        others = [torch.ones_like(boxes) for boxes in (anchors, *gt_bboxes)]
        return transform(match, others)(anchors, *gt_bboxes)

    return call


class Matching(torch.nn.Module):
    def forward(self, anchors, *gt_bboxes):
        return match_plainly(anchors, gt_bboxes)


RECORDED = {
    'dispatch mode': recorded_by_a_mode,
    'torch.jit.trace': replayed(
        lambda match, boxes: torch.jit.trace(match, boxes, check_trace=False)
    ),
    'make_fx': replayed(lambda match, boxes: make_fx(match)(*boxes)),
    'torch.export': replayed(
        lambda match, boxes: torch.export.export(Matching(), tuple(boxes)).module()
    ),
    'torch.compile': replayed(
        lambda match, boxes: torch.compile(match, fullgraph=True, backend='eager')
    ),
}


@pytest.mark.filterwarnings('ignore::torch.jit.TracerWarning')
@pytest.mark.parametrize('call', RECORDED.values(), ids=RECORDED)
def test_recorded(call, backend):
    torch.compiler.reset()
    expected = by_mmdet(*inputs())
    assert_same(call(*inputs(backend.device)), expected)
    assert set(backend) <= {'plain'}  # the only backend that can be recorded


@pytest.mark.parametrize('real_anchors', [True, False])
def test_fake_tensors(real_anchors, backend):
    anchors, gt_bboxes = inputs(backend.device)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        if not real_anchors:
            anchors = mode.from_tensor(anchors)
        matched, max_ious = match_plainly(anchors, gt_bboxes)
    assert matched.shape == max_ious.shape == (3, 300)
    assert (matched.dtype, max_ious.dtype) == (torch.int64, torch.float32)
    assert backend == ['plain']


def test_anchors_of_64_bits_are_matched_by_pytorch(backend):
    anchors, gt_bboxes = inputs(backend.device)
    ours = match_plainly(anchors.double(), gt_bboxes)
    anchors, gt_bboxes = inputs()
    expected = by_mmdet(anchors.double(), [gts.double() for gts in gt_bboxes])
    assert_same(ours, expected)
    assert backend == ['plain']


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_anchors_of_16_bits_are_matched_in_fp32(dtype, backend):
    anchors, gt_bboxes = inputs(backend.device)
    ours = match_plainly(anchors.to(dtype), gt_bboxes)
    anchors, gt_bboxes = inputs()
    expected = by_mmdet(anchors.to(dtype).float(), gt_bboxes)
    assert_same(ours, expected)
    assert backend == [backend.name]


def test_integer_anchors_are_refused(backend):
    anchors, gt_bboxes = inputs(backend.device)
    with pytest.raises(RuntimeError, match="can't be cast"):
        match_plainly(anchors.long(), gt_bboxes)


@pytest.mark.parametrize('counts', [(), (0,), (0, 0, 0), (1,), (0, 40)])
@pytest.mark.parametrize('num_anchors', [0, 1, 128, 129])
def test_few_or_no_anchors_and_objects(counts, num_anchors, backend):
    anchors = boxes_on_a_grid(num_anchors).to(backend.device)
    gt_bboxes = [boxes_on_a_grid(count).to(backend.device) for count in counts]
    matched, max_ious = match_plainly(anchors, gt_bboxes)
    assert matched.shape == max_ious.shape == (len(counts), num_anchors)
    if counts and num_anchors:
        expected = by_mmdet(anchors.cpu(), [gts.cpu() for gts in gt_bboxes])
        assert_same((matched, max_ious), expected)
    assert backend == [backend.name]


ODD_BOXES = {
    'NaN': [NAN, NAN, NAN, NAN],
    'one NaN': [2, 2, NAN, 9],
    'infinite': [INF, INF, INF, INF],
    'the whole plane': [-INF, -INF, INF, INF],
    'a half-plane': [4, -INF, INF, INF],
    'a strip without height': [-INF, 3, INF, 3],
    'inside out and infinite': [INF, INF, -INF, -INF],
    'beyond fp32': [-3e38, -3e38, 3e38, 3e38],
    'area beyond fp32': [0, 0, 3e19, 3e19],
    'a point': [3, 3, 3, 3],
    'a segment': [3, 3, 3, 9],
    'inside out': [9, 9, 3, 3],
    'subnormal area': [3, 3, 3 + 2**-20, 3 + 2**-20],
}


@pytest.mark.filterwarnings('ignore::RuntimeWarning')  # NumPy in the interpreter
@pytest.mark.parametrize('among', ['objects', 'anchors', 'both'])
@pytest.mark.parametrize('box', ODD_BOXES.values(), ids=ODD_BOXES)
def test_odd_boxes(box, among, backend, monkeypatch):
    monkeypatch.setattr(matching_triton, '_BLOCK', 16)
    anchors = boxes_on_a_grid(24)  # two blocks
    gt_bboxes = [boxes_on_a_grid(2, seed=1), boxes_on_a_grid(3, seed=2)]
    gt_bboxes.append(torch.tensor([[-99.0, -99, -90, -90]]))  # far from all
    odd = torch.tensor([box], dtype=torch.float32)
    if among != 'anchors':
        gt_bboxes[1] = torch.cat([gt_bboxes[1][:1], odd, gt_bboxes[1][1:]])
    if among != 'objects':
        anchors = torch.cat([anchors[:20], odd, anchors[20:]])
    expected = by_mmdet(anchors, gt_bboxes)
    anchors = anchors.to(backend.device)
    assert_same(
        match_plainly(anchors, [gts.to(backend.device) for gts in gt_bboxes]), expected
    )
    assert backend[0] == backend.name


def exactly(anchors, gts, options):
    """Match one image by the rules of the paper and of RPN, in fractions."""

    def area(x1, y1, x2, y2):
        return (x2 - x1) * (y2 - y1)

    def iou(a, b):
        width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
        height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
        union = area(*a) + area(*b) - width * height
        return Fraction(width * height, union) if union > 0 else Fraction(0)

    ious = [[iou(gt, anchor) for gt in gts] for anchor in anchors]
    low, high = map(Fraction, options['neg_iou_thr'])
    matched = []
    for anchor_ious in ious:
        if not gts or low <= max(anchor_ious) < high:
            matched.append(0)
        elif max(anchor_ious) >= Fraction(options['pos_iou_thr']):
            matched.append(anchor_ious.index(max(anchor_ious)) + 1)
        else:
            matched.append(-1)
    for i in range(len(gts) if options['match_low_quality'] else 0):
        gt_ious = [anchor_ious[i] for anchor_ious in ious]
        best = max(gt_ious)
        if best > 0 and best >= Fraction(options['min_pos_iou']):
            for n in [n for n, value in enumerate(gt_ious) if value == best]:
                matched[n] = i + 1
                if not options['gt_max_assign_all']:
                    break
    return matched, [float(max(anchor_ious, default=0)) for anchor_ious in ious]


@pytest.mark.parametrize('seed', range(2))
@pytest.mark.parametrize('gt_max_assign_all', [True, False])
@pytest.mark.parametrize('match_low_quality', [True, False])
@pytest.mark.parametrize(('neg', 'pos'), [((0.0, 0.375), 0.5), ((0.125, 0.5), 0.75)])
def test_exact_arithmetic(
    seed, gt_max_assign_all, match_low_quality, neg, pos, backend
):
    options = dict(
        pos_iou_thr=pos,
        neg_iou_thr=neg,
        min_pos_iou=0.25,
        match_low_quality=match_low_quality,
        gt_max_assign_all=gt_max_assign_all,
    )
    anchors = boxes_on_a_grid(70, seed)
    images = [boxes_on_a_grid(count, seed + 100) for count in (3, 0, 6)]
    images[2] = images[2].repeat(2, 1)  # objects that tie
    excluded = torch.rand(3, 70) < 0.2
    matched, max_ious = match_max_iou_batch(
        anchors.to(backend.device),
        [gts.to(backend.device) for gts in images],
        MatchingRule(**options),
        excluded.to(backend.device),
    )
    offset = 0
    for b, gts in enumerate(images):
        there = ~excluded[b]
        gt, iou = exactly(anchors[there].int().tolist(), gts.int().tolist(), options)
        gt = torch.tensor(gt)
        expected = torch.full((70,), -1)
        expected[there] = torch.where(gt > 0, gt + offset, gt)
        expected_ious = torch.full((70,), -1.0)
        expected_ious[there] = torch.tensor(iou)
        assert_same((matched[b], max_ious[b]), (expected, expected_ious))
        offset += len(gts)
    assert backend == [backend.name]


@pytest.mark.parametrize('gt_max_assign_all', [True, False])
@pytest.mark.parametrize('with_excluded', [True, False])
def test_plain_matching_never_reads_from_the_device(
    gt_max_assign_all, with_excluded, no_reads
):
    # A tensor on meta has no values to read.
    anchors, gt_bboxes = inputs('meta')
    excluded = torch.zeros(3, 300, dtype=torch.bool, device='meta')
    rule = MatchingRule(**{**PAPER, 'gt_max_assign_all': gt_max_assign_all})
    if not with_excluded:
        excluded = None
    with no_reads:
        matched, max_ious = match_max_iou_batch(anchors, gt_bboxes, rule, excluded)
    assert matched.device == max_ious.device == torch.device('meta')
    assert len(no_reads.operators) < 200


@pytest.mark.skipif(not HAS_TRITON, reason='no Triton 3.0 or later')
def test_launch_never_reads_from_the_device(monkeypatch, no_reads):
    launched = []

    class Kernel:
        def __init__(self, name):
            self.name = name

        def __getitem__(self, grid):
            return lambda **arguments: launched.append((self.name, grid))

    for name in ('match_by_threshold', 'match_low_quality'):
        monkeypatch.setattr(matching_kernels, name, Kernel(name))
    anchors, gt_bboxes = inputs()
    with no_reads:
        matching_triton.match(anchors, gt_bboxes, MatchingRule(**PAPER), None)
    grid = (-(-300 // matching_triton._BLOCK), 3)
    assert launched == [('match_by_threshold', grid), ('match_low_quality', grid)]
    assert len(no_reads.operators) < 12


def test_boxes_that_are_not_finite_are_logged_once(caplog):
    if matching_native._kernel() is None:
        pytest.skip('needs a C++ compiler')
    matching_native._say_that_boxes_are_not_finite.cache_clear()
    anchors, gt_bboxes = inputs()
    gt_bboxes[0][1, 2] = INF
    for _ in range(2):
        match_plainly(anchors, gt_bboxes)
    assert [record.message for record in caplog.records] == [
        'Some boxes are NaN, infinite, or too large for fp32, so plain PyTorch matches '
        'them, which is slower'
    ]
