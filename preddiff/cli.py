"""The command line: one subcommand per module of `preddiff.stages`."""

import argparse
import ast
import importlib
import os
import pkgutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from preddiff import stages
from preddiff.errors import InputError

_DESCRIPTION = (
    "Prediction difference analysis (Zintgraf et al., ICLR 2017) and other methods: which voxels "
    "of an input are evidence for a classifier's decision, and which against it."
)
_EPILOG = (
    "`snakemake` runs a whole study; its configuration is documented in config/README.md. "
    "`preddiff COMMAND --help` describes a command."
)
# Groups of subcommands, by the first word of the docstrings of their modules.
_GROUPS = {
    "Command": "commands",
    "Stage": "stages of a study, which the workflow runs",
}


@dataclass(frozen=True)
class Subcommand:
    """A subcommand, described by the first line of its module.

    Attributes
    ----------
    name : str
    group : {"Command", "Stage"}
    summary : str
    """

    name: str
    group: str
    summary: str

    def module(self) -> ModuleType:
        """Import the module, which may import numerical libraries."""
        return importlib.import_module(f"{stages.__name__}.{self.name.replace('-', '_')}")


def subcommands() -> Iterator[Subcommand]:
    """Yield all subcommands. Their modules are not imported, because that takes seconds."""
    for module in pkgutil.iter_modules(stages.__path__):
        source = Path(stages.__path__[0], f"{module.name}.py").read_text()
        first_line = (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
        title, _, summary = first_line.partition(": ")
        yield Subcommand(module.name.replace("_", "-"), title.split()[0], summary.rstrip("."))


def parser(wanted: str | None = None) -> argparse.ArgumentParser:
    """Create the parser of the command line.

    Parameters
    ----------
    wanted : str, optional
        Subcommand whose options are added; for the others, only names and summaries are.
    """
    found = list(subcommands())
    top = argparse.ArgumentParser(
        prog="preddiff",
        description=f"{_DESCRIPTION}\n\n{_listed(found)}",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="preddiff [-h] COMMAND ...",
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND", help=argparse.SUPPRESS)
    for one in found:
        summary = one.summary[0].upper() + one.summary[1:] + "."
        added = commands.add_parser(one.name, prog=f"preddiff {one.name}", description=summary)
        if one.name == wanted:
            module = one.module()
            module.add_arguments(added)
            added.set_defaults(run=module.run)
    return top


def _listed(found: Sequence[Subcommand]) -> str:
    """List subcommands and their summaries by group."""
    width = max(len(one.name) for one in found)
    lines: list[str] = []
    for group, title in _GROUPS.items():
        lines += ["", f"{title}:"]
        lines += [f"  {one.name:<{width}}  {one.summary}" for one in found if one.group == group]
    return "\n".join(lines[1:])


def main(argv: Sequence[str] | None = None) -> None:
    """Run a subcommand; exit with status 2 and a message on errors that a user can correct."""
    given = list(sys.argv[1:] if argv is None else argv)
    arguments = parser(given[0] if given else None).parse_args(given)
    try:
        arguments.run(arguments)
        sys.stdout.flush()
    except InputError as error:
        print(f"preddiff: error: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        # The reader of the output has ended, as in `preddiff layers ... | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        # For example a full disk or a read-only folder; not all such errors name the file.
        where = error.filename or getattr(arguments, "out", None)
        where = where or getattr(arguments, "store", "standard output")
        reason = error.strerror or error
        print(f"preddiff: error: {where}: {reason}; correct it and run again", file=sys.stderr)
        sys.exit(2)
