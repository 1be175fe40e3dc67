"""The metafiles of the model zoo, for mim and for the README."""

import copy
import json
import re
import runpy
import shutil
import sys
from pathlib import Path

import modelindex
import pytest
import yaml

from focal_retinanet.cli.errors import UserError
from focal_retinanet.config.ablation_table import Table
from focal_retinanet.evaluation.zoo import (
    PAGES,
    fill_tables,
    read_metafiles,
    with_comparison,
    write_metafile,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture
def comparison():
    """Output of tools/compare.py with two rows."""
    numbers = dict(AP=0.12345, AP50=0.4, AP75=0.05, AP_sd=0.01)
    row = dict(
        name='table1b_gamma-2.0',
        params=1000,
        flops=2000,
        schedule='4e',
        seeds=[dict(seed=0, AP=0.12), dict(seed=1, AP=0.1269)],
        **numbers,
    )
    other = {**row, 'name': 'rivals_ce', 'AP': 0.1}
    gap = dict(
        model='rivals_ce',
        reference='table1b_gamma-2.0',
        AP=-0.02345,
        low=-0.03,
        high=-0.01,
        p_seeds=0.01,
        within_noise=False,
    )
    return dict(models=[row, other], differences=[gap])


def test_pages_show_the_metafiles():
    models = read_metafiles(ROOT)
    changed = copy.deepcopy(models)
    changed['demo'][0]['Results'][0]['Metrics']['box AP'] = 99.9
    shown = set()
    for page in PAGES:
        text = (ROOT / page).read_text()
        assert fill_tables(page, text, models) == text, (
            'python tools/zoo.py writes them'
        )
        for metafiles in re.findall(r'<!-- zoo: ([\w -]+?)(?::| -->)', text):
            shown |= set(metafiles.split())
        if '<!-- zoo: demo' in text:
            assert '99.9' in fill_tables(page, text, changed)
        for link in re.findall(r'^\| \[.*?\]\((.*?)\)', text, flags=re.MULTILINE):
            assert (ROOT / page).parent.joinpath(link).exists(), link
    assert shown == models.keys()


def test_mim_reads_the_zoo(monkeypatch):
    monkeypatch.chdir(ROOT)
    index = modelindex.load('model-index.yml')
    index.check(silent=True)
    files = {
        str(path.relative_to(ROOT)) for path in ROOT.glob('configs/*/metafile*.yml')
    }
    assert set(yaml.safe_load(Path('model-index.yml').read_text())['Import']) == files
    (collection,) = index.collections
    for model in index.models:
        assert model.in_collection == collection.name
        config = Path(model.config)
        if config.stem != model.name:
            name = model.name.removeprefix(f'{config.stem}_')
            rows = [row for row in Table(config).rows if name.startswith(f'{row}_')]
            data = name.removeprefix(max(rows, key=len)).split('_')[1]
            assert f'configs/{data}/' in model.metadata.data['Base']
        metadata = model.metadata.data
        for key in ('Seeds', 'Commit', 'Hardware', 'Command'):
            assert metadata[key], (model.name, key)


@pytest.fixture
def folder(tmp_path):
    """Folder configs/ablations of a project."""
    folder = tmp_path / 'configs' / 'ablations'
    folder.mkdir(parents=True)
    for name in ('table1b', 'rivals'):
        shutil.copy(ROOT / 'configs/ablations' / f'{name}.py', folder)
    return folder


def add_comparison(metafile, *args):
    content, names = with_comparison(metafile, *args)
    write_metafile(metafile, content)
    return names


def write_index(root, *names):
    files = [f'configs/ablations/metafile-{name}.yml' for name in names]
    (root / 'model-index.yml').write_text(yaml.safe_dump(dict(Import=files)))


def test_comparison_becomes_a_table(comparison, folder, tmp_path):
    metafile = folder / 'metafile-cherry.yml'
    metadata = dict(Commit='1a2b3c4')
    names = add_comparison(metafile, comparison, 'cherries, val', metadata)
    assert names == ['table1b_gamma-2.0_cherry', 'rivals_ce_cherry']
    comparison['models'][0]['AP'] = 0.13
    add_comparison(metafile, comparison, 'cherries, val', metadata)  # replaces
    write_index(tmp_path, 'cherry')
    models = read_metafiles(tmp_path)
    first, second = models['ablations-cherry']
    assert first['Results'][0]['Metrics']['box AP'] == 13.0
    assert first['Results'][0]['Metrics']['box AP of each seed'] == [12.0, 12.69]
    assert second['Config'] == 'configs/ablations/rivals.py'
    assert second['Metadata']['Commit'] == '1a2b3c4'

    text = 'a\n<!-- zoo: ablations-cherry -->\nold\n<!-- zoo end -->\nb\n'
    filled = fill_tables('README.md', text, models)
    assert 'old' not in filled and filled.startswith('a\n') and filled.endswith('\nb\n')
    assert re.search(r'\| 13.0 ± 1.0 +\| 40.0 \| 5.0  \| 2 ', filled)
    assert 'AP50 | AP75 | seeds' in filled and 'AP of `table1b_gamma-2.0`' in filled
    assert '-2.3 (-3.0 to -1.0), worse' in filled
    assert fill_tables('README.md', filled, models) == filled


def test_data_sets_stand_side_by_side(comparison, folder, tmp_path):
    add_comparison(folder / 'metafile-cherry.yml', comparison, 'cherries, val', {})
    comparison['models'][1]['name'] = 'rivals_hinge'  # another row of the same file
    comparison['differences'][0]['model'] = 'rivals_hinge'
    add_comparison(folder / 'metafile-mine.yml', comparison, 'mine', {})
    write_index(tmp_path, 'cherry', 'mine')
    text = '<!-- zoo: ablations-cherry ablations-mine -->\n<!-- zoo end -->'
    lines = fill_tables('README.md', text, read_metafiles(tmp_path)).split('\n')
    table = [[cell.strip() for cell in line.split('|')[1:-1]] for line in lines[2:-2]]
    assert table[0][1::3] == ['cherries, val: AP', 'mine: AP']
    reference = ['12.3 ± 1.0', '2', '']
    other = ['10.0 ± 1.0', '2', '-2.3 (-3.0 to -1.0), worse']
    nothing = ['', '', '']
    assert [line[1:] for line in table[2:]] == [
        reference + reference,
        other + nothing,
        nothing + other,
    ]


def test_some_rows_are_shown_in_the_order_of_the_page(comparison, folder, tmp_path):
    add_comparison(folder / 'metafile-cherry-8e.yml', comparison, 'cherries, val', {})
    write_index(tmp_path, 'cherry-8e')
    models = read_metafiles(tmp_path)

    def rows(names):
        text = f'<!-- zoo: ablations-cherry-8e{names} -->\n<!-- zoo end -->'
        filled = fill_tables('configs/ablations/README.md', text, models)
        return re.findall(r'^\| \[`(.*?)`\]', filled, flags=re.MULTILINE)

    assert rows('') == ['table1b_gamma-2.0', 'rivals_ce']
    assert rows(': rivals_ce') == ['rivals_ce']
    assert rows(': rivals_ce table1b_gamma-2.0') == ['rivals_ce', 'table1b_gamma-2.0']
    with pytest.raises(
        UserError, match=r'README\.md: ablations-cherry-8e has no row ce'
    ):
        rows(': ce')


def test_a_column_has_at_most_one_reference(comparison, folder, tmp_path):
    add_comparison(folder / 'metafile-cherry.yml', comparison, 'cherries, val', {})
    alone = dict(models=comparison['models'][:1], differences=[])
    add_comparison(folder / 'metafile-mine.yml', alone, 'mine', {})
    write_index(tmp_path, 'cherry', 'mine')
    models = read_metafiles(tmp_path)
    text = '<!-- zoo: ablations-cherry ablations-mine -->\n<!-- zoo end -->'
    assert 'mine: AP' in fill_tables('README.md', text, models)
    other = copy.deepcopy(models['ablations-cherry'][1])
    other['Name'] = 'rivals_hinge_cherry'
    other['Results'][0]['Metrics']['AP difference']['to'] = 'rivals_ce_cherry'
    models['ablations-cherry'].append(other)
    with pytest.raises(UserError, match='ablations-cherry has rivals_ce, table1b'):
        fill_tables('README.md', text, models)


def test_mistakes_are_named(comparison, tmp_path):
    with pytest.raises(UserError, match='table of nowhere'):
        fill_tables('README.md', '<!-- zoo: nowhere -->\n<!-- zoo end -->', {})
    with pytest.raises(UserError, match='no config or row table1b_gamma'):
        add_comparison(tmp_path / 'metafile.yml', comparison, 'mine', {})
    assert not (tmp_path / 'metafile.yml').exists()


def test_a_metafile_without_data_in_its_name_has_differences(
    comparison, folder, tmp_path
):
    add_comparison(folder / 'metafile.yml', comparison, 'cherries, val', {})
    (tmp_path / 'model-index.yml').write_text(
        yaml.safe_dump(dict(Import=['configs/ablations/metafile.yml']))
    )
    text = '<!-- zoo: ablations -->\n<!-- zoo end -->'
    filled = fill_tables('README.md', text, read_metafiles(tmp_path))
    assert '[`rivals_ce`]' in filled and '-2.3 (-3.0 to -1.0), worse' in filled


def test_the_tool_writes_nothing_if_a_table_cannot_be(
    comparison, folder, tmp_path, fail, monkeypatch, capsys
):
    metafile = folder / 'metafile-cherry.yml'
    metafile.write_text(yaml.safe_dump(dict(Models=[])))
    write_index(tmp_path, 'cherry')
    for page in PAGES:
        (tmp_path / page).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / page).write_text('<!-- zoo: ablations-cherry -->\n<!-- zoo end -->')
    (tmp_path / 'tools').mkdir()
    tool = shutil.copy(ROOT / 'tools/zoo.py', tmp_path / 'tools')
    comparison.update(models=comparison['models'][:1], differences=[])
    file = tmp_path / 'compared.json'
    file.write_text(json.dumps(comparison))
    before = {page: (tmp_path / page).read_text() for page in PAGES}

    add = ('--add', file, '--metafile', metafile, '--dataset', 'mine')
    assert 'not allowed with argument --check' in fail(tool, '--check', *add)
    add += ('--metadata', 'Commit=1a2b3c4')
    output = fail(tool, *add)
    assert 'table1b_gamma-2.0_cherry has no Training Time' in output
    assert yaml.safe_load(metafile.read_text()) == dict(Models=[])
    assert before == {page: (tmp_path / page).read_text() for page in PAGES}

    words = [tool, *add, 'Training Time=2 h']
    monkeypatch.setattr(sys, 'argv', [str(word) for word in words])
    runpy.run_path(tool, run_name='__main__')
    assert 'README.md has new tables' in capsys.readouterr().out
    assert len(yaml.safe_load(metafile.read_text())['Models']) == 1
    assert '| 2 h' in (tmp_path / 'README.md').read_text()
