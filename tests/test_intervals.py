"Every convention against scikit-learn, the bootstrap over groups, differences of two runs"
import functools
import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import confusion_matrix

from busiseg_nb import intervals as I
from busiseg_nb import metrics as M
from busiseg_nb.core import BusisegError

SIZE, TILE = 32, 16
LABELS = ('benign', 'malignant', 'normal')


def random_case(rng, label):
    t = np.zeros((SIZE, SIZE*rng.integers(1, 3)), np.uint8)
    p = t.copy()
    k = {'benign': 1, 'malignant': 2, 'normal': 0}[label]
    if k:
        y, x = rng.integers(0, SIZE - 8, 2)
        t[y:y + 8, x:x + 8] = k
        p[y:y + rng.integers(2, 9), x + 2:x + rng.integers(4, 11)] = rng.choice([k, k, 3 - k, 0])
    if rng.random() < .3:
        p[:3, :5] = rng.integers(1, 3)
    return p, t


def degenerate():
    z = np.zeros((SIZE, SIZE), np.uint8)
    one = z.copy()
    one[5, 7] = 1
    return {'all background': (z, z), 'single pixel found': (one, one), 'single pixel missed': (z, one),
            'single pixel invented': (one, z), 'only benign': (z + 1, z + 1),
            'only malignant, called benign': (z + 1, z + 2), 'all wrong': (z + 2, z)}


def make_set(seed):
    "Pairs of masks, their labels and names"
    if seed is None:
        pairs = list(degenerate().values())
        labels = ['normal', 'benign', 'benign', 'normal', 'benign', 'malignant', 'normal']
    else:
        rng = np.random.default_rng(seed)
        labels = [LABELS[i % 3] for i in range(9)]
        pairs = [random_case(rng, label) for label in labels]
    return pairs, labels, [f'{label} ({i})' for i, label in enumerate(labels)]


def cut(mask):
    rows, cols = mask.shape[0]//TILE, mask.shape[1]//TILE
    return [(r, c, mask[r*TILE:(r + 1)*TILE, c*TILE:(c + 1)*TILE]) for r in range(rows) for c in range(cols)]


def frame(pairs, labels, names, groups=None):
    parts = []
    for i, ((p, t), label, name) in enumerate(zip(pairs, labels, names, strict=True)):
        group = None if groups is None else [groups[i]]
        parts.append(M.counts_frame(M.confusion(p, t), 'image', [name], [label], group))
        r, c, cut_p = zip(*cut(p), strict=True)
        cut_t = [m for *_, m in cut(t)]
        conf = M.confusion(np.stack(cut_p), np.stack(cut_t))
        group = group and group*len(r)
        parts.append(M.counts_frame(conf, 'tile', [name]*len(r), [label]*len(r), group, (r, c)))
    return pd.concat(parts, ignore_index=True)


@functools.lru_cache(None)
def sklearn_confusion(t, p, k):
    t, p = (np.frombuffer(x, np.uint8) for x in (t, p))
    if k == 3:
        return confusion_matrix(t, p, labels=range(3))
    return confusion_matrix(t > 0, p > 0, labels=[False, True])


def one_score(cm, c, absent, metric):
    hit = cm[c, c]
    union = cm[c].sum() + cm[:, c].sum() - hit
    if union == 0:
        return np.nan if absent == 'skip' else int(absent)
    return hit/union if metric == 'iou' else 2*hit/(union + hit)


def reference(pairs, labels, unit, average, normals, absent, form, metric):
    "(mean, per class) of one convention, from scikit-learn's confusion matrices of the pixels alone"
    k = 3 if form == '3-class' else 2
    pairs = [x for x, label in zip(pairs, labels, strict=True) if normals == 'in' or label != 'normal']
    if average == 'mean over tiles':
        pairs = [(a, b) for p, t in pairs for (*_, a), (*_, b) in zip(cut(p), cut(t), strict=True)]
    if average == 'pooled':
        pairs = [[np.concatenate([x.ravel() for x in z]) for z in zip(*pairs, strict=True)]]
    scores = np.full((len(pairs), k), np.nan)
    for u, (p, t) in enumerate(pairs):
        cm = sklearn_confusion(t.tobytes(), p.tobytes(), k)
        scores[u] = [one_score(cm, c, absent, metric) for c in range(k)]
    kept = [col[~np.isnan(col)] for col in scores.T]
    per = np.array([col.mean() if len(col) else np.nan for col in kept])
    return np.nanmean(per), per


@pytest.mark.parametrize('seed', [0, 1, None], ids=['random', 'other random', 'degenerate'])
def test_every_convention_equals_sklearn(seed):
    pairs, labels, names = make_set(seed)
    s = I.score_conventions(frame(pairs, labels, names), n=5)
    assert tuple(s.columns) == I.CONVENTION_COLUMNS
    seen = 0
    for key, g in s.groupby(['unit', 'average', 'normals', 'absent', 'form', 'metric']):
        mean, per = reference(pairs, labels, *key)
        of = g.set_index('of')['value']
        np.testing.assert_allclose(of['mean'], mean, atol=1e-12, err_msg=str(key))
        np.testing.assert_allclose(of[list(I.FORMS[key[4]])].to_numpy(), per, atol=1e-12, err_msg=str(key))
        seen += 1
    assert seen == 5*2*3*2*2
    want = set(itertools.product(('in', 'out'), ('skip', '1', '0'), I.FORMS, ('iou', 'dice')))
    for unit, average in (('image', 'pooled'), ('image', 'mean over images'), ('tile', 'pooled'),
                          ('tile', 'mean over images'), ('tile', 'mean over tiles')):
        d = s[(s.unit == unit) & (s.average == average)]
        assert set(map(tuple, d[['normals', 'absent', 'form', 'metric']].to_numpy())) == want


@pytest.mark.parametrize('one', [{k: v} for k, v in degenerate().items()], ids=lambda d: next(iter(d)))
def test_degenerate_masks_one_by_one(one):
    (p, t), = one.values()
    for absent in ('skip', '1', '0'):
        for metric in ('iou', 'dice'):
            rule = 'skip' if absent == 'skip' else int(absent)
            got = getattr(M, metric)(M.count_pixels(p, t), rule)[0]
            key = ('image', 'mean over images', 'in', absent, '3-class', metric)
            np.testing.assert_allclose(got, reference([(p, t)], ['benign'], *key)[1])


def test_counts_survive_a_csv(tmp_path):
    pairs, labels, names = make_set(0)
    df = frame(pairs, labels, names, groups=['a']*2 + [None]*7)
    df.to_csv(tmp_path/'counts.csv', index=False)
    back = pd.read_csv(tmp_path/'counts.csv')
    assert tuple(back.columns) == M.COUNT_COLUMNS
    back = back.sample(frac=1, random_state=0)                      # rows in any order
    c, index, classes = M.counts_from_frame(back)
    assert classes == (*M.CLASSES, 'tumour')
    at = {n: i for i, n in enumerate(index['case'])}
    for (p, t), n, k in zip(pairs, names, range(9), strict=True):
        np.testing.assert_array_equal(c.tp[at[n], :3], M.count_pixels(p, t).tp[0])
        assert c.tp[at[n], 3] == ((p > 0) & (t > 0)).sum()
        assert index['group'][at[n]] == ('a' if k < 2 else n)       # no group: the case itself
    again = I.score_conventions(pd.read_csv(tmp_path/'counts.csv'), n=20)
    pd.testing.assert_frame_equal(I.score_conventions(df, n=20), again)


def test_binary_run_has_only_the_tumour_form():
    pairs, labels, names = make_set(1)
    two = pd.concat([M.counts_frame(M.binary(M.confusion(p, t)), 'image', [n], [label])
                     for (p, t), label, n in zip(pairs, labels, names, strict=True)])
    s, full = I.score_conventions(two, n=20), I.score_conventions(frame(pairs, labels, names), n=20)
    assert set(s['form']) == {'tumour/background'}
    full = full[(full.form == 'tumour/background') & (full.unit == 'image')]
    pd.testing.assert_frame_equal(s.reset_index(drop=True), full.reset_index(drop=True))


def many(n, seed=0, C=2):
    rng = np.random.default_rng(seed)
    tp, fp, fn = rng.integers(0, 100, (3, n, C))
    return M.Counts(tp, fp, fn, 1000 - tp - fp - fn)


def mean_iou(c):
    return float(np.nanmean(M.iou(c)))


def pooled_iou(c):
    return float(np.nanmean(M.iou(M.pool(c))))


def test_bootstrap_is_deterministic_and_equals_the_vectorised_one():
    pairs, labels, names = make_set(0)
    groups = ['g1']*2 + ['g2']*3 + names[5:]
    df = frame(pairs, labels, names, groups)
    s = I.score_conventions(df, n=300, seed=3)
    c, index, _ = M.counts_from_frame(df)
    c = M.Counts(*(a[:, :3] for a in c))
    kw = dict(groups=index['group'], n=300, seed=3)
    fns = {'mean over images': lambda c: np.nanmean(np.nanmean(M.iou(c), 0)), 'pooled': pooled_iou}
    own = s.query("unit == 'image' and normals == 'in' and absent == 'skip' and form == '3-class'")
    own = own.query("metric == 'iou' and of == 'mean'").set_index('average')
    for average, fn in fns.items():
        row = own.loc[average]
        np.testing.assert_allclose((row.value, row.low, row.high), I.bootstrap(fn, c, **kw))
    a, b = I.bootstrap(pooled_iou, c, **kw), I.bootstrap(pooled_iou, c, **kw)
    assert a == b and a[1:] != I.bootstrap(pooled_iou, c, **{**kw, 'seed': 4})[1:]
    pd.testing.assert_frame_equal(s, I.score_conventions(df, n=300, seed=3))
    draws = np.nanmean(M.iou(I.pooled_draws(c, **kw)), 1)
    np.testing.assert_allclose(I.triple(draws), a)


def test_intervals_cover_about_as_often_as_they_say():
    rng = np.random.default_rng(0)
    tp = rng.integers(1, 100, 200_000)[:, None]
    z = np.zeros_like(tp)
    true, hits = (tp/100).mean(), 0
    for k in range(150):
        one = tp[k*60:(k + 1)*60]
        _, lo, hi = I.bootstrap(mean_iou, M.Counts(one, 100 - one, z[:60], z[:60]), n=150, seed=k)
        hits += lo <= true <= hi
    assert .88 <= hits/150 <= .99


def test_groups_widen_the_interval_when_members_agree():
    c = many(40)
    twice = M.Counts(*(np.repeat(a, 3, 0) for a in c))
    g = np.repeat(np.arange(40), 3)
    for fn in (mean_iou, pooled_iou):
        def width(*a, fn=fn, **k):
            return np.diff(I.bootstrap(fn, *a, n=1000, **k)[1:])[0]
        assert width(twice, groups=g) > 1.4*width(twice)
        assert width(twice, groups=g) == pytest.approx(width(c), rel=.1)


def test_every_convention_of_a_whole_test_set_is_scored_from_four_sets_of_draws(monkeypatch):
    rng, parts = np.random.default_rng(0), []
    for i in range(78):
        label, conf = LABELS[i % 3], rng.integers(0, 9999, (7, 3, 3))
        name = f'{label} ({i})'
        parts.append(M.counts_frame(conf.sum(0)[None], 'image', [name], [label]))
        parts.append(M.counts_frame(conf, 'tile', [name]*7, [label]*7, places=(0, range(7))))
    df = pd.concat(parts)
    draws, draw = [], I.group_draws
    monkeypatch.setattr(I, 'group_draws', lambda *a: draws.append(a) or draw(*a))
    s = I.score_conventions(df)
    assert len(s) == 5*2*3*2*7 and len(draws) == 4      # images and tiles, with normals and without
    assert ((s.low <= s.value) & (s.value <= s.high)).all()


def test_bad_input():
    df = frame(*make_set(0)).query("kind == 'x'")
    nothing = M.Counts(*[np.zeros((0, 3), int)]*4)
    for call in (lambda: I.score_conventions(df), lambda: I.bootstrap(lambda c: 0, nothing),
                 lambda: I.pooled_draws(nothing), lambda: I.group_draws([]),
                 lambda: I.paired_difference(mean_iou, many(3), many(4))):
        with pytest.raises(BusisegError) as e:
            call()
        assert '\n' not in str(e.value)


def test_no_interval_where_the_bootstrap_is_degenerate():
    c = many(12, C=3)
    c.tp[1:, 2] = c.fn[1:, 2] = 0                                   # the last class is in one image alone
    assert I.support(c).tolist() == [12, 12, 1]
    assert I.no_interval(c, names=M.CLASSES) == ['malignant in one group of images only']
    value, low, high = I.bootstrap(lambda c: M.iou(M.pool(c))[0], c, n=50)
    assert np.isfinite(value).all()
    assert np.isnan(low).tolist() == [False, False, True] == np.isnan(high).tolist()
    assert I.bootstrap(pooled_iou, c, n=50, of=(0, 1))[1] is not None
    assert I.bootstrap(pooled_iou, c, n=50, of=(0, 1, 2))[1:] == (None, None)
    assert I.bootstrap(pooled_iou, many(12), groups=['g']*12, n=50)[1:] == (None, None)
    assert I.no_interval(many(12), groups=['g']*12) == ['one group of images only']
    assert I.no_interval(many(12)) == []
    assert I.paired_difference(pooled_iou, c, c, n=50, of=(2,)) == (0, None, None)
    conf = np.tile(np.diag([9, 0, 0]), (4, 1, 1))
    conf[0, 1, 1], conf[1:, 2, 2] = 3, 5
    df = M.counts_frame(conf, 'image', list('abcd'), ['benign'] + ['malignant']*3)
    s = I.score_conventions(df, n=20).query("average == 'pooled' and absent == 'skip' and normals == 'in'")
    s = s.query("metric == 'iou' and form == '3-class'").set_index('of')
    assert s.low.isna().to_dict() == {'mean': True, 'background': False, 'benign': True, 'malignant': False}


def test_paired_difference_against_plain_numpy():
    a, n, seed = many(20, 1), 60, 7
    b = M.Counts(*(np.maximum(x - 3, 0) for x in a))
    groups = [f'g{i//2:02}' for i in range(20)]
    picks = np.random.default_rng(seed).integers(10, size=(n, 10))

    def scores(c, rows):
        return np.mean([c.tp[rows, k].sum()/(c.tp + c.fp + c.fn)[rows, k].sum() for k in range(2)])

    def rows(pick):
        return np.concatenate([[2*g, 2*g + 1] for g in pick])

    draws = [scores(a, rows(p)) - scores(b, rows(p)) for p in picks]
    value = scores(a, np.arange(20)) - scores(b, np.arange(20))
    got = I.paired_difference(pooled_iou, a, b, groups, n, seed)
    np.testing.assert_allclose(got, (value, *np.percentile(draws, [2.5, 97.5])))
    other = np.random.default_rng(seed + 1).permutation(n)
    one, two = (np.array([scores(c, rows(p)) for p in picks]) for c in (a, b))
    got = I.unpaired_difference(pooled_iou, a, b, (groups, groups), n, seed)
    np.testing.assert_allclose(got, (value, *np.percentile(one - two[other], [2.5, 97.5])))


def test_pairs_are_sharper_than_runs_apart():
    a = many(60, 2)
    b = M.Counts(a.tp + 2, a.fp, a.fn, a.tn)
    pair, apart = I.paired_difference(pooled_iou, b, a, n=400), I.unpaired_difference(pooled_iou, b, a, n=400)
    assert pair[1] > 0 and pair[2] - pair[1] < .3*(apart[2] - apart[1])
    assert pair[0] == pytest.approx(apart[0])


@pytest.mark.parametrize('score, kw, text', [
    ((.7317, .7010, .7602), {}, '73.17 [70.10, 76.02]'), ((.7317, None, None), {}, '73.17'),
    ((.5, float('nan'), float('nan')), {}, '50.00'), ((None, None, None), {}, '-'),
    ((float('nan'), None, None), {}, '-'), ((-.018, -.086, .128), {'digits': 1}, '-1.8 [-8.6, 12.8]'),
    ((.018, -.086, .128), {'digits': 1, 'signed': True}, '+1.8 [−8.6, 12.8]'),
    ((4.25, 3, 5.5), {'scale': 1, 'digits': 1}, '4.2 [3.0, 5.5]')])
def test_interval_text(score, kw, text):
    assert I.interval_text(score, **kw) == text


def test_intervals_import_neither_fastai_nor_torch():
    code = ("import sys, busiseg_nb.intervals\n"
            "sys.exit(any(m.split('.')[0] in ('fastai', 'torch', 'sklearn') for m in sys.modules))")
    root = Path(M.__file__).resolve().parent.parent
    env = {**os.environ, 'PYTHONPATH': str(root)}
    assert subprocess.run([sys.executable, '-c', code], cwd=root, env=env).returncode == 0
