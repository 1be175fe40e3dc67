"""YOLOv3 with Darknet-53: one stage, no focal loss.

data_from names the config of the data, here COCO.
"""

_base_ = 'mmdet::yolo/yolov3_d53_8xb8-ms-608-273e_coco.py'

data_from = '../_base_/datasets/coco_detection.py'
