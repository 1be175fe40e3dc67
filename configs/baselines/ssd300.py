"""SSD300 with VGG-16: one stage, hard negatives mined (section 2).

data_from names the config of the data, here COCO.
"""

_base_ = 'mmdet::ssd/ssd300_coco.py'

data_from = '../_base_/datasets/coco_detection.py'

model = dict(bbox_head=dict(type='focal_retinanet.SSDHead'))
