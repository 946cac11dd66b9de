"""How many networks to average: one to four that have seen neither a hospital nor its images.

    python analysis/members.py results/cv-lite0-mean-* --runs runs --data BUSI_FOLDER --other BUSBRA_FOLDER

Each fold of BUSI has four networks that were not trained on it (see ensemble.py), and none of them has seen
the other data set. Of that each fold's networks predict a share of their own, so every image once. All
subsets of one, two, three and four are averaged and scored at a default operating point of their own: the
lowest at which at most a quarter of the fold's normal images raise an alarm. So every number of networks is
compared at the same alarms. The scores of one image are the mean over the subsets of that many; intervals are
95 % bootstrap intervals over patients, and differences are taken on the same draws (paired).
"""
import os
import sys
from itertools import combinations
from pathlib import Path

os.environ.setdefault('OMP_NUM_THREADS', str(os.cpu_count() or 1))

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.common import arguments, check_data, finish, write_result
from busiseg_nb.core import fail
from busiseg_nb.dataset import find_data
from busiseg_nb.files import read_json
from busiseg_nb.inference import predict_proba
from busiseg_nb.intervals import group_draws, triple
from busiseg_nb.machine import thread_map
from busiseg_nb.metrics import SCORES, at, case_scores, choose_points, rank_auc, ratio, top_peak
from busiseg_nb.models import load_model
from busiseg_nb.preprocessing import load_case
from busiseg_nb.runs import group_names
from busiseg_nb.splits import load_part

KEYS = ('lesions_missed', 'lesion_dice')


def networks(mean, runs, other):
    "Those behind a mean; `BusisegError` where one was trained on the other data set"
    found = []
    for name in read_json(mean/'results.json')['members']:
        if other.fingerprint in str(read_json(runs/name/'results.json')['data']):
            fail(runs/name, f'was trained on {other.root}', 'give images that it has not seen')
        found.append(load_model(runs/name/'last'))
    return found


def subsets(number):
    "Every choice of one to all of so many networks"
    return [some for k in range(1, number + 1) for some in combinations(range(number), k)]


def records(nets, cases):
    "Lesion records of these images, by subset of the networks"
    def of_case(case):
        img, mask = load_case(case)
        probs = [predict_proba(net, img) for net in nets]
        return {some: case_scores(np.mean([probs[i] for i in some], 0), mask, case.label)
                for some in subsets(len(nets))}

    found = thread_map(of_case, cases)
    return {some: [one[some] for one in found] for some in subsets(len(nets))}


def image_scores(normal, other):
    "(N,2,2) float64 of the other images: of each of `KEYS` what is divided, and by what; area under the ROC"
    threshold = choose_points(normal)['default']
    kept = [at(record, peak=threshold) for record in other]
    rows = [[SCORES[name].function(record) for name in KEYS] for record in kept]
    return np.array(rows, float), rank_auc([(top_peak(r), bool(r['truths'])) for r in normal + other])


def fold_scores(nets, normal, other):
    "By number of networks: the mean over subsets of `image_scores`"
    normal, other = records(nets, normal), records(nets, other)
    scored = {some: image_scores(normal[some], other[some]) for some in normal}
    def mean(k, i):
        return np.mean([scores[i] for some, scores in scored.items() if len(some) == k], 0)
    return {k: (mean(k, 0), float(mean(k, 1))) for k in range(1, len(nets) + 1)}


def told(draws):
    "By score: value, low and high of (1+n,2) values, the first of which is that of all images"
    return {name: [round(x, 5) for x in triple(draws[:, i])] for i, name in enumerate(KEYS)}


def summary(rows, areas, groups, draws):
    "Scores by number of networks, and the differences to one network less"
    codes, times = group_draws(groups, draws)
    often = np.concatenate([np.ones((1, len(codes))), times[:, codes]])
    drawn = {k: ratio(np.tensordot(often, some, 1)) for k, some in rows.items()}
    less = {k: told(drawn[k] - drawn[k - 1]) for k in rows if k > 1}
    area = {k: round(float(np.mean(some)), 5) for k, some in areas.items()}
    return {k: {**told(drawn[k]), 'roc_auc': area[k], 'difference': less.get(k, {})} for k in rows}


def main():
    parser = arguments(__doc__, 'results/analysis/members.json')
    parser.add_argument('means', type=Path, nargs='+', help='folders that ensemble.py made, one of each fold')
    parser.add_argument('--runs', type=Path, default='runs', help='folder of the runs that they are made of')
    parser.add_argument('--other', required=True, help='folder of a data set that no run has seen')
    parser.add_argument('--limit', type=int, help='use only so many other images of each fold')
    parser.add_argument('--bootstrap', type=int, default=2000)
    args = parser.parse_args()
    check_data(parser, args)
    data, other = find_data(args.data), find_data(args.other)
    names, rows, areas, used = group_names(other.cases, other.groups), {}, {}, []
    for fold, mean in enumerate(args.means):
        nets = networks(mean, args.runs, other)
        normal = [c for c in load_part(mean/'split.json', data) if c.label == 'normal']
        share = other.cases[fold::len(args.means)][:args.limit]
        used += share
        for k, (scores, area) in fold_scores(nets, normal, share).items():
            rows.setdefault(k, []).append(scores)
            areas.setdefault(k, []).append(area)
        print(mean.name, {k: round(a[-1], 3) for k, a in areas.items()}, flush=True)
    rows = {k: np.concatenate(some) for k, some in rows.items()}
    out = summary(rows, areas, [names.get(c.name, c.name) for c in used], args.bootstrap)
    for k, scores in out.items():
        print(k, scores)
    result = {'numbers': out, 'images': len(used), 'limit': args.limit, 'means': [m.name for m in args.means]}
    write_result(result, args.json, data_fingerprint=data.fingerprint, other_fingerprint=other.fingerprint)


if __name__ == '__main__':
    finish(main)
