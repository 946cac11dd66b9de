"Scores of lesions, outlines and probabilities against MONAI, scikit-learn, and cases worked out by hand"
import json

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from busiseg_nb import intervals as I
from busiseg_nb import metrics as M
from busiseg_nb.core import BusisegError

LABELS = ('normal', 'benign', 'malignant')


def blobs(rng, shape=(60, 80), n=2):
    "A mask of a few ellipses"
    y, x = np.mgrid[:shape[0], :shape[1]]
    out = np.zeros(shape, bool)
    for _ in range(n):
        cy, cx, ry, rx = rng.uniform(5, 55), rng.uniform(5, 75), *rng.uniform(3, 14, 2)
        out |= ((y - cy)/ry)**2 + ((x - cx)/rx)**2 <= 1
    return out


def probabilities(rng, true, C=3):
    "Probabilities that are often right, with several lesions and specks"
    from scipy import ndimage
    z = ndimage.gaussian_filter(rng.normal(size=(*true.shape, C)), (4, 4, 0))*12
    z[..., 0] += 2.5
    for k in range(1, C):
        z[..., k] += 6*(np.roll(true, rng.integers(-4, 5), 1) == k)
    p = np.exp(z - z.max(2, keepdims=True))
    return (p/p.sum(2, keepdims=True)).astype(np.float32)


def make_records(n=30, seed=0, spacing=None):
    "Records, and the arrays they were made from"
    rng, out = np.random.default_rng(seed), []
    for i in range(n):
        k = i % 3
        true = (blobs(rng, n=rng.integers(1, 4))*k).astype(np.uint8)
        prob = probabilities(rng, true)
        out.append(({'case': f'{LABELS[k]} ({i})', 'group': f'g{i//2}',
                     **M.case_scores(prob, true, LABELS[k], spacing)}, prob, true))
    return out


@pytest.fixture(scope='module')
def made():
    return make_records()


def kept_mask(prob, peak):
    "Pixels of the pieces that reach the peak, by a loop over pieces"
    from scipy import ndimage
    mask = prob.argmax(2) > 0
    pieces, n = ndimage.label(mask, np.ones((3, 3)))
    out = np.zeros_like(mask)
    for k in range(1, n + 1):
        if prob[..., 1:].max(2)[pieces == k].max() >= peak:
            out |= pieces == k
    return out


@pytest.mark.parametrize('seed', range(6))
def test_outlines_equal_monai(seed):
    monai = pytest.importorskip('monai.metrics')
    import torch
    rng = np.random.default_rng(seed)
    a, b = blobs(rng), blobs(rng)
    x, y = (torch.tensor(m)[None, None].float() for m in (a, b))
    want = monai.compute_hausdorff_distance(x, y, include_background=True, percentile=95)
    assert M.hd95(a, b) == pytest.approx(float(want), abs=1e-5)
    for tolerance in (1, 2.5, 5):
        want = monai.compute_surface_dice(x, y, [tolerance], include_background=True)
        assert M.surface_dice(a, b, tolerance) == pytest.approx(float(want), abs=1e-6)
    want = monai.compute_hausdorff_distance(x, y, include_background=True, percentile=95, spacing=[.1, .07])
    assert M.hd95(a, b, (.1, .07)) == pytest.approx(float(want), abs=1e-5)
    want = monai.compute_surface_dice(x, y, [.2], include_background=True, spacing=[.1, .07])
    assert M.surface_dice(a, b, .2, (.1, .07)) == pytest.approx(float(want), abs=1e-6)


def test_outlines_by_hand():
    a, b = np.zeros((2, 30, 40), bool)
    a[5:15, 5:15] = True
    b[5:15, 9:19] = True                                             # four pixels to the right
    assert M.outline(a).sum() == 36
    assert M.hd95(a, b) == 4 and M.surface_dice(a, b, 4) == 1
    assert M.surface_dice(a, b, 0) == 24/72                          # the shared parts of the long sides
    assert M.hd95(a, ~a & a) == 50 == M.diagonal((30, 40)) and M.surface_dice(~a & a, a) == 0
    assert np.isnan(M.hd95(~a & a, ~a & a)) and np.isnan(M.surface_dice(~a & a, ~a & a))
    edge = np.ones((4, 4), bool)
    assert M.outline(edge).sum() == 12                               # the image's edge is an outline


def test_record_equals_the_masks_at_every_threshold(made):
    for record, prob, true in made:
        json.dumps(record)
        peaks = [lesion['peak'] for lesion in record['lesions']]
        assert peaks == sorted(peaks, reverse=True)
        for peak in (0, .4, .6, .9, .99, 1.1):
            r, mask = M.at(record, peak), kept_mask(prob, peak)
            tp, fp, fn = mask & (true > 0), mask & (true == 0), ~mask & (true > 0)
            assert (r['tp'], r['fp'], r['fn']) == (tp.sum(), fp.sum(), fn.sum())
            if true.any() and len(record['lesions']) <= M.OUTLINES:
                assert r['hd95'] == pytest.approx(M.hd95(mask, true > 0), abs=1e-4)
                assert r['surface_dice'] == pytest.approx(M.surface_dice(mask, true > 0), abs=1e-4)
            tumour = 1 - prob[..., 0].astype(float)
            if mask.any():
                soft = 2*tumour[mask].sum()/(tumour.sum() + mask.sum())
                assert r['confidence'] == pytest.approx(soft, abs=1e-3)
            else:
                assert r['confidence'] == pytest.approx(1 - prob[..., 1:].max())


def brute_force(made, peak):
    "Lesion scores from masks, piece by piece"
    from scipy import ndimage
    n = dict.fromkeys(('truths', 'touched', 'found', 'false', 'normals', 'alarms', 'images', 'missed'), 0)
    for _, prob, true in made:
        mask = kept_mask(prob, peak)
        pieces, count = ndimage.label(mask, np.ones((3, 3)))
        truths, true_count = ndimage.label(true > 0, np.ones((3, 3)))
        pred, real = ([m == k for k in range(1, c + 1)] for m, c in ((pieces, count), (truths, true_count)))
        iou = np.array([[(p & t).sum()/(p | t).sum() for p in pred] for t in real])
        iou = iou.reshape(len(real), len(pred))
        n['truths'] += len(real)
        n['touched'] += sum((t & mask).any() for t in real)
        n['found'] += (iou >= .1).any(1).sum()
        n['false'] += sum(not (column >= .1).any() for column in iou.T)
        n['normals'] += not true.any()
        n['alarms'] += (not true.any()) and mask.any()
        n['images'] += true.any()
        n['missed'] += true.any() and not (mask & (true > 0)).any()
    return {'lesion_sensitivity': n['found']/n['truths'], 'false_positives': n['false']/len(made),
            'lesions_missed': 1 - n['touched']/n['truths'], 'normal_alarms': n['alarms']/n['normals'],
            'images_missed': n['missed']/n['images']}


@pytest.mark.parametrize('peak', [0, .5, .7, .9, .97])
def test_lesion_scores_equal_brute_force(made, peak):
    want = brute_force(made, peak)
    records = [r for r, *_ in made]
    got = M.score_records(records, list(want), peak)
    assert got == pytest.approx(want)
    row = M.operating_curve(records, [peak]).iloc[0]
    assert row.missed == pytest.approx(want['lesions_missed'])
    assert row.alarms == pytest.approx(want['normal_alarms'])
    assert row.sensitivity == pytest.approx(want['lesion_sensitivity'])
    assert row.false_positives == pytest.approx(want['false_positives'])


def test_operating_curve_equals_monais_froc(made):
    monai = pytest.importorskip('monai.metrics')
    records = [r for r, *_ in made]
    curve = M.operating_curve(records)
    peaks = [M._peaks_of(r) for r in records]
    false = np.concatenate([f for *_, f in peaks])
    true = np.concatenate([finds for _, finds, _ in peaks])
    fps, sensitivity = monai.compute_froc_curve_data(false, true[true >= 0], len(true), len(records))
    thresholds = sorted({*false, *true[true >= 0]})[1:]              # MONAI leaves the lowest out
    own = curve.set_index('threshold').loc[thresholds]
    np.testing.assert_allclose(own.false_positives, fps[:-1])
    np.testing.assert_allclose(own.sensitivity, sensitivity[:-1])
    assert np.all(np.diff(curve.missed) >= 0) and np.all(np.diff(curve.alarms) <= 0)
    assert curve.missed.iloc[-1] == 1 and curve.alarms.iloc[-1] == 0


def test_points_keep_their_limits_on_validation_and_are_the_lowest(made):
    records = [r for r, *_ in make_records(90, seed=3)]
    limits = {'default': .25, 'high sensitivity': .6, 'low false alarms': 0.}
    points = M.choose_points(records, limits)
    assert list(points) == list(limits)
    table = M.operating_table(records, points).set_index('point')
    curve = M.operating_curve(records)
    for name, limit in limits.items():
        assert table.alarms[name] <= limit
        better = curve[curve.missed < table.missed[name] - 1e-12]
        assert (better.alarms > limit).all()                         # fewer misses: too many alarms
    assert points['high sensitivity'] <= points['default'] <= points['low false alarms']
    with pytest.raises(BusisegError, match='images without a lesion'):
        M.choose_points([r for r in records if r['truths']])
    quiet = [{**r, 'lesions': []} for r in records if not r['truths']]
    assert M.choose_points(quiet, limits) == dict.fromkeys(limits, 0.)


def one_record(prob_value, true_class, called, found=True):
    "A square of one class, called another"
    true = np.zeros((20, 20), np.uint8)
    true[5:15, 5:15] = true_class
    prob = np.zeros((20, 20, 3), np.float32)
    prob[..., 0] = 1
    if found:
        box = np.s_[5:15, 5:15]
        prob[box] = 1 - prob_value
        prob[box][..., called] = prob_value
        prob[box][..., 3 - called] = 0
    return M.case_scores(prob, true, LABELS[true_class])


def test_benign_and_malignant_by_hand():
    records = [one_record(.9, 1, 1), one_record(.8, 1, 2), one_record(.9, 2, 2), one_record(.7, 2, 1),
               one_record(.9, 2, 2, found=False), one_record(.9, 0, 1, found=False)]
    got = M.score_records(records)
    assert got['malignant_sensitivity'] == pytest.approx(1/3)    # found, called benign, missed
    assert got['malignant_specificity'] == pytest.approx(1/2)
    assert got['lesion_agreement'] == got['image_agreement'] == pytest.approx(2/4)
    assert got['lesion_dice'] == pytest.approx(4/5) and got['normal_alarms'] == 0
    assert got['images_missed'] == pytest.approx(1/5) == got['lesions_missed']
    diagonal = np.hypot(20, 20)
    assert got['hd95'] == pytest.approx(diagonal/5)                  # the miss is in it
    assert got['surface_dice'] == pytest.approx(4/5)
    assert np.isnan(got['hd95_mm'])
    scores = [M.malignancy(M.at(r)) for r in records[:5]]
    assert got['malignant_auc'] == pytest.approx(roc_auc_score([0, 0, 1, 1, 1], scores))


def test_rank_auc_equals_sklearn():
    rng = np.random.default_rng(0)
    for _ in range(20):
        x, y = rng.integers(0, 12, 50), rng.random(50) < .4          # with ties
        assert M.rank_auc(np.stack([x, y], 1)) == pytest.approx(roc_auc_score(y, x))
    assert np.isnan(M.rank_auc([[.2, 1], [.3, 1], [np.nan, 0]]))


def test_two_class_models_have_no_type():
    true = np.eye(60, dtype=np.uint8)
    prob = probabilities(np.random.default_rng(1), true, C=2)
    record = M.case_scores(prob, 2*true, 'malignant', (.1, .1))      # any lesion value is a lesion
    got = M.score_records([record])
    assert record['names'] == ['background', 'tumour']
    for name in ('lesion_agreement', 'image_agreement', 'malignant_sensitivity', 'malignant_auc'):
        assert np.isnan(got[name])
    assert got['hd95_mm'] == pytest.approx(.1*got['hd95'], abs=1e-4)


def test_own_class_names():
    true = np.zeros((30, 30), np.uint8)
    prob = probabilities(np.random.default_rng(1), true)
    record = M.case_scores(prob, true, 'fluid', names=('background', 'cyst', 'fluid'))
    assert record['names'] == ['background', 'cyst', 'fluid'] and M.true_class(record) == 0
    assert np.isnan(M.score_records([record])['malignant_sensitivity'])


def test_reliability_equals_sklearn():
    rng = np.random.default_rng(0)
    p = rng.random(5000)
    y = rng.random(5000) < p**2
    table = M.reliability(p, y)
    frequency, mean = calibration_curve(y, p, n_bins=M.BINS)
    np.testing.assert_allclose(table[:, 2]/table[:, 0], frequency)
    np.testing.assert_allclose(table[:, 1]/table[:, 0], mean)
    want = (np.abs(frequency - mean)*table[:, 0]).sum()/5000
    assert M.ece(table) == pytest.approx(want)
    parts = zip(np.split(p, 5), np.split(y, 5), strict=True)
    assert M.ece(sum(M.reliability(a, b) for a, b in parts)) == pytest.approx(want)
    np.testing.assert_allclose(M.ece(np.stack([table.ravel(), table.ravel()])), [want, want])
    assert np.isnan(M.ece(np.zeros((M.BINS, 3))))


def test_temperature_equals_logistic_regression():
    rng = np.random.default_rng(0)
    z = rng.normal(0, 3, 4000)
    y = rng.random(4000) < 1/(1 + np.exp(-(z/2.5 - .7)))
    p = 1/(1 + np.exp(-z))
    for shift in (False, True):
        temperature, move = M.fit_temperature(p, y, shift=shift)
        want = LogisticRegression(C=1e9, fit_intercept=shift, tol=1e-8).fit(z[:, None], y)
        assert 1/temperature == pytest.approx(want.coef_[0, 0], rel=1e-3)
        assert move == pytest.approx(want.intercept_[0] if shift else 0, abs=2e-3)
        mended = M.calibrate(p, temperature, move)
        np.testing.assert_allclose(mended, want.predict_proba(z[:, None])[:, 1], atol=1e-3)
    binned = M.fit_temperature(*M.unbin(M.prob_histogram(p, y)))
    assert binned[0] == pytest.approx(M.fit_temperature(p, y)[0], rel=1e-2)
    with pytest.raises(BusisegError, match='hits and misses'):
        M.fit_temperature(p, y | True)


def test_risk_against_coverage_by_a_loop():
    rng = np.random.default_rng(0)
    confidence, risk = rng.random(40), rng.random(40)
    curve = M.risk_coverage(confidence, risk)
    order = np.argsort(-confidence)
    want = [risk[order[:k]].mean() for k in range(1, 41)]
    np.testing.assert_allclose(curve.risk, want)
    assert curve.area == pytest.approx(np.mean(want))
    np.testing.assert_allclose(M.risk_coverage([.5]*4, [0, 1, 0, 1]).risk, .5)      # ties are mixed
    with pytest.raises(BusisegError):
        M.risk_coverage([], [])


def test_intervals_of_records_against_a_loop(made):
    records, n = [r for r, *_ in made], 60
    got = I.record_intervals(records, peak=.6, n=n, seed=4)
    assert {k: v[0] for k, v in got.items()} == pytest.approx(M.score_records(records, peak=.6), nan_ok=True)
    groups = sorted({r['group'] for r in records})
    picks = np.random.default_rng(4).integers(len(groups), size=(n, len(groups)))
    draws = {k: [] for k in got}
    for pick in picks:
        drawn = [r for k in pick for r in records if r['group'] == groups[k]]
        for name, value in M.score_records(drawn, peak=.6).items():
            draws[name].append(value)
    for name, (_, low, high) in got.items():
        if np.isnan(draws[name]).all() or np.ptp([*draws[name], got[name][0]]) == 0:
            assert (low, high) == (None, None), name                 # unknown, or the same in every draw
        else:
            np.testing.assert_allclose((low, high), np.nanpercentile(draws[name], [2.5, 97.5]), err_msg=name)


def test_no_interval_for_a_score_of_one_group(made):
    records = [{**r, 'group': 'all normal' if not r['truths'] else r['case']} for r, *_ in made]
    got = I.record_intervals(records, ['normal_alarms', 'lesion_dice'], n=50)
    assert got['normal_alarms'][1:] == (None, None) and got['lesion_dice'][1] is not None
    found = [{**r, 'lesions': []} for r in records]                  # everything is missed, in every draw
    assert I.record_intervals(found, ['lesions_missed'], n=50)['lesions_missed'] == (1, None, None)


def test_a_stranger_adds_a_score_with_one_line(made, monkeypatch):
    def largest(r):
        return max([x['area'] for x in r['lesions']], default=0), 1

    line = M.Score(largest, 'case', 'lower', 'pixels', 'area of the largest lesion')
    monkeypatch.setitem(M.SCORES, 'largest', line)
    records = [r for r, *_ in made]
    value, low, high = I.record_intervals(records, ['largest'], n=50)['largest']
    areas = [(p.argmax(2) > 0).any() and max(x['area'] for x in r['lesions']) for r, p, _ in made]
    assert value == pytest.approx(np.mean(areas)) and low < value < high


def test_unknown_scores_are_refused_before_any_work():
    for call in (lambda: M.check_scores(['dyce']), lambda: M.score_records([], ['iou']),
                 lambda: I.record_intervals(None, ['dyce'])):
        with pytest.raises(BusisegError, match='is not known; use one of'):
            call()


def test_the_table_is_complete():
    for name, score in M.SCORES.items():
        assert score.needs in ('counts', 'case', 'cases') and score.better in ('higher', 'lower'), name
        assert score.unit in ('share', 'pixels', 'mm', 'per image') and len(score.text) > 10, name


def test_lesion_table(made):
    records = [r for r, *_ in made]
    table = M.lesion_table(records, .6)
    assert (table.kind == 'true').sum() == sum(len(r['truths']) for r in records)
    false = table[(table.kind == 'predicted') & ~table.hit]
    per_image = M.score_records(records, ['false_positives'], .6)['false_positives']
    assert len(false) == round(per_image*len(records))
    assert (table.hit == (table.overlap >= M.OVERLAP)).all()


@pytest.mark.parametrize('prob, truth, word', [
    (np.zeros((4, 4)), np.zeros((4, 4), int), r'\(H,W,C\)'),
    (np.zeros((4, 4, 3)), np.zeros((4, 5), int), 'one size'),
    (np.zeros((4, 4, 3)), np.full((4, 4), 3), 'classes 0 to 2'),
    (np.zeros((4, 4, 3)), np.zeros((4, 4)), 'argmax')])
def test_bad_input(prob, truth, word):
    with pytest.raises(BusisegError, match=word) as e:
        M.case_scores(prob, truth, 'benign')
    assert '\n' not in str(e.value)


def test_speckled_predictions_take_no_forever():
    rng = np.random.default_rng(0)
    prob = rng.dirichlet((1, 1, 1), (100, 100)).astype(np.float32)
    true = np.zeros((100, 100), np.uint8)
    true[20:60, 30:70] = 1
    record = M.case_scores(prob, true, 'benign')
    assert len(record['outlines']) <= M.OUTLINES + 1
    last = M.at(record)
    assert last['hd95'] == pytest.approx(M.hd95(prob.argmax(2) > 0, true > 0), abs=1e-4)
