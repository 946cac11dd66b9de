"Finding, verifying and dividing cases: the measured facts of BUSI, properties of splits, bad folders"
import json, os, shutil, subprocess, sys, types
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

from busiseg_nb.core import LABELS, BusisegError
from busiseg_nb.dataset import (PARTS, Case, apportion, case_digest, class_counts, download_busi, find_cases, fingerprint,
                                foreground, kfold_cases, load_split, read_png, save_split, split_cases, split_hash,
                                split_table, thread_map, verify_dataset)

ROOT = Path(__file__).resolve().parent.parent


def made_up(*counts):
    "Cases without files, with BUSI's counts unless told otherwise"
    return [Case(f'{l} ({i})', l, Path(f'{l} ({i}).png'), ()) for l, n in zip(LABELS, counts or (437, 210, 133)) for i in range(1, n + 1)]


def message(fn, *args, **kw):
    "The one line that a bad input raises"
    with pytest.raises(BusisegError) as e: fn(*args, **kw)
    assert '\n' not in str(e.value)
    return str(e.value)


# ---- BUSI ----

def test_busi_cases(busi):
    cases = find_cases(busi)
    t = class_counts(cases)
    assert t['images'].tolist() == [437, 210, 133, 780]
    assert t['masks'].sum()//2 == 798 and t['several masks'].tolist() == [16, 1, 0, 17]
    assert {c.name: len(c.masks) for c in cases if len(c.masks) > 2} == {'benign (195)': 3}
    assert all(c.masks[0].name == f'{c.name}_mask.png' for c in cases)
    assert [c.name for c in cases[:2]] == ['benign (1)', 'benign (2)'] and cases[-1].name == 'normal (133)'


def test_busi_verifies(busi):
    v = verify_dataset(busi)
    assert set(v.severity) == {'note'}
    assert v.problem.value_counts().to_dict() == {'coloured image': 16, 'mask with alpha': 2, 'duplicate': 1}
    alpha = v[v.problem == 'mask with alpha'].file.tolist()
    assert [f.split('_mask')[0] for f in alpha] == ['benign/benign (4)', 'benign/benign (54)']
    twin = v[v.problem == 'duplicate'].iloc[0]
    assert twin.file == 'malignant/malignant (145).png' and 'benign (433)' in twin.detail and 'another label' in twin.detail


def test_busi_split_sizes(busi):
    cases = find_cases(busi)
    assert split_table(split_cases(cases)).loc['total'].tolist() == [546, 156, 78, 780]
    assert split_table(split_cases(cases, (.8, 0, .2))).loc['total'].tolist() == [624, 0, 156, 780]


# ---- finding ----

def test_find_passes_over_what_is_no_case(folder):
    want = find_cases(folder)
    (folder/'benign'/'._benign (1).png').write_bytes(b'x')
    (folder/'benign'/'Thumbs.db').write_bytes(b'x')
    (folder/'other').mkdir()
    assert find_cases(folder) == want
    for p in list((folder/'malignant').iterdir()): p.rename(p.with_name(p.stem + '.PNG'))
    assert [c.name for c in find_cases(folder)] == [c.name for c in want]


def test_masks_come_in_numeric_order(folder):
    c = find_cases(folder)[0]
    for k in (10, 2, 1): shutil.copy(c.masks[0], c.image.with_name(f'{c.name}_mask_{k}.png'))
    assert [p.stem.split('_mask')[1] for p in find_cases(folder)[0].masks] == ['', '_1', '_2', '_10']


def test_an_empty_folder_is_found_by_verify_too(tmp_path):
    (tmp_path/'benign').mkdir()
    assert verify_dataset(tmp_path).query('severity == "error"').problem.tolist() == ['no image']


def test_a_gap_in_the_numbers_of_masks(folder):
    c = find_cases(folder)[0]; mask = c.masks[0].read_bytes()
    for p in c.masks: p.unlink()
    c.image.with_name(f'{c.name}_mask_2.png').write_bytes(mask)
    assert 'benign (1).png: has no mask' in message(find_cases, folder)
    v = verify_dataset(folder)
    assert v.detail.tolist() == ['there is no benign (1)_mask.png', 'there is no benign (1)_mask_1.png']


def test_name_used_twice(folder):
    for end in ('.png', '_mask.png'): shutil.copy(folder/'normal'/f'normal (1){end}', folder/'benign')
    assert 'more than one image named normal (1)' in message(find_cases, folder)
    assert 'name used twice' in set(verify_dataset(folder).problem)


def test_verify_names_every_kind_of_problem(folder):
    assert not len(verify_dataset(folder))
    b, m, n = (folder/l for l in LABELS)
    size = Image.open(b/'benign (2).png').size
    (b/'benign (1).png').write_bytes((b/'benign (1).png').read_bytes()[:2000])
    grays = np.zeros(size[::-1], np.uint8); grays[:3, :3] = 255; grays[0, 0] = 7
    Image.fromarray(grays).save(b/'benign (2)_mask.png')
    (b/'benign (3)_mask.png').unlink()
    (b/'benign (9)_mask.png').write_bytes(b'no image at all')
    Image.new('1', Image.open(m/'malignant (1).png').size).save(m/'malignant (1)_mask.png')
    Image.new('L', (5, 7), 255).save(m/'malignant (2)_mask.png')
    (m/'malignant (3)_mask.png').write_bytes(b'')
    Image.new('RGB', Image.open(n/'normal (1).png').size, (0, 0, 9)).save(n/'normal (1)_mask.png')
    colours = np.array(Image.open(n/'normal (2).png').convert('RGB')); colours[0, 0] = 1, 2, 3
    Image.fromarray(colours).save(n/'normal (2).png')
    for end in ('.png', '_mask.png'):
        im = Image.open(n/f'normal (3){end}'); im.convert('RGBA').save(n/f'normal (4){end}')
    found = set(map(tuple, verify_dataset(folder)[['file', 'problem', 'severity']].values))
    want = {('benign/benign (1).png', 'unreadable', 'error'), ('benign/benign (2)_mask.png', 'not binary', 'error'),
            ('benign/benign (3).png', 'missing mask', 'error'), ('benign/benign (9)_mask.png', 'orphan mask', 'error'),
            ('malignant/malignant (1)_mask.png', 'empty mask', 'error'), ('malignant/malignant (2)_mask.png', 'wrong size', 'error'), ('malignant/malignant (2)_mask.png', 'full mask', 'error'),
            ('malignant/malignant (3)_mask.png', 'unreadable', 'error'),
            ('normal/normal (1)_mask.png', 'normal with a tumour', 'error'), ('normal/normal (2).png', 'coloured image', 'note'),
            ('normal/normal (4)_mask.png', 'mask with alpha', 'note'), ('normal/normal (4).png', 'duplicate', 'note')}
    assert found == want


@pytest.mark.parametrize('mode', ['1', 'L', 'LA', 'P', 'RGB', 'RGBA'])
def test_foreground_of_every_mode(mode, tmp_path):
    mask = np.random.default_rng(0).random((13, 8)) < .3
    Image.fromarray(mask).convert('L').convert(mode).save(tmp_path/'m.png')
    im = read_png(tmp_path/'m.png')
    out = foreground(im)
    assert im.mode == mode and out.dtype == bool and (out == mask).all()
    assert set(np.unique(out.view(np.uint8))) == {0, 1}, 'a bool whose byte is not 0 or 1 spoils sums and products'


def test_alpha_is_ignored(tmp_path):
    a = np.zeros((4, 4, 4), np.uint8); a[..., 3] = 255; a[1, 1] = 255, 255, 255, 0
    Image.fromarray(a).save(tmp_path/'m.png')
    assert np.argwhere(foreground(read_png(tmp_path/'m.png'))).tolist() == [[1, 1]]


def test_unreadable_files(tmp_path):
    good = tmp_path/'good.png'; Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)).save(good)
    for n in (0, 4, 20, 60, 2000):
        (tmp_path/'bad.png').write_bytes(good.read_bytes()[:n])
        assert f"{tmp_path/'bad.png'}: cannot be read as an image" in message(read_png, tmp_path/'bad.png')
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path/'deep.png')
    assert '8 bits per channel' in message(read_png, tmp_path/'deep.png')


def test_thread_map_keeps_order_and_stops():
    assert thread_map(lambda x: x*x, range(50), workers=7) == [x*x for x in range(50)]
    seen = []
    def boom(x):
        seen.append(x)
        raise KeyError(x)
    with pytest.raises(KeyError): thread_map(boom, range(1000), workers=2)
    assert len(seen) < 1000


def test_fingerprint_sees_names_bytes_and_labels(folder):
    cases = find_cases(folder); f = fingerprint(cases)
    assert f == fingerprint(cases[::-1]) and len(f) == 16
    p = cases[0].masks[0]; old = p.read_bytes()
    p.write_bytes(old + b'\0'); assert fingerprint(cases) != f
    p.write_bytes(old); assert fingerprint(cases) == f
    c = cases[0]
    assert len({case_digest(c), case_digest(Case(c.name, 'malignant', c.image, c.masks)), case_digest(Case('x', c.label, c.image, c.masks)),
                case_digest(Case(c.name, c.label, c.image, c.masks*2))}) == 4


# ---- splits ----

FRACTIONS = [(.7, .2, .1), (.8, 0, .2), (.6, .2, .2), (1, 0, 0), (1/3, 1/3, 1/3), (.55, .3, .15)]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 500), min_size=1, max_size=3), st.sampled_from(FRACTIONS))
def test_apportion_rounds_every_share_up_or_down(counts, fractions):
    t = apportion(counts, fractions); share = np.outer(counts, fractions)
    assert (t.sum(1) == counts).all() and (np.abs(t - share) < 1).all()
    assert (np.abs(t.sum(0) - share.sum(0)) < 1 + 1e-9).all()
    assert (t[:, np.array(fractions) == 0] == 0).all()


@pytest.mark.parametrize('fractions', FRACTIONS)
@pytest.mark.parametrize('seed', [0, 1, 12345])
def test_split_is_stratified_and_complete(fractions, seed):
    cases = made_up()
    s = split_cases(cases, fractions, seed)
    assert tuple(s) == PARTS
    assert sorted(c.name for p in s.values() for c in p) == sorted(c.name for c in cases)
    assert (split_table(s).loc[list(LABELS), list(PARTS)].values == apportion([437, 210, 133], fractions)).all()
    shuffled = [cases[i] for i in np.random.default_rng(seed).permutation(len(cases))]
    assert split_cases(shuffled, fractions, seed) == s


def test_split_is_the_same_everywhere():
    "Pinned: a change of this hash makes every published split another one"
    assert split_hash(split_cases(made_up())) == PINNED
    code = ("import sys; sys.path[:0] = ['tests']; from test_dataset import *; print(split_hash(split_cases(made_up())))")
    for hashseed in '01':
        out = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True,
                             env={**os.environ, 'PYTHONHASHSEED': hashseed, 'PYTHONPATH': str(ROOT)})
        assert out.stdout.strip() == PINNED, out.stderr

PINNED = '4b1a157fd6ecc4ac'


def test_seeds_differ_and_every_case_gets_everywhere():
    splits = [split_cases(made_up(30, 20, 10), seed=s) for s in range(60)]
    assert len({split_hash(s) for s in splits}) == 60
    for part in PARTS: assert len({c.name for s in splits for c in s[part]}) == 60


@pytest.mark.parametrize('seed', range(8))
def test_no_group_straddles_and_sizes_hold(seed):
    rng = np.random.default_rng(seed); cases = made_up()
    names = [cases[i].name for i in rng.permutation(780)]
    sizes = [12, 7, 5] + [2, 3]*60                           # 324 cases in groups of mixed labels
    cut = np.cumsum(sizes); groups = [names[b - n:b] for n, b in zip(sizes, cut)]
    for fractions in ((.7, .2, .1), (.8, 0, .2)):
        s = split_cases(cases, fractions, seed, groups=groups)
        where = {c.name: p for p, cs in s.items() for c in cs}
        assert len(where) == 780 and all(len({where[n] for n in g}) == 1 for g in groups)
        assert (split_table(s).loc[list(LABELS), list(PARTS)].values == apportion([437, 210, 133], fractions)).all()
        assert split_cases(cases[::-1], fractions, seed, groups=iter(map(iter, groups))) == s
    assert len({where[n] for g in groups for n in g}) > 1, 'groups must not all go to one part'


def test_groups_that_overlap_are_joined_and_unknown_names_fail():
    cases = made_up(10, 10, 10)
    chain = [['benign (1)', 'malignant (1)'], ['malignant (1)', 'normal (1)'], ['normal (1)', 'benign (2)']]
    for seed in range(20):
        where = {c.name: p for p, cs in split_cases(cases, seed=seed, groups=chain).items() for c in cs}
        assert len({where[n] for g in chain for n in g}) == 1
    assert 'no case named benign (99)' in message(split_cases, cases, groups=[['benign (1)', 'benign (99)']])


def test_bad_splits():
    cases = made_up(5, 5, 5)
    for f in ((.8, .2), (.7, .2, .2), (1.2, -.1, -.1), (0, 0, 0)): assert 'three shares' in message(split_cases, cases, f)
    assert 'whole number' in message(split_cases, cases, seed=-1)
    assert 'none to divide' in message(split_cases, [])
    assert 'same name' in message(split_cases, cases + cases[:1])
    for k in (0, 2, 99): assert 'folds' in message(kfold_cases, cases, k)


@pytest.mark.parametrize('k', [3, 5, 10])
def test_kfold(k):
    cases = made_up(); groups = [['benign (433)', 'malignant (145)'], [f'benign ({i})' for i in range(1, 9)]]
    folds = kfold_cases(cases, k, seed=2, groups=groups)
    assert sorted(c.name for f in folds for c in f['test']) == sorted(c.name for c in cases)
    for i, f in enumerate(folds):
        assert sum(map(len, f.values())) == 780 and f['valid'] == folds[(i + 1) % k]['test']
        t = split_table(f)['test']
        assert (np.abs(t.values - np.array([437, 210, 133, 780])/k) < 1.01).all()
        where = {c.name: p for p, cs in f.items() for c in cs}
        assert all(len({where[n] for n in g}) == 1 for g in groups)


def test_split_file(folder, tmp_path):
    cases = find_cases(folder); s = split_cases(cases, (.5, .3, .2)); f = tmp_path/'s'/'split.json'
    save_split(s, f, kind='random', seed=0, fractions=(.5, .3, .2))
    d = json.loads(f.read_text())
    assert set(d) == {'kind', 'seed', 'fractions', 'fingerprint', 'parts', 'sha256'} and d['fingerprint'] == fingerprint(cases)
    assert load_split(f, cases, verify=True) == s and split_hash(load_split(f, cases)) == d['sha256'] == split_hash(s)
    save_split(same := {**s, 'valid': s['test']}, f.with_name('report.json'))                  # the report selects on its test part
    assert load_split(f.with_name('report.json'), cases) == same

    def edited(change):
        e = json.loads(json.dumps(d)); change(e); f.write_text(json.dumps(e)); return message(load_split, f, cases)
    assert 'unknown cases, first nobody' in edited(lambda e: e['parts']['test'].append('nobody'))
    assert 'twice' in edited(lambda e: e['parts']['test'].append(e['parts']['train'][0]))
    assert 'checksum' in edited(lambda e: e['parts']['test'].append(e['parts']['train'].pop()))
    assert 'is not a split' in edited(lambda e: e.pop('parts'))
    assert 'is not a split' in edited(lambda e: e['parts'].pop('test'))
    assert 'is not a split' in edited(lambda e: e['parts'].update(test=[['x']]))
    f.write_text('{'); assert 'is not JSON' in message(load_split, f, cases)
    assert 'cannot be read' in message(load_split, tmp_path/'none.json', cases)
    f.write_text(json.dumps(d)); cases[0].image.write_bytes(cases[0].image.read_bytes() + b'\0')
    load_split(f, cases)
    assert 'other data' in message(load_split, f, cases, verify=True)


# ---- download ----

def test_download(folder, tmp_path, monkeypatch):
    asked = {}
    def dataset_download(handle):
        asked.update(handle=handle, cache=os.environ.get('KAGGLEHUB_CACHE'))
        shutil.copytree(folder, tmp_path/'kaggle'/'versions'/'Dataset_BUSI_with_GT', dirs_exist_ok=True)
        return str(tmp_path/'kaggle')
    monkeypatch.setitem(sys.modules, 'kagglehub', types.SimpleNamespace(dataset_download=dataset_download))
    monkeypatch.delenv('KAGGLEHUB_CACHE', raising=False)
    assert len(find_cases(download_busi(tmp_path/'mine'))) == 9
    assert asked == {'handle': 'aryashah2k/breast-ultrasound-images-dataset', 'cache': str(tmp_path/'mine')}
    assert 'KAGGLEHUB_CACHE' not in os.environ
    shutil.rmtree(tmp_path/'kaggle'/'versions'/'Dataset_BUSI_with_GT'/'normal')
    def no_network(handle): raise ConnectionError('no route\nto host')
    monkeypatch.setitem(sys.modules, 'kagglehub', types.SimpleNamespace(dataset_download=no_network))
    assert 'ConnectionError: no route to host' in message(download_busi)
    monkeypatch.setitem(sys.modules, 'kagglehub', None)
    assert "pip install 'busiseg_nb[download]'" in message(download_busi)
