"""Built data sets inside of wrappers are found in order, and have one metainfo."""

import pytest
from mmdet.datasets import CocoDataset, ConcatDataset
from mmengine.dataset import BaseDataset, RepeatDataset

from focal_retinanet.data.built_datasets import inner_built_datasets, unite_metainfo
from focal_retinanet.data.check_data import DataError


class Images(BaseDataset):
    def load_data_list(self):
        return [{}]


def test_inner_built_datasets():
    a, b = Images(), Images()
    joined = dict(type='ConcatDataset', datasets=[a, b])
    found = inner_built_datasets(RepeatDataset(joined, times=2))
    assert [id(one) for one in found] == [id(a), id(b)]
    assert list(inner_built_datasets(a)) == [a]


def joined(*metainfos):
    """A data set of parts whose files are never read."""
    parts = [
        CocoDataset(ann_file=f'{i}.json', metainfo=metainfo, lazy_init=True)
        for i, metainfo in enumerate(metainfos)
    ]
    return ConcatDataset(parts, lazy_init=True)


def test_metainfo_of_parts_that_differ():
    first = dict(classes=('a', 'b'), palette=[(1, 2, 3), (4, 5, 6)])
    dataset = joined(first, dict(classes=('a', 'b')))
    assert isinstance(dataset.metainfo, list)
    unite_metainfo(dataset)
    assert dataset.metainfo == first
    with pytest.raises(DataError, match=r"0\.json has \('a', 'b'\); 1\.json has"):
        unite_metainfo(joined(first, dict(classes=('b', 'a'))))
