"""400 iterations of AdamW, validated four times; a config sets their number."""

_base_ = './schedule_8e_adamw.py'

train_cfg = dict(
    _delete_=True, type='IterBasedTrainLoop', max_iters=400, val_interval=100
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=0, end=400),
]
