"""One look at an image or several, at different scales: what it does to the masks of another hospital.

    python analysis/scales.py RUN [RUN …] --data BUSI_FOLDER --external BUSBRA_FOLDER

Each run was trained on BUSI alone. Its validation part chooses the operating point of each set of scales:
the lowest peak at which a quarter of the normal images at most raise an alarm. Scored are its test part of
BUSI, and images of the other data set, which no run has seen, each by one of the runs. Intervals are 95 %
bootstrap intervals over groups of near-copies or patients; the difference to one look is taken on the same
draws (paired).
"""
import os
import sys
from pathlib import Path

os.environ.setdefault('OMP_NUM_THREADS', str(os.cpu_count() or 1))

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.common import arguments, finish, write_result
from busiseg_nb.dataset import find_data
from busiseg_nb.files import read_json
from busiseg_nb.intervals import group_draws, interval_text, sum_by, triple
from busiseg_nb.metrics import SCORES, at, choose_points
from busiseg_nb.models import load_model
from busiseg_nb.runs import group_names, score_cases
from busiseg_nb.splits import load_part

SETS = {'one scale': [1], 'three scales': [2/3, 1, 4/3]}     # of the working size
ABOUT = ('name', 'profile', 'model', 'split', 'split_sha256')     # what is told of a run
KEYS = ('lesions_missed', 'lesion_dice', 'normal_alarms')


def records_of(model, cases, data, peak):
    "Records of these images at an operating point; None: all of their lesions"
    found = score_cases(model, cases, group_names(data.cases, data.groups), progress=False).lesions
    return [at(record, peak or 0.) for record in found]


def measure(runs, data, external, every, limit):
    "Per set of scales and data set the records of all runs, and per set their operating points"
    found = {way: {data.layout: [], external.layout: []} for way in SETS}
    points = {way: [] for way in SETS}
    shown = sorted(external.cases, key=lambda case: case.name)[::every]
    for turn, run in enumerate(runs):
        model, split = load_model(run/'best'), run/'split.json'
        others = shown[turn::len(runs)][:limit]
        for way, scales in SETS.items():
            model.scales = scales
            valid = records_of(model, load_part(split, data, 'valid'), data, None)
            peak = choose_points(valid)['default']
            points[way].append(round(peak, 4))
            found[way][data.layout] += records_of(model, load_part(split, data)[:limit], data, peak)
            found[way][external.layout] += records_of(model, others, external, peak)
        print(f'{run.name}: {turn + 1} of {len(runs)}', flush=True)
    return found, points


def drawn(name, records, draws):
    "(1+draws,) values of a score that is reduced from sums, the value first"
    score = SCORES[name]
    codes, times = group_draws([record['group'] for record in records], draws)
    sums = sum_by(codes, np.array([score.function(record) for record in records], float), times.shape[1])
    return np.r_[score.reduce(sums.sum(0)), score.reduce(times @ sums)]


def rounded(values):
    "Value, low and high; None where a data set has no such image"
    return None if np.isnan(values[0]) else [round(float(v), 5) for v in triple(values)]


def summary(found, draws):
    "Scores of each set of scales on each data set, and the differences to the first set"
    out, first = {}, next(iter(SETS))
    for way, by_data in found.items():
        out[way] = {}
        for layout, records in by_data.items():
            values = {name: drawn(name, records, draws) for name in KEYS}
            base = {name: drawn(name, found[first][layout], draws) for name in KEYS}
            out[way][layout] = {
                'images': len(records),
                **{name: rounded(values[name]) for name in KEYS},
                'difference': {name: rounded(values[name] - base[name]) for name in KEYS}}
    return out


def show(out):
    "A line for each set of scales and data set"
    for way, by_data in out.items():
        for layout, scores in by_data.items():
            said = [f'{name} {interval_text(scores[name], digits=3)}' for name in KEYS if scores[name]]
            print(f'{way:14} {layout:8} {", ".join(said)}')


def main():
    parser = arguments(__doc__, 'results/analysis/scales.json')
    parser.add_argument('runs', type=Path, nargs='+', help='folders of runs on --data alone')
    parser.add_argument('--external', required=True, help='a data set of another hospital, to predict only')
    parser.add_argument('--every', type=int, default=1, help='take only each so-manieth image of --external')
    parser.add_argument('--limit', type=int, help='use only so many images of each run, for a trial')
    parser.add_argument('--bootstrap', type=int, default=2000)
    args = parser.parse_args()
    if not args.data:
        parser.error('--data: the folder of the data set is missing')
    data, external = find_data(args.data), find_data(args.external)
    found, points = measure(args.runs, data, external, args.every, args.limit)
    out = summary(found, args.bootstrap)
    show(out)
    told = [read_json(run/'results.json') for run in args.runs]
    result = {
        'runs': [{key: one[key] for key in ABOUT} for one in told],
        'scales': SETS, 'operating_points': points, 'every': args.every, 'limit': args.limit, 'ways': out}
    write_result(result, args.json, data_fingerprint=data.fingerprint, external=external.fingerprint)


if __name__ == '__main__':
    finish(main)
