"""The figures of speed in the READMEs are those of the records that they link to."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / 'benchmarks'


def rows(folder):
    """Cells of the README's rows that link to a record."""
    lines = (folder / 'README.md').read_text().splitlines()
    links = [line for line in lines if re.match(r'\| \[.*\]\([\w/]*results/', line)]
    return [[cell.strip() for cell in line.strip('| ').split('|')] for line in links]


def record_of(folder, what):
    return json.loads((folder / re.search(r'\((\S+)\)', what)[1]).read_text())


def test_every_result_has_its_row():
    page = (BENCHMARKS / 'README.md').read_text()
    linked = set(re.findall(r'\((results/[\w.-]+)\)', page))
    files = {f'results/{file.name}' for file in BENCHMARKS.glob('results/*.json')}
    assert linked == files


@pytest.mark.parametrize('row', rows(BENCHMARKS), ids=lambda row: row[0])
def test_row_shows_what_was_measured(row):
    what, _, ours_time, peer_time, ratio, memory = row
    ours, peer = check_times(BENCHMARKS, what, ours_time, peer_time, ratio)
    shown = re.findall(r'[\d,]+', memory)
    assert [int(number.replace(',', '')) for number in shown] == [
        round(ours['peak_mib']),
        round(peer['peak_mib']),
    ]


def deploy_rows():
    """Cells by the head of their column, of the rows that end in a record of deploy."""
    lines = (BENCHMARKS / 'README.md').read_text().splitlines()
    for index, line in enumerate(lines):
        if line.startswith('|') and '(results/deploy_' in line:
            top = max(i for i in range(index) if not lines[i].startswith('|')) + 1
            head, cells = (
                [cell.strip() for cell in lines[i].strip('| ').split('|')]
                for i in (top, index)
            )
            yield dict(zip(head, cells, strict=True))


@pytest.mark.parametrize('row', deploy_rows(), ids=lambda row: row['record'])
def test_row_of_runtimes_shows_what_was_measured(row):
    record = record_of(BENCHMARKS, row['record'])
    assert not record['environment']['uncommitted_changes']
    (case,) = record['cases']
    measured = {one['name']: one for one in case['contestants']}
    sizes = case['sizes']
    shown = f'{sizes["batch"]} x {sizes["height"]}x{sizes["width"]}'
    assert (row['images'], row['part']) == (shown, sizes['part'])
    for name, cell in row.items():
        if name in ('images', 'part', 'record'):
            continue
        if cell == '':
            assert name not in measured
        else:
            number = float(cell.replace(',', ''))
            assert number == pytest.approx(measured[name]['median_ms'], rel=0.05)


@pytest.mark.parametrize('row', rows(ROOT), ids=lambda row: row[0])
def test_row_of_the_first_page_shows_what_was_measured(row):
    check_times(ROOT, *row)


def check_times(folder, what, ours_time, peer_time, ratio):
    record = record_of(folder, what)
    assert not record['environment']['uncommitted_changes']
    (case,) = record['cases']
    measured = {c['name']: c for c in case['contestants']}
    ours, peer = measured['ours'], measured['mmdet']
    assert peer['agreement']
    for shown, contestant in ((ours_time, ours), (peer_time, peer)):
        number, unit = shown.split()
        in_ms = float(number.replace(',', '')) * dict(ms=1, s=1000)[unit]
        assert in_ms == pytest.approx(contestant['median_ms'], rel=0.05)
    assert float(ratio) == round(peer['ratio'], 1)
    return ours, peer
