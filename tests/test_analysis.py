"Cross-validation pooled and compared, on counts whose answer is known"
import json
import sys

import numpy as np
import pandas as pd
import pytest

from busiseg_nb.core import BusisegError, seed_everything
from busiseg_nb.dataset import find_data
from busiseg_nb.inference import predict_proba
from busiseg_nb.metrics import case_scores
from busiseg_nb.models import build_model, load_model, save_model
from busiseg_nb.phantom import make_phantom
from busiseg_nb.preprocessing import load_case
from busiseg_nb.splits import save_split, split_data
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


# ---- the mean of several networks ----

@pytest.fixture
def ensemble(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT/'analysis'))
    import ensemble
    return ensemble


def phantom_run(folder, data, kind):
    "A run of a small network with random weights on a split of the phantom"
    split = split_data(data, kind)
    net = build_model('tu-mobilenetv3_small_050', None, in_channels=1, decoder_channels=(8,)*5, tile_size=64,
                      resize=64)
    save_model(net, folder/'last')
    save_split(split, folder/'split.json', kind=kind)
    result = {'name': folder.name, 'config': {'split': kind}, 'scores': {}, 'split': kind,
              'data': {'fingerprint': data.fingerprint}}
    (folder/'results.json').write_text(json.dumps(result))
    return folder


def test_several_networks_are_averaged_and_none_has_seen_the_images(ensemble, tmp_path, monkeypatch):
    seed_everything(0)
    data = find_data(make_phantom(tmp_path/'phantom', (8, 6, 6), scale=.2))
    runs = [phantom_run(tmp_path/kind, data, kind) for kind in ('fold1', 'fold1-3', 'fold5')]
    model = ensemble.ensemble([load_model(run/'last') for run in runs])
    img = np.random.default_rng(0).integers(0, 256, (70, 90), np.uint8)
    alone = [predict_proba(load_model(run/'last'), img, bf16=False) for run in runs]
    assert np.abs(alone[0] - alone[1]).max() > 1e-3
    assert np.abs(predict_proba(model, img, bf16=False) - sum(alone)/3).max() < 1e-5
    out = tmp_path/'mean'
    asked = [*map(str, runs), '--data', str(data.root), '--out', str(out)]
    monkeypatch.setattr(sys, 'argv', ['ensemble.py', *asked])
    ensemble.main()
    result = json.loads((out/'results.json').read_text())
    assert result['members'] == ['fold1', 'fold1-3', 'fold5'] and result['config']['members'] == 3
    tested = {case.name for case in split_data(data, 'fold1')['test']}
    assert set(pd.read_csv(out/'counts.csv').case) == tested
    with pytest.raises(BusisegError, match='fold3.*was trained on'):
        ensemble.unseen([runs[0], phantom_run(tmp_path/'fold3', data, 'fold3')], data)


# ---- how many networks to average ----

@pytest.fixture
def members(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT/'analysis'))
    import members
    return members


def test_numbers_of_networks_are_compared_on_the_same_draws(members):
    "Lesions missed of how many, and Dice, of three images: with one network and with two"
    one = [[(1, 1), (0., 1)], [(0, 1), (.8, 1)], [(0, 2), (.7, 1)]]
    two = [[(0, 1), (.3, 1)], [(0, 1), (.9, 1)], [(1, 2), (.6, 1)]]
    rows = {1: np.array(one), 2: np.array(two)}
    out = members.summary(rows, {1: [.8, .9], 2: [.9, 1.]}, ['a', 'b', 'c'], 500)
    assert [out[k]['lesions_missed'][0] for k in rows] == [.25, .25]
    assert [out[k]['lesion_dice'][0] for k in rows] == [.5, .6]
    assert [out[k]['roc_auc'] for k in rows] == [.85, .95]
    difference = out[2]['difference']
    value, low, high = difference['lesion_dice']
    assert difference['lesions_missed'][0] == 0 and value == .1 and -.1 <= low < 0 < high <= .3
    assert out[1]['difference'] == {}


def test_every_subset_of_the_networks_is_averaged(members, tmp_path):
    "On phantoms: the scores of all networks together are those of their mean; trained on, they are refused"
    seed_everything(0)
    data = find_data(make_phantom(tmp_path/'phantom', (8, 6, 6), scale=.2))
    other = find_data(make_phantom(tmp_path/'other', (3, 2, 1), scale=.2, seed=1))
    runs = [phantom_run(tmp_path/kind, data, kind) for kind in ('fold1', 'fold1-3')]
    (tmp_path/'mean').mkdir()
    (tmp_path/'mean'/'results.json').write_text(json.dumps({'members': [run.name for run in runs]}))
    nets = members.networks(tmp_path/'mean', tmp_path, other)
    assert members.subsets(2) == [(0,), (1,), (0, 1)]
    cases = [case for case in other.cases if case.label != 'normal']
    found = members.records(nets, cases)
    img, mask = load_case(cases[0])
    both = sum(predict_proba(net, img) for net in nets)/2
    assert found[0, 1][0] == case_scores(both, mask, cases[0].label)
    with pytest.raises(BusisegError, match='fold1: was trained on .*phantom'):
        members.networks(tmp_path/'mean', tmp_path, data)
