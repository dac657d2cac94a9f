"""`make simulate`, `make simulate-sum`, `make mutate`, `make scale`: `python -m tests.simulation COMMAND --help`."""

import argparse
import datetime
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.simulation import campaign, mutate, scale
from tests.simulation.campaign import FOR_EVER, Figures
from tests.simulation.shapes import SHAPES

BOOK = Path("simulated.jsonl")


def simulate(options: argparse.Namespace) -> int:
    """Play histories; 1 where one is broken."""
    if options.replay:
        shape, _, seed = options.replay.partition("/")
        return campaign.again(shape, seed)
    names = options.shape or list(SHAPES)
    seed = options.seed or campaign.fresh_seed()
    seconds = options.minutes * 60 if options.minutes else None
    report = campaign.run(FOR_EVER if seconds else options.histories, seed, options.jobs, names, seconds)
    for name, figures in report.shapes.items():
        print(f"{name:24} {figures.text}")
    at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    campaign.enter(report, options.book, at)
    total = report.all
    rate = total.histories / report.seconds
    print(f"{'all':24} {total.text}")
    print(f"seed {seed}, code {report.code}, {report.seconds:.0f} s, {rate:.0f} histories a second over all processes")
    return 1 if total.violations else 0


def total(options: argparse.Namespace) -> int:
    """Sum the book; 1 where a history in it was broken."""
    shapes: dict[str, Figures] = {}
    by_code: dict[str, Figures] = {}
    lines = campaign.read(options.books or [BOOK])
    for line in lines:
        for figures in (shapes.setdefault(line.shape, Figures()), by_code.setdefault(line.code, Figures())):
            figures.add(line.histories, line.violations, line.cpu_seconds)
    for name, figures in shapes.items():
        print(f"{name:24} {figures.text}")
    everything = Figures()
    for name, figures in by_code.items():
        print(f"{'over code ' + name:24} {figures.text}")
        everything.add(figures.histories, figures.violations, figures.cpu)
    print(f"{'all':24} {everything.text}")
    return 1 if everything.violations else 0


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    commands = parser.add_subparsers(required=True)

    def command(name: str, does: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        found = commands.add_parser(name, help=does.__doc__)
        found.set_defaults(does=does)
        return found

    one = command("simulate", simulate)
    one.add_argument("histories", type=int, nargs="?", default=14_000, help="over all shapes")
    one.add_argument("--minutes", type=float, help="play for so long instead")
    one.add_argument("--seed", help="a fresh one where none is given")
    one.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    one.add_argument("--shape", action="append", choices=list(SHAPES), help="only this one; may be repeated")
    one.add_argument("--book", type=Path, default=BOOK, help="where the figures go")
    one.add_argument("--replay", help="SHAPE/SEED/NUMBER: play this history again, and show it")
    command("sum", total).add_argument("books", type=Path, nargs="*")
    one = command("mutate", mutate.run)
    one.add_argument("--most", type=int, default=mutate.MOST, help="histories within which each must be found")
    one.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    one.add_argument("--only", action="append", choices=list(mutate.MUTATIONS))
    one.add_argument("--table", type=Path, help="a document whose generated table is written anew")
    one = command("scale", scale.run)
    one.add_argument("--changes", type=int, default=scale.CHANGES)
    one.add_argument("--mesh", action="append", choices=list(scale.MESHES))
    one.add_argument("--table", type=Path, help="a document whose measured table is written anew")
    options = parser.parse_args(arguments)
    does: Callable[[argparse.Namespace], int] = options.does
    return does(options)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
