"""A recipe for a few hundred images on a CPU: MobileNetV2-FPN, trained by AdamW.

new_config.py starts from it without a GPU. steps_small-data.py measures its parts.
"""

_base_ = [
    '../_base_/models/retinanet_mobilenetv2_fpn.py',
    '../_base_/datasets/augmented_detection.py',
    '../_base_/iterations_runtime.py',
    '../_base_/schedules/schedule_400i_adamw.py',
    '../_base_/fast_on_cpu.py',
]

# Half of the paper's convolutions in each subnet: faster, and no worse on a few hundred images.
model = dict(bbox_head=dict(stacked_convs=2))
