"""Fonts for text in any script, found among the installed ones."""

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

# matplotlib uses only the first font of a generic family, so each further font is a
# family of its own.
_BASE = 'sans-serif'
# Characters of fonts-noto-cjk have names that begin so.
_CJK = ('BOPOMOFO', 'CJK', 'FULLWIDTH', 'HALFWIDTH')
_CJK += ('HANGUL', 'HIRAGANA', 'IDEOGRAPHIC', 'KATAKANA')
# Largest number of characters in a command line of fc-list.
_MOST = 1000
# Files of the added fonts by family, for all figures of the process.
_added: dict[str, str] = {}
# Characters that no font has, and those of them that a warning has named.
_nowhere: set[str] = set()
_warned: set[str] = set()


def font_families(texts: Iterable[str], warn: bool = True) -> list[str]:
    """Return font families for matplotlib with the characters of all texts.

    Fonts that matplotlib does not know yet are added to its font manager.

    Args:
        texts: Texts to draw.
        warn: Whether to warn of characters without a font, once each per process.

    Returns:
        Value for ``family`` or ``font.family``; 'sans-serif' is first.
    """
    texts = [str(text) for text in texts]
    missing = set(filter(_is_seen, set().union(*texts))) - _characters(_base_file())
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
    """Return the files of :func:`font_families`, for Pillow."""
    return [_base_file(), *(_added[name] for name in font_families(texts)[1:])]


def use_fonts_for_all_text(figure: Figure, warn: bool = True) -> None:
    """Give every text of a complete figure the families that its characters need.

    Args:
        figure: Figure with all its texts.
        warn: Whether to warn of characters without a font.
    """
    for axes in figure.axes:
        # A tick label gets its text only on request.
        axes.get_xticklabels()
        axes.get_yticklabels()
    artists = [text for text in figure.findobj(Text) if text.get_text()]
    families = font_families((text.get_text() for text in artists), warn)
    if len(families) > 1:
        for artist in artists:
            artist.set_fontfamily([*artist.get_fontfamily(), *families[1:]])


@contextlib.contextmanager
def without_glyph_warnings() -> Iterator[None]:
    """Draw without matplotlib's warnings of missing glyphs; ours says it once."""
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', r'Glyph \d+ .*missing from')
        warnings.filterwarnings('ignore', 'Matplotlib currently does not support')
        yield


def has_glyph(file: str, character: str) -> bool:
    """Return whether a font file can draw a character; any can if it is invisible."""
    return not _is_seen(character) or character in _characters(file)


def _is_seen(character: str) -> bool:
    """Whether it is no space, control, joiner, surrogate or variation selector."""
    return (
        not character.isspace()
        and unicodedata.category(character) not in ('Cc', 'Cf', 'Cs')
        and not 0xFE00 <= ord(character) <= 0xFE0F
    )


def _base_file() -> str:
    return font_manager.findfont(FontProperties(family=[_BASE]))


@cache
def _characters(file: str) -> frozenset[str]:
    """Characters that a font has as outlines; none for an unusable font.

    matplotlib draws no bitmaps, such as coloured emoji.
    """
    try:
        font = FT2Font(file)
        charmap = font.get_charmap() if font.scalable else {}
    except (OSError, RuntimeError, ValueError):
        return frozenset()
    return frozenset(map(chr, charmap))


def _find_fonts(missing: set[str]) -> Iterator[str]:
    """Return as few font files as possible that have the characters."""
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
    """Sort key that puts an upright sans serif of normal weight first."""
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
    """Files with any of the characters, by fontconfig; none without fontconfig."""
    program = shutil.which('fc-list')
    if program is None:
        return []
    files: dict[str, None] = {}
    # A font with all characters, or with all of a script, or with its first one: a
    # few calls per script instead of one per character.
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
    """All characters of each script, followed by its first character alone."""
    scripts: dict[str, list[str]] = {}
    for character in sorted(characters):
        script = unicodedata.name(character, '?').split()[0]
        scripts.setdefault(script, []).append(character)
    return [part for chars in scripts.values() for part in (chars, chars[:1])]


def _matplotlib_files(missing: frozenset[str]) -> list[str]:
    """Files that matplotlib knows, in case there is no fontconfig."""
    return list(dict.fromkeys(f.fname for f in font_manager.fontManager.ttflist))


def _add(file: str) -> str | None:
    """Add a font to matplotlib and return its family; None if matplotlib refuses it."""
    manager = font_manager.fontManager
    try:
        if all(entry.fname != file for entry in manager.ttflist):
            manager.addfont(file)
    except (OSError, RuntimeError, ValueError):
        return None
    family = next(e.name for e in manager.ttflist if e.fname == file)
    # matplotlib takes the file of normal weight if the family has several.
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
        f'no installed font has the characters {shown} (as in {example!r}), so '
        'pictures show empty squares; install one, on Debian and Ubuntu by '
        f'apt-get install {" ".join(packages)}',
        stacklevel=1,
    )


def _debian_package(character: str) -> str:
    if unicodedata.name(character, '').startswith(_CJK):
        return 'fonts-noto-cjk'
    # Symbola has emoji as outlines; Noto's are bitmaps, which matplotlib cannot draw.
    return 'fonts-symbola' if ord(character) >= 0x1F000 else 'fonts-noto-core'
