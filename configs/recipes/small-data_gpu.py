"""A recipe for a few hundred images on a GPU: ResNet-50-FPN, the paper's SGD.

What new_config.py starts from with a GPU. Not measured.
"""

_base_ = [
    '../_base_/models/retinanet_r50_fpn.py',
    '../_base_/datasets/augmented_detection.py',
    '../_base_/iterations_runtime.py',
    '../_base_/schedules/schedule_400i_adamw.py',
]

optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    # The paper's for 16 images.
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-4),
    clip_grad=dict(max_norm=10, norm_type=2),
)
