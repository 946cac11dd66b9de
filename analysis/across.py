"""Near-copies across data sets: the search that found BUSI's own, over the images of two data sets together.

    python analysis/across.py BUSI_FOLDER BUSBRA_FOLDER --freeze

Copies within the second that stand under different patients are what `busbra_near_copies.csv` lists.
"""
import argparse
import sys
import time
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.common import finish, write_result
from busiseg_nb.dataset import COPIED_PATIENTS, find_data
from busiseg_nb.files import write_csv
from busiseg_nb.leakage import NEXT_FRAME, SAME_FRAME, find_links
from busiseg_nb.runs import group_names


def told(cases, links):
    "Names and scores of links, the surest first"
    return [[cases[k.a].name, cases[k.b].name, round(k.score, 3)]
            for k in sorted(links, key=lambda k: -k.score)]


def summary(first, second, links):
    "What the links say about copies between the two data sets, and within the second"
    n, cases = len(first.cases), first.cases + second.cases
    across = [k for k in links if (k.a < n) != (k.b < n)]
    within = [k for k in links if k.a >= n and k.b >= n and k.score >= NEXT_FRAME]
    patient = group_names(second.cases, second.groups)
    apart = [k for k in within if patient[cases[k.a].name] != patient[cases[k.b].name]]
    return {'data': [first.layout, second.layout],
            'fingerprints': [first.fingerprint, second.fingerprint],
            'images': [n, len(second.cases)],
            'threshold_copy': SAME_FRAME,
            'threshold_next_frame': NEXT_FRAME,
            'pairs_verified_across': len(across),
            'best_score_across': round(max((k.score for k in across), default=0.), 3),
            'copies_across': told(cases, [k for k in across if k.score >= NEXT_FRAME]),
            'copies_within_second': len(within),
            'of_different_patients': told(cases, apart)}


def copies_table(pairs):    # [name, name, score]
    "The list of the package: group, name, score, relation"
    rows = [(k, name, score, 'copy') for k, (a, b, score) in enumerate(sorted(pairs), 1) for name in (a, b)]
    return pd.DataFrame(rows, columns=['group', 'name', 'score', 'relation'])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('first', help='folder of a data set')
    parser.add_argument('second', help='folder of another one')
    parser.add_argument('--workers', type=int, default=2, help='threads')
    parser.add_argument('--json', default='results/analysis/across.json', help='file for the results')
    parser.add_argument('--freeze', action='store_true', help='write busiseg_nb/data/busbra_near_copies.csv')
    args = parser.parse_args()
    first, second = find_data(args.first), find_data(args.second)
    print(first, second, sep='\n')
    start = time.time()
    found = summary(first, second, find_links(first.cases + second.cases, args.workers))
    found['seconds'] = round(time.time() - start, 1)
    print({key: value for key, value in found.items() if not isinstance(value, list) or len(value) < 5})
    if args.freeze:
        write_csv(copies_table(found['of_different_patients']), COPIED_PATIENTS)
    write_result(found, args.json)


if __name__ == '__main__':
    finish(main)
