"""Command serve: show all items of a study in a browser, by a server for this computer alone."""

import argparse
import contextlib
from pathlib import Path

from preddiff.pages.server import Pages, server_of
from preddiff.settings.options import whole_number

_LARGEST_PORT = 65_535


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to its parser."""
    parser.add_argument("results", type=Path, metavar="RESULTS", help="folder results/<study>")
    parser.add_argument(
        "--port",
        type=whole_number(0, _LARGEST_PORT),
        default=0,
        help="port to listen on (default: one that is free)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Serve the pages until the user ends the command."""
    with server_of(Pages(arguments.results), arguments.port) as server:
        address, port = server.server_address[:2]
        print(f"http://{address!s}:{port}/ shows the study; Ctrl-C ends this", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
