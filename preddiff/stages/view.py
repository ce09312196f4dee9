"""Command view: write a page to explore the explanations of a study, which opens offline."""

import argparse
import sys
from pathlib import Path

from preddiff.pages.contents import Contents, contents_of
from preddiff.pages.page import ITEMS, MEGABYTES, make_page
from preddiff.settings.options import add_path, whole_number
from preddiff.storage.files import write_atomically


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to its parser."""
    parser.add_argument("results", type=Path, metavar="RESULTS", help="folder results/<study>")
    add_path(parser, "--out", "page to write (.html)")
    parser.add_argument(
        "--data", metavar="NAME", help="data store of the items, if the study has several"
    )
    parser.add_argument(
        "--explanations",
        nargs="+",
        metavar="NAME",
        help="explanations to show; default: all of these items that are complete",
    )
    parser.add_argument(
        "--items",
        "--subjects",
        type=whole_number(1),
        default=ITEMS,
        help=f"number of images or subjects to show, at most (default: {ITEMS})",
    )
    parser.add_argument(
        "--budget",
        type=whole_number(1),
        default=int(MEGABYTES),
        metavar="MB",
        help="size of the page in megabytes, at most; items that do not fit are left out "
        f"(default: {MEGABYTES:.0f})",
    )


def run(arguments: argparse.Namespace) -> None:
    """Write the page."""
    contents = contents_of(arguments.results, arguments.data, arguments.explanations)
    write_page(contents, arguments.out, arguments.items, arguments.budget)


def write_page(
    contents: Contents, out: Path, items: int = ITEMS, megabytes: float = MEGABYTES
) -> None:
    """Write a page, and say how many items it shows.

    Parameters
    ----------
    contents : Contents
    out : Path
    items : int
        How many items it shows at most.
    megabytes : float
        Size that it has at most.
    """
    page = make_page(contents, items, megabytes)
    with write_atomically(out) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines(page.parts)
    left_out = f"; {page.left_out} more are left out" if page.left_out else ""
    print(
        f"{out}: {len(page.items)} of the items of {contents.data.stem}, "
        f"{len(contents.explanations)} of their explanations, "
        f"{out.stat().st_size / 1e6:.1f} MB{left_out}",
        file=sys.stderr,
    )
