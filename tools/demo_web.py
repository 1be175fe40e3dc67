"""Serve a page on which a model is tried: drop a picture, see its detections.

The page is for this machine only, unless --host says otherwise. It has no passwords
and sends nothing to anyone. It needs gradio, the extra [web].

Examples:
    python tools/demo_web.py CONFIG CHECKPOINT
    python tools/demo_web.py CONFIG CHECKPOINT --host 0.0.0.0 --port 8080
"""

import focal_retinanet.cli.cpu_threads  # noqa: F401

# isort: split
import argparse
import signal
from pathlib import Path

from focal_retinanet.cli.arguments import (
    add_model_arguments,
    add_score_thr,
    at_least,
    tool_parser,
)
from focal_retinanet.cli.console import quiet_warnings, warn
from focal_retinanet.cli.errors import clear_errors
from focal_retinanet.engine.demo_page import demo_server, import_gradio
from focal_retinanet.engine.inference import Detector


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__)
    add_model_arguments(parser)
    add_score_thr(parser, 'lowest score that is drawn before the slider is moved')
    parser.add_argument(
        '--host',
        default='127.0.0.1',
        help='address to listen on; 0.0.0.0 lets other machines in (default: '
        '%(default)s, only this machine)',
    )
    parser.add_argument(
        '--port',
        type=at_least(1),
        default=7860,
        help='port to listen on (default: %(default)s)',
    )
    parser.add_argument(
        '--max-size',
        type=at_least(1),
        default=20,
        metavar='MB',
        help='size of the largest file that is accepted (default: %(default)s)',
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    import_gradio()  # before the model, which takes longer to load
    quiet_warnings()
    detector = Detector(
        args.config,
        args.checkpoint,
        args.device,
        cfg_options=args.cfg_options,
        unsafe_checkpoint=args.unsafe_checkpoint,
        warn=warn,
    )
    title = Path(args.config).name.removesuffix('.py')
    server = demo_server(
        detector, title, args.host, args.port, args.max_size, args.score_thr
    )
    # Pictures are deleted however the server ends.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with server as page:
        print(f'{page.local_url}  (Ctrl-C ends the page)', flush=True)
        page.block_thread()


if __name__ == '__main__':
    with clear_errors():
        main()
