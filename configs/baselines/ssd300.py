"""SSD300 with VGG-16: one stage, hard negatives mined (section 2).

On the data of COCO; data_from is the line to change.
"""

_base_ = 'mmdet::ssd/ssd300_coco.py'

data_from = '../_base_/datasets/coco_detection.py'

model = dict(bbox_head=dict(type='focal_retinanet.SSDHead'))
