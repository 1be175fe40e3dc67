"""The model zoo: metafiles that mim reads, and their tables in the READMEs."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from focal_retinanet.cli.errors import UserError
from focal_retinanet.config.ablation_table import Table
from focal_retinanet.evaluation.tables import as_markdown, verdict

INDEX = 'model-index.yml'
#: Files with tables of the metafiles.
PAGES = (
    'README.md',
    'configs/README.md',
    'configs/ablations/README.md',
    'configs/recipes/README.md',
)
COLLECTION = 'Focal RetinaNet'
# Table in a page; its start names the metafiles, see `read_metafiles`, and after a
# colon the rows if it does not show all of them.
_BLOCK = re.compile(
    r'(<!-- zoo: ([\w -]+)(?:: ([\w. -]+))? -->\n).*?(<!-- zoo end -->)', re.DOTALL
)


def read_metafiles(root: Path) -> dict[str, list[dict]]:
    """Read the models of each metafile in the index.

    Args:
        root: Folder of the project.

    Returns:
        Models by metafile: 'cherry' stands for ``configs/cherry/metafile.yml``, and
        'ablations-cherry' for ``configs/ablations/metafile-cherry.yml``.
    """
    index = yaml.safe_load((root / INDEX).read_text())
    return {
        metafile_name(root / file): yaml.safe_load((root / file).read_text())['Models']
        for file in index['Import']
    }


def fill_tables(page: str, text: str, models: Mapping[str, Sequence[dict]]) -> str:
    """Return the text of a page with new tables from the metafiles.

    Args:
        page: Path of the page from the folder of the project, for the links.
        text: Text of the page.
        models: Models by metafile, see :func:`read_metafiles`.

    Raises:
        UserError: A table names a metafile that is not in the index or a row that
            none of its metafiles has, a model lacks metadata that its table shows, or
            a metafile has several data sets, or differences from several models.
    """

    def table(match: re.Match) -> str:
        start, metafiles, names, end = match.groups()
        shown = {}
        for metafile in metafiles.split():
            if metafile not in models:
                raise UserError(
                    f'{page} has a table of {metafile}, which {INDEX} does not have'
                )
            shown[metafile] = [_linked(model, page) for model in models[metafile]]
        rows = [model for part in shown.values() for model in part]
        try:
            if any('AP difference' in _metrics(row) for row in rows):
                lines = _differences_table(shown, names and names.split())
            else:
                lines = _models_table(rows)
        except UserError as error:
            raise UserError(f'{page}: {error}') from None
        return f'{start}\n{as_markdown(lines)}\n\n{end}'

    return _BLOCK.sub(table, text)


def _linked(model: dict, page: str) -> dict:
    """Return a model whose config is relative to the folder of a page."""
    return {**model, 'Config': os.path.relpath(model['Config'], os.path.dirname(page))}


def metafile_name(metafile: Path) -> str:
    """Return the name of a metafile in :func:`read_metafiles`."""
    return metafile.resolve().parent.name + _suffix(metafile)


def with_comparison(
    metafile: Path, comparison: dict, dataset: str, metadata: Mapping[str, str]
) -> tuple[dict, list[str]]:
    """Return a metafile with a comparison's models, in place of models of these names.

    Args:
        metafile: File in a folder of configs, which may not exist yet.
            ``metafile-DATA.yml`` has rows that are trained on that data, whose names
            end in it.
        comparison: Output of ``tools/compare.py --json``.
        dataset: Name of the data set.
        metadata: Entries for all models, such as the commit and the hardware.

    Returns:
        Content of the metafile, which is not written, and names of the new models.

    Raises:
        UserError: The folder has no config of a model.
    """
    content = yaml.safe_load(metafile.read_text()) if metafile.exists() else {}
    models = {model['Name']: model for model in content.get('Models', [])}
    gaps = {gap['model']: gap for gap in comparison['differences']}
    suffix = _name_suffix(_suffix(metafile))
    names = [row['name'] + suffix for row in comparison['models']]
    for name, row in zip(names, comparison['models'], strict=True):
        gap = gaps.get(row['name'])
        models[name] = {
            'Name': name,
            'In Collection': COLLECTION,
            'Config': _config_of(row['name'], metafile.parent),
            'Metadata': {
                'Parameters': row['params'],
                'FLOPs': row['flops'],
                'Schedule': row['schedule'],
                'Seeds': [one['seed'] for one in row['seeds']],
                **metadata,
            },
            'Results': [
                {
                    'Task': 'Object Detection',
                    'Dataset': dataset,
                    'Metrics': {
                        **_percents(row),
                        **({} if gap is None else _difference(gap, suffix)),
                    },
                }
            ],
        }
    content['Models'] = list(models.values())
    return content, names


def write_metafile(metafile: Path, content: dict) -> None:
    """Write the content of :func:`with_comparison`."""
    metafile.write_text(yaml.safe_dump(content, sort_keys=False, width=88))


def _suffix(metafile: Path) -> str:
    """'-DATA' for ``metafile-DATA.yml``, '' for ``metafile.yml``."""
    return metafile.stem.removeprefix('metafile')


def _name_suffix(suffix: str) -> str:
    """End of the names of a metafile's models: '_cherry_8e' for '-cherry-8e'."""
    return suffix.replace('-', '_')


def _config_of(name: str, folder: Path) -> str:
    """The config of this name in a folder, or the table that has it as a row."""
    for file in sorted(folder.glob('*.py')):
        row = name.removeprefix(f'{file.stem}_')
        if file.stem == name or (row != name and row in Table(file).rows):
            return f'configs/{folder.resolve().name}/{file.name}'
    raise UserError(f'{folder} has no config or row {name}')


def _percents(row: dict) -> dict:
    """APs in mmdet's terms, and their spread over the seeds."""
    metrics = {
        'box AP': _percent(row['AP']),
        'AP50': _percent(row['AP50']),
        'AP75': _percent(row['AP75']),
        'box AP of each seed': [_percent(one['AP']) for one in row['seeds']],
    }
    if row['AP_sd'] is not None:
        metrics['box AP sd'] = _percent(row['AP_sd'])
    return metrics


def _difference(gap: dict, suffix: str) -> dict:
    return {
        'AP difference': {
            'to': gap['reference'] + suffix,
            'points': _percent(gap['AP']),
            'interval': [_percent(gap['low']), _percent(gap['high'])],
            'verdict': verdict(gap),
        }
    }


def _percent(value: float | None) -> float | None:
    return None if value is None else round(100 * value, 2)


def _metrics(model: dict) -> dict:
    return model['Results'][0]['Metrics']


def _models_table(models: Sequence[dict]) -> list[list[str]]:
    lines = [
        ['config', 'data', 'AP', 'AP50', 'AP75', 'training time', 'seed', 'commit']
    ]
    for model in models:
        metrics, metadata = _metrics(model), model['Metadata']
        for key in ('Training Time', 'Commit'):
            if key not in metadata:
                raise UserError(
                    f'{model["Name"]} has no {key}, which its table shows: name it by '
                    f'--metadata "{key}=..."'
                )
        lines.append(
            [
                f'[`{model["Name"]}`]({model["Config"]})',
                model['Results'][0]['Dataset'],
                *(f'{metrics[name]:.1f}' for name in ('box AP', 'AP50', 'AP75')),
                metadata['Training Time'],
                ' '.join(map(str, metadata['Seeds'])),
                metadata['Commit'],
            ]
        )
    return lines


def _differences_table(
    metafiles: Mapping[str, Sequence[dict]], names: Sequence[str] | None
) -> list[list[str]]:
    """One line per row of the paper's tables, with the data sets side by side.

    One data set alone has columns of AP50 and AP75, too. `names` are the rows in
    their order, or None for all.
    """
    more = ('AP50', 'AP75') if len(metafiles) == 1 else ()
    header, columns, configs = ['row'], [], {}
    for metafile, models in metafiles.items():
        _, dash, data = metafile.partition('-')
        suffix = _name_suffix(dash + data)
        column = {model['Name'].removesuffix(suffix): model for model in models}
        configs |= {name: model['Config'] for name, model in column.items()}
        gaps = [_metrics(model).get('AP difference') for model in models]
        references = {gap['to'].removesuffix(suffix) for gap in gaps if gap}
        datasets = {model['Results'][0]['Dataset'] for model in models}
        for what in (references, datasets):
            if len(what) > 1:
                raise UserError(
                    f'a column of a table has one data set and one reference; '
                    f'{metafile} has {", ".join(sorted(what))}'
                )
        header += [f'{datasets.pop()}: AP', *more, 'seeds']
        header += [f'AP - AP of `{references.pop()}`' if references else '']
        columns.append(column)
    if unknown := [name for name in names or () if name not in configs]:
        raise UserError(f'{" ".join(metafiles)} has no row {unknown[0]}')
    lines = [header]
    for name in names or configs:
        line = [f'[`{name}`]({configs[name]})']
        for column in columns:
            if name in column:
                line += _difference_cells(column[name], more)
            else:
                line += [''] * (3 + len(more))
        lines.append(line)
    return lines


def _difference_cells(model: dict, more: Sequence[str]) -> list[str]:
    metrics = _metrics(model)
    deviation = f' ± {metrics["box AP sd"]:.1f}' if 'box AP sd' in metrics else ''
    cells = [
        f'{metrics["box AP"]:.1f}{deviation}',
        *(f'{metrics[name]:.1f}' for name in more),
        str(len(metrics['box AP of each seed'])),
    ]
    if gap := metrics.get('AP difference'):
        low, high = gap['interval']
        gap = f'{gap["points"]:+.1f} ({low:+.1f} to {high:+.1f}), {gap["verdict"]}'
    return [*cells, gap or '']
