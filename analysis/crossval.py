"""Cross-validation: the folds of each arm pooled over all images, and arms against each other on the same
images.

    python analysis/crossval.py --arm grouped runs/cv-grouped-1 … runs/cv-grouped-5 \
                                --arm random runs/cv-random-1 … runs/cv-random-5 --pair random grouped

An arm is a name and the run folders of its folds, which differ in nothing but the fold; each image is in the
test part of one of them. Scores are of pixels pooled over all images; intervals are 95 % bootstrap intervals
over groups of near-copies. A pair is compared on the images that both hold, all scored on the same draws, and
again for the images that have a near-copy and for those that have none: what a near-copy in training gives is
the difference of the first.
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.common import arguments, finish, write_result
from busiseg_nb.comparison import cv_scores, paired_verdict, pooled_cv
from busiseg_nb.core import fail
from busiseg_nb.intervals import interval_text

FREE = ('split', 'split_sha256')      # settings in which folds differ
TOLD = ('mean IoU', 'tumour Dice per image')


def read_arm(name, folders):
    "The folds of an arm, pooled; `BusisegError` where their settings differ or they share an image"
    arm = pooled_cv(folders, name)
    settings = {str({k: v for k, v in run.result['config'].items() if k not in FREE}) for run in arm.runs}
    if len(settings) > 1:
        fail(f'arm {name}', 'has folds with different settings', 'pass the folds of one cross-validation')
    return arm


def rounded(values):
    "(value, low, high) for a file: None where it is undefined"
    return [None if x is None or x != x else round(float(x), 5) for x in values]


def images_of(arm):
    "One row an image: case, label, group"
    rows = arm.counts.drop_duplicates('case')[['case', 'label', 'group']]
    return rows.assign(group=rows.group.fillna(rows.case))


def group_of(arms):
    "case -> group, of the arm that puts most images together"
    tables = [images_of(arm) for arm in arms]
    best = min(tables, key=lambda table: table.group.nunique()/len(table))
    found = {case: case for table in tables for case in table.case}
    return found | dict(zip(best.case, best.group, strict=True))


def regrouped(arm, groups):
    "The arm's counts with other groups"
    return arm.counts.assign(group=arm.counts.case.map(groups))


def compare(a, b):
    "Paired differences of two arms: all images that both hold, those with a near-copy, those without"
    groups, scores = group_of([a, b]), list(cv_scores(a, n=1))
    both = sorted(set(a.counts.case) & set(b.counts.case))
    size = {}
    for case in both:
        size[groups[case]] = size.get(groups[case], 0) + 1
    parts = {'all images': both,
             'images with a near-copy': [case for case in both if size[groups[case]] > 1],
             'images without one': [case for case in both if size[groups[case]] == 1]}
    found = {}
    for part, cases in parts.items():
        if part != 'all images' and len({groups[case] for case in cases}) < 2:
            continue
        told = {score: paired_verdict(regrouped(a, groups), regrouped(b, groups), score, cases)
                for score in scores}
        one = told[scores[0]]
        found[part] = {'images': one.images, 'groups': one.groups, 'behind': one.behind,
                       'difference': {score: rounded(row.difference) for score, row in told.items()}}
    return found


def about(arm):
    "What an arm is, and its scores"
    images, results = images_of(arm), [run.result for run in arm.runs]
    return {'images': len(images),
            'groups': int(images.group.nunique()),
            'images_per_label': images.label.value_counts().to_dict(),
            'folds': [run.name for run in arm.runs],
            'splits': [result['config']['split'] for result in results],
            'settings': {key: value for key, value in results[0]['config'].items() if key not in FREE},
            'commits': sorted({str(result['provenance'].get('commit')) for result in results}),
            'scores': {score: rounded(values) for score, values in cv_scores(arm).items()}}


def show(result):
    for name, arm in result['arms'].items():
        told = '  '.join(f"{key} {interval_text(arm['scores'][key])}" for key in TOLD)
        print(f"{name:12} {arm['images']:5} images, {len(arm['folds'])} folds: {told}")
    for pair, parts in result['pairs'].items():
        for part, row in parts.items():
            told = '  '.join(f"{key} {interval_text(row['difference'][key], signed=True)}" for key in TOLD)
            print(f"{pair}, {part} ({row['images']}): {told}")


def parse():
    parser = arguments(__doc__, 'results/analysis/crossval.json')
    parser.add_argument('--arm', nargs='+', action='append', required=True, metavar=('NAME', 'RUN'),
                        help='a name and the run folders of its folds; again for each arm')
    parser.add_argument('--pair', nargs=2, action='append', default=[], metavar=('NAME', 'NAME'),
                        help='two arms to compare: the first less the second')
    args = parser.parse_args()
    for name, *folders in args.arm:
        if not folders:
            parser.error(f'--arm {name}: no run folder')
    names = [arm[0] for arm in args.arm]
    for name in sum(args.pair, []):
        if name not in names:
            parser.error(f'--pair: there is no arm {name}')
    return args


def main():
    args = parse()
    arms = {name: read_arm(name, folders) for name, *folders in args.arm}
    result = {'arms': {name: about(arm) for name, arm in arms.items()},
              'pairs': {f'{a} less {b}': compare(arms[a], arms[b]) for a, b in args.pair}}
    show(result)
    names = ' '.join(f'--arm {name} <{len(arm.runs)} RUNS>' for name, arm in arms.items())
    pairs = ''.join(f' --pair {a} {b}' for a, b in args.pair)
    write_result(result, args.json, command=f'analysis/crossval.py {names}{pairs}')


if __name__ == '__main__':
    finish(main)
