"""Values that are not finite, empty batches, and errors: all as in PyTorch."""

import pytest
import torch


@pytest.mark.parametrize('value', [float('nan'), float('inf'), float('-inf'), 1e38])
def test_values_that_are_not_finite(value, twins, use, make_images):
    """They reach the same outputs and the same gradients."""
    images = make_images()
    images[1, 3, 13, 17] = value
    results = [
        [*use.detect(model, images), *use.step(model, images)] for model in twins
    ]
    for fast, plain in zip(results[1], results[0], strict=True):
        assert torch.equal(fast.isfinite(), plain.isfinite())
    assert any(not x.isfinite().all() for x in results[0])


def test_weights_that_are_not_finite(twins, use, make_images):
    results = []
    for model in twins:
        model.backbone[0].weight.data[3, 2, 1, 1] = float('inf')
        images = make_images()
        results.append([*use.detect(model, images), *use.step(model, images)])
    for fast, plain in zip(results[1], results[0], strict=True):
        assert torch.equal(fast.isfinite(), plain.isfinite())


def test_empty_batch(twins, make_images):
    results = []
    for model in twins:
        images = make_images(0).requires_grad_()
        outputs = model(images)
        gradients = torch.autograd.grad(
            sum(x.sum() for x in outputs), [*model.parameters(), images]
        )
        results.append([*outputs, *gradients])
    assert all(map(torch.equal, results[1], results[0]))


CHANGES = {
    'images': lambda model, images: images.mul_(2),
    'weight': lambda model, images: model.backbone[0].weight.mul_(2),
    'weight of 1x1': lambda model, images: model.backbone[3].weight.mul_(2),
    'weight of the subnet': lambda model, images: model.subnet.weight.mul_(2),
    'weight of the norm': lambda model, images: model.backbone[1].weight.mul_(2),
    'running mean': lambda model, images: model.backbone[1].running_mean.mul_(2),
    'running variance': lambda model, images: model.backbone[4].running_var.mul_(2),
    'bias': lambda model, images: model.subnet.bias.mul_(2),
    'bias of the norm': lambda model, images: model.backbone[1].bias.mul_(2),
}


@pytest.mark.parametrize('frozen', ['nothing', 'backbone', 'norm'])
@pytest.mark.parametrize('change', CHANGES)
def test_changes_in_place_before_backward(
    change, frozen, twins, enabled, taken, use, make_images
):
    """They are errors exactly if they are errors in PyTorch."""
    errors = []
    for model in twins:
        if frozen == 'backbone':
            model.backbone.requires_grad_(False)
        elif frozen == 'norm':
            model.backbone[1].requires_grad_(False)
        images = make_images().requires_grad_()
        inputs = images.clone()
        outputs = model(inputs)
        with torch.no_grad():
            CHANGES[change](model, inputs)
        try:
            use.loss(outputs).backward()
            errors.append(None)
        except RuntimeError as error:
            errors.append('modified by an inplace operation' in str(error))
    assert errors[1] == errors[0]
    if change in ('images', 'weight', 'weight of 1x1', 'running variance'):
        assert errors[0]
    assert taken == enabled


def test_wrong_shapes_are_refused(twins):
    for images in (torch.randn(2, 17, 32, 32), torch.randn(2, 16, 32), torch.randn(3)):
        messages = []
        for model in twins:
            with pytest.raises(RuntimeError) as error:
                model(images)
            messages.append(str(error.value))
        assert messages[1] == messages[0]
