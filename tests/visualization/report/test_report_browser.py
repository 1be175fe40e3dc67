"""The report from disk in a real browser, as a reader uses it."""

import json
import shutil

import numpy as np
import pytest

from focal_retinanet.visualization.labels.placement import place_labels
from focal_retinanet.visualization.report import write_report


@pytest.fixture
def report(make_run, detections, worse_detections, tmp_path):
    """Folder of a report on two models, without the image file of b.jpg."""
    paths = [make_run('good', detections), make_run('bad', worse_detections)]
    (tmp_path / 'data' / 'images' / 'b.jpg').unlink()
    out = tmp_path / 'report'
    write_report(paths, out, num_resamples=20, warn=lambda line: None)
    return out


@pytest.fixture
def open_page(browser):
    """Function that opens a report's page; a message on the console is a failure."""
    pages, said = [], []

    def open_page(folder, width=1280, **kwargs):
        page = browser.new_page(viewport=dict(width=width, height=800), **kwargs)
        page.on('console', lambda message: said.append(message.text))
        page.on('pageerror', lambda error: said.append(str(error)))
        page.on('request', lambda r: r.url.startswith('file:') or said.append(r.url))
        page.goto(f'file://{folder}/index.html')
        page.locator('#gallery').scroll_into_view_if_needed()
        page.locator('.picture').first.wait_for()
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.close()
    # The page's own icon is an empty data: address.
    assert [line for line in said if not line.startswith('data:')] == []


def boxes(page):
    """Number of boxes of each group in each image, in the order of the page."""
    return {
        picture.locator('span').inner_text().partition(':')[0]: {
            group: count
            for group in ('right', 'wrong', 'missed', 'ignored')
            if (count := picture.locator(f'.box.{group}').count())
        }
        for picture in page.locator('.picture').all()
    }


def set_score(page, score):
    page.locator('input[name=score]').fill(str(score))


def test_the_slider_changes_what_is_drawn(report, open_page):
    page = open_page(report)
    at_30 = {
        'b.jpg': {'wrong': 1, 'missed': 1},
        'a.jpg': {'right': 2},
        'c.jpg': {'wrong': 1},
    }
    assert boxes(page) == at_30
    assert list(boxes(page)) == list(at_30)  # the worst first
    set_score(page, 0.2)  # exactly the score of the cat in b.jpg
    assert boxes(page)['b.jpg'] == {'wrong': 1, 'right': 1}
    set_score(page, 0.55)
    assert boxes(page) == {
        'b.jpg': {'missed': 1},
        'a.jpg': {'right': 1, 'missed': 1},
        'c.jpg': {'wrong': 1},
    }
    assert '2 missed objects' in page.locator('.status').inner_text()
    slider = page.locator('input[name=score]')
    slider.focus()
    page.keyboard.press('ArrowLeft')
    assert slider.input_value() == '0.54'
    assert page.locator('output').inner_text() == '0.54'


def test_precision_and_recall_beside_the_slider(report, open_page):
    page = open_page(report)
    numbers, best = page.locator('.threshold span'), page.locator('[name=best]')
    # Of three objects, cat and dog are found from 0.3 on, with two false alarms.
    assert numbers.inner_text() == (
        'From 0.30 on, all images, all classes: precision 50.0 %, recall 66.7 %, '
        'F1 57.1 %.'
    )
    assert best.inner_text() == 'best F1: 75.0 % at 0.10'
    best.click()
    assert page.locator('input[name=score]').input_value() == '0.1'
    assert 'precision 60.0 %, recall 100.0 %, F1 75.0 %' in numbers.inner_text()
    assert page.locator('datalist option').get_attribute('value') == '0.1'
    page.locator('.gallery [name=class]').select_option('dog')
    assert 'dog: precision 100.0 %, recall 100.0 %' in numbers.inner_text()
    assert best.inner_text() == 'best F1: 100.0 % at 0.20'
    set_score(page, 0.5)
    assert 'dog: precision -, recall 0.0 %, F1 0.0 %' in numbers.inner_text()
    page.locator('[name=model]').select_option('bad')
    page.get_by_text('dog: precision 0.0 %, recall 0.0 %').wait_for()
    assert best.is_hidden() and page.locator('datalist option').count() == 0


def test_a_laptop_shows_all_columns(make_run, detections, open_page, tmp_path):
    """With long names, several seeds and the memory of a GPU."""
    paths = [tmp_path / f'retinanet_mobilenetv2_fpn_8e_bccd-480px_{n}' for n in 'ab']
    for path in paths:
        for seed in range(3):
            run = make_run(f'{path.name}/seed-{seed}', detections, seed=seed)
            log = run / '20260101_000000' / 'vis_data' / 'scalars.json'
            lines = [json.loads(line) for line in log.read_text().splitlines()]
            lines[0]['memory'] = 12345
            log.write_text('\n'.join(map(json.dumps, lines)))
    write_report(paths, tmp_path / 'report', num_resamples=2, warn=lambda line: None)
    page = open_page(tmp_path / 'report')
    table = page.get_by_role('region', name='Models')
    assert 'mem (GB)' in table.inner_text() and 'seeds' in table.inner_text()
    assert table.evaluate('one => one.scrollWidth <= one.clientWidth')


def test_filters_orders_and_models(report, open_page):
    page = open_page(report)
    page.locator('[name=kind]').select_option('background')
    assert boxes(page) == {'b.jpg': {'wrong': 1}, 'c.jpg': {'wrong': 1}}
    page.locator('[name=kind]').select_option('missed')
    assert boxes(page) == {'b.jpg': {'missed': 1}}
    page.locator('[name=kind]').select_option('all')
    page.locator('.gallery [name=class]').select_option('dog')
    assert boxes(page) == {'a.jpg': {'right': 1}}
    page.locator('.gallery [name=class]').select_option('all')
    page.locator('[name=order]').select_option('file')
    assert list(boxes(page)) == ['a.jpg', 'b.jpg', 'c.jpg']
    page.locator('[name=model]').select_option('bad')
    page.locator('[name=order]').select_option('missed')
    page.get_by_text('with 3 missed').wait_for()
    assert boxes(page) == {
        'a.jpg': {'wrong': 1, 'missed': 2},
        'b.jpg': {'missed': 1},
        'c.jpg': {},
    }


def test_a_missing_image_leaves_its_boxes(report, open_page):
    page = open_page(report)
    moved = page.locator('.picture', has_text='b.jpg')
    assert 'image file not found' in moved.inner_text()
    assert moved.locator('.absent').count() == 1
    assert moved.locator('.box').count() == 2
    assert page.locator('.picture', has_text='a.jpg').locator('image').count() == 1
    assert '1 of these have no image file' in page.locator('#gallery').inner_text()


def test_an_image_that_the_report_lost_leaves_its_boxes(report, browser):
    shutil.rmtree(report / 'images')
    page = browser.new_page()
    page.goto(f'file://{report}/index.html')
    page.locator('#gallery').scroll_into_view_if_needed()
    lost = page.locator('.picture', has_text='a.jpg')
    lost.get_by_text('image file not found').wait_for()
    assert lost.locator('.absent').count() == 1 and lost.locator('.box').count() == 2
    set_score(page, 0.5)  # the text stays
    assert 'image file not found' in lost.inner_text()
    page.close()


def test_tables_sort_by_mouse_and_by_keyboard(report, open_page):
    page = open_page(report)
    table = page.locator('#errors table')
    names = table.locator('tbody th')
    head = table.locator('thead th').nth(1)  # AP50
    assert names.all_inner_texts() == ['good', 'bad']
    assert head.get_attribute('aria-sort') == 'none'
    head.get_by_role('button').click()
    assert head.get_attribute('aria-sort') == 'descending'
    assert names.all_inner_texts() == ['good', 'bad']
    page.keyboard.press('Enter')
    assert head.get_attribute('aria-sort') == 'ascending'
    assert names.all_inner_texts() == ['bad', 'good']
    page.keyboard.press('Shift+Tab')
    page.keyboard.press('Enter')
    assert head.get_attribute('aria-sort') == 'none'
    assert table.locator('thead th').first.get_attribute('aria-sort') == 'ascending'
    assert names.all_inner_texts() == ['bad', 'good']
    # The focus is visible.
    outline = (
        table.locator('thead th')
        .first.get_by_role('button')
        .evaluate('button => getComputedStyle(button).outlineStyle')
    )
    assert outline == 'solid'


def test_tables_sort_thousands_as_numbers(report, open_page):
    page = open_page(report)
    table = page.locator('#data table')
    cells = table.locator('tbody tr td:nth-of-type(1)')
    cells.evaluate_all(
        "all => all.forEach((one, i) => one.textContent = ['87', '1,234,567'][i])"
    )
    table.locator('thead th').nth(1).get_by_role('button').click()
    assert cells.all_inner_texts() == ['1,234,567', '87']


def test_images_by_keyboard(report, open_page):
    page = open_page(report)
    pictures = page.locator('.picture')
    pictures.first.focus()
    page.keyboard.press('ArrowRight')
    assert pictures.nth(1).evaluate('one => one === document.activeElement')
    page.keyboard.press('Enter')
    dialog = page.locator('dialog')
    assert 'a.jpg' in dialog.inner_text()
    assert dialog.locator('.list li').all_inner_texts() == [
        'cat 0.90: correct',
        'dog 0.40: correct',
    ]
    page.keyboard.press('ArrowLeft')
    dialog.get_by_text('b.jpg').wait_for()
    assert 'image file not found' in dialog.inner_text()
    page.keyboard.press('Escape')
    assert not dialog.is_visible()
    assert pictures.nth(1).evaluate('one => one === document.activeElement')


@pytest.fixture
def crowded_report(make_run, ground_truth, tmp_path):
    """Report with the cat of a.jpg found, a duplicate, and 30 false alarms."""
    place = dict(image_id=0, category_id=1)
    found = [
        dict(place, bbox=[10, 10, 20, 20], score=0.5),
        dict(place, bbox=[10, 10, 20, 19], score=0.3455),
        *(
            dict(place, bbox=[60 + n / 10, 40, 20, 20], score=0.9 - n / 100)
            for n in range(30)
        ),
    ]
    data = json.loads(ground_truth.read_text())
    data['categories'][0]['name'] = '\u732b'
    ground_truth.write_text(json.dumps(data))
    run = make_run('run', found, classes=('\u732b', 'dog'))
    write_report([run], tmp_path / 'report', warn=lambda line: None)
    return tmp_path / 'report'


def test_right_boxes_lie_over_wrong_ones_and_the_best_on_top(crowded_report, open_page):
    page = open_page(crowded_report)
    titles = page.locator('.picture', has_text='a.jpg').locator('.box title')
    order = titles.evaluate_all('all => all.map(one => one.textContent)')
    assert order[0] == '\u732b 0.35: duplicate' and order[30].endswith(
        '0.90: background'
    )
    assert order[31:] == ['\u732b 0.50: correct', 'dog: missed']


def test_labels_of_a_large_image_do_not_overlap(crowded_report, open_page):
    page = open_page(crowded_report)
    page.locator('.picture', has_text='a.jpg').click()
    for width in (1280, 500):
        page.set_viewport_size(dict(width=width, height=800))
        page.wait_for_timeout(100)
        labels = page.locator('dialog .label')
        texts = labels.evaluate_all('all => all.map(one => one.textContent)')
        assert texts[0] == '\u732b 0.90: background'
        assert '\u732b 0.50' in texts and 3 < len(texts) < 33
        places = labels.locator('rect').evaluate_all(
            'all => all.map(({x, y, width, height}) => [x, y, width, height].map('
            'one => one.baseVal.value))'
        )
        # Letters have the same size on the screen at any width of the window.
        letters = labels.first.bounding_box()['height']
        assert 12 < letters < 24
        for index, (x, y, w, h) in enumerate(places):
            assert x >= 0 and y >= 0 and x + w <= 100.01 and y + h <= 80.01
            for a, b, c, d in places[:index]:
                tiny = 1e-3  # SVG has single precision
                assert (
                    x + tiny >= a + c
                    or a + tiny >= x + w
                    or y + tiny >= b + d
                    or b + tiny >= y + h
                )
    # The list has all boxes, the best first.
    items = page.locator('dialog .list li')
    assert items.count() == 33
    assert items.first.inner_text() == '\u732b 0.90: background'


def test_the_page_places_labels_as_pictures_do(report, open_page):
    page = open_page(report)
    rng = np.random.default_rng(0)
    for _ in range(20):
        corners = rng.integers(-20, 130, (15, 2, 2))
        boxes = np.sort(corners, axis=1).reshape(-1, 4)
        sizes = rng.integers(1, 60, (15, 2))
        expected = place_labels(boxes, sizes, (100, 80))
        found = page.evaluate(
            '([boxes, sizes]) => placeLabels(boxes, sizes, 100, 80)',
            [boxes.tolist(), sizes.tolist()],
        )
        found = [[np.nan] * 4 if place is None else place for place in found]
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_a_phone_needs_no_sideways_scrolling(report, open_page, scheme):
    page = open_page(report, width=360, color_scheme=scheme)
    assert page.evaluate('document.documentElement.scrollWidth') == 360
    back = page.evaluate('getComputedStyle(document.body).backgroundColor')
    chart = page.locator('.chart').first.evaluate(
        'chart => getComputedStyle(chart).backgroundColor'
    )
    assert (back == 'rgb(255, 255, 255)') == (scheme == 'light')
    assert chart == 'rgb(255, 255, 255)'  # its lines and letters are dark


def test_pages_of_many_images(make_run, ground_truth, detections, open_page, tmp_path):
    data = json.loads(ground_truth.read_text())
    data['images'] += [
        dict(id=n, file_name=f'{n}.jpg', width=100, height=80) for n in range(3, 60)
    ]
    ground_truth.write_text(json.dumps(data))
    out = tmp_path / 'report'
    write_report([make_run('run', detections)], out, warn=lambda line: None)
    page = open_page(out)
    assert page.locator('.picture').count() == 24
    assert page.get_by_role('button', name='previous').first.is_disabled()
    # Only the visible page is loaded.
    loaded = 'Object.keys(reportData).sort().join()'
    assert page.evaluate(loaded) == 'gallery-0-0,gallery-0-0-0,gallery-0-0-scores'
    for _ in range(2):
        page.locator('.pages [name=next]').click()
    page.get_by_text('page 3 of 3').wait_for()
    assert page.locator('.picture').count() == 12
    assert page.locator('.pages [name=next]').is_disabled()
    page.locator('[name=order]').select_option('file')
    page.get_by_text('page 1 of 3').wait_for()
    assert page.locator('.picture').first.inner_text().startswith('3.jpg')


def test_a_chart_a_class(make_run, ground_truth, detections, open_page, tmp_path):
    data = json.loads(ground_truth.read_text())
    names = [f'class {n}' for n in range(3, 9)]
    for number, name in enumerate(names, 3):
        data['categories'].append(dict(id=number, name=name))
        data['annotations'].append(
            {**data['annotations'][0], 'id': number + 9, 'category_id': number}
        )
    ground_truth.write_text(json.dumps(data))
    run = make_run('run', detections, classes=('cat', 'dog', *names))
    out = tmp_path / 'report'
    write_report([run], out, warn=lambda line: None)
    page = open_page(out)
    chooser = page.locator('.chooser')
    assert chooser.locator('img').count() == 1
    chooser.locator('select').select_option('class 5')
    assert chooser.locator('img').get_attribute('src').endswith('_5.svg')
    assert chooser.locator('figcaption').inner_text() == 'class 5'
