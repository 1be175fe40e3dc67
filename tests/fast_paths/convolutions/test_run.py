"""A run of mmengine with fast convolutions and averaged weights."""

import torch
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement


def test_averaged_weights_in_a_run(
    path, twins, enabled, taken, use, make_images, assert_close, tmp_path
):
    """EMAHook swaps weights around each validation, and training continues."""
    results = []
    for name, network in zip(('plain', 'fast'), twins, strict=True):
        model = _Trained(network, use.loss)
        data = [dict(images=make_images() * scale) for scale in (1.0, 0.5, 2.0)]
        runner = Runner(
            model=model,
            work_dir=str(tmp_path / name),
            train_dataloader=_loader(data),
            train_cfg=dict(by_epoch=True, max_epochs=3, val_interval=1),
            optim_wrapper=dict(
                optimizer=dict(type='SGD', lr=0.1), accumulative_counts=2
            ),
            val_dataloader=_loader(data[:1]),
            val_cfg=dict(),
            val_evaluator=Evaluator(_Nothing()),
            custom_hooks=[dict(type='EMAHook', momentum=0.3)],
            experiment_name=f'{path}-{name}',
            log_level='ERROR',
        )
        runner.train()
        results.append([*model.losses, *model.detections, *network.parameters()])
    assert len(results[0]) > 9 + 3
    assert_close(results[1], results[0])
    assert taken == enabled - ({'winograd'} if torch.cuda.is_available() else set())


class _Trained(BaseModel):
    def __init__(self, network, loss):
        super().__init__()
        self.network, self.loss = network, loss
        self.losses, self.detections = [], []

    def train(self, mode=True):
        super().train(mode)
        self.network.eval()  # frozen batch norms
        return self

    def forward(self, images, mode='tensor'):
        outputs = self.network(images)
        if mode == 'loss':
            loss = self.loss(outputs)
            self.losses.append(loss.detach())
            return dict(loss=loss)
        self.detections += [x.detach() for x in outputs]
        return [BaseDataElement()]


class _Nothing(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        return {}


def _loader(data):
    return torch.utils.data.DataLoader(data, collate_fn=lambda items: items[0])
