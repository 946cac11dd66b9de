"The comparison with the paper: tables from made-up runs, checked against arithmetic written again here"
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from busiseg_nb import comparison as C
from busiseg_nb import figures as F
from busiseg_nb.core import BusisegError
from busiseg_nb.files import read_json, write_json
from busiseg_nb.intervals import score_conventions
from busiseg_nb.metrics import case_scores, confusion, counts_frame, prob_histogram
from busiseg_nb.models import published_results
from busiseg_nb.runs import PROFILES, main_scores, make_profile
from errors import message

ROOT = Path(__file__).resolve().parent.parent

KEYS = ('background', 'benign', 'malignant', 'mean')


def made_up_counts(n=15, classes=3, seed=0, wrong=.2, first=0):
    "Counts of random masks with groups of two; and their histogram of probabilities"
    rng, K = np.random.default_rng(seed), max(2, classes)
    labels = [('benign', 'malignant', 'normal')[i % 3] for i in range(n)]
    values = [{'normal': 0, 'benign': 1}.get(label, K - 1) for label in labels]
    true = np.array([np.where(rng.random((12, 12)) < .3, k, 0) for k in values])
    pred = np.where(rng.random(true.shape) < wrong, rng.integers(0, K, true.shape), true)
    names = [f'{label} ({first + i//3 + 1})' for i, label in enumerate(labels)]
    groups = [names[i//6*6 + i % 3] for i in range(n)]                       # benign (1) with benign (2), …
    conf = confusion(pred, true, K)
    df = pd.concat([counts_frame(conf, 'image', names, labels, groups),
                    counts_frame(conf, 'tile', names, labels, groups, places=(0, 0))])
    hist = prob_histogram(np.clip(.7*(pred > 0) + .3*rng.random(true.shape), 0, 1), true > 0)
    return df, hist, names


def make_run(folder, split='random', weights=None, classes=3, seed=0, busi=True, model='small', epochs=3,
             n=15, wrong=.2, first=0, **config):
    "A run folder from random masks"
    df, hist, names = made_up_counts(n, classes, seed, wrong, first)
    folder = Path(folder)
    folder.mkdir(parents=True)
    df.to_csv(folder/'counts.csv', index=False)
    history = {'epoch': [1, 2, 3], 'train_loss': [1, .8, .7], 'valid_loss': [1, .9, .8],
               'train_iou': [.3, .4, .5], 'valid_iou': [.3, .4, .4]}
    pd.DataFrame(history).to_csv(folder/'history.csv', index=False)
    choices = {'weights': weights or 'none', 'split': split, 'classes': classes, 'epochs': epochs}
    result = {'name': folder.name, 'finished': True, 'profile': 'quick', 'model': model,
              'encoder_weights': weights, 'split': split,
              'config': {**choices, 'seed': 0, 'limit': None, **config},
              'data': {'images': 780, 'is_busi': busi}, 'split_sizes': {'train': 4, 'valid': 2, 'test': n},
              'training': {'epochs': epochs, 'tiles': 40, 'best_epoch': 2},
              'scores': main_scores(df, hist, 100),
              'background_only_iou_mean': .3123, 'convention': 'pooled over the pixels of merged test images',
              'tumour_probability_histogram': hist.tolist()}
    write_json(result, folder/'results.json')
    parts = {'train': ['benign (50)', 'malignant (60)'], 'valid': [], 'test': names}
    write_json({'kind': split, 'parts': parts}, folder/'split.json')
    return folder


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp('cmp')/'results'
    make_run(root/'quick')
    make_run(root/'quick-grouped', 'grouped', seed=1)
    make_run(root/'tuned', weights='imagenet', model='resnext50', seed=2)
    make_run(root/'binary', classes=1, seed=3)
    make_run(root/'phantom', busi=False, seed=4)
    (root/'benchmarks').mkdir()
    write_json({}, root/'benchmarks'/'tiling.json')
    return root


@pytest.fixture(scope='module')
def runs(folder):
    return C.load_runs(folder)


def test_load_runs(folder, runs, tmp_path):
    assert list(runs) == ['binary', 'phantom', 'quick', 'quick-grouped', 'tuned']
    assert C.load_runs(tmp_path) == {} and C.load_runs(tmp_path/'none') == {}
    bare = make_run(tmp_path/'bare'/'r')
    for f in ('counts.csv', 'history.csv', 'split.json'):
        (bare/f).unlink()
    run = C.load_runs(tmp_path/'bare')['r']
    assert run.counts is None and run.history is None and run.parts is None
    assert C.run_table(bare) and F.draw_run(bare) == []
    assert C.table1([run]).shape[1] == 2 and C.leak_pairs([run]) == []
    assert C.images_behind(run) == '' and C.lacking_intervals(run) == [] and C.against_paper(run)
    write_json(read_json(bare/'results.json') | {'finished': False}, bare/'results.json')
    assert C.load_runs(tmp_path/'bare') == {}


def test_run_table_numbers(folder, runs):
    text, scores = C.run_table(folder/'quick'), runs['quick'].result['scores']
    assert max(map(len, text.splitlines())) <= 100 and text.isprintable() is False and '\t' not in text
    lines = {line.split('  ')[0]: line for line in text.splitlines()}
    pub = published_results()['katar_yildirim_2023']['test_iou_percent']
    for row, k in zip(('Background (0)', 'Benign (1)', 'Malignant (2)', 'Mean IoU'), KEYS, strict=True):
        numbers = [float(x) for x in re.findall(r'-?\d+\.\d\d', lines[row])]
        own = [round(100*v, 2) for v in scores[f'iou_{k}']]
        assert numbers == [pub['resnext50'][k], pub['resnext101'][k], pub['unet'][k], *own]
    assert lines['Mean IoU'].split()[2:5] == ['73.17', '72.24', '68.07']
    for word in ('31.23', 'pooled over', 'small, random weights', '3 epochs', '15 test images',
                 'random, seed 0', '15: 5 with benign, 5 with malignant'):
        assert word in text, word


def test_run_table_says_why_not_comparable(folder, runs):
    def flat(name):
        return ' '.join(C.run_table(folder/name).split())
    assert 'NOT COMPARABLE' in flat('quick') and 'random initialisation' in flat('quick')
    assert '3 epochs instead of 100' in flat('quick')
    assert 'grouped split instead of random' in flat('quick-grouped') and 'grouped split' not in flat('quick')
    assert 'not BUSI' in flat('phantom') and 'not BUSI' not in flat('quick')


def test_a_made_up_run_says_so(tmp_path):
    run = make_run(tmp_path/'made-up')
    write_json(read_json(run/'results.json') | {'made_up': True}, run/'results.json')
    text = C.run_table(run)
    assert 'MADE-UP run made-up' in text and 'no network made these numbers' in text
    assert C.caveats(C.load_run(run))[0].startswith('made up')
    assert C.table3([C.load_run(run)], False).Model.item() == '**small, made up**'


def test_no_interval_is_said(tmp_path):
    run = C.load_run(make_run(tmp_path/'r', n=4))                     # one benign group, one malignant image
    assert C.lacking_intervals(run) == [f'{k} in one group of images only' for k in ('benign', 'malignant')]
    assert 'no interval' in C.run_table(run)
    scores = C.cv_scores(C.CrossValidation('one', [run], run.counts), 50)
    assert scores['IoU benign'][1:] == (None, None) == scores['mean IoU'][1:] and scores['IoU background'][1]


def test_a_run_of_the_papers_protocol_has_no_caveat(tmp_path):
    p = PROFILES['paper']
    kw = dict(weights='imagenet', model='resnext50', epochs=100, loss=p.loss, lr=p.lr, bs=p.bs, tile=256,
              resize=None, channels=3, fractions=[.7, .2, .1])
    run = C.load_run(make_run(tmp_path/'full', **kw))
    assert C.caveats(run) == [] and 'NOT COMPARABLE' not in C.run_table(run.folder)
    table = C.table3({'full': run})
    assert (table['Mean IoU'] == 'not run here').sum() == 2                       # the two others still are
    other = C.load_run(make_run(tmp_path/'lr', **{**kw, 'lr': .001}))
    assert C.caveats(other) == ['settings, with the published in brackets: lr 0.001 (0.0001)']
    assert any('only' in c for c in C.caveats(C.load_run(make_run(tmp_path/'part', **kw, limit=100))))


def test_caveats_compare_weights_by_name(tmp_path):
    binary = C.load_run(make_run(tmp_path/'b', classes=1, weights='swsl', model='resnext101_32x16d'))
    assert "swsl weights instead of the report's instagram weights" in C.caveats(binary)
    same = C.load_run(make_run(tmp_path/'i', classes=1, weights='instagram', model='resnext101_32x16d'))
    assert not any('weights' in c for c in C.caveats(same))


def test_binary_run_shows_the_reports_table(folder, runs):
    text, s = C.run_table(folder/'binary'), runs['binary'].result['scores']
    assert 'Report, Table 1' in text and 'ResNext' not in text
    row = next(line for line in text.splitlines() if line.startswith('Recall'))
    own = [round(100*v, 2) for v in s['recall_tumour']]
    assert [float(x) for x in re.findall(r'\d+\.\d\d', row)] == [73.17, *own]
    roc = next(line for line in text.splitlines() if line.startswith('ROC-AUC'))
    assert [float(x) for x in re.findall(r'\d+\.\d\d', roc)] == [90.12, round(100*s['roc_auc'][0], 2)]


@pytest.mark.parametrize('name, text', [
    ('results.json', '{"name": '), ('results.json', '[]'), ('results.json', '{"name": "x"}'),
    ('counts.csv', 'a,b\n1,2\n'), ('counts.csv', ''), ('history.csv', 'epoch\n1\n'),
    ('split.json', '{"parts": 3}'), ('split.json', '{')])
def test_damage_names_the_file(tmp_path, name, text):
    run = make_run(tmp_path/'results'/'r')
    (run/name).write_text(text)
    with pytest.raises(BusisegError) as e:
        C.load_runs(tmp_path/'results')
    assert str(run/name) in str(e.value) and '\n' not in str(e.value)


def test_damaged_counts_name_the_file(tmp_path):
    run = make_run(tmp_path/'r')
    df = pd.read_csv(run/'counts.csv')
    df.assign(tp=-1).to_csv(run/'counts.csv', index=False)
    with pytest.raises(BusisegError, match='no whole numbers') as e:
        C.load_run(run)
    assert e.value.what == str(run/'counts.csv')


def test_damaged_scores(tmp_path):
    run = make_run(tmp_path/'r')
    r = read_json(run/'results.json')
    r['scores']['iou_mean'] = [None, 'x']
    write_json(r, run/'results.json')
    with pytest.raises(BusisegError, match='iou_mean'):
        C.run_table(run)


def test_random_and_pretrained_rows_never_share_a_table(runs):
    for table in (C.table3, C.table4):
        with_, without = table(runs), table(runs, False)
        assert 'random' not in set(with_.Weights) and set(without.Weights) == {'random'}
        assert with_['From'].str.contains('tuned').any() and not without['From'].str.contains('tuned').any()
        assert without['From'].str.contains('quick').any() and not with_['From'].str.contains('quick').any()
        both = pd.concat([with_, without])
        assert not both['From'].str.contains('phantom').any()         # other data stands in neither
    report, scratch = C.report_table(runs), C.report_table(runs, False)
    assert not any('quick' in c for c in report) and any('tuned' in c for c in report)
    assert not any('tuned' in c or 'Report' in c for c in scratch)


@pytest.mark.parametrize('option, line', [
    ({'model': 'nope'}, "model 'nope': is not known"),
    ({'weights': 'nope'}, "encoder weights 'nope': do not exist for"),
    ({'loss': 'nope'}, "loss 'nope': is not known"),
    ({'monitor': 'nope'}, "monitor 'nope': is not known"),
    ({'schedule': 'nope'}, "schedule 'nope': is not known"),
    ({'split': 'nope'}, "split 'nope': is not known")])
def test_unknown_names_of_a_profile_are_refused_before_data_are_read(option, line):
    assert line in message(make_profile, 'paper', **option)


def test_rows_that_were_not_run_name_a_command_that_exists(runs):
    text = C.as_markdown(C.table3(runs)) + C.as_markdown(C.report_table(runs))
    found = re.findall(r'`busiseg reproduce --data BUSI --profile (\S+) --model (\S+)`', text)
    assert len(found) == 4
    for profile, model in found:
        assert make_profile(profile, model=model).epochs in (20, 100)


def test_table4_carries_conventions(runs):
    t = C.table4(runs)
    assert (t.Convention.str.len() > 10).all() and not t.Convention.str.match('same').any()
    assert t[t.Study == 'Azam et al. 2023']['Dice, %'].item() == '62.00'
    assert t[t.Model == 'CMUNeXt']['IoU, %'].item() == '71.56 ± 2.43'
    in_the_paper = 3                                  # of the peers stand in the paper's own table
    assert len(C.table4({})) + len(C.table4({}, False)) == 5 + len(C.peers()) - in_the_paper
    assert set(C.table4({}, False).Study) == {'zekikus/MedSegBench'}


def test_links_exist(runs):
    tables = (C.table1(runs), C.table3(runs), C.table3(runs, False), C.table4(runs),
              C.report_table(runs, False), C.leak_effect(runs['quick'], runs['quick-grouped'], 50))
    links = re.findall(r'\]\(([^)]+)\)', '\n'.join(map(C.as_markdown, tables)))
    assert len(links) > 8 and all(Path(link).is_file() for link in links)


def test_notebook_links_exist():
    import nbformat
    nbs = Path(__file__).resolve().parent.parent/'nbs'
    nb = nbformat.read(nbs/'08_comparison.ipynb', 4)
    outputs = [o for c in nb.cells if c.cell_type == 'code' for o in c.outputs]
    text = '\n'.join(o.get('data', {}).get('text/markdown', '') for o in outputs)
    assert 'Mean IoU' in text
    for link in re.findall(r'\]\((\.\.[^)]+)\)', text):
        assert (nbs/link).is_file(), link


def test_table1_counts_the_split(runs):
    t = C.table1({'quick': runs['quick']})
    assert list(t.Paper) == [437, 210, 133, 780]
    assert list(t.iloc[:, 2]) == ['6 (5)', '6 (5)', '5 (5)', '17 (15)']


def pooled(df, names, key='iou'):
    "Mean score over three classes, summed with plain loops"
    d = df[(df.kind == 'image')]
    out = []
    for cls in ('background', 'benign', 'malignant'):
        x = d[d['class'] == cls].set_index('case')
        tp, fp, fn = (sum(int(x.loc[n, k]) for n in names) for k in ('tp', 'fp', 'fn'))
        out.append(tp/(tp + fp + fn) if key == 'iou' else 2*tp/(2*tp + fp + fn))
    return np.mean(out)


def draws_of(df, seed, n):
    "Names of the images of each draw over groups"
    d = df[(df.kind == 'image') & (df['class'] == 'benign')]
    groups = sorted(set(d.group.astype(str)))
    members = {g: list(d[d.group == g].case) for g in groups}
    picks = np.random.default_rng(seed).integers(len(groups), size=(n, len(groups)))
    return [[m for k in p for m in members[groups[k]]] for p in picks]


def images_of(df):
    return list(df[(df.kind == 'image') & (df['class'] == 'benign')].case)


def test_leak_difference_against_numpy(runs):
    a, b, n = runs['quick'], runs['quick-grouped'], 40
    assert [(x.name, y.name) for x, y in C.leak_pairs(runs)] == [('quick', 'quick-grouped')]
    d = C.difference(a.counts, b.counts, n=n, seed=5).set_index('score')
    one, two = (np.array([pooled(x.counts, names) for names in draws_of(x.counts, 5, n)]) for x in (a, b))
    value = pooled(a.counts, images_of(a.counts)) - pooled(b.counts, images_of(b.counts))
    other = np.random.default_rng(6).permutation(n)
    low, high = np.percentile(one - two[other], [2.5, 97.5])
    np.testing.assert_allclose(d.loc['mean IoU', 'difference'], (value, low, high), atol=1e-12)
    dice = pooled(a.counts, images_of(a.counts), 'dice')
    np.testing.assert_allclose(d.loc['mean Dice', 'first'][0], dice, atol=1e-12)
    np.testing.assert_allclose(d.loc['mean IoU', 'first'][0], a.score('iou_mean')[0], atol=1e-6)
    np.testing.assert_allclose(d.loc['mean IoU', 'second'][1:], np.percentile(two, [2.5, 97.5]), atol=1e-12)
    text = C.leak_effect(a, b, n, 5).set_index('Score, %').loc['mean IoU'].iloc[-1]
    assert text == f'{100*value:.2f} [{100*low:.2f}, {100*high:.2f}]'
    assert C.verdict((value, low, high)).split(' points')[0] in C.leak_sentence(a, b, n, 5)


def test_leak_effect_refuses_other_pairs(runs, tmp_path):
    longer = C.load_run(make_run(tmp_path/'longer', 'grouped', epochs=9))
    pairs = ((runs['quick'], longer), (runs['quick'], runs['tuned']), (runs['quick-grouped'], runs['quick']))
    for pair in pairs:
        with pytest.raises(BusisegError):
            C.leak_effect(*pair, n=10)


def test_has_copy(runs):
    groups = [('benign (50)', 'benign (1)'), ('benign (2)', 'benign (3)')]
    yes, no = C.has_copy(runs['quick'], groups)
    assert yes == ['benign (1)'] and len(no) == 14
    assert C.leak_within(runs['quick'], [('benign (50)', 'x')]).empty
    groups = [('benign (50)', 'benign (1)'), ('malignant (60)', 'malignant (2)')]
    within = C.leak_within(runs['quick'], groups, 20)
    assert any(c.startswith('2 images with a copy') for c in within) and '13 without' in within


def counts_with(tp, fn, cases, groups=None):
    "Counts of images with one benign lesion: `tp` of its pixels found, `fn` missed, no false ones"
    conf = np.zeros((len(cases), 3, 3), int)
    conf[:, 0, 0], conf[:, 1, 1], conf[:, 1, 0] = 100, tp, fn
    return counts_frame(conf, 'image', cases, ['benign']*len(cases), groups)


def test_paired_verdict_on_counts_with_known_answers():
    cases = [f'benign ({i})' for i in range(12)]
    half, all_, mixed = (counts_with(np.full(12, x), 10 - np.full(12, x), cases) for x in (5, 10, 8))
    p = C.paired_verdict(all_, half, 'IoU benign', n=200)
    assert p.difference == pytest.approx((.5, .5, .5))                   # the same in every image: no width
    assert p.images == p.groups == 12 and p.behind == '12 with benign, 0 with malignant'
    assert C.verdict(p.difference, 'better', 'worse') == '+50.0 [50.0, 50.0] points: better'
    p = C.paired_verdict(half, mixed, 'Dice benign', n=200)
    assert p.difference[0] == pytest.approx(2/3 - 16/18) and p.difference[2] < 0
    p = C.paired_verdict(half, mixed, 'tumour Dice per image', n=200)
    assert p.difference == pytest.approx((2/3 - 16/18,)*3)
    odd = np.arange(12) % 2
    p = C.paired_verdict(counts_with(10*odd, 10 - 10*odd, cases), half, 'IoU benign', n=400)
    assert p.difference[0] == pytest.approx(0)
    assert C.verdict(p.difference).startswith('no effect can be told')
    alone = C.paired_verdict(all_, half, 'IoU benign', n=50, keep=cases[:1])
    assert alone.difference == (.5, None, None) and 'there is no interval' in C.verdict(alone.difference)
    with pytest.raises(BusisegError, match="score 'IoU'"):
        C.paired_verdict(all_, half, 'IoU')
    with pytest.raises(BusisegError, match='no image that both'):
        C.paired_verdict(all_, counts_with([1], [1], ['other (1)']))


def test_paired_verdict_draws_the_same_groups_for_both():
    a, _, names = made_up_counts(12, seed=1)
    b = made_up_counts(12, seed=2)[0].sample(frac=1, random_state=0)        # in another order
    b = b.assign(group=None)
    p, n = C.paired_verdict(a, b, n=40, seed=3), 40
    draws = draws_of(a, 3, n)
    apart = [pooled(a, d) - pooled(b, d) for d in draws]
    want = (pooled(a, names) - pooled(b, names), *np.percentile(apart, [2.5, 97.5]))
    np.testing.assert_allclose(p.difference, want, atol=1e-12)
    assert (p.images, p.groups) == (12, 6)


@pytest.fixture
def folds(tmp_path):
    "Three grouped folds, three random ones that are better, two from random weights that are worse"
    for k in range(3):
        make_run(tmp_path/f'cv-net-grouped-{k + 1}', f'fold{k + 1}', weights='imagenet', seed=k,
                 first=10*k)
        make_run(tmp_path/f'cv-net-random-{k + 1}', f'random-fold{k + 1}', weights='imagenet', seed=k,
                 first=10*k, wrong=.05)
        if k < 2:
            make_run(tmp_path/f'cv-net-scratch-{k + 1}', f'fold{k + 1}', seed=k, first=10*k, wrong=.5)
    return tmp_path


def test_folds_are_pooled_and_answer_the_questions(folds):
    copies = [('benign (1)', 'benign (2)'), ('malignant (11)', 'malignant (12)'),
              ('benign (13)', 'benign (14)')]
    leak = C.answer('leak', folds, copies, n=200)
    parts = {part: p for part, p in leak.rows if p.score == 'mean IoU'}
    images = {k: p.images for k, p in parts.items()}
    assert images == {'all': 45, 'with a near-copy': 6, 'without a near-copy': 39}
    assert parts['all'].difference[1] > 0
    told = C.answer_sentences(C.answer_all(folds, copies, n=200))
    text, pretraining, tiles, steps, overlap, size, mean, longer = told
    assert 'random folds score higher' in text and 'on 6 images (with a near-copy)' in text
    assert 'on 30 images (all)' in pretraining and 'pretrained weights score higher' in pretraining
    assert all(sentence.endswith('Not run yet.') for sentence in (tiles, steps, overlap, size, mean, longer))
    table = C.answer_table(C.answer_all(folds, copies, n=50))
    assert len(table) == 6 + 2 + 6 and table['Difference, points'].str.contains('not run yet').sum() == 6
    assert all(C.answer(name, folds/'nothing').rows == [] for name in C.QUESTIONS)
    with pytest.raises(BusisegError, match='use one of leak'):
        C.answer('luck', folds)


def test_pooled_folds_stand_in_table_3_once(folds):
    runs = C.load_runs(folds)
    cvs = C.cross_validations(runs)
    want = {'cv-net-grouped': 3, 'cv-net-random': 3, 'cv-net-scratch': 2}
    assert {cv.name: len(cv.runs) for cv in cvs} == want
    table = C.table3(runs)
    own = table[table.Model.str.contains('ours') & ~table.Split.str.match('random$')]
    assert list(own.Split) == ['3 grouped folds', '3 random folds']
    assert own['Test images'].iloc[0] == '45: 15 with benign, 15 with malignant'
    df = pd.concat([runs[f'cv-net-grouped-{k}'].counts for k in (1, 2, 3)])
    assert own['Mean IoU'].iloc[0].startswith(f'{100*pooled(df, images_of(df)):.2f} [')
    assert C.table3(runs, False).Split.tolist() == ['2 grouped folds']


def test_pooled_cv_refuses(folds):
    one = folds/'cv-net-grouped-1'
    with pytest.raises(BusisegError, match='in 2 folds'):
        C.pooled_cv([one, one])
    with pytest.raises(BusisegError, match='no folds'):
        C.pooled_cv([])
    (one/'counts.csv').unlink()
    with pytest.raises(BusisegError, match='counts.csv'):
        C.pooled_cv([one])


@pytest.mark.parametrize('difference, text', [
    ((.018, -.086, .128), 'no effect can be told: +1.8 [−8.6, 12.8] points'),
    ((.042, .01, .075), '+4.2 [1.0, 7.5] points: up'),
    ((-.042, -.075, -.01), '−4.2 [−7.5, −1.0] points: down'),
    ((.1, None, None), 'no effect can be told, there is no interval: +10.0'),
    ((.02, 0., .04), 'no effect can be told: +2.0 [0.0, 4.0] points')])
def test_verdicts(difference, text):
    assert C.verdict(difference, 'up', 'down') == text


def test_conventions_and_spread(runs):
    s = score_conventions(runs['quick'].counts, n=40)
    t = C.conventions_table(s)
    assert len(t) == 10 and t.iloc[0].average == 'pooled'
    own = t[(t.average == 'pooled') & (t.masks == 'image') & (t.normals == 'in')]['absent: skipped'].item()
    assert own.split(' ')[0] == f"{100*runs['quick'].score('iou_mean')[0]:.2f}"
    m, text = s[(s['of'] == 'mean') & (s.metric == 'iou')].value, C.spread_sentence(s)
    assert f'from {100*m.min():.1f} to {100*m.max():.1f} %' in text and f'{len(m)} conventions' in text
    assert 0 < sum(int(x) for x in re.findall(r'(\d+) %(?:[,;])', text)) <= 102


def test_lesion_scores_of_runs_with_records(tmp_path):
    run = make_run(tmp_path/'r')
    true = np.zeros((20, 20), np.uint8)
    true[5:12, 5:12] = 1
    prob = np.eye(3)[true]*.7 + .1
    records = [{'case': f'{k}', **case_scores(prob, true, 'benign')} for k in range(3)]
    write_json(records, run/'lesions.json')
    table = C.lesion_scores([C.load_run(run)], ['lesion_dice', 'lesions_missed'], n=20)
    assert table.iloc[:, 1].tolist() == ['100.00', '0.00']            # the same in every draw: no interval
    points = {'operating_points': {'default': .5, 'strict': .9}}
    write_json(read_json(run/'results.json') | points, run/'results.json')
    table = C.lesion_scores([C.load_run(run)], ['lesions_missed'], n=20)
    assert table.shape == (1, 3) and table.iloc[0, 2].startswith('100.00')
    write_json({'no': 'list'}, run/'lesions.json')
    with pytest.raises(BusisegError, match='lesions.json'):
        C.lesion_scores([C.load_run(run)])
    assert C.lesion_scores([C.load_run(make_run(tmp_path/'other'))]).empty


def test_lesion_scores_without_records_are_those_of_the_results(tmp_path):
    "A run whose records were not kept still shows what results.json has, and how many images hold each class"
    run = make_run(tmp_path/'r')
    kept = {'lesion_scores': {'lesion_dice': [.8, .7, .9], 'lesions_missed': [.1, None, None]}}
    write_json(read_json(run/'results.json') | kept, run/'results.json')
    table = C.lesion_scores([C.load_run(run)])
    assert table.iloc[:, 1].tolist() == ['80.00 [70.00, 90.00]', '10.00']
    assert f'{C.EVERY}; test images {C.images_behind(C.load_run(run))}' in table.columns[1]
    assert C.lesion_scores([C.load_run(run)], ['lesions_missed']).shape == (1, 2)
    write_json(read_json(run/'results.json') | {'lesion_scores': {'lesion_dice': .8}}, run/'results.json')
    with pytest.raises(BusisegError, match='results.json'):
        C.lesion_scores([C.load_run(run)])


def test_recorded_runs_that_scored_lesions_stand_in_the_comparison():
    "The stored table names every run of results/ that has scores of lesions"
    text = (ROOT/'nbs'/'08_comparison.ipynb').read_text(encoding='utf-8')
    scored = [run for run in C.load_runs(ROOT/'results').values() if C.kept_lesion_scores(run)]
    assert len(scored) > 10
    for run in scored:
        assert f'{run.name}/results.json), {C.EVERY}; test images' in text, run.name


def test_rows_of_the_index_say_how_many_images_stand_behind_each_class():
    text = (ROOT/'README.md').read_text(encoding='utf-8')
    rows = [line for line in text.split('\n') if re.match(r'\| (run |cv-|BUSI, |BUS-BRA, |BrEaST, )', line)]
    behind = r'; \d+ images: \d+ (with )?benign, \d+ (with )?malignant(, \d+ normal)? \|'
    assert len(rows) > 6 and [row for row in rows if not re.search(behind, row)] == []


def test_figures_are_written(folder, phantom, tmp_path):
    from busiseg_nb.dataset import find_cases
    from busiseg_nb.models import build_model, save_model
    from busiseg_nb.splits import save_split, split_cases
    run, cases = make_run(tmp_path/'r'), find_cases(phantom)
    save_split(split_cases(cases, (.4, .2, .4)), run/'split.json')
    net = build_model('tu-mobilenetv3_small_050', None, in_channels=1, tile_size=64, resize=64,
                      decoder_channels=(16, 16, 8, 8, 8))
    save_model(net, run/'best')
    out = F.draw_run(run, phantom, per_label=1)
    assert [p.name for p in out] == ['curves.png', 'predictions.png']
    assert all(p.read_bytes()[:4] == b'\x89PNG' for p in out)
    assert [p.name for p in F.draw_run(run)] == ['curves.png']
    (run/'history.csv').write_text('epoch\n1\n')
    with pytest.raises(BusisegError, match='history.csv'):
        F.draw_run(run)


def test_figures_of_runs_are_drawn_without_a_display(runs, folds):
    every = [*runs.values()]
    for draw in (F.draw_bars, F.draw_roc, F.draw_curves):
        assert draw(every, False).axes
    assert F.draw_bars([], False).axes
    scores = F.bar_scores(runs['quick'].counts, 100)
    assert scores['IoU'][0] == pytest.approx(runs['quick'].score('iou_mean')[0], abs=1e-6)


def test_words_for_predictions():
    one, two = np.zeros((2, 9, 9), int)
    one[2:6, 2:6], two[7:, 7:] = 1, 2
    assert F.prediction_words(one, one) == 'Dice 1.00'
    assert F.prediction_words(2*one, one) == 'Dice 1.00, wrong type'
    assert F.prediction_words(0*one, one) == 'missed'
    assert F.prediction_words(two, one) == 'missed, and a false alarm'
    assert F.prediction_words(one, 0*one) == 'false alarm'
    assert F.prediction_words(0*one, 0*one) == 'rightly nothing'
    words = ['Dice 0.90', 'Dice 0.50, wrong type', 'missed, and a false alarm', 'false alarm',
             'rightly nothing']
    assert F.count_words(words) == 'Of 5 images: 2 found, 1 missed, 1 of the wrong type, 2 false alarms.'
    assert F.count_words(words[:1]).startswith('Of 1 image: ')


def test_moved_figures_still_work_with_a_warning():
    with pytest.warns(DeprecationWarning, match='draw_run has moved'):
        assert C.draw_run is F.draw_run
