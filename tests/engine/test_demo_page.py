"""The page on which a model is tried, as a visitor and as a program use it."""

import contextlib
import json
import runpy
import signal
import socket
import sys
import tempfile
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from PIL import Image

from focal_retinanet import Detector
from focal_retinanet.cli.errors import UserError
from focal_retinanet.engine.demo_page import (
    demo_server,
    detect_upload,
    detections_json,
    import_gradio,
    table_rows,
)
from focal_retinanet.engine.inference import Detections

ROOT = Path(__file__).parent.parent.parent


class Counted:
    """A detector that counts its calls, and how many uses of it there are at a time."""

    def __init__(self, detector):
        self.detector, self.classes = detector, detector.classes
        self.lock = threading.Lock()
        self.calls = self.running = self.most_at_a_time = 0

    def __call__(self, image):
        self.calls += 1
        with self.use():
            return list(self.detector(image))

    @contextlib.contextmanager
    def use(self):
        with self.lock:
            self.running += 1
            self.most_at_a_time = max(self.most_at_a_time, self.running)
        time.sleep(0.05)
        yield
        with self.lock:
            self.running -= 1


@pytest.fixture
def checkpoint(tiny_config, tmp_path):
    """File of random weights, with which each score is near the prior, 0.01."""
    register_all_modules(init_default_scope=True)
    file = tmp_path / 'model.pth'
    torch.save(dict(state_dict=MODELS.build(tiny_config.model).state_dict()), file)
    return file


@pytest.fixture
def detector(tiny_config, checkpoint):
    return Counted(Detector(tiny_config, checkpoint, 'cpu'))


@pytest.fixture
def photo(tmp_path):
    """File of a grey picture, 64x48."""
    file = tmp_path / 'photo.png'
    cv2.imwrite(str(file), np.full((48, 64, 3), 128, np.uint8))
    return file


@pytest.fixture
def serve(detector):
    """Context of a server on a free port, which draws everything at first."""
    pytest.importorskip('gradio', reason='pip install gradio serves the page')

    def serve(**kwargs):
        kwargs = dict(port=free_port(), score_thr=0.0, **kwargs)
        return demo_server(detector, 'tiny', **kwargs)

    return serve


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def client_of(page):
    from gradio_client import Client

    return Client(page.local_url, verbose=False)


def test_an_upload_is_named_without_the_servers_folders(detector, photo):
    found = detect_upload(detector, photo)
    content = json.loads(detections_json(detector, found))
    assert content['images'] == [
        dict(id=1, file_name='photo.png', width=64, height=48),
    ]
    assert [c['name'] for c in content['categories']] == list(detector.classes)
    assert len(content['annotations']) == len(found) > 0
    photo.write_text('no picture')
    with pytest.raises(UserError, match=r'^photo\.png is no image'):
        detect_upload(detector, photo)
    Image.new('RGB', (1, 3000)).save(photo)
    with pytest.raises(UserError, match=r'^photo\.png has 1x3000 pixels, of which'):
        detect_upload(detector, photo)


def test_the_table_has_what_is_drawn():
    found = SimpleNamespace(
        classes=np.array(['cat', 'dog', 'cat']),
        scores=np.array([0.98765, 0.3, 0.1], np.float32),
        boxes=np.array([[1, 2, 3.14159, 4], [5, 6, 7, 8], [0, 0, 1, 1]], np.float32),
    )
    rows = [['cat', 0.988, 1.0, 2.0, 3.1, 4.0], ['dog', 0.3, 5.0, 6.0, 7.0, 8.0]]
    assert table_rows(found, 0.3) == rows
    assert table_rows(found, 1.0) == []


def test_missing_gradio_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'gradio', None)
    with pytest.raises(UserError, match=r'pip install gradio, the extra \[web\]'):
        import_gradio()


def test_visitors_share_the_model_one_at_a_time(
    serve, detector, photo, monkeypatch, tmp_path
):
    from gradio_client import handle_file

    # gradio has one file of equal pictures, and writes it anew while it is read.
    photos = [tmp_path / f'visitor-{visitor}.png' for visitor in range(3)]
    for visitor, file in enumerate(photos):
        image = cv2.imread(str(photo))
        image[0, 0] = visitor
        cv2.imwrite(str(file), image)
    draw = Detections.draw

    def counted_draw(*args):
        with detector.use():
            return draw(*args)

    monkeypatch.setattr(Detections, 'draw', counted_draw)

    with serve() as page, ThreadPoolExecutor(3) as pool:

        def visit(photo):
            client = client_of(page)
            client.predict(0.5, api_name='/redraw')  # nothing to draw yet
            *_, picture, table, _ = client.predict(
                handle_file(photo), 0.0, api_name='/detect'
            )
            _, nothing = client.predict(1.0, api_name='/redraw')
            return picture, len(table['value']['data']), nothing['value']['data']

        visits = list(pool.map(visit, photos))
        assert all(count > 0 and none == [] for _, count, none in visits)
        assert (detector.calls, detector.most_at_a_time) == (3, 1)


def test_the_server_downloads_nothing(serve, detector, monkeypatch):
    from gradio import processing_utils
    from gradio_client import handle_file
    from gradio_client.exceptions import AppError

    downloads = []
    monkeypatch.setattr(
        processing_utils, 'async_ssrf_protected_download', downloads.append
    )
    with serve() as page:
        url = handle_file('http://example.com/a.jpg')
        with pytest.raises(AppError):
            client_of(page).predict(url, 0.3, api_name='/detect')
    assert downloads == [] and detector.calls == 0


def test_a_taken_port_is_named(serve):
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(UserError, match=rf'listen on 127\.0\.0\.1, port {port}'),
            demo_server(SimpleNamespace(classes=('a',)), 'tiny', port=port),
        ):
            pytest.fail('the page is served')


def test_in_a_browser(serve, detector, photo, browser, tmp_path):
    from playwright.sync_api import expect

    text, large = tmp_path / 'text.jpg', tmp_path / 'large.jpg'
    text.write_text('no picture')
    large.write_bytes(bytes(2**20 + 1))
    said = []
    with serve(max_size=1) as page:
        url = page.local_url
        tab = browser.new_page()
        tab.on('pageerror', lambda error: said.append(str(error)))
        tab.on(
            'request', lambda r: r.url.startswith((url, 'data:')) or said.append(r.url)
        )
        tab.goto(url)
        drop, slider = tab.locator('[accept^=image]'), tab.get_by_role('slider')
        shown = tab.locator('img')

        def picture(other_than=''):
            expect(shown).not_to_have_attribute('src', other_than)
            answer = tab.request.get(shown.get_attribute('src'))
            return np.array(Image.open(BytesIO(answer.body())), int)

        slider.wait_for()
        drop.set_input_files(photo)
        shown.wait_for()
        with tab.expect_download() as download:
            tab.get_by_role('button', name='Download all').click()
        content = json.loads(Path(download.value.path()).read_text())
        assert download.value.suggested_filename == 'detections.json'
        assert content['images'][0]['file_name'] == 'photo.png'
        count = len(content['annotations'])
        tab.get_by_text(f'{count} of {count} detections').wait_for()
        drawn = picture()
        assert drawn.shape == (48, 64, 3)
        assert abs(drawn - 128).max() > 50

        with_boxes = shown.get_attribute('src')
        slider.fill('1')
        tab.get_by_text(f'0 of {count} detections').wait_for()
        assert abs(picture(with_boxes) - 128).max() < 5
        assert detector.calls == 1

        drop.set_input_files(text)
        tab.get_by_text('text.jpg is no image that can be read').first.wait_for()
        drop.set_input_files(large)
        tab.get_by_text('exceed the maximum allowed size').first.wait_for()
        # The last picture is still there, and its slider works.
        slider.fill('0')
        tab.get_by_text(f'{count} of {count} detections').wait_for()
        assert detector.calls == 1
        tab.close()
    assert said == []


def test_the_tool_leaves_nothing_behind(
    tiny_config, checkpoint, tmp_path, monkeypatch, capsys
):
    gradio = pytest.importorskip('gradio', reason='pip install gradio serves the page')
    config, temporary = tmp_path / 'tiny.py', tmp_path / 'temporary'
    tiny_config.dump(config)
    temporary.mkdir()
    pages, signals = [], {}

    def visit(page):
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        pages.append(direct.open(page.local_url).read().decode())
        assert list(temporary.iterdir())

    monkeypatch.setattr(gradio.Blocks, 'block_thread', visit)
    monkeypatch.setattr(signal, 'signal', signals.__setitem__)
    monkeypatch.setattr(tempfile, 'tempdir', str(temporary))
    port = str(free_port())
    arguments = [str(config), str(checkpoint), '--device', 'cpu', '--port', port]
    monkeypatch.setattr(sys, 'argv', ['demo_web.py', *arguments])
    monkeypatch.setenv('GOMP_SPINCOUNT', '1000')  # which tools set
    runpy.run_path(str(ROOT / 'tools/demo_web.py'), run_name='__main__')

    assert f'http://127.0.0.1:{port}/' in capsys.readouterr().out
    (page,) = pages
    assert '"title":"tiny"' in page.replace(' ', '')
    assert 'fonts.googleapis.com' not in page
    assert signals == {signal.SIGTERM: signal.default_int_handler}
    assert not list(temporary.iterdir())
