"""Table 1e: accuracy and speed by backbone depth x image scale."""

base = '../retinanet/retinanet_r50_fpn_90k_coco-600px.py'
rows = {
    'r50_400px': '../retinanet/retinanet_r50_fpn_90k_coco-400px.py',
    'r50_500px': '../retinanet/retinanet_r50_fpn_90k_coco-500px.py',
    'r50_600px': '../retinanet/retinanet_r50_fpn_90k_coco-600px.py',
    'r50_700px': '../retinanet/retinanet_r50_fpn_90k_coco-700px.py',
    'r50_800px': '../retinanet/retinanet_r50_fpn_90k_coco-800px.py',
    'r101_400px': '../retinanet/retinanet_r101_fpn_90k_coco-400px.py',
    'r101_500px': '../retinanet/retinanet_r101_fpn_90k_coco-500px.py',
    'r101_600px': '../retinanet/retinanet_r101_fpn_90k_coco-600px.py',
    'r101_700px': '../retinanet/retinanet_r101_fpn_90k_coco-700px.py',
    'r101_800px': '../retinanet/retinanet_r101_fpn_90k_coco-800px.py',
}
