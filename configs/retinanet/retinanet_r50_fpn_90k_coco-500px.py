"""Table 1e, depth 50, scale 500: AP 32.5 in the paper."""

_base_ = './retinanet_r50_fpn_90k_coco-800px.py'

_base_.train_pipeline[2].scale = (833, 500)
_base_.test_pipeline[1].scale = (833, 500)
train_dataloader = dict(dataset=dict(pipeline=_base_.train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
test_dataloader = val_dataloader
