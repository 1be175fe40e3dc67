"""Text in any script: a font is found, or one warning says which to install."""

import shutil
import subprocess
import sys
import warnings

import numpy as np
import pytest
from matplotlib import font_manager

from focal_retinanet.visualization import style
from focal_retinanet.visualization.labels import fonts
from focal_retinanet.visualization.labels.drawing import draw_labels
from focal_retinanet.visualization.labels.fonts import font_families, font_files

CAT, DOG = '猫', '犬'
INK = (10, 20, 30)


def ink(picture):
    """Number of nearly black pixels."""
    return int((picture.max(-1) < 60).sum())


def write(text, colour='black'):
    """Picture of a figure with one text."""
    with style.new_figure(2, 1) as figure:
        figure.text(0.1, 0.3, text, fontsize=40, color=colour)
        return style.as_array(figure, 100)


def test_latin_text_needs_no_further_font(installed_fonts):
    installed_fonts('Cats', CAT)
    assert font_families(['cat 0.90', 'Größe', '']) == ['sans-serif']
    assert font_families([]) == ['sans-serif']


def test_a_font_with_the_characters_is_found(installed_fonts):
    file = installed_fonts('Cats', CAT)
    installed_fonts('Others', 'ก')
    assert font_families(['cat', f'{CAT} 0.90']) == ['sans-serif', 'Cats']
    base, found = font_files([CAT])
    assert base.endswith('DejaVuSans.ttf') and found == file


@pytest.mark.parametrize(
    'made, expected',
    [
        # As few fonts as possible.
        ({'A': CAT, 'B': DOG, 'C': CAT + DOG}, ['C']),
        ({'A': CAT, 'B': DOG}, ['A', 'B']),
        # An upright sans serif is best.
        (dict.fromkeys(('Bold Sans', 'My Serif', 'My Sans'), CAT + DOG), ['My Sans']),
    ],
)
def test_which_font_is_taken(installed_fonts, made, expected):
    for family, characters in made.items():
        installed_fonts(family, characters)
    assert sorted(font_families([CAT + DOG])[1:]) == expected


def test_fontconfig_finds_what_matplotlib_does_not_know(installed_fonts, monkeypatch):
    file = installed_fonts('Cats', CAT, known=False)
    monkeypatch.setattr(fonts.shutil, 'which', lambda program: '/usr/bin/fc-list')
    asked = []

    def run(command, **kwargs):
        asked.append(command[-1])
        out = f'{file}\n/nowhere/lost.ttf\n' if command[-1].endswith('732b') else ''
        return subprocess.CompletedProcess(command, 0, out.encode(), b'')

    monkeypatch.setattr(fonts.subprocess, 'run', run)
    assert font_families([CAT]) == ['sans-serif', 'Cats']
    assert asked == [':charset=732b']
    assert any(e.fname == file for e in font_manager.fontManager.ttflist)
    # A picture shows it instead of an empty square.
    assert ink(write(CAT)) > 800


def test_a_fontconfig_that_fails_leaves_matplotlibs_fonts(installed_fonts, monkeypatch):
    installed_fonts('Cats', CAT)
    monkeypatch.setattr(fonts.shutil, 'which', lambda program: sys.executable)
    assert font_families([CAT]) == ['sans-serif', 'Cats']  # python takes no --format


@pytest.mark.skipif(shutil.which('fc-list') is None, reason='no fontconfig')
def test_real_fontconfig_lists_fonts_with_a_character():
    files = fonts._fontconfig_files(frozenset('A'))
    assert all(fonts.has_glyph(file, 'A') for file in files if file.endswith('.ttf'))
    assert fonts._fontconfig_files(frozenset('A\U000f1234')) == files  # by its script
    assert fonts._fontconfig_files(frozenset('\U000f1234')) == []


@pytest.mark.filterwarnings('error')
def test_what_no_font_has_is_one_warning(installed_fonts):
    with pytest.warns(UserWarning) as caught:
        families = font_families([f'a {CAT}', 'हाथी', 'b'])
    assert families == ['sans-serif']
    assert len(caught) == 1
    message = str(caught[0].message)
    assert CAT in message and 'ह' in message and f"'a {CAT}'" in message
    assert message.endswith('apt-get install fonts-noto-cjk fonts-noto-core')
    assert caught[0].filename == fonts.__file__  # it looks like this package's own
    # It comes once per process, and matplotlib adds none in any kind of picture.
    assert font_families([CAT]) == ['sans-serif']
    write(f'{CAT} हाथी')
    with pytest.warns(UserWarning, match=f'characters {DOG} .*fonts-noto-cjk$'):
        write(DOG + CAT)


@pytest.mark.filterwarnings('error')
@pytest.mark.parametrize('suffix', ['png', 'pdf', 'svg'])
def test_files_of_any_kind_say_it_once(installed_fonts, tmp_path, suffix):
    file = tmp_path / f'x.{suffix}'
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        with style.new_figure() as figure:
            axes = figure.subplots()
            axes.set_yticks([0, 1], [CAT, 'b'])  # drawing makes these texts
            style.save_figure(figure, file)
    # The viewer of an SVG has its own fonts.
    assert len(caught) == (suffix != 'svg')
    if suffix == 'svg':
        assert CAT in file.read_text()


def test_emoji_are_outlines_in_symbola(installed_fonts):
    with pytest.warns(UserWarning, match='fonts-symbola$'):
        font_families(['\U0001f996'])


def test_joiners_spaces_and_lost_bytes_need_no_font(installed_fonts):
    texts = ['a\u200db\u3000c\ufe0f\n', 'caf\udce9.jpg']
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert font_families(texts) == ['sans-serif']
        write(style.plain(texts[1]))
        draw_labels(
            np.zeros((99, 99, 3), np.uint8), [[9, 9, 9, 9]], texts[1:], [INK], [9]
        )


def test_labels_of_ticks_titles_and_legends_have_the_font(installed_fonts):
    installed_fonts('Cats', CAT)
    with style.new_figure() as figure:
        axes = figure.subplots()
        axes.plot([0, 1], label=CAT)
        axes.set_xticks([0, 1], [CAT, CAT])
        axes.set_title(CAT)
        axes.legend()
        style.as_array(figure, 50)
        drawn = [t for t in figure.findobj(style.mpl.text.Text) if CAT in t.get_text()]
        assert len(drawn) == 6  # each tick has two texts
        assert all('Cats' in text.get_fontfamily() for text in drawn)


@pytest.mark.parametrize(
    'text, expected', [('a$x$', r'a\$x\$'), ('5 $', r'5 \$'), ('a\udce9', 'a?')]
)
def test_names_are_no_formulas(text, expected):
    assert style.plain(text) == expected


def test_a_name_with_dollars_is_drawn_as_it_is():
    # As a formula, '$a$' would be one letter.
    assert ink(write(style.plain('$a$'))) > 1.5 * ink(write('$a$'))
    write(style.plain('$\\frac$'))  # no invalid formula


def test_parts_of_a_label_have_fonts_of_their_own(installed_fonts):
    file = installed_fonts('Cats', CAT)
    image = np.full((60, 200, 3), 255, np.uint8)
    (place,) = draw_labels(
        image, [[10, 40, 100, 50]], [f'{CAT} 0.90'], [(255, 255, 255)], [20]
    )
    x1, y1, x2, y2 = place.astype(int)
    label = image[y1:y2, x1:x2]
    assert ink(label[:, : len(label)]) > 0.5 * 20 * 20  # the font's filled square
    assert 100 < ink(label[:, 30:]) < 500  # digits, narrower than three squares
    assert fonts.has_glyph(file, CAT) and not fonts.has_glyph(file, '0')
