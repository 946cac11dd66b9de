"The comparison with the paper: tables from made-up runs, checked against arithmetic written again here"
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from busiseg_nb import comparison as C
from busiseg_nb.core import BusisegError, read_json, write_json
from busiseg_nb.intervals import score_conventions
from busiseg_nb.metrics import confusion, counts_frame, prob_histogram
from busiseg_nb.models import published_results
from busiseg_nb.runs import PROFILES, main_scores

KEYS = ('background', 'benign', 'malignant', 'mean')


def make_run(folder, split='random', weights=None, classes=3, seed=0, busi=True, model='small', epochs=3, n=15, **config):
    "A run folder from random masks, groups of two"
    rng, K = np.random.default_rng(seed), max(2, classes)
    labels = [('benign', 'malignant', 'normal')[i % 3] for i in range(n)]
    true = np.array([np.where(rng.random((12, 12)) < .3, {'normal': 0, 'benign': 1}.get(l, K - 1), 0) for l in labels])
    pred = np.where(rng.random(true.shape) < .2, rng.integers(0, K, true.shape), true)
    names = [f'{l} ({i//3 + 1})' for i, l in enumerate(labels)]
    groups = [names[i//6*6 + i % 3] for i in range(n)]                       # benign (1) with benign (2), …
    conf = confusion(pred, true, K)
    df = pd.concat([counts_frame(conf, 'image', names, labels, groups), counts_frame(conf, 'tile', names, labels, groups, rows=0, cols=0)])
    hist = prob_histogram(np.clip(.7*(pred > 0) + .3*rng.random(true.shape), 0, 1), true > 0)
    folder = Path(folder); folder.mkdir(parents=True)
    df.to_csv(folder/'counts.csv', index=False)
    pd.DataFrame({'epoch': [1, 2, 3], 'train_loss': [1, .8, .7], 'valid_loss': [1, .9, .8], 'train_iou': [.3, .4, .5], 'valid_iou': [.3, .4, .4]}).to_csv(folder/'history.csv', index=False)
    cfg = {'weights': weights or 'none', 'split': split, 'classes': classes, 'epochs': epochs, 'seed': 0, 'limit': None, **config}
    write_json({'name': folder.name, 'finished': True, 'profile': 'quick', 'model': model, 'encoder_weights': weights, 'split': split, 'config': cfg,
                'data': {'images': 780, 'is_busi': busi}, 'split_sizes': {'train': 4, 'valid': 2, 'test': n}, 'training': {'epochs': epochs, 'tiles': 40, 'best_epoch': 2},
                'scores': main_scores(df, hist, 100), 'background_only_iou_mean': .3123, 'convention': 'pooled over the pixels of merged test images',
                'tumour_probability_histogram': hist.tolist()}, folder/'results.json')
    write_json({'kind': split, 'parts': {'train': ['benign (50)', 'malignant (60)'], 'valid': [], 'test': names}}, folder/'split.json')
    return folder


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp('cmp')/'results'
    make_run(root/'quick'); make_run(root/'quick-grouped', 'grouped', seed=1); make_run(root/'tuned', weights='imagenet', model='resnext50', seed=2)
    make_run(root/'binary', classes=1, seed=3); make_run(root/'phantom', busi=False, seed=4)
    (root/'benchmarks').mkdir(); write_json({}, root/'benchmarks'/'tiling.json')
    return root


@pytest.fixture(scope='module')
def runs(folder): return C.load_runs(folder)


def test_load_runs(folder, runs, tmp_path):
    assert list(runs) == ['binary', 'phantom', 'quick', 'quick-grouped', 'tuned']
    assert C.load_runs(tmp_path) == {} and C.load_runs(tmp_path/'none') == {}
    bare = make_run(tmp_path/'bare'/'r')
    for f in ('counts.csv', 'history.csv', 'split.json'): (bare/f).unlink()
    run = C.load_runs(tmp_path/'bare')['r']
    assert run.counts is None and run.history is None and run.parts is None
    assert C.run_table(bare) and C.draw_run(bare) == []
    assert C.table1([run]).shape[1] == 2 and C.leak_pairs([run]) == []
    write_json(read_json(bare/'results.json') | {'finished': False}, bare/'results.json')
    assert C.load_runs(tmp_path/'bare') == {}


def test_run_table_numbers(folder, runs):
    text, scores = C.run_table(folder/'quick'), runs['quick'].result['scores']
    assert max(map(len, text.splitlines())) <= 100 and text.isprintable() is False and '\t' not in text
    lines = {l.split('  ')[0]: l for l in text.splitlines()}
    pub = published_results()['katar_yildirim_2023']['test_iou_percent']
    for row, k in zip(('Background (0)', 'Benign (1)', 'Malignant (2)', 'Mean IoU'), KEYS):
        numbers = [float(x) for x in re.findall(r'-?\d+\.\d\d', lines[row])]
        assert numbers == [pub['resnext50'][k], pub['resnext101'][k], pub['unet'][k], *(round(100*v, 2) for v in scores[f'iou_{k}'])]
    assert lines['Mean IoU'].split()[2:5] == ['73.17', '72.24', '68.07']
    for word in ('31.23', 'pooled over', 'small, random weights', '3 epochs', '15 test images', 'random, seed 0'): assert word in text, word


def test_run_table_says_why_not_comparable(folder, runs):
    flat = lambda n: ' '.join(C.run_table(folder/n).split())
    assert 'NOT COMPARABLE' in flat('quick') and 'random initialisation' in flat('quick') and '3 epochs instead of 100' in flat('quick')
    assert 'grouped split instead of random' in flat('quick-grouped') and 'grouped split' not in flat('quick')
    assert 'not BUSI' in flat('phantom') and 'not BUSI' not in flat('quick')


def test_a_run_of_the_papers_protocol_has_no_caveat(tmp_path):
    p = PROFILES['paper']
    kw = dict(weights='imagenet', model='resnext50', epochs=100, loss=p.loss, lr=p.lr, bs=p.bs, tile=256, resize=None, channels=3, fractions=[.7, .2, .1])
    run = C.load_run(make_run(tmp_path/'full', **kw))
    assert C.caveats(run) == [] and 'NOT COMPARABLE' not in C.run_table(run.folder)
    table = C.table3({'full': run})
    assert (table['Mean IoU'] == 'not run here').sum() == 2                       # the two others still are
    assert C.caveats(C.load_run(make_run(tmp_path/'lr', **{**kw, 'lr': .001}))) == ['settings, with the published in brackets: lr 0.001 (0.0001)']
    assert any('only' in c for c in C.caveats(C.load_run(make_run(tmp_path/'part', **kw, limit=100))))


def test_binary_run_shows_the_reports_table(folder, runs):
    text, s = C.run_table(folder/'binary'), runs['binary'].result['scores']
    assert 'Report, Table 1' in text and 'ResNext' not in text
    row = next(l for l in text.splitlines() if l.startswith('Recall'))
    assert [float(x) for x in re.findall(r'\d+\.\d\d', row)] == [73.17, *(round(100*v, 2) for v in s['recall_tumour'])]
    roc = next(l for l in text.splitlines() if l.startswith('ROC-AUC'))
    assert [float(x) for x in re.findall(r'\d+\.\d\d', roc)] == [90.12, round(100*s['roc_auc'][0], 2)]


@pytest.mark.parametrize('name, text', [('results.json', '{"name": '), ('results.json', '[]'), ('results.json', '{"name": "x"}'), ('counts.csv', 'a,b\n1,2\n'),
                                        ('counts.csv', ''), ('history.csv', 'epoch\n1\n'), ('split.json', '{"parts": 3}'), ('split.json', '{')])
def test_damage_names_the_file(tmp_path, name, text):
    run = make_run(tmp_path/'results'/'r'); (run/name).write_text(text)
    with pytest.raises(BusisegError) as e: C.load_runs(tmp_path/'results')
    assert str(run/name) in str(e.value) and '\n' not in str(e.value)


def test_damaged_scores(tmp_path):
    run = make_run(tmp_path/'r'); r = read_json(run/'results.json')
    r['scores']['iou_mean'] = [None, 'x']; write_json(r, run/'results.json')
    with pytest.raises(BusisegError, match='iou_mean'): C.run_table(run)


def test_random_and_pretrained_rows_never_share_a_table(runs):
    for table in (C.table3, C.table4):
        with_, without = table(runs), table(runs, False)
        assert 'random' not in set(with_.Weights) and set(without.Weights) == {'random'}
        assert with_['From'].str.contains('tuned').any() and not without['From'].str.contains('tuned').any()
        assert without['From'].str.contains('quick').any() and not with_['From'].str.contains('quick').any()
        assert not pd.concat([with_, without])['From'].str.contains('phantom').any()      # other data stands in neither
    assert not any('quick' in c for c in C.report_table(runs)) and any('tuned' in c for c in C.report_table(runs))
    assert not any('tuned' in c or 'Report' in c for c in C.report_table(runs, False))


def test_rows_that_were_not_run_name_a_command_that_exists(runs):
    from busiseg_nb.runs import make_profile
    found = re.findall(r'`busiseg reproduce --profile (\S+) --model (\S+)`', C.as_markdown(C.table3(runs)) + C.as_markdown(C.report_table(runs)))
    assert len(found) == 4
    for profile, model in found: assert make_profile(profile, model=model).epochs in (20, 100)


def test_table4_carries_conventions(runs):
    t = C.table4(runs)
    assert (t.Convention.str.len() > 10).all() and not t.Convention.str.match('same').any()
    assert t[t.Study == 'Azam et al. 2023']['Dice, %'].item() == '62.00'
    assert t[t.Model == 'CMUNeXt']['IoU, %'].item() == '71.56 ± 2.43'
    assert len(C.table4({})) + len(C.table4({}, False)) == 5 + len(C.peers()) - 3         # three of them stand in the paper's own table
    assert set(C.table4({}, False).Study) == {'zekikus/MedSegBench'}


def test_links_exist(runs):
    text = '\n'.join(C.as_markdown(t) for t in (C.table1(runs), C.table3(runs), C.table3(runs, False), C.table4(runs), C.report_table(runs, False),
                                                C.leak_effect(runs['quick'], runs['quick-grouped'], 50)))
    links = re.findall(r'\]\(([^)]+)\)', text)
    assert len(links) > 8 and all(Path(l).is_file() for l in links)


def test_notebook_links_exist():
    import nbformat
    nbs = Path(__file__).resolve().parent.parent/'nbs'; nb = nbformat.read(nbs/'08_comparison.ipynb', 4)
    text = '\n'.join(o.get('data', {}).get('text/markdown', '') for c in nb.cells if c.cell_type == 'code' for o in c.outputs)
    assert 'Mean IoU' in text
    for link in re.findall(r'\]\((\.\.[^)]+)\)', text): assert (nbs/link).is_file(), link


def test_table1_counts_the_split(runs):
    t = C.table1({'quick': runs['quick']})
    assert list(t.Paper) == [437, 210, 133, 780] and list(t.iloc[:, 2]) == ['6 (5)', '6 (5)', '5 (5)', '17 (15)']


def pooled(df, names, key='iou'):
    "Mean score over three classes, summed with plain loops"
    d = df[(df.kind == 'image')]; out = []
    for cls in ('background', 'benign', 'malignant'):
        x = d[d['class'] == cls].set_index('case'); tp, fp, fn = (sum(int(x.loc[n, k]) for n in names) for k in ('tp', 'fp', 'fn'))
        out.append(tp/(tp + fp + fn) if key == 'iou' else 2*tp/(2*tp + fp + fn))
    return np.mean(out)


def test_leak_difference_against_numpy(runs):
    a, b, n = runs['quick'], runs['quick-grouped'], 40
    assert [(x.name, y.name) for x, y in C.leak_pairs(runs)] == [('quick', 'quick-grouped')]
    d = C.difference(a.counts, b.counts, n=n, seed=5).set_index('score')

    def draws(df, seed):
        d = df[(df.kind == 'image') & (df['class'] == 'benign')]; groups = sorted(set(d.group.astype(str)))
        members = {g: list(d[d.group == g].case) for g in groups}
        rng = np.random.default_rng(seed); picks = rng.integers(len(groups), size=(n, len(groups)))
        return np.array([pooled(df, [m for k in p for m in members[groups[k]]]) for p in picks])

    all_ = lambda df: list(df[(df.kind == 'image') & (df['class'] == 'benign')].case)
    value = pooled(a.counts, all_(a.counts)) - pooled(b.counts, all_(b.counts))
    other = np.random.default_rng(6).permutation(n)
    low, high = np.percentile(draws(a.counts, 5) - draws(b.counts, 5)[other], [2.5, 97.5])
    np.testing.assert_allclose(d.loc['mean IoU', 'difference'], (value, low, high), atol=1e-12)
    np.testing.assert_allclose(d.loc['mean Dice', 'first'][0], pooled(a.counts, all_(a.counts), 'dice'), atol=1e-12)
    np.testing.assert_allclose(d.loc['mean IoU', 'first'][0], a.score('iou_mean')[0], atol=1e-6)
    spread = np.percentile(draws(b.counts, 5), [2.5, 97.5])
    np.testing.assert_allclose(d.loc['mean IoU', 'second'][1:], spread, atol=1e-12)
    text = C.leak_effect(a, b, n, 5).set_index('Score, %').loc['mean IoU'].iloc[-1]
    assert text == f'{100*value:.2f} [{100*low:.2f}, {100*high:.2f}]'


def test_leak_effect_refuses_other_pairs(runs, tmp_path):
    longer = C.load_run(make_run(tmp_path/'longer', 'grouped', epochs=9))
    for pair in ((runs['quick'], longer), (runs['quick'], runs['tuned']), (runs['quick-grouped'], runs['quick'])):
        with pytest.raises(BusisegError): C.leak_effect(*pair, n=10)


def test_has_copy(runs):
    yes, no = C.has_copy(runs['quick'], [('benign (50)', 'benign (1)'), ('benign (2)', 'benign (3)')])
    assert yes == ['benign (1)'] and len(no) == 14


def test_conventions_and_spread(runs):
    s = score_conventions(runs['quick'].counts, n=40); t = C.conventions_table(s)
    assert len(t) == 10 and t.iloc[0].average == 'pooled'
    own = t[(t.average == 'pooled') & (t.masks == 'image') & (t.normals == 'in')]['absent: skipped'].item()
    assert own.split(' ')[0] == f"{100*runs['quick'].score('iou_mean')[0]:.2f}"
    m = s[(s['of'] == 'mean') & (s.metric == 'iou')].value; text = C.spread_sentence(s)
    assert f'from {100*m.min():.1f} to {100*m.max():.1f} %' in text and f'{len(m)} conventions' in text
    assert 0 < sum(int(x) for x in re.findall(r'(\d+) %(?:[,;])', text)) <= 102


def test_figures_are_written(folder, phantom, tmp_path):
    from busiseg_nb.dataset import find_cases, save_split, split_cases
    from busiseg_nb.models import build_model, save_model
    run = make_run(tmp_path/'r'); cases = find_cases(phantom)
    save_split(split_cases(cases, (.4, .2, .4)), run/'split.json')
    save_model(build_model('tu-mobilenetv3_small_050', None, in_channels=1, tile_size=64, resize=64, decoder_channels=(16, 16, 8, 8, 8)), run/'best')
    out = C.draw_run(run, phantom, per_label=1)
    assert [p.name for p in out] == ['curves.png', 'predictions.png'] and all(p.read_bytes()[:4] == b'\x89PNG' for p in out)
    assert [p.name for p in C.draw_run(run)] == ['curves.png']
