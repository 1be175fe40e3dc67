"""Table 1c: anchor scales per octave x aspect ratios."""

base = '../retinanet/retinanet_r50_fpn_90k_coco-600px.py'
rows = {
    'scales-1_ratios-1': {
        'model.bbox_head.anchor_generator': dict(scales_per_octave=1, ratios=[1.0])
    },
    'scales-2_ratios-1': {
        'model.bbox_head.anchor_generator': dict(scales_per_octave=2, ratios=[1.0])
    },
    'scales-3_ratios-1': {
        'model.bbox_head.anchor_generator': dict(scales_per_octave=3, ratios=[1.0])
    },
    'scales-1_ratios-3': {
        'model.bbox_head.anchor_generator': dict(
            scales_per_octave=1, ratios=[0.5, 1.0, 2.0]
        )
    },
    'scales-2_ratios-3': {
        'model.bbox_head.anchor_generator': dict(
            scales_per_octave=2, ratios=[0.5, 1.0, 2.0]
        )
    },
    'scales-3_ratios-3': {
        'model.bbox_head.anchor_generator': dict(
            scales_per_octave=3, ratios=[0.5, 1.0, 2.0]
        )
    },
    'scales-4_ratios-3': {
        'model.bbox_head.anchor_generator': dict(
            scales_per_octave=4, ratios=[0.5, 1.0, 2.0]
        )
    },
}
