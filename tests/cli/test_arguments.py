"""Arguments that several tools have."""

from pathlib import Path

import pytest
import torch

from focal_retinanet.cli.arguments import (
    add_model_arguments,
    add_num,
    add_out_dir,
    add_out_file,
    tool_parser,
)


@pytest.fixture
def parser():
    return tool_parser('A tool.\n\n    kept as it is')


def test_the_description_is_kept_as_it_is(parser):
    assert 'A tool.\n\n    kept as it is\n' in parser.format_help()


def test_outputs_are_paths(parser):
    add_out_dir(parser, 'found', 'the pictures', ['--output-dir'])
    assert parser.parse_args([]).out_dir == Path('found')
    for name in ('--out-dir', '--output-dir'):
        args = parser.parse_args([name, 'mine', '--overwrite'])
        assert args.out_dir == Path('mine') and args.overwrite
    files = tool_parser('Another tool.')
    add_out_file(files, 'a.png')
    assert files.parse_args([]).out == Path('a.png')


@pytest.mark.parametrize('text', ['0', '-1', '1.5', 'many'])
def test_numbers_that_are_too_small_are_named(parser, text, capsys):
    add_num(parser, 'to draw', default=None)
    assert parser.parse_args([]).num is None
    assert parser.parse_args(['--num', '1']).num == 1
    with pytest.raises(SystemExit):
        parser.parse_args(['--num', text])
    says = f'--num: must be a whole number of at least 1, got {text}'
    assert says in capsys.readouterr().err


@pytest.mark.parametrize('gpus', [0, 2])
def test_a_device_of_this_machine(gpus, monkeypatch, capsys, parser):
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: gpus)
    add_model_arguments(parser)

    def device(text):
        return parser.parse_args(['a.py', 'a.pth', '--device', text]).device

    assert device('cpu') == 'cpu'
    if gpus:
        assert [device(text) for text in ('cuda', 'cuda:1')] == ['cuda', 'cuda:1']
    for text, says in ((f'cuda:{gpus}', f'finds {gpus} GPUs'), ('foo', 'no device')):
        with pytest.raises(SystemExit):
            device(text)
        assert says in capsys.readouterr().err
