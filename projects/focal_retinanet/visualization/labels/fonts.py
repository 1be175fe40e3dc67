"""Fonts for text in any script: installed ones with the characters that are missing."""

import contextlib
import shutil
import subprocess
import unicodedata
import warnings
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

# Of matplotlib's generic families only the first font is used, so each further
# font is a family of its own in the list.
_BASE = 'sans-serif'
# Beginnings of the names of characters that fonts-noto-cjk has.
_CJK = (
    'BOPOMOFO',
    'CJK',
    'FULLWIDTH',
    'HALFWIDTH',
    'HANGUL',
    'HIRAGANA',
    'IDEOGRAPHIC',
    'KATAKANA',
)
# Characters of one call of fc-list, whose command line has an end.
_MOST = 1000
# By family, files of the fonts that were added; for all figures of the process.
_added: dict[str, str] = {}
# Characters that no font has, and of those the ones that a warning has named.
_nowhere: set[str] = set()
_warned: set[str] = set()


def font_families(texts: Iterable[str], warn: bool = True) -> list[str]:
    """Families for matplotlib that together have the characters of all texts.

    Fonts that matplotlib does not know yet are added to its font manager. What no
    installed font has is warned of, once a process for each character.

    Args:
        texts: texts to draw.
        warn: whether characters without a font are worth a warning.

    Returns:
        A list to give as ``family``, or as ``font.family``; 'sans-serif' is first.
    """
    texts = [str(text) for text in texts]
    missing = _drawn_characters(texts) - _characters(_base_file())
    if not missing:
        return [_BASE]
    for file in _added.values():
        missing -= _characters(file)
    missing -= _nowhere
    for file in _find_fonts(missing):
        family = _add(file)
        if family is not None:
            missing -= _characters(_added[family])
    _nowhere.update(missing)
    if warn:
        _warn_of_missing(texts)
    return [_BASE, *_added]


def font_files(texts: Iterable[str]) -> list[str]:
    """As :func:`font_families`, but the fonts' files, for Pillow."""
    return [_base_file(), *(_added[name] for name in font_families(texts)[1:])]


def use_fonts_for_all_text(figure: Figure, warn: bool = True) -> None:
    """Give every text of a figure the families that its characters need.

    Args:
        figure: figure whose texts are all there.
        warn: whether characters without a font are worth a warning.
    """
    for axes in figure.axes:
        # Labels of ticks get their texts when they are asked for.
        for axis in (axes.xaxis, axes.yaxis):
            axis.get_ticklabels()
    artists = [text for text in figure.findobj(Text) if text.get_text()]
    families = font_families((text.get_text() for text in artists), warn)
    if len(families) > 1:
        for artist in artists:
            artist.set_fontfamily([*artist.get_fontfamily(), *families[1:]])


@contextlib.contextmanager
def without_glyph_warnings() -> Iterator[None]:
    """Draw without matplotlib's line for each missing glyph, which is said already."""
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', r'Glyph \d+ .*missing from')
        warnings.filterwarnings('ignore', 'Matplotlib currently does not support')
        yield


def has_glyph(file: str, character: str) -> bool:
    """Whether a font file can draw a character; what is not seen, any font can."""
    return not _is_seen(character) or character in _characters(file)


def _drawn_characters(texts: Iterable[str]) -> set[str]:
    return {c for c in set().union(*texts) if _is_seen(c)}


def _is_seen(character: str) -> bool:
    """Not white space, and neither a control, a joiner nor half of a surrogate."""
    return (
        not character.isspace()
        and unicodedata.category(character) not in ('Cc', 'Cf', 'Cs')
        and not 0xFE00 <= ord(character) <= 0xFE0F
    )  # a variant of the one before


def _base_file() -> str:
    return font_manager.findfont(FontProperties(family=[_BASE]))


@cache
def _characters(file: str) -> frozenset[str]:
    """Characters that a font draws as outlines; none for a font that cannot be used.

    matplotlib draws no bitmaps, which fonts of coloured emoji may consist of.
    """
    try:
        font = FT2Font(file)
        charmap = font.get_charmap() if font.scalable else {}
    except (OSError, RuntimeError, ValueError):
        return frozenset()
    return frozenset(map(chr, charmap))


def _find_fonts(missing: set[str]) -> Iterator[str]:
    """Files of fonts that have the characters, as few as it takes."""
    rest = set(missing)
    for files in (_fontconfig_files, _matplotlib_files):
        if not rest:
            return
        having = {file: _characters(file) & rest for file in files(frozenset(rest))}
        while having:
            best = min(having, key=lambda file: (-len(having[file]), _rank(file)))
            if not having[best]:
                break
            yield best
            rest -= having.pop(best)
            having = {file: found & rest for file, found in having.items()}


def _rank(file: str) -> tuple:
    """An upright sans serif of normal weight comes first."""
    name = Path(file).stem.lower()
    odd = ('bold', 'black', 'heavy', 'italic', 'light', 'mono', 'oblique', 'thin')
    return (
        any(word in name for word in odd),
        'serif' in name and 'sans' not in name,
        'sans' not in name,
        len(name),
        file,
    )


def _fontconfig_files(missing: frozenset[str]) -> list[str]:
    """Files with one of the characters or more, by fontconfig; none without it."""
    program = shutil.which('fc-list')
    if program is None:
        return []
    files: dict[str, None] = {}
    # One font has them all, or else those that have all of a script, or the first
    # of it: a few calls a script, not one a character.
    for wanted in [sorted(missing), *_by_script(missing)]:
        charset = ' '.join(f'{ord(character):x}' for character in wanted[:_MOST])
        try:
            listed = subprocess.run(
                [program, '--format', '%{file}\n', f':charset={charset}'],
                capture_output=True,
                timeout=20,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            break
        found = listed.stdout.decode(errors='surrogateescape').splitlines()
        files.update(dict.fromkeys(found))
        if found and len(wanted) == len(missing):
            break
    return list(files)


def _by_script(characters: Iterable[str]) -> list[list[str]]:
    """All characters of each script, and after them its first one alone."""
    scripts: dict[str, list[str]] = {}
    for character in sorted(characters):
        script = unicodedata.name(character, '?').split()[0]
        scripts.setdefault(script, []).append(character)
    return [part for chars in scripts.values() for part in (chars, chars[:1])]


def _matplotlib_files(missing: frozenset[str]) -> list[str]:
    """Files that matplotlib knows, which is all there is where no fontconfig is."""
    return list(dict.fromkeys(f.fname for f in font_manager.fontManager.ttflist))


def _add(file: str) -> str | None:
    """The family of a font that matplotlib now has; None where it refuses it."""
    manager = font_manager.fontManager
    try:
        if all(entry.fname != file for entry in manager.ttflist):
            manager.addfont(file)
    except (OSError, RuntimeError, ValueError):
        return None
    family = next(e.name for e in manager.ttflist if e.fname == file)
    # Of a family with several files matplotlib takes the one of normal weight.
    _added[family] = font_manager.findfont(FontProperties(family=[family]))
    return family


def _warn_of_missing(texts: list[str]) -> None:
    wanted = _nowhere - _warned
    new = list(dict.fromkeys(c for text in texts for c in text if c in wanted))
    if not new:
        return
    _warned.update(new)
    example = next(text for text in texts if new[0] in text)
    packages = sorted({_debian_package(character) for character in new})
    shown = ''.join(new[:20]) + ('...' if len(new) > 20 else '')
    warnings.warn(
        f'no installed font has the characters {shown} (as in {example!r}): pictures '
        'show empty squares in their place; install one, on Debian and Ubuntu by '
        f'apt-get install {" ".join(packages)}',
        stacklevel=1,
    )


def _debian_package(character: str) -> str:
    if unicodedata.name(character, '').startswith(_CJK):
        return 'fonts-noto-cjk'
    # Emoji as outlines; Noto's are coloured bitmaps, which matplotlib cannot draw.
    return 'fonts-symbola' if ord(character) >= 0x1F000 else 'fonts-noto-core'
