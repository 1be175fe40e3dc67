"""Rows of a table are loaded by name, and errors name the mistake."""

import pytest
from mmengine.config import Config

from focal_retinanet.cli.errors import UserError
from focal_retinanet.config.ablation_table import (
    Table,
    load_config_or_row,
    load_with_options,
)


@pytest.fixture
def table(tmp_path):
    (tmp_path / 'base.py').write_text(
        'model = dict(loss=dict(gamma=2.0, alpha=0.25), channels=8)\nlevels = [3, 4]\n'
    )
    (tmp_path / 'other.py').write_text('model = dict(channels=16)\n')
    (tmp_path / 'own.py').write_text('model = dict(loss=dict(gamma=1.0), depth=18)\n')
    file = tmp_path / 'table.py'
    file.write_text(
        "base = 'base.py'\n"
        'rows = {\n'
        "    'gamma-.5': {'model.loss': dict(gamma=0.5)},\n"
        "    'plain': {},\n"
        "    'other': 'other.py',\n"
        '}\n'
    )
    return file


def test_a_row_changes_the_base_and_nothing_else(table):
    cfg = load_config_or_row(f'{table}:gamma-.5')
    assert cfg.to_dict() == dict(
        model=dict(loss=dict(gamma=0.5, alpha=0.25), channels=8), levels=[3, 4]
    )
    assert cfg.filename == 'table_gamma-.5.py'
    assert load_config_or_row(f'{table}:plain').model.loss.gamma == 2.0
    assert load_config_or_row(f'{table}:other').to_dict() == dict(
        model=dict(channels=16)
    )
    base = load_config_or_row(str(table.with_name('base.py')))
    assert base.model == Config.fromfile(table.with_name('base.py')).model


def test_rows_are_put_on_a_base_of_the_users_own(table):
    mine = Table(table, base=table.with_name('own.py'))
    assert mine.load('gamma-.5').model == dict(loss=dict(gamma=0.5), depth=18)
    with pytest.raises(UserError, match=r"row 'other'.*other\.py"):
        mine.load('other')


def test_a_row_can_be_loaded_again(table):
    """mmengine removes ``_delete_`` from the dict that it merges."""
    table.write_text(
        "base = 'base.py'\nrows = {'a': {'model.loss': dict(_delete_=True, gamma=1)}}\n"
    )
    rows = Table(table)
    for _ in range(2):
        assert rows.load('a').model.loss == dict(gamma=1)


def test_options_are_on_top_of_a_row(table):
    options = {'model.loss.gamma': 3}
    assert load_with_options(f'{table}:gamma-.5', options).model.loss.gamma == 3
    with pytest.raises(UserError, match=r'^--cfg-options: .*model\.channels'):
        load_with_options(f'{table}:gamma-.5', {'model.chanels': 3})


@pytest.mark.parametrize('text', ['', 'default_scope = None\n'])
def test_a_config_without_a_scope_has_mmdets(tmp_path, text):
    """A config of mmdet's new style names classes, and its tools add names to it."""
    file = tmp_path / 'mine.py'
    file.write_text(f'{text}model = dict(channels=8)\n')
    assert load_with_options(str(file), None).default_scope == 'mmdet'
    file.write_text("default_scope = 'mine'\n")
    assert load_with_options(str(file), None).default_scope == 'mine'


def test_mistakes_are_named(table):
    with pytest.raises(UserError, match=r"no row 'gama'.*gamma-\.5, plain, other"):
        load_config_or_row(f'{table}:gama')
    with pytest.raises(UserError, match=r'table\.py:gamma-\.5.*tools/sweep\.py'):
        load_config_or_row(str(table))
    table.write_text(
        "base = 'base.py'\nrows = {'a': {'model.los.gamma': 1, 'lr': 2}}\n"
    )
    with pytest.raises(UserError, match=r"row 'a' of .*table\.py.*model\.loss\.gamma"):
        Table(table).load('a')
    with pytest.raises(UserError, match='not a table'):
        Table(table.with_name('base.py'))
    with pytest.raises(FileNotFoundError, match='absent'):
        load_config_or_row(f'{table.parent}/absent.py:gamma-.5')
