"""Data sets inside wrappers are found in order."""

from focal_retinanet.config.dataset_configs import inner_datasets


def test_inner_datasets():
    a, b, c = (dict(type='CocoDataset', ann_file=name) for name in 'abc')
    wrapped = dict(
        type='RepeatDataset',
        dataset=dict(
            type='ConcatDataset',
            datasets=[a, dict(type='ClassBalancedDataset', dataset=b), c],
        ),
    )
    assert list(inner_datasets(wrapped)) == [a, b, c]
    assert list(inner_datasets(a)) == [a]
    assert list(inner_datasets(None)) == []
    # The same dicts, so that they can be changed.
    assert next(inner_datasets(wrapped)) is a
