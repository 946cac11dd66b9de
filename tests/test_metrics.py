"Scores against an independent computation, curves, the fastai adapter, the bounds on published numbers"
import os
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import (
    average_precision_score,
    confusion_matrix,
    jaccard_score,
    precision_recall_fscore_support,
    roc_auc_score,
)

from busiseg_nb import metrics as M
from busiseg_nb.core import CLASSES, BusisegError

ROOT = Path(M.__file__).resolve().parent.parent


def test_counts_and_scores_equal_sklearn():
    rng = np.random.default_rng(2)
    t, p = rng.integers(0, 3, (5, 17, 23)), rng.integers(0, 3, (5, 17, 23))
    conf = M.confusion(p, t)
    c = M.counts(conf)
    assert all(a.dtype == np.int64 and a.shape == (5, 3) for a in c)
    for i in range(5):
        np.testing.assert_array_equal(conf[i], confusion_matrix(t[i].ravel(), p[i].ravel()))
        pr, rc, f, _ = precision_recall_fscore_support(t[i].ravel(), p[i].ravel())
        np.testing.assert_allclose([M.precision(c)[i], M.recall(c)[i], M.f1(c)[i]], [pr, rc, f])
        np.testing.assert_allclose(M.iou(c)[i], jaccard_score(t[i].ravel(), p[i].ravel(), average=None))
        np.testing.assert_allclose(M.accuracy(conf)[i], (t[i] == p[i]).mean())
        right = [((t[i] == k) == (p[i] == k)).mean() for k in range(3)]
        np.testing.assert_allclose(M.pixel_accuracy(c)[i], right)
    np.testing.assert_array_equal(M.pool(c).tp, M.counts(M.pool(conf)).tp)
    np.testing.assert_array_equal(M.binary(conf), M.confusion(p > 0, t > 0, classes=2))


def test_precision_and_recall_of_a_class_on_one_side_are_zero_not_skipped():
    z = np.zeros((4, 4), int)
    one = z.copy()
    one[0, 0] = 1
    for c in (M.count_pixels(z, one), M.count_pixels(one, z)):
        for f in (M.iou, M.dice, M.precision, M.recall):
            assert [f(c, a)[0, 1] for a in ('skip', 1, 0)] == [0, 0, 0]


def test_torch_and_numpy_agree():
    torch = pytest.importorskip('torch')
    rng = np.random.default_rng(0)
    t, p = rng.integers(0, 3, (2, 3, 9, 11)).astype(np.uint8)
    for dt in (torch.uint8, torch.int64):
        got = M.confusion(torch.tensor(p, dtype=dt), torch.tensor(t, dtype=dt))
        np.testing.assert_array_equal(got, M.confusion(p, t))
    one = M.confusion(torch.tensor(p[0]), torch.tensor(t[0]))
    np.testing.assert_array_equal(one, M.confusion(p[0], t[0]))
    assert M.roc_auc(torch.tensor(p/2.), torch.tensor(t)) == M.roc_auc((p/2).astype(np.float32), t)


@pytest.mark.parametrize('bad, word', [
    ((np.zeros((2, 3), int), np.zeros((3, 2), int)), 'shape'),
    ((np.full((2, 2), 3), np.zeros((2, 2), int)), 'classes 0 to 2'),
    ((np.zeros((2, 2), int), np.full((2, 2), -1)), 'classes 0 to 2'),
    ((np.zeros((2, 2)), np.zeros((2, 2), int)), 'argmax'),
    ((np.zeros((2, 2), np.uint8), np.full((2, 2), 255, np.uint8)), 'truth'),
    ((np.zeros(4, int), np.zeros(4, int)), 'shape')])
def test_bad_masks_fail_in_one_line(bad, word):
    with pytest.raises(BusisegError, match=word) as e:
        M.count_pixels(*bad)
    assert '\n' not in str(e.value)


def some_frame():
    conf = np.random.default_rng(0).integers(1, 9, (4, 3, 3))
    return M.counts_frame(conf, 'image', list('abcd'), ['benign', 'malignant', 'benign', 'malignant'])


def test_other_bad_input():
    c = M.count_pixels(np.zeros((2, 2), int), np.zeros((2, 2), int))
    for call in (lambda: M.iou(c, 'ones'), lambda: M.roc_auc(np.ones(3), np.ones(3)),
                 lambda: M.prob_histogram(np.array([1.2]), np.array([1])),
                 lambda: M.roc_from_histogram(np.array([[1, 2], [0, 0]])),
                 lambda: M.counts_from_frame(pd.DataFrame({'kind': ['image']})),
                 lambda: M.ConfusionMetric('accuracy'), lambda: M.ConfusionMetric(cls=3),
                 lambda: M.counts_from_frame(some_frame().drop(index=1))):
        with pytest.raises(BusisegError):
            call()


def test_moved_names_still_work_with_a_warning():
    from busiseg_nb import intervals
    for name in M.MOVED['intervals']:
        with pytest.warns(DeprecationWarning, match=f'{name} has moved'):
            assert getattr(M, name) is getattr(intervals, name)
    with pytest.raises(AttributeError):
        assert M.no_such_name


def test_histogram_curves():
    rng = np.random.default_rng(0)
    for mu, sd in ((1, 1), (6, 3), (14, 6)):                         # mild to saturated
        t = rng.random((6, 50, 60)) < .1
        z = np.where(t, .5*mu, -mu) + sd*rng.normal(size=t.shape)
        p = (1/(1 + np.exp(-z))).astype(np.float32)
        c = M.roc_from_histogram(sum(M.prob_histogram(a, b) for a, b in zip(p, t, strict=True)))
        assert c.auc == pytest.approx(roc_auc_score(t.ravel(), p.ravel()), abs=1e-3)
        assert c.ap == pytest.approx(average_precision_score(t.ravel(), p.ravel()), abs=2e-3)
        assert M.roc_auc(p, t) == pytest.approx(roc_auc_score(t.ravel(), p.ravel()), abs=1e-9)
        assert (c.fpr[0], c.tpr[0], c.fpr[-1], c.tpr[-1]) == (0, 0, 1, 1)
    edge = M.prob_histogram(np.array([0., 1., .5, .499999, 0., 1.]), np.array([0, 1, 1, 0, 1, 0]))
    assert edge[0, 0] == edge[1, 0] == edge[1, -1] == edge[0, -1] == 1
    assert edge[1, 500] == 1 and edge[0, 499] == 1


@pytest.mark.parametrize('channels', [3, 1])
def test_fastai_metric_equals_numpy(channels):
    torch = pytest.importorskip('torch')
    pytest.importorskip('fastai')
    torch.manual_seed(channels)
    C = max(2, channels)
    most = 3 if channels == 1 else C
    batches = [(torch.randn(n, channels, 20, 30), torch.randint(0, most, (n, 20, 30))) for n in (4, 4, 2)]
    ms = [*M.fastai_metrics(C), M.ConfusionMetric('dice', classes=C)]
    ms.append(M.ConfusionMetric('iou', 1, C, name='mine'))

    def predicted(logits):
        return (logits[:, 0] > 0).long() if channels == 1 else logits.argmax(1)

    for epoch in range(2):                                          # reset leaves nothing behind
        for m in ms:
            m.reset()
        assert ms[0].value is None
        for logits, y in batches:
            for m in ms:
                m.accumulate(SimpleNamespace(pred=logits, y=y[:, None] if epoch else y))
        confs = [M.confusion(predicted(logits), y if channels == 3 else y > 0, C) for logits, y in batches]
        conf = M.pool(np.concatenate(confs))
        np.testing.assert_array_equal(ms[0].confusion, conf[0])
        i = M.iou(M.counts(conf))[0]
        want = [i.mean(), *i, M.dice(M.counts(conf)).mean(), i[1]]
        np.testing.assert_allclose([m.value for m in ms], want)
    assert ms[-1].name == 'mine' and ms[0].name == 'iou'
    again = pickle.loads(pickle.dumps(ms))
    assert [m.name for m in again] == [m.name for m in ms]


def test_fastai_recorder_takes_the_metrics():
    torch = pytest.importorskip('torch')
    fastai = pytest.importorskip('fastai.learner')
    from fastai.data.core import DataLoaders
    from fastai.data.load import DataLoader
    torch.manual_seed(0)
    x, y = torch.randn(8, 3, 8, 8), torch.randint(0, 3, (8, 8, 8))
    net = torch.nn.Conv2d(3, 3, 1)
    fdl = DataLoader(list(zip(x, y, strict=True)), bs=3)
    dls = DataLoaders(fdl, fdl, device='cpu')
    learn = fastai.Learner(dls, net, loss_func=torch.nn.CrossEntropyLoss(), metrics=M.fastai_metrics())
    got = learn.validate()
    with torch.no_grad():
        i = M.iou(M.counts(M.pool(M.confusion(net(x).argmax(1), y))))[0]
    np.testing.assert_allclose(list(got)[1:], [i.mean(), *i])


def test_metrics_import_neither_fastai_nor_torch():
    code = ("import sys, busiseg_nb.metrics\n"
            "sys.exit(any(m.split('.')[0] in ('fastai', 'torch', 'sklearn') for m in sys.modules))")
    env = {**os.environ, 'PYTHONPATH': str(ROOT)}
    assert subprocess.run([sys.executable, '-c', code], cwd=ROOT, env=env).returncode == 0


def test_background_floor_is_a_floor():
    rng = np.random.default_rng(0)
    for _ in range(2000):
        conf = (rng.integers(1, 1000, (1, 3, 3))*rng.choice([1, 1, 10, 100], (1, 3, 3))).astype(np.int64)
        conf[0, 0, 0] *= rng.integers(1, 50)
        i = M.iou(M.counts(conf))[0]
        assert i[0] >= M.background_floor(i[1:], conf[0].sum(1)[1:]/conf.sum()) - 1e-12


def test_prevalence_is_recovered():
    rng = np.random.default_rng(0)
    for _ in range(200):
        conf = rng.integers(1, 1000, (1, 2, 2))
        c = M.counts(conf)
        got = M.prevalence_from(*(float(f(c)[0, 1]) for f in (M.pixel_accuracy, M.precision, M.recall)))
        assert got == pytest.approx(conf[0, 1].sum()/conf.sum())


def test_recorded_shares_are_those_of_busi(busi, monkeypatch):
    import json

    from busiseg_nb.dataset import find_cases
    monkeypatch.syspath_prepend(str(ROOT/'analysis'))
    import conventions
    facts = json.loads((ROOT/'results'/'analysis'/'conventions.json').read_text())
    n = [conventions.label_pixels(c) for c in find_cases(busi)]
    assert np.stack([i for i, _ in n]).sum(0).tolist() == [facts['pixels'][k] for k in CLASSES]
    assert sum(len(t) for _, t in n) == facts['tiles'] == 5607 and facts['images'] == 780


def keras_iou(true, pred, smooth=1e-5):
    "segmentation_models 1.0.1: `iou_score` with per_image=False and threshold=None, each channel"
    axes = (0, 1, 2)
    both = (true*pred).sum(axes)
    union = (true + pred).sum(axes) - both
    return (both + smooth)/(union + smooth)


@pytest.mark.parametrize('batch', [1, 4, 0])
@pytest.mark.parametrize('soft', [False, True])
def test_batch_scores_are_those_of_keras(batch, soft):
    rng = np.random.default_rng(3)
    truth = np.zeros((11, 16, 16), int)
    for i, tile in enumerate(truth):
        tile[:rng.integers(0, 9), :rng.integers(1, 9)] = i % 3
    prob = rng.dirichlet((1, 1, 1), truth.shape) + 2*np.eye(3)[truth]
    prob = (prob/prob.sum(-1, keepdims=True)).astype(np.float32)
    share = (truth > 0).mean((1, 2))
    for keep, least in M.KEEP.items():
        t, p = np.eye(3)[truth][share > least], prob.astype(float)[share > least]
        p = p if soft else np.eye(3)[p.argmax(-1)]
        step = batch or len(t)
        want = np.mean([keras_iou(t[i:i + step], p[i:i + step]) for i in range(0, len(t), step)], 0)
        got = M.batch_scores(M.tile_sums(prob, truth, soft), batch, keep)
        np.testing.assert_allclose(got['iou'], want, rtol=1e-5)
        assert got['tiles'] == len(t)
    with pytest.raises(BusisegError, match='use one of all, lesion, over 5 %'):
        M.batch_scores(M.tile_sums(prob, truth), batch, 'some')
    with pytest.raises(BusisegError, match='more tiles'):
        M.batch_scores(M.tile_sums(prob, 0*truth), batch, 'lesion')


def test_table3_cuts_the_papers_tiles(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from analysis import table3
    rng = np.random.default_rng(0)
    truth = np.zeros((300, 520), np.uint8)
    truth[100:180, 200:300], truth[280:, 500:] = 1, 2
    prob = (rng.dirichlet((1, 1, 1), truth.shape)*.2 + .8*np.eye(3)[truth]).astype(np.float32)
    tiles, true = table3.paper_tiles(prob, truth)
    assert tiles.shape == (6, 256, 256, 3) and (tiles.sum(-1) > .999).all()
    hard, soft = table3.image_sums(prob, truth)
    np.testing.assert_allclose(hard.sum(0)[:, 0], np.bincount(true.ravel()))         # nothing is wrong
    assert (soft.sum(0)[1:, 0] < hard.sum(0)[1:, 0]).all()
    rows = table3.table(hard, soft)
    assert len(rows) == 2*3*3 and rows[0]['tiles'] == 6 and rows[-1]['tiles'] < 6
