"""How a loss of K sigmoids tells mmdet's RoI heads that it needs no background."""

import torch
from mmdet.models.losses import accuracy
from torch import Tensor


class SigmoidChannels:
    """A base class for losses, by which a ``BBoxHead`` has K class channels.

    mmdet's RoI heads do not ask for ``use_sigmoid``. They ask the loss itself,
    by the attributes and methods below, and give any other loss a channel for
    the background, which K sigmoids would train as one more class. Dense heads
    use :meth:`get_activation` alone, and get the sigmoids that they take anyway.
    """

    use_sigmoid: bool
    _is_in_roi_head = False

    @property
    def custom_cls_channels(self) -> bool:
        """Whether a head should ask for the number of its class channels."""
        return self.use_sigmoid

    @property
    def custom_activation(self) -> bool:
        """Whether a head should ask for scores and accuracy."""
        return self.use_sigmoid

    def get_cls_channels(self, num_classes: int) -> int:
        """Class channels of a RoI head, K."""
        self._is_in_roi_head = True  # dense heads do not call this
        return num_classes

    def get_activation(self, cls_score: Tensor) -> Tensor:
        """Scores of logits (N, K).

        Returns:
            (N, K); in a RoI head (N, K + 1), the last for the background, which
            the head leaves out.
        """
        scores = cls_score.sigmoid()
        if not self._is_in_roi_head:
            return scores
        return torch.cat([scores, scores.new_zeros(*scores.shape[:-1], 1)], dim=-1)

    def get_accuracy(self, cls_score: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Share of the objects, in percent, whose class has the highest score.

        Args:
            cls_score: (N, K) logits.
            labels: (N,), K for background, which does not count.
        """
        is_object = (labels >= 0) & (labels < cls_score.size(1))
        return dict(acc_classes=accuracy(cls_score[is_object], labels[is_object]))


def has_own_activation(loss) -> bool:
    """Whether a dense head gets other scores from the loss than sigmoid or softmax."""
    if not getattr(loss, 'custom_cls_channels', False):
        return False
    return (
        getattr(type(loss), 'get_activation', None)
        is not SigmoidChannels.get_activation
    )
