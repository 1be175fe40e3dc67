"""From no data at all to a trained detector: data, training, AP table, pictures.

Runs the project's own tools, and prints each command as one would type it. Steps
that an earlier run has finished are not repeated.
"""

import shlex
import subprocess
import sys
from pathlib import Path

from mmengine.config import Config

from focal_retinanet.cli.arguments import tool_parser

ROOT = Path(__file__).resolve().parent.parent
TOOLS = Path('tools')
CONFIG = Path('configs/demo/retinanet_r18-slim_fpn_8e_shapes.py')


def run(*command: str | Path) -> None:
    """Run a tool from the project's root; its failure is the demo's."""
    words = [str(word) for word in command]
    print(f'\n$ python {shlex.join(words)}', flush=True)
    status = subprocess.run([sys.executable, *words], cwd=ROOT).returncode
    if status:
        sys.exit(status)


def main() -> None:
    parser = tool_parser(__doc__)
    parser.add_argument(
        '--work-dir',
        type=Path,
        default=Path('work_dirs/demo'),
        help='folder of checkpoints, logs and pictures (default: work_dirs/demo)',
    )
    args = parser.parse_args()
    cfg = Config.fromfile(ROOT / CONFIG)
    work_dir = args.work_dir

    run(TOOLS / 'make_shapes.py', cfg.data_root)

    checkpoint = work_dir / f'epoch_{cfg.train_cfg.max_epochs}.pth'
    if (ROOT / checkpoint).exists():
        print(f'\n{checkpoint} is there already; delete {work_dir} to train anew.')
    else:
        run(TOOLS / 'train.py', CONFIG, '--work-dir', work_dir, '--resume')

    run(
        *(TOOLS / 'test.py', CONFIG, checkpoint),
        *('--work-dir', work_dir, '--show-dir', 'pictures'),
    )
    pictures = max(
        (ROOT / work_dir).glob('*/pictures'), key=lambda p: p.stat().st_mtime
    )
    print(
        f'\nCheckpoint  {checkpoint}'
        f'\nPictures    {pictures.relative_to(ROOT)}  (ground truth left, detections '
        'right)'
        f'\nData        {cfg.data_root}  (COCO format)'
        f'\nConfig      {CONFIG}  (to train on your own data, see README.md)'
    )


if __name__ == '__main__':
    main()
