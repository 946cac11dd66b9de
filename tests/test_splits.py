"Dividing cases: shares, groups, folds, and splits as files"
import json
import os
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from busiseg_nb.core import LABELS, connected
from busiseg_nb.dataset import BUSI_COUNTS, Case, DataSet, busi_near_copies, find_cases, fingerprint, join
from busiseg_nb.splits import (
    FOLDS,
    PAIRED_FOLDS,
    PARTS,
    RANDOM_FOLDS,
    SPLITS,
    apportion,
    kfold_cases,
    load_part,
    load_split,
    save_split,
    split_cases,
    split_data,
    split_hash,
    split_table,
    units,
)
from errors import message

ROOT = Path(__file__).resolve().parent.parent
FRACTIONS = [(.7, .2, .1), (.8, 0, .2), (.6, .2, .2), (1, 0, 0), (1/3, 1/3, 1/3), (.55, .3, .15)]
PINNED = '4b1a157fd6ecc4ac'


def made_up(*counts):
    "Cases without files, with BUSI's counts unless told otherwise"
    counts = counts or BUSI_COUNTS.values()
    return [Case(f'{label} ({i})', label, Path(f'{label} ({i}).png'), ())
            for label, n in zip(LABELS, counts, strict=True) for i in range(1, n + 1)]


def part_of(split):
    "The part of each name"
    return {c.name: p for p, cs in split.items() for c in cs}


def test_busi_split_sizes(busi):
    cases = find_cases(busi)
    assert split_table(split_cases(cases)).loc['total'].tolist() == [546, 156, 78, 780]
    assert split_table(split_cases(cases, (.8, 0, .2))).loc['total'].tolist() == [624, 0, 156, 780]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 500), min_size=1, max_size=3), st.sampled_from(FRACTIONS))
def test_apportion_rounds_every_share_up_or_down(counts, fractions):
    t = apportion(counts, fractions)
    share = np.outer(counts, fractions)
    assert (t.sum(1) == counts).all()
    assert (np.abs(t - share) < 1).all()
    assert (np.abs(t.sum(0) - share.sum(0)) < 1 + 1e-9).all()
    assert (t[:, np.array(fractions) == 0] == 0).all()


@pytest.mark.parametrize('fractions', FRACTIONS)
@pytest.mark.parametrize('seed', [0, 1, 12345])
def test_split_is_stratified_and_complete(fractions, seed):
    cases = made_up()
    s = split_cases(cases, fractions, seed)
    assert tuple(s) == PARTS
    assert sorted(c.name for p in s.values() for c in p) == sorted(c.name for c in cases)
    counts = split_table(s).loc[list(LABELS), list(PARTS)].values
    assert (counts == apportion([437, 210, 133], fractions)).all()
    shuffled = [cases[i] for i in np.random.default_rng(seed).permutation(len(cases))]
    assert split_cases(shuffled, fractions, seed) == s


def test_split_is_the_same_everywhere():
    "Pinned: a change of this hash makes every published split another one"
    assert split_hash(split_cases(made_up())) == PINNED
    code = ("import sys; sys.path[:0] = ['tests', 'tests/helpers']; from test_splits import *; "
            "print(split_hash(split_cases(made_up())))")
    for hashseed in '01':
        env = {**os.environ, 'PYTHONHASHSEED': hashseed, 'PYTHONPATH': str(ROOT)}
        out = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, env=env)
        assert out.stdout.strip() == PINNED, out.stderr


def test_grouped_splits_of_busi_are_those_of_before():
    "Pinned from the first release: the split and the folds behind its results"
    cases, groups = made_up(), busi_near_copies()
    assert split_hash(split_cases(cases, groups=groups)) == PINNED_GROUPED
    assert [split_hash(f) for f in kfold_cases(cases, groups=groups)] == PINNED_FOLDS

PINNED_GROUPED = '918035aaa908622d'
PINNED_FOLDS = ['184fd56a056283a6', '34ba13ebe1273bdd', '59a2f9b3ec5ea2ae', '5ce51faf5ab9d046',
                '0b23ddf3d191acf2']


def test_seeds_differ_and_every_case_gets_everywhere():
    splits = [split_cases(made_up(30, 20, 10), seed=s) for s in range(60)]
    assert len({split_hash(s) for s in splits}) == 60
    for part in PARTS:
        assert len({c.name for s in splits for c in s[part]}) == 60


@pytest.mark.parametrize('seed', range(8))
def test_no_group_straddles_and_sizes_hold(seed):
    rng = np.random.default_rng(seed)
    cases = made_up()
    names = [cases[i].name for i in rng.permutation(780)]
    sizes = [12, 7, 5] + [2, 3]*60                           # 324 cases in groups of mixed labels
    cut = np.cumsum(sizes)
    groups = [names[b - n:b] for n, b in zip(sizes, cut, strict=True)]
    for fractions in ((.7, .2, .1), (.8, 0, .2)):
        s = split_cases(cases, fractions, seed, groups=groups)
        where = part_of(s)
        assert len(where) == 780
        assert all(len({where[n] for n in g}) == 1 for g in groups)
        counts = split_table(s).loc[list(LABELS), list(PARTS)].values
        assert (counts == apportion([437, 210, 133], fractions)).all()
        assert split_cases(cases[::-1], fractions, seed, groups=iter(map(iter, groups))) == s
    assert len({where[n] for g in groups for n in g}) > 1, 'groups must not all go to one part'


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_random_groupings_are_never_torn_apart(data):
    "Whatever pairs are given: images that they connect, directly or through others, stay in one part"
    counts = data.draw(st.tuples(*[st.integers(4, 25)]*3))
    cases = made_up(*counts)
    number = st.integers(0, len(cases) - 1)
    pairs = data.draw(st.lists(st.tuples(number, number), max_size=30))
    seed = data.draw(st.integers(0, 2**31))
    groups = [[cases[a].name, cases[b].name] for a, b in pairs]
    splits = [split_cases(cases, data.draw(st.sampled_from(FRACTIONS)), seed, groups)]
    splits += kfold_cases(cases, 5, seed, groups)
    for split in splits:
        where = part_of(split)
        assert len(where) == len(cases)
        for members in connected(len(cases), pairs):
            assert len({where[cases[i].name] for i in members}) == 1


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 40), st.data())
def test_units_are_the_connected_groups(n, data):
    cases = [Case(f'x{i}', 'benign', Path(), ()) for i in range(n)]
    number = st.integers(0, n - 1)
    pairs = data.draw(st.lists(st.tuples(number, number), max_size=40))
    reach = np.eye(n, dtype=int)
    for a, b in pairs:
        reach[a, b] = reach[b, a] = 1
    for _ in range(6):
        reach = (reach @ reach > 0).astype(int)
    want = sorted({tuple(np.flatnonzero(row)) for row in reach})
    got = units(cases, [[f'x{a}', f'x{b}'] for a, b in pairs])
    assert [tuple(u) for u in got] == want


def test_groups_that_overlap_are_joined_and_unknown_names_fail():
    cases = made_up(10, 10, 10)
    chain = [['benign (1)', 'malignant (1)'], ['malignant (1)', 'normal (1)'], ['normal (1)', 'benign (2)']]
    for seed in range(20):
        where = part_of(split_cases(cases, seed=seed, groups=chain))
        assert len({where[n] for g in chain for n in g}) == 1
    assert 'no case named benign (99)' in message(split_cases, cases, groups=[['benign (1)', 'benign (99)']])


def test_bad_splits():
    cases = made_up(5, 5, 5)
    for f in ((.8, .2), (.7, .2, .2), (1.2, -.1, -.1), (0, 0, 0)):
        assert 'three shares' in message(split_cases, cases, f)
    assert 'whole number' in message(split_cases, cases, seed=-1)
    assert 'none to divide' in message(split_cases, [])
    assert 'same name' in message(split_cases, cases + cases[:1])
    for k in (0, 2, 99):
        assert 'folds' in message(kfold_cases, cases, k)
    for step in (0, 5, -1):
        assert 'would test what validates' in message(kfold_cases, cases, 5, step=step)


@pytest.mark.parametrize('k', [3, 5, 10])
def test_kfold(k):
    cases = made_up()
    groups = [['benign (433)', 'malignant (145)'], [f'benign ({i})' for i in range(1, 9)]]
    folds = kfold_cases(cases, k, seed=2, groups=groups)
    assert sorted(c.name for f in folds for c in f['test']) == sorted(c.name for c in cases)
    for i, f in enumerate(folds):
        assert sum(map(len, f.values())) == 780
        assert f['valid'] == folds[(i + 1) % k]['test']
        t = split_table(f)['test']
        assert (np.abs(t.values - np.array([437, 210, 133, 780])/k) < 1.01).all()
        where = part_of(f)
        assert all(len({where[n] for n in g}) == 1 for g in groups)


# ---- of a data set, by name ----

def dataset(cases, groups=(), layout='busi'):
    "A data set without files"
    return DataSet(layout, Path('data'), tuple(cases), ('background', 'benign', 'malignant'), tuple(groups))


def test_every_split_by_name():
    data = dataset(made_up(), busi_near_copies())
    assert split_data(data, 'random') == split_cases(data.cases)
    assert split_data(data) == split_cases(data.cases, groups=data.groups)
    for i, (fold, loose) in enumerate(zip(FOLDS, RANDOM_FOLDS, strict=True)):
        assert split_data(data, fold) == kfold_cases(data.cases, groups=data.groups)[i]
        a, b = split_table(split_data(data, fold)), split_table(split_data(data, loose))
        assert (a.values == b.values).all(), 'random folds have the sizes of the grouped ones'
    loose = part_of(split_data(data, 'random-fold1'))
    assert any(len({loose[n] for n in g}) > 1 for g in data.groups)
    words = 'fold1 to fold5 or fold1-3 to fold5-2 or random-fold1 to random-fold5'
    assert words in message(split_data, data, 'fold6')


def test_of_each_two_folds_one_split_leaves_both_out():
    data = dataset(made_up(), busi_near_copies())
    tested = {case.name: fold for fold in FOLDS for case in split_data(data, fold)['test']}
    left_out = []
    for kind in FOLDS + PAIRED_FOLDS:
        split = split_data(data, kind)
        test, valid, train = ({tested[c.name] for c in split[p]} for p in ('test', 'valid', 'train'))
        assert test == {kind[:5]}
        assert len(valid) == 1 and len(train) == 3 and not train & (test | valid)
        left_out.append(frozenset(test | valid))
    assert sorted(map(sorted, left_out)) == sorted(map(list, combinations(FOLDS, 2)))


def test_joined_data_sets_are_divided_each_by_itself():
    more = [Case(f'bus_{i:04}-{side}', 'benign', Path(), ()) for i in range(50) for side in 'lr']
    pairs = [(f'bus_{i:04}-l', f'bus_{i:04}-r') for i in range(50)]
    first, second = dataset(made_up(), busi_near_copies()), dataset(more, pairs, 'busbra')
    for kind in SPLITS:
        both = split_data(join([first, second]), kind, also=(.8, .1, .1))
        alone = split_data(first, kind)
        assert [c for c in both['test'] if not c.name.startswith('bus_')] == alone['test']
        added = {p: [c.name for c in cs if c.name.startswith('bus_')] for p, cs in both.items()}
        assert {p: len(names) for p, names in added.items()} == {'train': 80, 'valid': 10, 'test': 10}
        where = part_of(both)
        assert all(where[a] == where[b] for a, b in pairs)


def test_the_part_of_one_data_set_in_a_split_of_two(tmp_path):
    more = [Case(f'bus_{i:04}-l', 'benign', Path(), ()) for i in range(40)]
    first, second = dataset(made_up(), busi_near_copies()), dataset(more, layout='busbra')
    both = split_data(join([first, second]))
    save_split(both, tmp_path/'both.json', fingerprint='')
    parts = [load_part(tmp_path/'both.json', data, 'valid') for data in (first, second)]
    assert [*parts[0], *parts[1]] == both['valid'] and all(parts)
    other = dataset([*more, Case('elsewhere', 'benign', Path(), ())], layout='busbra')
    assert 'has elsewhere, which the split does not know' in message(load_part, tmp_path/'both.json', other)


def test_rare_labels_are_one_stratum_and_cases_stay_what_they_are():
    cases = [Case(f'x{i}', f'label {i % 12}', Path(), ()) for i in range(60)]
    split = split_data(dataset(cases))
    assert sorted(c.name for cs in split.values() for c in cs) == sorted(c.name for c in cases)
    assert {c for cs in split.values() for c in cs} == set(cases)
    assert 'too few: none for the' in message(split_data, dataset(cases[:3]), 'grouped', (.9, .05, .05))


# ---- files ----

def test_split_file(folder, tmp_path):
    cases = find_cases(folder)
    s = split_cases(cases, (.5, .3, .2))
    f = tmp_path/'s'/'split.json'
    save_split(s, f, kind='random', seed=0, fractions=(.5, .3, .2))
    d = json.loads(f.read_text())
    assert set(d) == {'kind', 'seed', 'fractions', 'fingerprint', 'parts', 'sha256'}
    assert d['fingerprint'] == fingerprint(cases)
    assert load_split(f, cases, verify=True) == s
    assert split_hash(load_split(f, cases)) == d['sha256'] == split_hash(s)
    same = {**s, 'valid': s['test']}
    save_split(same, f.with_name('report.json'))                  # the report selects on its test part
    assert load_split(f.with_name('report.json'), cases) == same

    def edited(change):
        e = json.loads(json.dumps(d))
        change(e)
        f.write_text(json.dumps(e))
        return message(load_split, f, cases)
    assert 'unknown cases, first nobody' in edited(lambda e: e['parts']['test'].append('nobody'))
    assert 'twice' in edited(lambda e: e['parts']['test'].append(e['parts']['train'][0]))
    assert 'checksum' in edited(lambda e: e['parts']['test'].append(e['parts']['train'].pop()))
    assert 'is not a split' in edited(lambda e: e.pop('parts'))
    assert 'is not a split' in edited(lambda e: e['parts'].pop('test'))
    assert 'is not a split' in edited(lambda e: e['parts'].update(test=[['x']]))
    f.write_text('{')
    assert 'is not JSON' in message(load_split, f, cases)
    assert 'cannot be read' in message(load_split, tmp_path/'none.json', cases)
    f.write_text(json.dumps(d))
    cases[0].image.write_bytes(cases[0].image.read_bytes() + b'\0')
    load_split(f, cases)
    assert 'other data' in message(load_split, f, cases, verify=True)
