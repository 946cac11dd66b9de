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

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.common import arguments, finish, write_result
from busiseg_nb.core import fail
from busiseg_nb.files import read_json
from busiseg_nb.intervals import interval_text, pooled_draws, support, triple
from busiseg_nb.metrics import Counts, counts_from_frame, dice, iou

FREE = ('split', 'split_sha256')      # settings in which folds differ
DRAWS = 2000


def read_arm(name, folders):
    "Counts (N,C) of all images in order of their names, index, class names, results of the folds"
    runs = [read_json(Path(folder)/'results.json') for folder in folders]
    same = {str({k: v for k, v in run['config'].items() if k not in FREE}) for run in runs}
    if len(same) > 1:
        fail(f'arm {name}', 'has folds with different settings', 'pass the folds of one cross-validation')
    frame = pd.concat([pd.read_csv(Path(folder)/'counts.csv') for folder in folders], ignore_index=True)
    frame = frame[frame['kind'] == 'image']
    if frame.duplicated(['case', 'class']).any():
        fail(f'arm {name}', 'tests an image twice', 'pass each fold once')
    counts, index, names = counts_from_frame(frame.sort_values('case', kind='stable'), 'image')
    return {'counts': counts, 'index': index, 'names': list(names), 'runs': runs}


def take(counts, rows):
    "The counts of some images"
    return Counts(*(a[rows] for a in counts))


def scores_of(counts, names):
    "name -> (M,) IoU and Dice of each class, and their mean over the classes without the binary 'tumour'"
    found, classes = {}, [k for k, name in enumerate(names) if name != 'tumour' or len(names) == 2]
    for score, function in (('iou', iou), ('dice', dice)):
        values = function(counts)
        found |= {f'{score}_{name}': values[:, k] for k, name in enumerate(names)}
        found[f'{score}_mean'] = np.nanmean(values[:, classes], 1)
    return found


def rounded(values):
    "(value, low, high) for a file: None where it is undefined"
    return [None if x is None or not np.isfinite(x) else round(float(x), 5) for x in values]


def pooled(arm, groups):
    "Scores over all images, with intervals"
    counts, names = arm['counts'], arm['names']
    held = dict(zip(names, support(counts, groups), strict=True))
    found = scores_of(pooled_draws(counts, groups, DRAWS), names)
    lacking = {name for name in names if held[name] < 2}
    return {key: rounded(triple(values, refused=key.partition('_')[2] in lacking))
            for key, values in found.items()}


def difference(a, b, names, groups):
    "Scores of `a` less those of `b`, on the same images and draws"
    first, second = (scores_of(pooled_draws(counts, groups, DRAWS), names) for counts in (a, b))
    return {key: rounded(triple(first[key] - second[key])) for key in first}


def compare(a, b, group_of):
    "Paired differences of two arms: all images that both hold, those with a near-copy, those without"
    if a['names'] != b['names']:
        fail('pair', 'has arms of different classes', 'compare arms of one network')
    cases = [arm['index']['case'].tolist() for arm in (a, b)]
    both = sorted(set(cases[0]) & set(cases[1]))
    if not both:
        fail('pair', 'has no image in common', 'compare arms over the same images')
    place = [{case: i for i, case in enumerate(some)} for some in cases]
    first, second = (take(arm['counts'], [at[case] for case in both])
                     for arm, at in zip((a, b), place, strict=True))
    groups = np.array([group_of[case] for case in both])
    size = pd.Series(groups).map(pd.Series(groups).value_counts()).to_numpy()
    parts = {'all images': size > 0, 'images with a near-copy': size > 1, 'images without one': size == 1}
    return {part: {'images': int(rows.sum()),
                   'groups': len(set(groups[rows])),
                   'difference': difference(take(first, rows), take(second, rows), a['names'], groups[rows])}
            for part, rows in parts.items() if len(set(groups[rows])) > 1}


def groups_of(arms):
    "case -> group, of the arm that puts most images together"
    best = min(arms.values(), key=lambda arm: arm['index']['group'].nunique()/len(arm['index']))
    found = {case: case for arm in arms.values() for case in arm['index']['case']}
    return found | dict(zip(best['index']['case'], best['index']['group'], strict=True))


def about(arm, group_of):
    "What an arm is, and its scores"
    index, config = arm['index'], arm['runs'][0]['config']
    groups = index['case'].map(group_of).to_numpy()
    return {'images': len(index),
            'groups': len(set(groups)),
            'images_per_label': index['label'].value_counts().to_dict(),
            'folds': [run['name'] for run in arm['runs']],
            'splits': [run['config']['split'] for run in arm['runs']],
            'settings': {key: value for key, value in config.items() if key not in FREE},
            'commits': sorted({str(run['provenance'].get('commit')) for run in arm['runs']}),
            'scores': pooled(arm, groups)}


def show(result):
    for name, arm in result['arms'].items():
        told = '  '.join(f"{key} {interval_text(arm['scores'][key])}" for key in ('iou_mean', 'dice_mean'))
        print(f"{name:12} {arm['images']:5} images, {len(arm['folds'])} folds: {told}")
    for pair, parts in result['pairs'].items():
        for part, row in parts.items():
            change = interval_text(row['difference']['iou_mean'], signed=True)
            print(f"{pair}, {part} ({row['images']}): mean IoU {change}")


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
    group_of = groups_of(arms)
    result = {'arms': {name: about(arm, group_of) for name, arm in arms.items()},
              'pairs': {f'{a} less {b}': compare(arms[a], arms[b], group_of) for a, b in args.pair},
              'draws': DRAWS}
    show(result)
    names = ' '.join(f'--arm {name} <{len(arm["runs"])} RUNS>' for name, arm in arms.items())
    pairs = ''.join(f' --pair {a} {b}' for a, b in args.pair)
    write_result(result, args.json, command=f'analysis/crossval.py {names}{pairs}')


if __name__ == '__main__':
    finish(main)
