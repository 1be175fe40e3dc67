"""What new_config.py starts from without a GPU: MobileNetV2-FPN, trained by AdamW."""

_base_ = [
    './models/retinanet_mobilenetv2_fpn.py',
    './datasets/augmented_detection.py',
    './iterations_runtime.py',
    './schedules/schedule_400i_adamw.py',
    './fast_on_cpu.py',
]
