"""Table 1e, depth 50, scale 400: AP 30.5 in the paper."""

_base_ = './retinanet_r50_fpn_90k_coco-800px.py'

{step.type: step for step in _base_.train_pipeline}['Resize'].scale = (667, 400)
{step.type: step for step in _base_.test_pipeline}['Resize'].scale = (667, 400)
train_dataloader = dict(dataset=dict(pipeline=_base_.train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
test_dataloader = val_dataloader
