"""An image or video file that reports a failure to write it."""

from pathlib import Path

import cv2
import numpy as np

# Longest side of a JPEG image in pixels that libjpeg writes.
_LONGEST = 65500


class PictureFile:
    """File for the pictures of one input: a JPEG image, or an MP4 video.

    OpenCV is silent when it cannot write. This class keeps the first error and
    writes nothing after it.

    Args:
        path: File to write.
        fps: Frames per second of a video; None for an image.

    Attributes:
        error: Reason why the file is incomplete, with its name; None if it is complete.
    """

    def __init__(self, path: Path, fps: float | None = None) -> None:
        self.path = path
        self.fps = fps
        self.error: str | None = None
        self._video: cv2.VideoWriter | None = None
        self._frames = 0

    def add(self, picture: np.ndarray) -> None:
        """Write the image, or the next frame, (H, W, 3) uint8 BGR."""
        if self.error is not None:
            return
        picture = np.ascontiguousarray(picture)
        if self.fps is None:
            if max(picture.shape) > _LONGEST:
                self.error = (
                    f'{self.path} cannot be written: a JPEG image has at most '
                    f'{_LONGEST} pixels a side'
                )
                return
            try:
                self.path.write_bytes(cv2.imencode('.jpg', picture)[1])
            except (OSError, cv2.error) as error:
                self.error = f'{self.path} cannot be written ({error})'
            return
        if self._video is None:
            height, width = picture.shape[:2]
            fourcc = cv2.VideoWriter_fourcc(*'mp4v')
            self._video = cv2.VideoWriter(
                str(self.path), fourcc, self.fps, (width, height)
            )
        if not self._video.isOpened():
            self.error = (
                f'{self.path} cannot be written as a video: no such folder, no '
                "permission, or an OpenCV without FFmpeg's encoder for MPEG-4"
            )
            return
        self._video.write(picture)
        self._frames += 1

    def close(self) -> None:
        """End a video and check that it has all frames."""
        if self._video is None:
            return
        self._video.release()
        self._video = None
        if self.error is not None:
            return
        written = cv2.VideoCapture(str(self.path))
        count = int(written.get(cv2.CAP_PROP_FRAME_COUNT)) if written.isOpened() else 0
        written.release()
        if count < self._frames:
            self.error = (
                f'{self.path} has {count} of {self._frames} frames: the disk is full, '
                'or the sizes of the frames differ'
            )


def frames_per_second(video: Path) -> float:
    """Return the frames per second of a video file, or 25 if it has no such number."""
    return cv2.VideoCapture(str(video)).get(cv2.CAP_PROP_FPS) or 25
