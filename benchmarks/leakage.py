"Near-copies in BUSI: finds them, measures what they do, and with --freeze writes the list that ships with the package"
import argparse, time
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from busiseg_nb.core import atomic_path, provenance, write_json
from busiseg_nb.dataset import find_cases, fingerprint
from busiseg_nb.leakage import (NEXT_FRAME, SAME_FRAME, agreement_ceiling, find_links, group_links, group_table, label_conflicts,
                                leak_shares, mask_agreement)

HERE = Path(__file__).resolve().parent.parent


def save(table, path):
    with atomic_path(path) as tmp: table.to_csv(tmp, index=False, lineterminator='\n')


def links_table(cases, links):
    "One row per verified pair of images"
    rows = [(cases[l.a].name, cases[l.b].name, l.votes, round(l.score, 3), round(l.sx, 3), round(l.sy, 3), round(l.overlap, 3),
             round(l.marked, 4)) for l in links]
    return pd.DataFrame(rows, columns=['a', 'b', 'votes', 'score', 'scale_x', 'scale_y', 'overlap', 'marked'])


def spread(x):
    "Mean, and the quantiles that hold 95 % of `x`"
    x = np.asarray(x, float)
    return dict(mean=round(float(x.mean()), 4), low=round(float(np.quantile(x, .025)), 4), median=round(float(np.median(x)), 4),
                high=round(float(np.quantile(x, .975)), 4), min=round(float(x.min()), 4), max=round(float(x.max()), 4))


def describe(cases, links):
    "Groups, sizes, the gap in the scores, and whether every two images of a group are linked"
    groups = group_links(len(cases), links)
    wide = group_links(len(cases), links, NEXT_FRAME)
    copies = [l for l in links if l.score >= SAME_FRAME]
    s = np.array([l.score for l in links])
    inside = sum(len(g)*(len(g) - 1)//2 for g in groups)
    return dict(
        groups=len(groups), images=sum(map(len, groups)), pairs=len(copies), sizes={str(k): n for k, n in sorted(Counter(map(len, groups)).items())},
        pairs_inside_groups=inside, images_per_label=dict(Counter(cases[i].label for g in groups for i in g)),
        threshold=SAME_FRAME, lowest_copy=round(float(s[s >= SAME_FRAME].min()), 3), highest_other=round(float(s[s < SAME_FRAME].max()), 3),
        next_frame=dict(threshold=NEXT_FRAME, groups=len(wide) - len(groups), lowest=round(float(s[(s >= NEXT_FRAME) & (s < SAME_FRAME)].min()), 3),
                        highest_below=round(float(s[s < NEXT_FRAME].max()), 3),
                        names=[[cases[i].name for i in g] for g in wide if g not in groups]),
        kinds=dict(rescaled=sum(abs(np.log(l.sx)) > .02 or abs(np.log(l.sy)) > .02 for l in copies),
                   marked=sum(l.marked > .0005 for l in copies), overlap_below_95_percent=sum(l.overlap < .95 for l in copies)))


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('root', type=Path, help='folder with benign, malignant and normal')
    p.add_argument('--out', type=Path, default=HERE/'results'/'analysis')
    p.add_argument('--seeds', type=int, default=1000, help='random splits')
    p.add_argument('--workers', type=int, default=2)
    p.add_argument('--freeze', action='store_true', help='write busiseg_nb/data/busi_near_copies.csv')
    a = p.parse_args()
    cases = find_cases(a.root)
    wall, cpu = time.perf_counter(), time.process_time()
    links = find_links(cases, a.workers)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    table = group_table(cases, links)
    if a.freeze: save(table, HERE/'busiseg_nb'/'data'/'busi_near_copies.csv')
    copies = [tuple(g) for _, g in table[table.relation == 'copy'].groupby('group')['name']]
    every = [tuple(g) for _, g in table.groupby('group')['name']]
    masks = mask_agreement(cases, links)
    q = [.05, .1, .25, .5, .75, .9, .95]
    ceiling = {which: dict(pairs=len(m), groups=int(m.group.nunique()), identical=int((m.iou == 1).sum()), **agreement_ceiling(m),
                           iou_quantiles=dict(zip(map(str, q), m.iou.quantile(q).round(4).tolist())),
                           dice_quantiles=dict(zip(map(str, q), m.dice.quantile(q).round(4).tolist())))
               for which, m in [('all', masks), *masks.groupby('label')]}
    shares = leak_shares(cases, copies, range(a.seeds))
    write_json(provenance(f'python benchmarks/leakage.py <BUSI> --seeds {a.seeds}' + ' --freeze'*a.freeze,
                          data=fingerprint(cases), cases=len(cases), found=describe(cases, links), seconds=round(wall, 1), cpu_seconds=round(cpu, 1), workers=a.workers,
                          leak=dict(splits=a.seeds, random=spread(shares), random_with_next_frames=spread(leak_shares(cases, every, range(a.seeds))),
                                    grouped=spread(leak_shares(cases, every, range(min(a.seeds, 200)), grouped=True))),
                          label_conflicts=label_conflicts(every), agreement=ceiling), a.out/'leakage.json')
    save(links_table(cases, links), a.out/'leakage_scores.csv')
    save(masks.round(4), a.out/'leakage_masks.csv')
    print(f'{len(copies)} groups, {sum(map(len, copies))} images in {wall:.0f} s ({cpu:.0f} s of processor); leak {shares.mean():.1%}; IoU between masks {masks.iou.mean():.3f}')


if __name__ == '__main__': main()
