"""The figures of benchmarks/README.md are those of the records that it links to."""

import json
import re
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / 'benchmarks'
ROWS = [
    line
    for line in (BENCHMARKS / 'README.md').read_text().splitlines()
    if re.match(r'\| \[.*\]\(results/', line)
]


def test_every_result_has_its_row():
    linked = {re.search(r'results/[\w.-]+', row)[0] for row in ROWS}
    files = {f'results/{file.name}' for file in BENCHMARKS.glob('results/*.json')}
    assert linked == files


@pytest.mark.parametrize('row', ROWS)
def test_row_shows_what_was_measured(row):
    _, what, _, ours_time, peer_time, ratio, memory, _ = row.split('|')
    record = json.loads((BENCHMARKS / re.search(r'\((.*)\)', what)[1]).read_text())
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
    shown = re.findall(r'[\d,]+', memory)
    assert [int(number.replace(',', '')) for number in shown] == [
        round(ours['peak_mib']),
        round(peer['peak_mib']),
    ]
