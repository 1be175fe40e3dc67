"""The head on a GPU against the head on a CPU."""

import pytest
import torch

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')

GPU = torch.device('cuda', 0)


@pytest.fixture
def synchronisation_fails():
    """Makes torch raise where the host waits for the device, once it is called."""
    yield lambda: torch.cuda.set_sync_debug_mode('error')
    torch.cuda.set_sync_debug_mode('default')


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16], ids=str)
def test_anchors_are_those_of_a_cpu(dtype, heads):
    generator = heads.make().prior_generator
    sizes = [(100, 167), (50, 84), (25, 42), (13, 21), (7, 11)]
    expected = generator.grid_priors(sizes, dtype, 'cpu')
    found = generator.grid_priors(sizes, dtype, GPU)
    for on_gpu, on_cpu in zip(found, expected, strict=True):
        assert torch.equal(on_gpu.cpu(), on_cpu)


@pytest.mark.parametrize(
    'changes',
    [{}, dict(reg_decoded_bbox=True, loss_bbox=dict(type='GIoULoss', _delete_=True))],
    ids=['smooth L1', 'GIoU'],
)
def test_head_is_that_of_a_cpu(changes, heads, synchronisation_fails):
    head = heads.make(**changes)
    heads.randomize(head)
    gt, metas = heads.objects(7, 0, 40), heads.metas((128, 192), (100, 150), (128, 90))
    maps = [list(levels) for levels in head(heads.features(3))]
    expected = head.loss_by_feat(*maps, gt, metas)
    flat = [level for levels in maps for level in levels]
    expected = {key: sum(value) for key, value in expected.items()}
    exact = torch.autograd.grad(sum(expected.values()), flat)
    on_cpu = head.predict_by_feat(
        *[[x.detach() for x in levels] for levels in maps], batch_img_metas=metas
    )

    head.to(GPU)
    gt = [instances.to(GPU) for instances in gt]
    maps = [[x.detach().to(GPU).requires_grad_() for x in levels] for levels in maps]
    head.loss_by_feat(*maps, gt, metas)  # the anchors and the probe may synchronise
    if not changes:  # mmdet's GIoU copies its epsilon to the device in each call
        synchronisation_fails()
    losses = head.loss_by_feat(*maps, gt, metas)
    losses = {key: sum(value) for key, value in losses.items()}
    flat = [level for levels in maps for level in levels]
    gradients = torch.autograd.grad(sum(losses.values()), flat)
    torch.cuda.set_sync_debug_mode('default')
    for key, value in expected.items():
        torch.testing.assert_close(losses[key].cpu(), value, rtol=1e-5, atol=1e-7)
    for found, wanted in zip(gradients, exact, strict=True):
        torch.testing.assert_close(found.cpu(), wanted, rtol=1e-4, atol=1e-6)

    on_gpu = head.predict_by_feat(
        *[[x.detach() for x in levels] for levels in maps], batch_img_metas=metas
    )
    for found, wanted in zip(on_gpu, on_cpu, strict=True):
        assert len(found) == len(wanted)
        torch.testing.assert_close(found.scores.cpu(), wanted.scores)
        torch.testing.assert_close(
            found.bboxes.cpu(), wanted.bboxes, rtol=1e-5, atol=1e-3
        )
        assert torch.equal(found.labels.cpu(), wanted.labels)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16], ids=str)
def test_head_under_autocast(dtype, heads):
    head = heads.make().to(GPU)
    heads.randomize(head)
    gt = [instances.to(GPU) for instances in heads.objects(7, 0)]
    features = [x.to(GPU) for x in heads.features(2)]
    wanted = head.loss_by_feat(*head(features), gt, heads.metas())
    scaler = torch.amp.GradScaler('cuda', init_scale=256.0)
    with torch.autocast('cuda', dtype=dtype):
        losses = head.loss_by_feat(*head(features), gt, heads.metas())
    for key in ('loss_cls', 'loss_bbox'):
        assert sum(losses[key]).dtype == torch.float32
        torch.testing.assert_close(
            sum(losses[key]), sum(wanted[key]), rtol=0.05, atol=0
        )
    optimizer = torch.optim.SGD(head.parameters(), lr=1e-3)
    before = [p.detach().clone() for p in head.parameters()]
    loss = sum(losses['loss_cls']) + sum(losses['loss_bbox'])
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 256.0  # no gradient was infinite
    assert not any(map(torch.equal, before, head.parameters()))


def test_compiled_head(heads):
    head = heads.make().to(GPU)
    heads.randomize(head)
    gt = [instances.to(GPU) for instances in heads.objects(7, 3)]
    features = [x.to(GPU) for x in heads.features(2)]

    def loss_of(features):
        losses = head.loss_by_feat(*head(features), gt, heads.metas())
        return sum(losses['loss_cls']) + sum(losses['loss_bbox'])

    wanted = loss_of(features)
    exact = torch.autograd.grad(wanted, head.parameters())
    found = torch.compile(loss_of, dynamic=True)(features)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=0)
    for a, b in zip(torch.autograd.grad(found, head.parameters()), exact, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
