"What the scripts of benchmarks/ and analysis/ share: arguments, clocks, and the one way to write results"
import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np

from busiseg_nb.core import BusisegError
from busiseg_nb.files import write_json
from busiseg_nb.machine import provenance

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = ROOT/'busiseg_nb'/'data'/'model'


def arguments(doc,       # docstring of the script: its first line is the help
              json=None, # where results go by default; None writes none
              data=None, # folder of the data set by default
              ) -> argparse.ArgumentParser:
    "A parser with `--json`, and `--data` whose default is BUSI_ROOT"
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument('--json', default=json, help='file for the results')
    parser.add_argument('--data', default=os.environ.get('BUSI_ROOT') or data,
                        help='folder of the data set; default BUSI_ROOT')
    return parser


def check_data(parser, args):
    "End with status 2 where neither the command line nor BUSI_ROOT names a data set"
    if not args.data:
        parser.error('--data: the folder of the data set is missing')


def data_beside():
    "The data set in the folder beside the project, or None"
    beside = ROOT.parent/'shared'/'data'/'Dataset_BUSI_with_GT'
    return beside if beside.is_dir() else None


def write_result(result,              # dict of what was measured
                 path,                # JSON file to write; None writes none
                 under='provenance',  # key for the provenance; None puts it beside the results
                 command=None,        # what was run; default this process's arguments
                 **about):            # facts that go with the provenance
    "Write a result, with where it comes from"
    if path is None:
        return
    origin = provenance(command, **about)
    write_json({**result, **(origin if under is None else {under: origin})}, path)
    print(f'wrote {path}')


def finish(main, *args):
    "Run a script's `main`; what the user can mend is one line, and status 2"
    try:
        return main(*args)
    except BusisegError as error:
        print(f'error: {error}', file=sys.stderr)
        sys.exit(2)


def show_goals(goals):
    "One line a goal: met or not"
    for goal, met in goals.items():
        print(f'{"yes" if met else "NO":4s}{goal}')


def peak_mb():
    "Most memory that this process has held so far, MB (VmHWM: `ru_maxrss` would hold the parent's)"
    status = Path('/proc/self/status').read_text(encoding='utf-8').splitlines()
    return int(next(line for line in status if line.startswith('VmHWM')).split()[1])/1024


def seconds(job):
    "Wall seconds of a call"
    start = time.perf_counter()
    job()
    return time.perf_counter() - start


def rotated(names, turn):
    "The names in order, the first being another one at each turn"
    names = list(names)
    first = turn % len(names)
    return names[first:] + names[:first]


def in_turns(jobs,    # name: function without arguments
             repeats, # rounds that count; one round of warming up goes before
             ) -> dict:
    "(repeats,) float64 seconds of each job, in turn, so that a busy moment of the machine meets all"
    times = {name: [] for name in jobs}
    for turn in range(repeats + 1):
        for name in rotated(jobs, turn):
            took = seconds(jobs[name])
            if turn:
                times[name].append(took)
    return {name: np.array(values) for name, values in times.items()}
