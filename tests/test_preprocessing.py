"Reading, merging and caching: the measured facts of BUSI, the cache under change, damage and interruption"
import errno
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from busiseg_nb import preprocessing
from busiseg_nb.core import LABELS, BusisegError
from busiseg_nb.dataset import Case, find_cases, fingerprint
from busiseg_nb.images import image_size
from busiseg_nb.preprocessing import (
    Augment,
    TileCache,
    affine_views,
    build_cache,
    label_mask,
    load_case,
    load_image,
    merge_masks,
    resize_image,
    resize_mask,
    resized_shape,
)
from errors import message

ROOT = Path(__file__).resolve().parent.parent


def restored(cache, a, name):
    "An image put together from its tiles"
    rows = cache.rows([name])
    t = cache.index.iloc[rows[-1]]
    s = cache.meta['size']
    out = np.zeros(((t.row + 1)*s, (t.col + 1)*s, *a.shape[3:]), np.uint8)
    for r in rows:
        i, j = cache.index.row[r]*s, cache.index.col[r]*s
        out[i:i + s, j:j + s] = a[r]
    assert not out[t.height:].any() and not out[:, t.width:].any(), 'padding is zero'
    return out[:t.height, :t.width]


@pytest.fixture
def cases(folder): return find_cases(folder)


# ---- BUSI: decoded once, into a cache, and compared with a plain reading ----

@pytest.fixture(scope='session')
def busi_cache(busi, tmp_path_factory):
    folder = tmp_path_factory.mktemp('busi')/'cache'
    if shutil.disk_usage(folder.parent).free < 3e9:
        pytest.skip('the cache of BUSI needs 1.5 GB of temporary space')
    yield find_cases(busi), build_cache(find_cases(busi), folder, progress=False)
    shutil.rmtree(folder, ignore_errors=True)


def test_busi_facts(busi_cache):
    cases, cache = busi_cache
    one = cache.index.drop_duplicates('case')
    assert (one.height.min(), one.height.max(), one.width.min(), one.width.max()) == (310, 719, 190, 1048)
    assert round((one.height*one.width).sum()/1e6, 2) == 246.19
    assert len(cache) == 5607 and cache.images.shape == (5607, 256, 256, 3)
    tiles = cache.index.groupby('label').size().to_dict()
    assert tiles == {'benign': 3122, 'malignant': 1435, 'normal': 1050}
    modes, coloured, share = {}, 0, {label: [] for label in LABELS}
    for c in cases:
        img, mask = restored(cache, cache.images, c.name), restored(cache, cache.masks, c.name)
        with Image.open(c.image) as im:
            rgb = np.array(im.convert('RGB'))
        assert np.array_equal(img, rgb), c.name
        union = np.zeros(mask.shape, bool)
        for p in c.masks:
            with Image.open(p) as m:
                modes[m.mode] = modes.get(m.mode, 0) + 1
                assert m.size == mask.shape[::-1]
                union |= np.array(m.convert('L')) > 0
        value = {'benign': 1, 'malignant': 2, 'normal': 0}[c.label]
        assert np.array_equal(mask, union*np.uint8(value)), c.name
        assert union.any() == (c.label != 'normal'), c.name
        coloured += bool((rgb != rgb[..., :1]).any())
        share[c.label].append((mask > 0).mean())
    assert modes == {'1': 663, 'RGB': 133, 'RGBA': 2} and coloured == 16
    assert [round(100*np.mean(share[label]), 1) for label in LABELS] == [6.9, 14.7, 0]
    pair = [restored(cache, cache.images, n) for n in ('benign (433)', 'malignant (145)')]
    masks = [restored(cache, cache.masks, n) > 0 for n in ('benign (433)', 'malignant (145)')]
    assert np.array_equal(*pair) and not np.array_equal(*masks)


# ---- one case ----

@pytest.mark.parametrize('mode', ['1', 'L', 'LA', 'P', 'RGB', 'RGBA'])
def test_load_image_of_every_mode(mode, tmp_path):
    gray = np.random.default_rng(0).integers(0, 256, (17, 11), np.uint8)
    Image.fromarray(gray).convert(mode, dither=Image.Dither.NONE).save(tmp_path/'i.png')
    want = gray if mode != '1' else (gray >= 128)*np.uint8(255)
    img = load_image(tmp_path/'i.png')
    assert img.dtype == np.uint8 and img.flags.c_contiguous and img.flags.writeable
    assert (img == want[..., None]).all() and img.shape == (17, 11, 3)
    assert (load_image(tmp_path/'i.png', channels=1) == want[..., None]).all()
    assert 'neither 1 nor 3' in message(load_image, tmp_path/'i.png', channels=2)


def test_colours_stay_and_alpha_goes(tmp_path):
    a = np.random.default_rng(0).integers(0, 256, (9, 7, 4), np.uint8)
    Image.fromarray(a).save(tmp_path/'i.png')
    assert np.array_equal(load_image(tmp_path/'i.png'), a[..., :3])
    gray = np.array(Image.fromarray(a[..., :3]).convert('L'))
    assert np.array_equal(load_image(tmp_path/'i.png', 1)[..., 0], gray)


def test_union_of_masks_in_different_modes(tmp_path):
    rng = np.random.default_rng(1)
    parts = [rng.random((20, 30)) < .2 for _ in range(4)]
    files = [tmp_path/f'x_mask_{i}.png' for i in range(4)]
    for m, f, mode in zip(parts, files, ('1', 'L', 'RGB', 'RGBA'), strict=True):
        Image.fromarray(m).convert('L').convert(mode).save(f)
    Image.new('L', (30, 20)).save(tmp_path/'x.png')
    for label, value in (('benign', 1), ('malignant', 2), ('normal', 0)):
        c = Case('x', label, tmp_path/'x.png', tuple(files))
        mask = label_mask(c)
        assert mask.dtype == np.uint8 and np.array_equal(mask, np.any(parts, 0)*np.uint8(value))
    assert 'unknown label odd' in message(label_mask, Case('x', 'odd', tmp_path/'x.png', tuple(files)))
    assert 'has no mask' in message(merge_masks, Case('x', 'benign', tmp_path/'x.png', ()))


def test_bad_files_are_named(cases, tmp_path):
    c = cases[0]
    w, h = Image.open(c.image).size
    Image.new('1', (h, w + 1), 1).save(c.masks[0])
    for fn in (label_mask, load_case):
        assert f'{c.masks[0]}: is {h}x{w + 1}, its image {w}x{h}' in message(fn, c)
    d = cases[1]
    d.image.write_bytes(d.image.read_bytes()[:-4000])
    assert f'{d.image}: cannot be read (image file is truncated)' in message(load_case, d)
    d.image.write_bytes(b'\x89PNG')
    assert 'is no image that can be read' in message(image_size, d.image)
    d.image.unlink()
    assert f'{d.image}: does not exist' in message(load_image, d.image)


def test_resize():
    assert resized_shape((300, 600), None) == (300, 600) and resized_shape((300, 600), (9, 8)) == (9, 8)
    assert resized_shape((300, 600), 256) == (128, 256)
    assert resized_shape((600, 300, 3), np.int64(256)) == (256, 128)
    assert resized_shape((2, 5000), 100) == (1, 100)
    for bad in (0, -3, 'x', (1, 2, 3), (0, 5), ()):
        assert 'is no size' in message(resized_shape, (5, 5), bad)
    rng = np.random.default_rng(0)
    mask = rng.choice(np.uint8([0, 2]), (50, 40))
    img = rng.integers(0, 256, (50, 40, 3), np.uint8)
    assert set(np.unique(resize_mask(mask, (33, 71)))) == {0, 2}
    assert resize_image(img, 25).shape == (25, 20, 3) and resize_image(img[..., :1], 25).shape == (25, 20, 1)
    assert np.array_equal(resize_image(img, 25)[..., :1], resize_image(img[..., :1], 25))
    assert resize_image(img) is img and resize_mask(mask, (50, 40)) is mask


# ---- the cache ----

SETTINGS = [{}, dict(size=100), dict(channels=1), dict(resize=200), dict(resize=(256, 256)),
            dict(resize=(300, 10), channels=1, size=64)]


@pytest.mark.parametrize('kw', SETTINGS)
def test_cache_holds_every_case(cases, tmp_path, kw):
    cache = build_cache(cases, tmp_path/'c', workers=1, progress=False, **kw)
    for c in cases:
        img = resize_image(load_image(c.image, kw.get('channels', 3)), kw.get('resize'))
        assert np.array_equal(restored(cache, cache.images, c.name), img)
        mask = resize_mask(label_mask(c), kw.get('resize'))
        assert np.array_equal(restored(cache, cache.masks, c.name), mask)
    build_cache(cases, tmp_path/'d', workers=5, progress=False, **kw)
    for f in TileCache.FILES:
        assert (tmp_path/'c'/f).read_bytes() == (tmp_path/'d'/f).read_bytes()
    assert list(cache.index) == ['case', 'label', 'row', 'col', 'height', 'width', 'fingerprint']
    assert cache.meta['fingerprint'] == fingerprint(cases)


def test_rows_and_pickle(cases, tmp_path):
    cache = build_cache(cases, tmp_path/'c', size=128, progress=False)
    names = [cases[5].name, cases[0].name]
    rows = cache.rows(names)
    t = cache.index.iloc[rows]
    assert list(dict.fromkeys(t['case'])) == names
    for n in names:
        places = list(zip(t[t['case'] == n].row, t[t['case'] == n].col, strict=True))
        assert places == sorted(places)
    assert np.array_equal(rows, cache.rows([cases[5], cases[0]])) and len(cache.rows([])) == 0
    assert np.array_equal(cache.rows([c.name for c in cases]), np.arange(len(cache)))
    assert 'has no tiles of nobody' in message(cache.rows, ['nobody'])
    data = pickle.dumps(cache)
    assert len(data) < 1000 and np.array_equal(pickle.loads(data).masks, cache.masks)


def stamp(folder): return (folder/'meta.json').stat().st_ino


def test_opened_when_the_same_and_rebuilt_when_not(cases, tmp_path):
    f = tmp_path/'c'
    def build(cs=cases, **kw): return build_cache(cs, f, progress=False, **kw)
    build()
    first = stamp(f)
    build()
    build(verify=True)
    assert stamp(f) == first
    for change in (lambda: os.utime(cases[3].masks[0], ns=(1, 1)),
                   lambda: cases[3].image.write_bytes(cases[3].image.read_bytes() + b'\0'),
                   lambda: shutil.copy(cases[0].masks[0],
                                       cases[0].image.with_name(f'{cases[0].name}_mask_7.png')),
                   lambda: (f/'index.csv').write_text('case,label\n'),
                   lambda: (f/'meta.json').write_text('{}'),
                   lambda: (f/'masks.npy').unlink(),
                   lambda: os.truncate(f/'images.npy', 5000), lambda: (f/'images.npy').write_bytes(b'')):
        before = stamp(f)
        change()
        cs = find_cases(tmp_path/'data')
        c = build_cache(cs, f, progress=False)
        assert stamp(f) != before
        assert np.array_equal(restored(c, c.images, cs[3].name), load_image(cs[3].image))
    before = stamp(f)
    cs = find_cases(tmp_path/'data')
    build(cs[1:])
    assert stamp(f) != before, 'other cases are another cache'
    assert sorted(p.name for p in tmp_path.iterdir()) == ['c', 'data']


def test_a_change_that_keeps_length_and_time_is_found_on_request(cases, tmp_path):
    f = tmp_path/'c'
    build_cache(cases, f, progress=False)
    before = stamp(f)
    p = cases[0].image
    s = p.stat()
    data = bytearray(p.read_bytes())
    data[-1] ^= 1
    p.write_bytes(data)
    os.utime(p, ns=(s.st_atime_ns, s.st_mtime_ns))
    assert stamp(f) == before and build_cache(cases, f, progress=False) and stamp(f) == before
    try:
        build_cache(cases, f, progress=False, verify=True)
    except BusisegError:
        return       # the flipped byte may have made the file unreadable, which was then noticed too
    assert stamp(f) != before


def test_bad_requests_write_nothing(cases, tmp_path):
    (tmp_path/'file').write_text('')
    (tmp_path/'mine').mkdir()
    (tmp_path/'mine'/'thesis.txt').write_text('x')
    before = sorted(tmp_path.rglob('*'))
    def bad(*a, **kw): return message(build_cache, *a, progress=False, **kw)
    assert 'none to cache' in bad([], tmp_path/'c')
    assert 'same name' in bad(cases*2, tmp_path/'c')
    assert 'channels 2' in bad(cases, tmp_path/'c', channels=2)
    assert 'size 0' in bad(cases, tmp_path/'c', size=0)
    assert 'is no size' in bad(cases, tmp_path/'c', resize=(1, 2, 3))
    assert 'is a file' in bad(cases, tmp_path/'file')
    assert 'cannot be written' in bad(cases, tmp_path/'file'/'c')
    assert 'holds files that are no tile cache' in bad(cases, tmp_path/'mine')
    assert 'cannot be read' in message(TileCache, tmp_path/'c')
    cases[7].masks[0].write_bytes(b'')
    assert str(cases[7].masks[0]) in bad(cases, tmp_path/'c')
    assert sorted(tmp_path.rglob('*')) == before


@pytest.mark.skipif(not hasattr(os, 'geteuid') or os.geteuid() == 0, reason='root may write anywhere')
def test_read_only_folder(cases, tmp_path):
    ro = tmp_path/'ro'
    ro.mkdir()
    ro.chmod(0o555)
    assert f"{ro/'c'}: cannot be written" in message(build_cache, cases, ro/'c', progress=False)


@pytest.mark.parametrize('how', ['disk_usage', 'posix_fallocate'])
def test_full_disk(cases, tmp_path, monkeypatch, how):
    def full(*a): raise OSError(errno.ENOSPC, 'No space left on device')
    if how == 'disk_usage':
        monkeypatch.setattr(preprocessing.shutil, 'disk_usage', lambda p: shutil._ntuple_diskusage(9, 9, 9))
    else:
        monkeypatch.setattr(preprocessing.os, 'posix_fallocate', full, raising=False)
    assert 'free some space' in message(build_cache, cases, tmp_path/'c', progress=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == ['data']


SLOW = '''
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)   # also where the tests were started with it ignored
from busiseg_nb import preprocessing as p
from busiseg_nb.dataset import find_cases
digest = p.case_digest
read = []
def slow(c): read.append(c); time.sleep({pause}); return digest(c)
p.case_digest = slow
print('go', flush=True)
c = p.build_cache(find_cases(sys.argv[1]), sys.argv[2], size=128, workers=2, progress=False)
print(len(c), int(c.images[:].sum(dtype='u8')))
print(len(read))
'''


def start(tmp_path, pause):
    code, env = SLOW.format(pause=pause), {**os.environ, 'PYTHONPATH': str(ROOT)}
    return subprocess.Popen([sys.executable, '-c', code, str(tmp_path/'data'), str(tmp_path/'c')], cwd=ROOT,
                            env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize('outdated', [False, True])
def test_two_processes_build_at_once(cases, tmp_path, outdated):
    if outdated:
        build_cache(cases, tmp_path/'c', progress=False)
    runs = [start(tmp_path, .05) for _ in range(2)]
    out = [r.communicate(timeout=60) for r in runs]
    assert [r.returncode for r in runs] == [0, 0], out
    cache = build_cache(cases, tmp_path/'c', size=128, progress=False)
    assert {o.split('\n')[1] for o, _ in out} == {f'{len(cache)} {int(cache.images[:].sum(dtype="u8"))}'}
    read = sorted(o.split('\n')[2] for o, _ in out)
    assert read == ['0', str(len(cases))], 'one builds, the other finds it built'
    assert sorted(p.name for p in tmp_path.iterdir()) == ['c', 'data']


@pytest.mark.skipif(os.name != 'posix', reason='signals')
@pytest.mark.parametrize('sig', ['SIGINT', 'SIGKILL'])
def test_interrupted(cases, tmp_path, sig):
    run = start(tmp_path, .3)
    run.stdout.readline()
    until = time.time() + 30
    while not list(tmp_path.glob('.busiseg.c/images.npy')) and time.time() < until:
        time.sleep(.02)
    run.send_signal(getattr(signal, sig))
    run.communicate(timeout=60)
    left = sorted(p.name for p in tmp_path.iterdir())
    assert run.returncode != 0 and 'c' not in left
    if sig == 'SIGINT':
        assert left == ['data']
    build_cache(cases, tmp_path/'c', progress=False)    # which clears away what a killed process could not
    assert sorted(p.name for p in tmp_path.iterdir()) == ['c', 'data']


# ---- augmentation ----

def batch(n=6, size=96, seed=0):
    "Tiles with a bright lesion, their classes, and how much of each is image"
    g = torch.Generator().manual_seed(seed)
    y = torch.zeros(n, size, size, dtype=torch.uint8)
    y[:, 30:60, 20:50] = 2
    x = (torch.rand(n, 1, size, size, generator=g)*80).to(torch.uint8) + y[:, None]*60
    return x, y, torch.ones(n, 2), g


EFFECTS = dict(clear=.5, shade=.2, speckle=.12, blur=.4, marks=.5, sharpen=.5, local=.5, contrast=.5,
               stretch=.5, shear=.2, bend=.05)
STILL = dict(zoom=(1, 1), rotate=0, flip=0, gain=0, gamma=0, noise=0)


@pytest.mark.parametrize('effects', [{}, *({k: v} for k, v in EFFECTS.items()), EFFECTS])
def test_augmented_tiles(effects):
    x, y, extent, g = batch()
    a, b = Augment(64, **effects)(x, y, extent, g)
    assert a.shape == (6, 1, 64, 64) and a.dtype == torch.float32 and 0 <= a.min() and a.max() <= 1
    assert b.shape == (6, 64, 64) and set(b.unique().tolist()) <= {0, 2}
    again = Augment(64, **effects)(*batch()[:3], batch()[3])
    assert torch.equal(a, again[0]) and torch.equal(b, again[1]), 'the generator decides'


def test_no_change_where_none_is_asked_for():
    x, y, extent, g = batch()
    a, b = Augment(96, **STILL)(x, y, extent, g)
    assert torch.allclose(a, x/255, atol=1e-4) and torch.equal(b, y)


def test_windows_stay_on_the_image():
    g = torch.Generator().manual_seed(0)
    extent = torch.rand(500, 2, generator=g)*.5 + .5
    views = affine_views(extent, .4, g, rotate=0)
    corners = torch.stack([views @ torch.tensor([x, y, 1.]) for x in (-1, 1) for y in (-1, 1)])
    assert (corners >= -1 - 1e-5).all()
    assert (corners <= 2*extent.flip(1) - 1 + 1e-5).all()


def test_clear_windows_show_less_lesion():
    x, y, extent, g = batch(64)
    def lesion(share):
        g = torch.Generator().manual_seed(1)
        return Augment(64, clear=share)(x, y, extent, g)[1].bool().sum()
    shown = lesion(0), lesion(1)
    assert shown[1] < .5*shown[0]


def square(n=64, size=96):
    "Images with a bright square in the middle, their classes, and how much of each is image"
    y = torch.zeros(n, size, size, dtype=torch.uint8)
    y[:, 36:60, 36:60] = 1
    return y[:, None]*255, y, torch.ones(n, 2), torch.Generator().manual_seed(0)


@pytest.mark.parametrize('effects', [{'stretch': .6}, {'shear': .2}, {'bend': .03}])
def test_another_shape_is_that_of_image_and_mask(effects):
    a, b = Augment(96, **STILL, **effects)(*square())
    sure = (a[:, 0] < .25) | (a[:, 0] > .75)           # between them lie the edges
    assert sure.float().mean() > .95 and torch.equal((a[:, 0] > .5)[sure], (b == 1)[sure])
    assert (b.sum((1, 2)).float() - 24*24).abs().max() < .25*24*24, 'about as much lesion as before'
    assert len({one.numpy().tobytes() for one in a}) == len(a), 'each in its own way'


def test_stretched_windows_are_as_wide_by_their_height_as_asked_for():
    b = Augment(96, **STILL, stretch=.6)(*square())[1].bool()
    ratio = torch.log(b.any(1).sum(1)/b.any(2).sum(1))
    assert -.6 - .1 < ratio.min() < -.4 and .4 < ratio.max() < .6 + .1


def test_sheared_rows_move_to_the_side_with_depth():
    b = Augment(96, **STILL, shear=.2)(*square())[1].bool()
    assert (b.sum(2).amax(1) - 24).abs().max() <= 1, 'a row is as long as before'
    moved = [one[36].float().argmax() - one[59].float().argmax() for one in b]
    assert max(moved) in (3, 4, 5) and min(moved) in (-3, -4, -5)
