"""Near-copies in BUSI: finds them, measures what they do, and with --freeze writes the list that ships with
the package.

    python analysis/leakage.py BUSI_FOLDER
"""
import argparse
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.common import ROOT, finish, write_result
from busiseg_nb.dataset import find_cases, fingerprint
from busiseg_nb.files import atomic_path
from busiseg_nb.leakage import (
    NEXT_FRAME,
    SAME_FRAME,
    agreement_ceiling,
    find_links,
    group_links,
    group_table,
    label_conflicts,
    leak_shares,
    mask_agreement,
)

QUANTILES = [.05, .1, .25, .5, .75, .9, .95]


def save(table, path):
    with atomic_path(path) as tmp:
        table.to_csv(tmp, index=False, lineterminator='\n')


def links_table(cases, links):
    "One row per verified pair of images"
    rows = [{'a': cases[link.a].name, 'b': cases[link.b].name, 'votes': link.votes,
             'score': round(link.score, 3),
             'scale_x': round(link.sx, 3), 'scale_y': round(link.sy, 3), 'overlap': round(link.overlap, 3),
             'marked': round(link.marked, 4)} for link in links]
    return pd.DataFrame(rows, columns=['a', 'b', 'votes', 'score', 'scale_x', 'scale_y', 'overlap', 'marked'])


def spread(x):
    "Mean, and the quantiles that hold 95 % of `x`"
    x = np.asarray(x, float)
    values = {'mean': x.mean(), 'low': np.quantile(x, .025), 'median': np.median(x),
              'high': np.quantile(x, .975),
              'min': x.min(), 'max': x.max()}
    return {name: round(float(value), 4) for name, value in values.items()}


def kinds(copies):
    "How many of the copies are rescaled, marked, or cut"
    def rescaled(link):
        return abs(np.log(link.sx)) > .02 or abs(np.log(link.sy)) > .02
    return {'rescaled': sum(rescaled(link) for link in copies),
            'marked': sum(link.marked > .0005 for link in copies),
            'overlap_below_95_percent': sum(link.overlap < .95 for link in copies)}


def describe_next_frames(cases, links, groups):
    "The groups that only the lower threshold finds, and the gap of scores around it"
    wide = group_links(len(cases), links, NEXT_FRAME)
    scores = np.array([link.score for link in links])
    between = (scores >= NEXT_FRAME) & (scores < SAME_FRAME)
    return {'threshold': NEXT_FRAME,
            'groups': len(wide) - len(groups),
            'lowest': round(float(scores[between].min()), 3),
            'highest_below': round(float(scores[scores < NEXT_FRAME].max()), 3),
            'names': [[cases[i].name for i in group] for group in wide if group not in groups]}


def describe(cases, links):
    "Groups, sizes, the gap in the scores, and whether every two images of a group are linked"
    groups = group_links(len(cases), links)
    copies = [link for link in links if link.score >= SAME_FRAME]
    scores = np.array([link.score for link in links])
    sizes = Counter(map(len, groups))
    return {'groups': len(groups),
            'images': sum(map(len, groups)),
            'pairs': len(copies),
            'sizes': {str(size): n for size, n in sorted(sizes.items())},
            'pairs_inside_groups': sum(len(group)*(len(group) - 1)//2 for group in groups),
            'images_per_label': dict(Counter(cases[i].label for group in groups for i in group)),
            'threshold': SAME_FRAME,
            'lowest_copy': round(float(scores[scores >= SAME_FRAME].min()), 3),
            'highest_other': round(float(scores[scores < SAME_FRAME].max()), 3),
            'next_frame': describe_next_frames(cases, links, groups),
            'kinds': kinds(copies)}


def agreement(masks):
    "How far the masks of near-copies agree"
    def quantiles(values):
        return dict(zip(map(str, QUANTILES), values.quantile(QUANTILES).round(4).tolist(), strict=True))
    return {'pairs': len(masks),
            'groups': int(masks.group.nunique()),
            'identical': int((masks.iou == 1).sum()),
            **agreement_ceiling(masks),
            'iou_quantiles': quantiles(masks.iou),
            'dice_quantiles': quantiles(masks.dice)}


def leaks(cases, copies, every, seeds):
    "Shares of test images with a near-copy in training, split by split, and their account"
    shares = leak_shares(cases, copies, range(seeds))
    grouped = leak_shares(cases, every, range(min(seeds, 200)), grouped=True)
    return shares, {'splits': seeds,
                    'random': spread(shares),
                    'random_with_next_frames': spread(leak_shares(cases, every, range(seeds))),
                    'grouped': spread(grouped)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('root', type=Path, help='folder with benign, malignant and normal')
    parser.add_argument('--out', type=Path, default=ROOT/'results'/'analysis')
    parser.add_argument('--seeds', type=int, default=1000, help='random splits')
    parser.add_argument('--workers', type=int, default=2)
    parser.add_argument('--freeze', action='store_true', help='write busiseg_nb/data/busi_near_copies.csv')
    args = parser.parse_args()
    cases = find_cases(args.root)
    wall, cpu = time.perf_counter(), time.process_time()
    links = find_links(cases, args.workers)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    table = group_table(cases, links)
    if args.freeze:
        save(table, ROOT/'busiseg_nb'/'data'/'busi_near_copies.csv')
    copies = [tuple(group) for _, group in table[table.relation == 'copy'].groupby('group')['name']]
    every = [tuple(group) for _, group in table.groupby('group')['name']]
    masks = mask_agreement(cases, links)
    shares, leak = leaks(cases, copies, every, args.seeds)
    result = {'cases': len(cases),
              'found': describe(cases, links),
              'seconds': round(wall, 1),
              'cpu_seconds': round(cpu, 1),
              'workers': args.workers,
              'leak': leak,
              'label_conflicts': label_conflicts(every),
              'agreement': {which: agreement(some)
                            for which, some in [('all', masks), *masks.groupby('label')]}}
    command = f'python analysis/leakage.py <BUSI> --seeds {args.seeds}' + ' --freeze'*args.freeze
    write_result(result, args.out/'leakage.json', under=None, command=command, data=fingerprint(cases))
    save(links_table(cases, links), args.out/'leakage_scores.csv')
    save(masks.round(4), args.out/'leakage_masks.csv')
    print(f'{len(copies)} groups, {sum(map(len, copies))} images in {wall:.0f} s ({cpu:.0f} s of processor); '
          f'leak {shares.mean():.1%}; IoU between masks {masks.iou.mean():.3f}')


if __name__ == '__main__':
    finish(main)
