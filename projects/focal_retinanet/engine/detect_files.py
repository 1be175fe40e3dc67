"""Detections of many files, as pictures and as one COCO file."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from focal_retinanet.cli.errors import UserError
from focal_retinanet.data.image_files import CutOffVideoError, is_video
from focal_retinanet.engine.coco_detections import CocoDetections
from focal_retinanet.engine.inference import Detector
from focal_retinanet.visualization.file_names import unique_names
from focal_retinanet.visualization.picture_file import PictureFile, frames_per_second


def detect_files(
    detector: Detector,
    files: Sequence[Path],
    out_dir: Path,
    score_thr: float,
    batch_size: int = 1,
) -> None:
    """Write ``vis/`` and ``detections.json``, whatever ends the work.

    Equal names of files from several folders get numbers in ``vis/``.

    Args:
        detector: Detector to run.
        files: Images and videos; a file that cannot be read is passed over.
        out_dir: Folder of the results, which exists.
        score_thr: Lowest score that is drawn; the JSON has all detections.
        batch_size: Number of images that are detected at a time.

    Raises:
        UserError: An input is where a picture would be written; or files could not be
            read, or pictures could not be written, raised after all other files are
            done.
    """
    (out_dir / 'vis').mkdir(exist_ok=True)
    detections = CocoDetections(detector.classes)
    unreadable, unwritten = [], 0
    names = unique_names(
        file.stem + ('.mp4' if is_video(file) else '.jpg') for file in files
    )
    name_of = dict(zip(files, names, strict=True))
    inputs = {file.resolve() for file in files}
    for name in names:
        if (out_dir / 'vis' / name).resolve() in inputs:
            raise UserError(
                f'{out_dir / "vis" / name} is an input, and would be overwritten by a '
                'picture; name another --out-dir'
            )
    bar = tqdm(total=len(files))
    tiles: tqdm | None = None
    pictures: PictureFile | None = None
    file: Path | None = None

    def skip(error: UserError) -> None:
        unreadable.append(error)
        tqdm.write(f'skipped: {error}', file=sys.stderr)
        if not isinstance(error, CutOffVideoError):  # whose other frames count
            bar.update()

    def show_tiles(name: str, done: int, total: int) -> None:
        nonlocal tiles
        if tiles is None:
            what = f'tiles of {Path(name).name}'
            tiles = tqdm(total=total, desc=what, leave=False, disable=None)
        tiles.update(done - tiles.n)
        if done == total:
            tiles.close()
            tiles = None

    def close_pictures() -> None:
        nonlocal unwritten
        pictures.close()
        if pictures.error is not None:
            unwritten += 1
            tqdm.write(f'only detected: {pictures.error}', file=sys.stderr)
        bar.update()

    try:
        for frame in detector(files, batch_size, on_error=skip, on_tiles=show_tiles):
            if frame.file != file:
                if pictures is not None:
                    close_pictures()
                file = frame.file
                bar.set_postfix_str(file.name)
                fps = frames_per_second(file) if is_video(file) else None
                pictures = PictureFile(out_dir / 'vis' / name_of[file], fps)
            detections.add(frame)
            if pictures.error is None:
                pictures.add(frame.draw(score_thr, out=frame.image))
            # A large image must be gone when the next one is read.
            del frame
    finally:
        if pictures is not None:
            close_pictures()
        bar.close()
        _write_detections(out_dir, detections)
    _raise_errors(len(files), len(unreadable), unwritten)


def _write_detections(out_dir: Path, detections: CocoDetections) -> None:
    file = out_dir / 'detections.json'
    file.write_text(json.dumps(detections.as_dict()))
    print(
        f'{len(detections.annotations)} detections in {len(detections.images)} images: '
        f'{file}, pictures in {out_dir / "vis"}'
    )


def _raise_errors(count: int, unreadable: int, unwritten: int) -> None:
    errors = []
    if unreadable:
        errors.append(f'{unreadable} of {count} inputs could not be read')
    if unwritten:
        errors.append(
            f'{unwritten} of {count} pictures and videos could not be written; '
            'their detections are in the JSON'
        )
    if errors:
        raise UserError('\n       '.join(errors))
