"""Faster R-CNN with ResNet-50-FPN: two stages (section 2).

data_from names the config of the data, here COCO.
"""

_base_ = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'

data_from = '../_base_/datasets/coco_detection.py'
