"""Built data sets inside of wrappers are found in order."""

from mmengine.dataset import BaseDataset, RepeatDataset

from focal_retinanet.data.built_datasets import inner_built_datasets


class Images(BaseDataset):
    def load_data_list(self):
        return [{}]


def test_inner_built_datasets():
    a, b = Images(), Images()
    joined = dict(type='ConcatDataset', datasets=[a, b])
    found = inner_built_datasets(RepeatDataset(joined, times=2))
    assert [id(one) for one in found] == [id(a), id(b)]
    assert list(inner_built_datasets(a)) == [a]
