"""A web page for people who want to try a model: a picture in, its detections out."""

import contextlib
import dataclasses
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

from focal_retinanet.cli.errors import UserError
from focal_retinanet.cli.naming import few
from focal_retinanet.data.image_files import read_small_image
from focal_retinanet.engine.coco_detections import CocoDetections
from focal_retinanet.engine.inference import Detections, Detector

if TYPE_CHECKING:
    import gradio

#: Pixels of the largest picture that is decoded; twice a camera's usual 24 million.
MAX_PIXELS = 50_000_000
#: Seconds after which the server forgets a picture that nobody has touched.
_KEPT_FOR = 3600
#: Number of visitors whose last picture is in memory; the oldest one goes.
_VISITORS = 32


def import_gradio():
    """Return the package gradio, which sends nothing about its use to anyone.

    Raises:
        UserError: It is not installed.
    """
    os.environ['GRADIO_ANALYTICS_ENABLED'] = 'False'
    try:
        import gradio
    except ImportError as error:
        raise UserError(
            'the page needs the package gradio: pip install gradio, the extra [web] '
            f'({error})'
        ) from error
    return gradio


@contextlib.contextmanager
def demo_server(
    detector: Detector,
    title: str,
    host: str = '127.0.0.1',
    port: int = 7860,
    max_size: int = 20,
    score_thr: float = 0.3,
) -> Iterator['gradio.Blocks']:
    """Serve the page of a model until the context ends.

    Pictures are in a folder for temporary files meanwhile, which is deleted afterwards.

    Args:
        detector: Model to try.
        title: Title of the page.
        host: Address to listen on; ``0.0.0.0`` lets other machines in.
        port: Port to listen on.
        max_size: Largest file that is accepted, in MB.
        score_thr: Lowest score that is drawn, before a visitor moves the slider.

    Yields:
        The page, with its address ``local_url``.

    Raises:
        UserError: Gradio is not installed, or nothing can listen on the port.
    """
    gradio = import_gradio()
    if ':' in host and not host.startswith('['):
        host = f'[{host}]'  # an IPv6 address, as browsers write it
    with (
        tempfile.TemporaryDirectory(prefix='focal_retinanet-demo-') as folder,
        # When it starts, gradio asks its own server, to which no proxy leads.
        mock.patch.dict(os.environ, GRADIO_TEMP_DIR=folder, no_proxy='*'),
    ):
        page = demo_page(detector, title, score_thr)
        try:
            page.launch(
                server_name=host,
                server_port=port,
                max_file_size=f'{max_size}mb',
                state_session_capacity=_VISITORS,
                theme=gradio.themes.Default(
                    font=['sans-serif'], font_mono=['monospace']
                ),
                share=False,
                enable_monitoring=False,
                run_history=False,
                footer_links=[],
                ssr_mode=False,
                mcp_server=False,
                quiet=True,
                prevent_thread_lock=True,
            )
        except (OSError, OverflowError) as error:
            raise UserError(
                f'the page cannot listen on {host}, port {port}: either another program '
                'uses the port, or this machine has no such address; name others with '
                '--port and --host'
            ) from error
        try:
            yield page
        finally:
            page.close(verbose=False)


def demo_page(detector: Detector, title: str, score_thr: float) -> 'gradio.Blocks':
    """Return the page of a model, not served yet.

    One visitor at a time has the model and its visualizer, the others wait. Moving the
    slider draws the detections of the last picture again.

    Args:
        detector: Model to try.
        title: Title of the page.
        score_thr: Lowest score that is drawn, before a visitor moves the slider.

    Raises:
        UserError: Gradio is not installed.
    """
    gradio = import_gradio()

    def show(found: Detections, score_thr: float) -> dict:
        rows = table_rows(found, score_thr)
        label = f'{len(rows)} of {len(found)} detections'
        return {
            picture: found.draw(score_thr)[..., ::-1],
            table: gradio.Dataframe(rows, label=label),
        }

    def detect(file: str, score_thr: float) -> dict:
        empty = {drop: None}  # for the next picture
        try:
            found = detect_upload(detector, Path(file))
        except UserError as error:
            gradio.Warning(str(error))
            return empty
        json_file = Path(tempfile.mkdtemp(dir=drop.GRADIO_CACHE), 'detections.json')
        json_file.write_text(detections_json(detector, found))
        button = gradio.DownloadButton(value=str(json_file), interactive=True)
        return {last: found, download: button, **show(found, score_thr), **empty}

    def redraw(found: Detections | None, score_thr: float) -> dict:
        if found is None:
            gradio.Info('Drop a picture first.')
            return gradio.skip()
        return show(found, score_thr)

    with gradio.Blocks(
        title=title, analytics_enabled=False, delete_cache=(_KEPT_FOR, _KEPT_FOR)
    ) as page:
        gradio.Markdown(f'# {title}\nFinds: {few(detector.classes, 20)}')
        last = gradio.State(time_to_live=_KEPT_FOR)
        with gradio.Row():
            with gradio.Column(scale=1):
                drop = gradio.File(label='Picture', file_types=['image'], height=160)
                threshold = gradio.Slider(
                    0, 1, score_thr, step=0.01, label='Score threshold'
                )
                download = gradio.DownloadButton(
                    'Download all detections (JSON)', interactive=False
                )
            with gradio.Column(scale=2):
                picture = gradio.Image(
                    label='Detections',
                    format='jpeg',
                    buttons=['download', 'fullscreen'],  # not the one that shares it
                    interactive=False,
                )
                table = gradio.Dataframe(
                    headers=['class', 'score', 'x1', 'y1', 'x2', 'y2'],
                    datatype=['str', *['number'] * 5],
                    label='Detections',
                    interactive=False,
                )
        _refuse_addresses(drop)
        model = dict(concurrency_id='model', concurrency_limit=1)
        drop.upload(
            detect, [drop, threshold], [drop, last, picture, table, download], **model
        )
        threshold.change(
            redraw,
            [last, threshold],
            [picture, table],
            trigger_mode='always_last',
            show_progress='hidden',
            **model,
        )
    return page


def detect_upload(detector: Detector, file: Path) -> Detections:
    """Return the detections in a picture, under its name without the server's folders.

    Raises:
        UserError: The file is no picture, or one of too many pixels.
    """
    try:
        image = read_small_image(file, MAX_PIXELS)
    except UserError as error:
        raise UserError(str(error).replace(str(file), file.name)) from error
    try:
        [found] = detector(image)
    except UserError as error:
        raise UserError(str(error).replace('array#000000', file.name)) from error
    return dataclasses.replace(found, name=file.name)


def detections_json(detector: Detector, found: Detections) -> str:
    """Return the detections in one picture as tools/infer.py writes them."""
    content = CocoDetections(detector.classes)
    content.add(found)
    return json.dumps(content.as_dict())


def table_rows(found: Detections, score_thr: float) -> list[list]:
    """Return class, score and box (xyxy, pixels) of the detections that are drawn."""
    drawn = found.scores >= score_thr
    return [
        [str(name), round(score, 3), *(round(x, 1) for x in box)]
        for name, score, box in zip(
            found.classes[drawn],
            found.scores[drawn].tolist(),
            found.boxes[drawn].tolist(),
            strict=True,
        )
    ]


def _refuse_addresses(component: 'gradio.File') -> None:
    """Let a component take what was uploaded, where gradio would download any URL.

    The page sends no addresses, but a program may.
    """
    move = component.async_move_resource_to_block_cache

    async def move_upload(path: str | Path | None) -> str | None:
        if '://' in str(path):
            raise UserError(f'{path} is not an upload')
        return await move(path)

    component.async_move_resource_to_block_cache = move_upload
