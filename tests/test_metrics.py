"Scores against an independent computation, intervals, curves, the fastai adapter, the bounds on published numbers"
import functools, itertools, os, pickle, subprocess, sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, confusion_matrix, precision_recall_fscore_support, jaccard_score, roc_auc_score

from busiseg_nb import metrics as M
from busiseg_nb.core import CLASSES, BusisegError

SIZE, TILE = 32, 16
LABELS = ('benign', 'malignant', 'normal')


def random_case(rng, label):
    t = np.zeros((SIZE, SIZE*rng.integers(1, 3)), np.uint8); p = t.copy()
    k = {'benign': 1, 'malignant': 2, 'normal': 0}[label]
    if k:
        y, x = rng.integers(0, SIZE - 8, 2); t[y:y + 8, x:x + 8] = k
        p[y:y + rng.integers(2, 9), x + 2:x + rng.integers(4, 11)] = rng.choice([k, k, 3 - k, 0])
    if rng.random() < .3: p[:3, :5] = rng.integers(1, 3)
    return p, t


def degenerate():
    z = np.zeros((SIZE, SIZE), np.uint8); one = z.copy(); one[5, 7] = 1
    return {'all background': (z, z), 'single pixel found': (one, one), 'single pixel missed': (z, one), 'single pixel invented': (one, z),
            'only benign': (z + 1, z + 1), 'only malignant, called benign': (z + 1, z + 2), 'all wrong': (z + 2, z)}


def make_set(seed):
    rng = np.random.default_rng(seed)
    labels = [LABELS[i % 3] for i in range(9)]
    if seed is None: pairs = list(degenerate().values()); labels = ['normal', 'benign', 'benign', 'normal', 'benign', 'malignant', 'normal']
    else: pairs = [random_case(rng, l) for l in labels]
    return pairs, labels, [f'{l} ({i})' for i, l in enumerate(labels)]


def cut(m): return [(r, c, m[r*TILE:(r + 1)*TILE, c*TILE:(c + 1)*TILE]) for r in range(m.shape[0]//TILE) for c in range(m.shape[1]//TILE)]


def frame(pairs, labels, names, groups=None):
    parts = []
    for i, ((p, t), l, n) in enumerate(zip(pairs, labels, names)):
        g = None if groups is None else [groups[i]]
        parts.append(M.counts_frame(M.confusion(p, t), 'image', [n], [l], g))
        r, c, pt = zip(*cut(p)); tt = [m for *_, m in cut(t)]
        parts.append(M.counts_frame(M.confusion(np.stack(pt), np.stack(tt)), 'tile', [n]*len(r), [l]*len(r), g and g*len(r), r, c))
    return pd.concat(parts, ignore_index=True)


@functools.lru_cache(None)
def sklearn_confusion(t, p, k):
    t, p = (np.frombuffer(x, np.uint8) for x in (t, p))
    return confusion_matrix(t, p, labels=range(3)) if k == 3 else confusion_matrix(t > 0, p > 0, labels=[False, True])


def reference(pairs, labels, unit, average, normals, absent, form, metric):
    "(mean, per class) of one convention, from scikit-learn's confusion matrices of the pixels alone"
    k = 3 if form == '3-class' else 2
    pairs = [x for x, l in zip(pairs, labels) if normals == 'in' or l != 'normal']
    if average == 'mean over tiles': pairs = [(a, b) for p, t in pairs for (*_, a), (*_, b) in zip(cut(p), cut(t))]
    if average == 'pooled': pairs = [[np.concatenate([x.ravel() for x in z]) for z in zip(*pairs)]]
    scores = np.full((len(pairs), k), np.nan)
    for u, (p, t) in enumerate(pairs):
        cm = sklearn_confusion(t.tobytes(), p.tobytes(), k)
        for c in range(k):
            hit, union = cm[c, c], cm[c].sum() + cm[:, c].sum() - cm[c, c]
            if union == 0: scores[u, c] = np.nan if absent == 'skip' else int(absent)
            else: scores[u, c] = hit/union if metric == 'iou' else 2*hit/(union + hit)
    per = np.array([col[~np.isnan(col)].mean() if (~np.isnan(col)).any() else np.nan for col in scores.T])
    return np.nanmean(per), per


@pytest.mark.parametrize('seed', [0, 1, None], ids=['random', 'other random', 'degenerate'])
def test_every_convention_equals_sklearn(seed):
    pairs, labels, names = make_set(seed)
    s = M.score_conventions(frame(pairs, labels, names), n=5)
    seen = 0
    for key, g in s.groupby(['unit', 'average', 'normals', 'absent', 'form', 'metric']):
        mean, per = reference(pairs, labels, *key)
        of = g.set_index('of')['value']
        np.testing.assert_allclose(of['mean'], mean, atol=1e-12, err_msg=str(key))
        np.testing.assert_allclose(of[list(M.FORMS[key[4]])].to_numpy(), per, atol=1e-12, err_msg=str(key))
        seen += 1
    assert seen == 5*2*3*2*2
    want = set(itertools.product(('in', 'out'), ('skip', '1', '0'), M.FORMS, ('iou', 'dice')))
    for unit, average in (('image', 'pooled'), ('image', 'mean over images'), ('tile', 'pooled'), ('tile', 'mean over images'), ('tile', 'mean over tiles')):
        d = s[(s.unit == unit) & (s.average == average)]
        assert set(map(tuple, d[['normals', 'absent', 'form', 'metric']].to_numpy())) == want


@pytest.mark.parametrize('one', [{k: v} for k, v in degenerate().items()], ids=lambda d: next(iter(d)))
def test_degenerate_masks_one_by_one(one):
    (p, t), = one.values()
    for absent in ('skip', '1', '0'):
        for metric in ('iou', 'dice'):
            got = getattr(M, metric)(M.count_pixels(p, t), 'skip' if absent == 'skip' else int(absent))[0]
            np.testing.assert_allclose(got, reference([(p, t)], ['benign'], 'image', 'mean over images', 'in', absent, '3-class', metric)[1])


def test_counts_and_scores_equal_sklearn():
    rng = np.random.default_rng(2)
    t, p = rng.integers(0, 3, (5, 17, 23)), rng.integers(0, 3, (5, 17, 23))
    conf = M.confusion(p, t); c = M.counts(conf)
    assert all(a.dtype == np.int64 and a.shape == (5, 3) for a in c)
    for i in range(5):
        np.testing.assert_array_equal(conf[i], confusion_matrix(t[i].ravel(), p[i].ravel()))
        pr, rc, f, _ = precision_recall_fscore_support(t[i].ravel(), p[i].ravel())
        np.testing.assert_allclose([M.precision(c)[i], M.recall(c)[i], M.f1(c)[i]], [pr, rc, f])
        np.testing.assert_allclose(M.iou(c)[i], jaccard_score(t[i].ravel(), p[i].ravel(), average=None))
        np.testing.assert_allclose(M.accuracy(conf)[i], (t[i] == p[i]).mean())
        np.testing.assert_allclose(M.pixel_accuracy(c)[i], [((t[i] == k) == (p[i] == k)).mean() for k in range(3)])
    np.testing.assert_array_equal(M.pool(c).tp, M.counts(M.pool(conf)).tp)
    np.testing.assert_array_equal(M.binary(conf), M.confusion(p > 0, t > 0, classes=2))


def test_precision_and_recall_of_a_class_on_one_side_are_zero_not_skipped():
    z = np.zeros((4, 4), int); one = z.copy(); one[0, 0] = 1
    for c in (M.count_pixels(z, one), M.count_pixels(one, z)):
        for f in (M.iou, M.dice, M.precision, M.recall):
            assert [f(c, a)[0, 1] for a in ('skip', 1, 0)] == [0, 0, 0]


def test_torch_and_numpy_agree():
    torch = pytest.importorskip('torch')
    rng = np.random.default_rng(0); t, p = rng.integers(0, 3, (2, 3, 9, 11)).astype(np.uint8)
    for dt in (torch.uint8, torch.int64):
        np.testing.assert_array_equal(M.confusion(torch.tensor(p, dtype=dt), torch.tensor(t, dtype=dt)), M.confusion(p, t))
    np.testing.assert_array_equal(M.confusion(torch.tensor(p[0]), torch.tensor(t[0])), M.confusion(p[0], t[0]))
    assert M.roc_auc(torch.tensor(p/2.), torch.tensor(t)) == M.roc_auc((p/2).astype(np.float32), t)


@pytest.mark.parametrize('bad, word', [
    ((np.zeros((2, 3), int), np.zeros((3, 2), int)), 'shape'), ((np.full((2, 2), 3), np.zeros((2, 2), int)), 'classes 0 to 2'),
    ((np.zeros((2, 2), int), np.full((2, 2), -1)), 'classes 0 to 2'), ((np.zeros((2, 2)), np.zeros((2, 2), int)), 'argmax'),
    ((np.zeros((2, 2), np.uint8), np.full((2, 2), 255, np.uint8)), 'truth'), ((np.zeros(4, int), np.zeros(4, int)), 'shape')])
def test_bad_masks_fail_in_one_line(bad, word):
    with pytest.raises(BusisegError, match=word) as e: M.count_pixels(*bad)
    assert '\n' not in str(e.value)


def test_other_bad_input():
    c = M.count_pixels(np.zeros((2, 2), int), np.zeros((2, 2), int))
    for call in (lambda: M.iou(c, 'ones'), lambda: M.roc_auc(np.ones(3), np.ones(3)), lambda: M.prob_histogram(np.array([1.2]), np.array([1])),
                 lambda: M.roc_from_histogram(np.array([[1, 2], [0, 0]])), lambda: M.counts_from_frame(pd.DataFrame({'kind': ['image']})),
                 lambda: M.ConfusionMetric('accuracy'), lambda: M.ConfusionMetric(cls=3), lambda: M.score_conventions(frame(*make_set(0)).query("kind == 'x'")),
                 lambda: M.bootstrap(lambda c: 0, M.Counts(*[np.zeros((0, 3), int)]*4)),
                 lambda: M.counts_from_frame(frame(*make_set(0)).drop(index=1))):
        with pytest.raises(BusisegError): call()


def test_counts_survive_a_csv(tmp_path):
    pairs, labels, names = make_set(0)
    df = frame(pairs, labels, names, groups=['a']*2 + [None]*7)
    df.to_csv(tmp_path/'counts.csv', index=False); back = pd.read_csv(tmp_path/'counts.csv')
    assert tuple(back.columns) == M.COUNT_COLUMNS
    back = back.sample(frac=1, random_state=0)                      # rows in any order
    c, index, cl = M.counts_from_frame(back)
    assert cl == (*CLASSES, 'tumour')
    at = {n: i for i, n in enumerate(index['case'])}
    for (p, t), n, k in zip(pairs, names, range(9)):
        np.testing.assert_array_equal(c.tp[at[n], :3], M.count_pixels(p, t).tp[0])
        assert c.tp[at[n], 3] == ((p > 0) & (t > 0)).sum()
        assert index['group'][at[n]] == ('a' if k < 2 else n)       # no group: the case itself
    pd.testing.assert_frame_equal(M.score_conventions(df, n=20), M.score_conventions(pd.read_csv(tmp_path/'counts.csv'), n=20))


def test_binary_run_has_only_the_tumour_form():
    pairs, labels, names = make_set(1)
    two = pd.concat([M.counts_frame(M.binary(M.confusion(p, t)), 'image', [n], [l]) for (p, t), l, n in zip(pairs, labels, names)])
    s, full = M.score_conventions(two, n=20), M.score_conventions(frame(pairs, labels, names), n=20)
    assert set(s['form']) == {'tumour/background'}
    full = full[(full.form == 'tumour/background') & (full.unit == 'image')]
    pd.testing.assert_frame_equal(s.reset_index(drop=True), full.reset_index(drop=True))


def many(n, seed=0, C=2):
    rng = np.random.default_rng(seed); tp, fp, fn = rng.integers(0, 100, (3, n, C))
    return M.Counts(tp, fp, fn, 1000 - tp - fp - fn)


def test_bootstrap_is_deterministic_and_equals_the_vectorised_one():
    pairs, labels, names = make_set(0)
    groups = ['g1']*2 + ['g2']*3 + names[5:]
    df = frame(pairs, labels, names, groups); s = M.score_conventions(df, n=300, seed=3)
    c, index, cl = M.counts_from_frame(df); c = M.Counts(*(a[:, :3] for a in c))
    kw = dict(groups=index['group'], n=300, seed=3)
    fns = {'mean over images': lambda c: np.nanmean(np.nanmean(M.iou(c), 0)), 'pooled': lambda c: np.nanmean(M.iou(M.pool(c)))}
    for average, fn in fns.items():
        row, = s.query("unit == 'image' and average == @average and normals == 'in' and absent == 'skip' and metric == 'iou' and of == 'mean' and form == '3-class'").itertuples()
        np.testing.assert_allclose((row.value, row.low, row.high), M.bootstrap(fn, c, **kw))
    a, b = M.bootstrap(fns['pooled'], c, **kw), M.bootstrap(fns['pooled'], c, **kw)
    assert a == b and a[1:] != M.bootstrap(fns['pooled'], c, **{**kw, 'seed': 4})[1:]
    pd.testing.assert_frame_equal(s, M.score_conventions(df, n=300, seed=3))


def test_intervals_cover_about_as_often_as_they_say():
    rng, fn = np.random.default_rng(0), lambda c: np.nanmean(M.iou(c))
    tp = rng.integers(1, 100, 200_000)[:, None]; z = np.zeros_like(tp)
    true = (tp/100).mean(); hits = 0
    for k in range(150):
        one = tp[k*60:(k + 1)*60]
        _, lo, hi = M.bootstrap(fn, M.Counts(one, 100 - one, z[:60], z[:60]), n=150, seed=k); hits += lo <= true <= hi
    assert .88 <= hits/150 <= .99


def test_groups_widen_the_interval_when_members_agree():
    c = many(40); twice = M.Counts(*(np.repeat(a, 3, 0) for a in c)); g = np.repeat(np.arange(40), 3)
    for fn in (lambda c: np.nanmean(M.iou(c)), lambda c: M.iou(M.pool(c)).mean()):
        width = lambda *a, **k: np.diff(M.bootstrap(fn, *a, n=1000, **k)[1:])[0]
        assert width(twice, groups=g) > 1.4*width(twice)
        assert width(twice, groups=g) == pytest.approx(width(c), rel=.1)


def test_all_conventions_of_a_test_set_take_seconds():
    import time
    rng, parts = np.random.default_rng(0), []
    for i in range(78):
        l, conf = LABELS[i % 3], rng.integers(0, 9999, (7, 3, 3))
        parts += [M.counts_frame(conf.sum(0)[None], 'image', [f'{l} ({i})'], [l]), M.counts_frame(conf, 'tile', [f'{l} ({i})']*7, [l]*7, rows=0, cols=range(7))]
    df = pd.concat(parts); start = time.perf_counter(); s = M.score_conventions(df); took = time.perf_counter() - start
    assert len(s) == 5*2*3*2*7 and took < 20
    assert ((s.low <= s.value) & (s.value <= s.high)).all()


def test_histogram_curves():
    rng = np.random.default_rng(0)
    for mu, sd in ((1, 1), (6, 3), (14, 6)):                         # mild to saturated
        t = rng.random((6, 50, 60)) < .1
        p = (1/(1 + np.exp(-(np.where(t, .5*mu, -mu) + sd*rng.normal(size=t.shape))))).astype(np.float32)
        c = M.roc_from_histogram(sum(M.prob_histogram(a, b) for a, b in zip(p, t)))
        assert c.auc == pytest.approx(roc_auc_score(t.ravel(), p.ravel()), abs=1e-3)
        assert c.ap == pytest.approx(average_precision_score(t.ravel(), p.ravel()), abs=2e-3)
        assert M.roc_auc(p, t) == pytest.approx(roc_auc_score(t.ravel(), p.ravel()), abs=1e-9)
        assert (c.fpr[0], c.tpr[0], c.fpr[-1], c.tpr[-1]) == (0, 0, 1, 1)
    edge = M.prob_histogram(np.array([0., 1., .5, .499999, 0., 1.]), np.array([0, 1, 1, 0, 1, 0]))
    assert edge[0, 0] == edge[1, 0] == edge[1, -1] == edge[0, -1] == 1 and edge[1, 500] == 1 and edge[0, 499] == 1


@pytest.mark.parametrize('channels', [3, 1])
def test_fastai_metric_equals_numpy(channels):
    torch = pytest.importorskip('torch'); pytest.importorskip('fastai')
    torch.manual_seed(channels); C = max(2, channels)
    batches = [(torch.randn(n, channels, 20, 30), torch.randint(0, 3 if channels == 1 else C, (n, 20, 30))) for n in (4, 4, 2)]
    ms = [*M.fastai_metrics(C), M.ConfusionMetric('dice', classes=C), M.ConfusionMetric('iou', 1, C, name='mine')]
    for epoch in range(2):                                          # reset leaves nothing behind
        for m in ms: m.reset()
        assert ms[0].value is None
        for l, y in batches:
            for m in ms: m.accumulate(SimpleNamespace(pred=l, y=y[:, None] if epoch else y))
        pred = lambda l: (l[:, 0] > 0).long() if channels == 1 else l.argmax(1)
        conf = M.pool(np.concatenate([M.confusion(pred(l), y if channels == 3 else y > 0, C) for l, y in batches]))
        np.testing.assert_array_equal(ms[0].confusion, conf[0])
        i = M.iou(M.counts(conf))[0]
        np.testing.assert_allclose([m.value for m in ms], [i.mean(), *i, M.dice(M.counts(conf)).mean(), i[1]])
    assert ms[-1].name == 'mine' and ms[0].name == 'iou'
    again = pickle.loads(pickle.dumps(ms)); assert [m.name for m in again] == [m.name for m in ms]


def test_fastai_recorder_takes_the_metrics():
    torch = pytest.importorskip('torch'); fastai = pytest.importorskip('fastai.learner')
    from fastai.data.core import DataLoaders
    torch.manual_seed(0)
    x, y = torch.randn(8, 3, 8, 8), torch.randint(0, 3, (8, 8, 8))
    net = torch.nn.Conv2d(3, 3, 1)
    from fastai.data.load import DataLoader
    fdl = DataLoader(list(zip(x, y)), bs=3)
    learn = fastai.Learner(DataLoaders(fdl, fdl, device='cpu'), net, loss_func=torch.nn.CrossEntropyLoss(), metrics=M.fastai_metrics())
    got = learn.validate()
    with torch.no_grad(): i = M.iou(M.counts(M.pool(M.confusion(net(x).argmax(1), y))))[0]
    np.testing.assert_allclose(list(got)[1:], [i.mean(), *i])


def test_metrics_import_neither_fastai_nor_torch():
    code = "import sys, busiseg_nb.metrics; sys.exit(any(m.split('.')[0] in ('fastai', 'torch', 'sklearn') for m in sys.modules))"
    root = Path(M.__file__).resolve().parent.parent
    assert subprocess.run([sys.executable, '-c', code], cwd=root, env={**os.environ, 'PYTHONPATH': str(root)}).returncode == 0


def test_background_floor_is_a_floor():
    rng = np.random.default_rng(0)
    for _ in range(2000):
        conf = (rng.integers(1, 1000, (1, 3, 3))*rng.choice([1, 1, 10, 100], (1, 3, 3))).astype(np.int64); conf[0, 0, 0] *= rng.integers(1, 50)
        i = M.iou(M.counts(conf))[0]
        assert i[0] >= M.background_floor(i[1:], conf[0].sum(1)[1:]/conf.sum()) - 1e-12


def test_prevalence_is_recovered():
    rng = np.random.default_rng(0)
    for _ in range(200):
        conf = rng.integers(1, 1000, (1, 2, 2)); c = M.counts(conf)
        got = M.prevalence_from(*(float(f(c)[0, 1]) for f in (M.pixel_accuracy, M.precision, M.recall)))
        assert got == pytest.approx(conf[0, 1].sum()/conf.sum())


def test_recorded_shares_are_those_of_busi(busi):
    from busiseg_nb.core import read_json
    from busiseg_nb.dataset import find_cases
    root = Path(M.__file__).resolve().parent.parent
    sys.path.insert(0, str(root/'analysis'))
    try: import conventions
    finally: sys.path.pop(0)
    facts = read_json(root/'results'/'analysis'/'conventions.json')
    n = [conventions.label_pixels(c) for c in find_cases(busi)]
    assert np.stack([i for i, _ in n]).sum(0).tolist() == [facts['pixels'][k] for k in CLASSES]
    assert sum(len(t) for _, t in n) == facts['tiles'] == 5607 and facts['images'] == 780
