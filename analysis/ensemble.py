"""The mean of several networks that have not seen a fold, on its test part: the result of a run, beside those
of single networks.

    python analysis/ensemble.py RUN RUN … --data BUSI_FOLDER --out results/cv-lite0-mean-1

The splits fold1 to fold5 and fold1-3 to fold5-2 leave each two of the five folds out of training once, so
four networks have not been trained on the images of a fold. They were the test part of some and the
validation part of the others. So the weights are those of the last epoch, which no image has chosen. The test
part of the first run is predicted: the probabilities of the networks are averaged.
"""
import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault('OMP_NUM_THREADS', str(os.cpu_count() or 1))

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.common import check_data, finish
from busiseg_nb.core import fail
from busiseg_nb.dataset import find_data
from busiseg_nb.models import ensemble, load_model
from busiseg_nb.runs import (
    Rescored,
    check_unused,
    group_names,
    main_scores,
    save_rescored,
    score_cases,
)
from busiseg_nb.splits import load_part


def unseen(runs, data):
    "The test part of the first run; `BusisegError` where another has trained on one of its images"
    cases = load_part(runs[0]/'split.json', data)
    for run in runs:
        trained = {case.name for case in load_part(run/'split.json', data, 'train')}
        if seen := next((case.name for case in cases if case.name in trained), None):
            fail(run, f'was trained on {seen}, which {runs[0].name} tests', 'leave it out')
    return cases


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('runs', type=Path, nargs='+', help='folders of runs; the first has the test part')
    parser.add_argument('--data', default=os.environ.get('BUSI_ROOT'), help='folder; default BUSI_ROOT')
    parser.add_argument('--out', type=Path, required=True, help='folder to make: counts, scores and split')
    args = parser.parse_args()
    check_data(parser, args)
    check_unused(args.out)
    data = find_data(args.data)
    cases = unseen(args.runs, data)
    model = ensemble([load_model(run/'last') for run in args.runs])
    scored = score_cases(model, cases, group_names(data.cases, data.groups))
    scores, members = main_scores(scored.counts, scored.histogram), tuple(run.name for run in args.runs)
    again = Rescored(scores, scored, len(cases), own=True, peak=0., members=members)
    args.out.mkdir(parents=True, exist_ok=True)
    save_rescored(again, args.runs[0], args.out)
    print({name: values for name, values in scores.items() if name in ('iou_mean', 'dice_tumour')})


if __name__ == '__main__':
    finish(main)
