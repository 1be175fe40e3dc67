"""A report replaces what a report wrote, and nothing else."""

import json
from unittest import mock

import pytest

from focal_retinanet.cli.errors import UserError


def test_a_report_replaces_only_what_a_report_wrote(
    report, make_run, detections, tmp_path
):
    run = make_run('run', detections)
    own = tmp_path / 'report' / 'data' / 'train.json'
    own.parent.mkdir(parents=True)
    own.write_text('mine')
    refused = r'train\.json is not of an earlier report, .*: name another --out-dir'
    with pytest.raises(UserError, match=refused):
        report([run], overwrite=True)
    assert [path.name for path in own.parent.parent.iterdir()] == ['data']
    own.unlink()
    report([run], overwrite=True)
    # In the folder of a report, too.
    own.write_text('mine')
    with pytest.raises(UserError, match=refused):
        report([run], overwrite=True)
    assert own.read_text() == 'mine'
    own.unlink()
    stale = own.with_name('gallery-0-9.js')
    listed = own.parent.parent / 'static' / 'files.json'
    stale.write_text('')
    listed.write_text(
        json.dumps([*json.loads(listed.read_text()), f'data/{stale.name}'])
    )
    report([run], overwrite=True)
    assert not stale.exists()


def test_a_report_that_failed_is_replaced(report, make_run, detections, monkeypatch):
    run = make_run('run', detections)
    with monkeypatch.context() as patched:
        patched.setattr(
            'focal_retinanet.visualization.report.report._render',
            mock.Mock(side_effect=OSError),
        )
        with pytest.raises(OSError):
            report([run])
    report([run], overwrite=True)
