"""The compiled suppression, called in every way that a framework may call it.

The reference is the definition: the best remaining box stays, and those that overlap it
by more than the threshold are dropped.
"""

import contextlib
import logging
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from mmcv.ops import nms as mmcv_nms
from mmengine.structures import InstanceData
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode

from focal_retinanet.models.nms import batch_nms, nms
from focal_retinanet.ops.nms import native as nms_native
from focal_retinanet.ops.nms.native import grouped_nms

if not nms_native.is_available(torch.zeros(1, 4)):
    pytest.skip('needs a C++ compiler', allow_module_level=True)
INF, NAN = float('inf'), float('nan')
ALL = 10**6
K = 5
NMS = dict(type='nms', iou_threshold=0.5)


def inputs(count=200, groups=K):
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(count, 2, generator=generator, dtype=torch.float32) * 60
    extent = torch.rand(count, 2, generator=generator, dtype=torch.float32) * 50
    scores = torch.rand(count, generator=generator, dtype=torch.float32)
    group = torch.randint(groups, (count,), generator=generator)
    return torch.cat([corner, corner + extent], 1), scores, group


def by_definition(boxes, scores, groups, threshold=0.5):
    kept = []
    for i in scores.argsort(descending=True, stable=True).tolist():
        rivals = [j for j in kept if groups[j] == groups[i]]
        if not any(iou(boxes[j], boxes[i]) > threshold for j in rivals):
            kept.append(i)
    return torch.tensor(kept, dtype=torch.int64)


def iou(a, b):
    side = torch.minimum(a[2:], b[2:]) - torch.maximum(a[:2], b[:2])
    intersection = side.clamp(min=0).prod()
    area = (a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod()
    return intersection / (area - intersection)


BOXES, SCORES, GROUPS = inputs()
EXPECTED = by_definition(BOXES, SCORES, GROUPS)
EXPECTED_OF_ALL = by_definition(BOXES, SCORES, torch.zeros_like(GROUPS))


@pytest.fixture
def lines(caplog, monkeypatch):
    """Lines of the log."""
    monkeypatch.setattr(logging.getLogger('focal_retinanet'), 'propagate', True)
    caplog.set_level(logging.INFO, 'focal_retinanet')
    return caplog


@pytest.fixture
def default_dtype():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def default_device():
    torch.set_default_device('meta')
    yield
    torch.set_default_device(None)


def assert_expected():
    assert nms_native.is_available(BOXES)
    keep = grouped_nms(BOXES, SCORES, GROUPS, 0.5, ALL)
    assert keep.device.type == 'cpu' and keep.dtype == torch.int64
    assert torch.equal(keep, EXPECTED)


@pytest.mark.parametrize(
    'mode', [torch.enable_grad, torch.no_grad, torch.inference_mode]
)
def test_autograd_modes(mode):
    with mode():
        assert_expected()


@pytest.mark.usefixtures('default_dtype')
def test_default_dtype():
    assert_expected()


@pytest.mark.usefixtures('default_device')
def test_default_device():
    assert_expected()
    assert torch.equal(nms(BOXES, SCORES, 0.5), EXPECTED_OF_ALL)


def test_inference_tensors_outside_of_inference_mode():
    with torch.inference_mode():
        boxes, scores, groups = BOXES.clone(), SCORES.clone(), GROUPS.clone()
    keep = grouped_nms(boxes, scores, groups, 0.5, ALL)
    assert torch.equal(keep, EXPECTED)


def test_boxes_and_scores_with_a_graph():
    boxes, scores = BOXES.clone().requires_grad_(), SCORES.clone().requires_grad_()
    keep = grouped_nms(boxes * 1, scores * 1, GROUPS, 0.5, ALL)
    assert torch.equal(keep, EXPECTED)
    (results,) = batch_nms(
        [InstanceData(bboxes=boxes * 1, scores=scores * 1, labels=GROUPS)], NMS, -1, K
    )
    (results.scores.sum() + results.bboxes.sum()).backward()
    kept = torch.zeros(len(BOXES)).index_fill(0, EXPECTED, 1)
    assert torch.equal(scores.grad, kept)
    assert torch.equal(boxes.grad, kept[:, None].expand(-1, 4))


@pytest.mark.parametrize(
    'layout',
    [
        lambda t: t.repeat_interleave(2, dim=0)[::2],
        lambda t: t.t().contiguous().t() if t.dim() == 2 else t,
        lambda t: torch.cat([t, t])[len(t) :],
        torch.nn.Parameter,
    ],
    ids=['every other row', 'transposed', 'with an offset', 'a parameter'],
)
def test_layouts(layout):
    boxes, scores = layout(BOXES), layout(SCORES)
    assert torch.equal(grouped_nms(boxes, scores, GROUPS, 0.5, ALL), EXPECTED)


def test_threads():
    with ThreadPoolExecutor(4) as pool:
        calls = [
            pool.submit(grouped_nms, BOXES, SCORES, GROUPS, 0.5, ALL) for _ in range(40)
        ]
        assert all(torch.equal(call.result(), EXPECTED) for call in calls)


@pytest.mark.parametrize('dtype', [torch.float64, torch.float16, torch.bfloat16])
def test_boxes_of_another_dtype_are_refused(dtype):
    assert not nms_native.is_available(BOXES.to(dtype))
    with pytest.raises(ValueError, match='float32'):
        grouped_nms(BOXES.to(dtype), SCORES, GROUPS, 0.5, ALL)
    with pytest.raises(ValueError, match=r'must be \(N, 4\)'):
        grouped_nms(BOXES[:, :3], SCORES, GROUPS, 0.5, ALL)


@pytest.mark.parametrize('dtype', [torch.float64, torch.float16, torch.bfloat16])
def test_scores_are_compared_in_their_own_dtype(dtype):
    scores = SCORES.to(dtype)
    if dtype == torch.float64:  # closer than fp32 can resolve
        scores = 0.5 + scores * 1e-12
    keep = grouped_nms(BOXES, scores, GROUPS, 0.5, ALL)
    assert torch.equal(keep, by_definition(BOXES, scores, GROUPS))


@pytest.mark.parametrize('limit', [0, 1, 3])
def test_limit(limit):
    keep = grouped_nms(BOXES, SCORES, GROUPS, 0.5, limit)
    counts = torch.zeros(K, dtype=torch.int64)
    expected = []
    for i in EXPECTED.tolist():
        if counts[GROUPS[i]] < limit:
            expected.append(i)
            counts[GROUPS[i]] += 1
    assert keep.tolist() == expected


def test_no_boxes():
    keep = grouped_nms(BOXES[:0], SCORES[:0], GROUPS[:0], 0.5, ALL)
    assert keep.shape == (0,) and keep.dtype == torch.int64


@pytest.mark.parametrize(
    'row',
    [
        (NAN, 0, 50, 50),
        (0, 0, NAN, NAN),
        (NAN,) * 4,
        (0, 0, INF, INF),
        (-INF, -INF, INF, INF),
        (INF,) * 4,
        (30, 30, 10, 10),
        (20, 20, 20, 20),
        (0, 0, 3e38, 3e38),
        (0, 0, 1e-30, 1e-30),
    ],
    ids=str,
)
def test_boxes_without_a_positive_finite_area(row):
    boxes, scores, groups = (t.clone() for t in (BOXES, SCORES, GROUPS))
    boxes[::9] = torch.tensor(row)
    keep = grouped_nms(boxes, scores, groups, 0.5, ALL)
    assert torch.equal(keep, by_definition(boxes, scores, groups))
    for group in range(K):  # bitwise equal to mmcv's operator
        of_group = (groups == group).nonzero()[:, 0]
        expected = of_group[mmcv_nms(boxes[of_group], scores[of_group], 0.5)[1]]
        assert torch.equal(keep[groups[keep] == group], expected)


def test_scores_that_are_not_finite():
    scores = SCORES.clone()
    scores[::7], scores[1::7], scores[2::7] = NAN, INF, -INF
    keep = grouped_nms(BOXES, scores, GROUPS, 0.5, ALL)
    assert torch.equal(keep, by_definition(BOXES, scores, GROUPS))


def by_batch_nms(boxes, scores, groups):
    results = InstanceData(bboxes=boxes, scores=scores, labels=groups)
    (found,) = batch_nms([results], NMS, 10**6, K)
    return found.bboxes, found.scores, found.labels


def assert_found(found):
    assert torch.equal(found[0], BOXES[EXPECTED])
    assert torch.equal(found[1], SCORES[EXPECTED])
    assert torch.equal(found[2], GROUPS[EXPECTED])


def test_trace_steps_aside_and_logs_it_once(lines):
    class Model(torch.nn.Module):
        def forward(self, boxes, scores, groups):
            assert not nms_native.is_available(boxes)
            return by_batch_nms(boxes, scores, groups)

    traced = torch.jit.trace(
        Model(), (BOXES, SCORES, GROUPS), check_trace=False, strict=False
    )
    assert_found(traced(BOXES, SCORES, GROUPS))
    assert sum("mmcv's operator" in line for line in lines.messages) == 1
    # The trace records the operator and not its result for these boxes.
    other = traced(BOXES, SCORES.flip(0), GROUPS)
    expected = by_definition(BOXES, SCORES.flip(0), GROUPS)
    assert torch.equal(other[1], SCORES.flip(0)[expected])


def test_kernel_is_not_available_in_other_modes(lines):
    with FakeTensorMode() as mode:
        assert not nms_native.is_available(mode.from_tensor(BOXES))

    class Nothing(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            return func(*args, **(kwargs or {}))

    with Nothing():
        assert not nms_native.is_available(BOXES)

    def traced(boxes):
        assert not nms_native.is_available(boxes)
        return boxes + 1

    make_fx(traced)(BOXES)
    torch.vmap(traced)(BOXES[None])
    assert not nms_native.is_available(BOXES.to('meta'))
    assert not nms_native.is_available(BOXES.as_subclass(Subclass))
    assert len(lines.messages) == 1


class Subclass(torch.Tensor):
    pass


@pytest.mark.skipif(
    not hasattr(torch.compiler, 'is_exporting'),
    reason="this torch cannot compile mmengine's InstanceData",
)
def test_compiled_with_graph_breaks():
    compiled = torch.compile(by_batch_nms, backend='eager')
    assert_found(compiled(BOXES, SCORES, GROUPS))


@pytest.mark.skipif(
    not hasattr(torch.compiler, 'is_exporting'),
    reason='this torch exports by its compiler, see above',
)
def test_export_does_not_see_the_kernel(monkeypatch):
    class Model(torch.nn.Module):
        def forward(self, boxes, scores, groups):
            asked.append(nms_native.is_available(boxes))
            return by_batch_nms(boxes, scores, groups)

    asked, calls = [], []
    monkeypatch.setattr(nms_native, 'grouped_nms', lambda *args: calls.append(args))
    with contextlib.suppress(Exception):  # mmcv's operator has no fake implementation
        torch.export.export(Model(), (BOXES, SCORES, GROUPS), strict=False)
    assert asked and not any(asked)
    assert not calls
