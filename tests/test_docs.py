"""Links and commands in the project's pages lead somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    page
    for page in ROOT.rglob('*.md')
    if not any(part.startswith('.') for part in page.relative_to(ROOT).parts[:-1])
    and page.relative_to(ROOT).parts[0] not in ('work_dirs', 'outputs', 'data', 'build')
)


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_paths_exist(page):
    text = page.read_text()
    for link in re.findall(r'\]\(([^)#\s]+)', text):
        if '://' not in link:
            assert (page.parent / link).exists(), link
    for path in re.findall(r'(?:tools|benchmarks|configs)/[\w/.-]+\.(?:py|sh)\b', text):
        if path.startswith('configs/mine/'):  # written by tools/new_config.py
            continue
        assert (ROOT / path).exists() or (ROOT / 'configs' / path).exists(), path


COMMANDS = sorted(
    {
        (tool, flag)
        for page in PAGES
        for line in re.sub(r'\\\\\n\s*', ' ', page.read_text()).splitlines()
        for tool in re.findall(r'python (tools/\w+\.py|benchmarks/run\.py)', line)
        for flag in re.findall(r'\s\[?(--[a-z][\w-]*)', line)
    }
)


@pytest.mark.parametrize(('tool', 'flag'), COMMANDS)
def test_flags_exist(tool, flag):
    folder = (
        'benchmarks'
        if tool.startswith('benchmarks')
        else 'projects/focal_retinanet/cli'
    )
    sources = [ROOT / tool, *(ROOT / folder).rglob('*.py')]
    assert flag == '--help' or any(f"'{flag}'" in file.read_text() for file in sources)
