"Cross-validation pooled and compared, on counts whose answer is known"
import json
import sys

import pandas as pd
import pytest

from busiseg_nb.core import BusisegError
from conftest import ROOT

CLASSES = ('background', 'benign', 'malignant')


@pytest.fixture
def crossval(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT/'analysis'))
    import crossval
    return crossval


def write_run(folder, cases, hit, groups=None, **settings):
    "A made-up run: every image has 100 pixels, 40 of a lesion of which the share `hit[i]` is found"
    groups = groups or cases
    rows = []
    for i, case in enumerate(cases):
        label, found = CLASSES[1 + i % 2], round(40*hit[i])
        for name in (*CLASSES, 'tumour'):
            tp, fp, fn = 0, 0, 0
            if name in (label, 'tumour'):
                tp, fn = found, 40 - found
            elif name == 'background':
                tp, fp = 60, 40 - found
            rows.append(dict(kind='image', case=case, label=label, group=groups[i], row=-1, col=-1,
                             tp=tp, fp=fp, fn=fn, tn=100 - tp - fp - fn) | {'class': name})
    folder.mkdir()
    pd.DataFrame(rows).to_csv(folder/'counts.csv', index=False)
    config = {'model': 'made up', 'split': folder.name, 'split_sha256': folder.name, **settings}
    run = {'name': folder.name, 'profile': 'lite', 'model': 'made up', 'split': folder.name, 'config': config,
           'data': {}, 'split_sizes': {}, 'training': {}, 'scores': {}, 'convention': 'made up',
           'provenance': {'commit': 'made up'}}
    (folder/'results.json').write_text(json.dumps(run))
    return folder


def test_folds_are_pooled_and_arms_compared(crossval, tmp_path, monkeypatch):
    cases = [f'made up {i:02}' for i in range(24)]
    groups = [f'g{i//4}' for i in range(8)] + cases[8:]    # two groups of four near-copies, the others alone
    best = [1.]*8 + [.5]*16                                # the leak: near-copies are found whole
    out, asked = tmp_path/'crossval.json', []
    for arm, hit in (('random', best), ('grouped', [.5]*24)):
        runs = [write_run(tmp_path/f'{arm}-{k}', cases[k::2], hit[k::2], groups[k::2]) for k in range(2)]
        asked += ['--arm', arm, *map(str, runs)]
    asked += ['--pair', 'random', 'grouped', '--json', str(out)]
    monkeypatch.setattr(sys, 'argv', ['crossval.py', *asked])
    crossval.main()
    result = json.loads(out.read_text())
    assert result['arms']['grouped']['images'] == 24 and result['arms']['grouped']['groups'] == 18
    assert result['arms']['grouped']['scores']['IoU benign'] == [.5, .5, .5]
    pair = result['pairs']['random less grouped']
    assert [pair[part]['images'] for part in pair] == [24, 8, 16]
    assert pair['images with a near-copy']['difference']['IoU benign'] == [.5, .5, .5]
    assert pair['images without one']['difference']['IoU malignant'] == [0, 0, 0]
    value, low, high = pair['all images']['difference']['mean IoU']
    assert low <= value <= high and 0 < value < .5


def test_folds_that_do_not_belong_together(crossval, tmp_path):
    one = write_run(tmp_path/'1', ['a', 'b'], [1, 1])
    two = write_run(tmp_path/'2', ['b', 'c'], [1, 1])
    other = write_run(tmp_path/'3', ['d', 'e'], [1, 1], model='another')
    with pytest.raises(BusisegError, match='predicts b in 2 folds'):
        crossval.read_arm('x', [one, two])
    with pytest.raises(BusisegError, match='different settings'):
        crossval.read_arm('x', [one, other])
    assert crossval.read_arm('x', [one]).counts.groupby('class').tp.sum().to_dict() == {
        'background': 120, 'benign': 40, 'malignant': 40, 'tumour': 80}
