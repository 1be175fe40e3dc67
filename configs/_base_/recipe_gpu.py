"""What new_config.py starts from with a GPU: ResNet-50-FPN, trained by the paper's SGD.

Not measured.
"""

_base_ = [
    './models/retinanet_r50_fpn.py',
    './datasets/augmented_detection.py',
    './iterations_runtime.py',
    './schedules/schedule_400i_adamw.py',
]

optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    # The paper's for 16 images.
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-4),
    clip_grad=dict(max_norm=10, norm_type=2),
)
