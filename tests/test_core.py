"What the core notebook cannot show: kills, other processes, folders that may not be written"
import json, os, signal, subprocess, sys, tempfile, time
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from busiseg_nb.core import LABELS, BusisegError, atomic_path, make_phantom, phantom_image, read_json, write_json

ROOT = Path(__file__).resolve().parent.parent
SMALL = dict(n=(2, 1, 1), seed=5, scale=.3)


def python(code, *args, **kw):
    "Start `code` in a fresh interpreter that imports this checkout"
    return subprocess.Popen([sys.executable, '-c', code, *map(str, args)], cwd=ROOT, stdout=subprocess.PIPE, text=True,
                            env={**os.environ, 'PYTHONPATH': str(ROOT), **kw})


def digest(root):
    "One hash over the names and bytes of all files under `root`"
    h = sha256()
    for p in sorted(p for p in root.rglob('*') if p.is_file()): h.update(p.relative_to(root).as_posix().encode() + p.read_bytes())
    return h.hexdigest()


def test_atomic_path_keeps_old_folder_on_failure(tmp_path):
    d = tmp_path/'data'; d.mkdir(); (d/'old').write_text('old')
    with pytest.raises(RuntimeError):
        with atomic_path(d, folder=True) as tmp:
            (tmp/'new').write_text('half')
            raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == ['data'] and [p.name for p in d.iterdir()] == ['old']


def test_atomic_path_replaces_whole_folder(tmp_path):
    d = tmp_path/'data'; d.mkdir(); (d/'old').write_text('old')
    with atomic_path(d, folder=True) as tmp: (tmp/'new').write_text('new')
    assert [p.name for p in tmp_path.iterdir()] == ['data'] and [p.name for p in d.iterdir()] == ['new']


@pytest.mark.parametrize('folder', [False, True])
def test_atomic_path_keeps_old_on_kill(tmp_path, folder):
    old = tmp_path/'scores.json'
    if folder: old.mkdir(); (old/'a').write_text('old')
    else: old.write_text('old')
    code = '''import sys, time
from busiseg_nb.core import atomic_path
with atomic_path(sys.argv[1], folder=sys.argv[2] == "True") as p:
    (p/"b" if p.is_dir() else p).write_text("half"); print("writing", flush=True); time.sleep(60)'''
    p = python(code, old, folder)
    assert p.stdout.readline() == 'writing\n'
    p.send_signal(signal.SIGKILL); p.wait(10)
    assert ([q.name for q in old.iterdir()] == ['a']) if folder else (old.read_text() == 'old')


def test_write_json_refuses_what_it_cannot_write(tmp_path):
    f = tmp_path/'a.json'; write_json({'a': 1}, f)
    with pytest.raises(TypeError): write_json({'a': object()}, f)
    assert read_json(f) == {'a': 1} and len(list(tmp_path.iterdir())) == 1


@pytest.mark.skipif(not hasattr(os, 'geteuid'), reason='permissions as on POSIX')
def test_folder_that_may_not_be_written():
    with tempfile.TemporaryDirectory(dir='/tmp') as d:
        os.chmod(d, 0o755); locked = Path(d)/'locked'; locked.mkdir(); os.chmod(locked, 0o555)
        me = os.geteuid()
        if me == 0: os.seteuid(65534)                  # root may write anywhere
        try:
            for write in (lambda: make_phantom(locked/'phantom', **SMALL), lambda: write_json({}, locked/'a.json')):
                with pytest.raises(BusisegError, match='cannot be written') as e: write()
                assert str(locked) in str(e.value) and '\n' not in str(e.value)
        finally:
            if me == 0: os.seteuid(0)
            os.chmod(locked, 0o755)
        assert not list(locked.iterdir())


def test_reuse_needs_no_right_to_write(tmp_path):
    root = make_phantom(tmp_path/'a'/'phantom', **SMALL); before = digest(root)
    with pytest.MonkeyPatch.context() as mp:
        mp.setattr(tempfile, 'mkdtemp', lambda **kw: pytest.fail('nothing should be written'))
        assert make_phantom(root, **SMALL) == root
    assert digest(root) == before


def test_damaged_phantom_is_made_again(tmp_path):
    root = make_phantom(tmp_path/'phantom', **SMALL); before = digest(root)
    (root/'benign'/'benign (2).png').unlink()
    assert digest(make_phantom(root, **SMALL)) == before
    make_phantom(root, **{**SMALL, 'seed': 6})
    assert digest(root) != before and json.loads((root/'phantom.json').read_text())['seed'] == 6


def test_other_folders_are_never_replaced(tmp_path):
    mine = tmp_path/'mine'; mine.mkdir(); (mine/'phantom.json').write_text('[1]'); (mine/'scan.png').touch()
    with pytest.raises(BusisegError, match='is not a phantom'): make_phantom(mine, **SMALL)
    with pytest.raises(BusisegError, match='is not a phantom'): make_phantom(mine/'scan.png', **SMALL)
    assert len(list(mine.iterdir())) == 2
    (tmp_path/'empty').mkdir(); make_phantom(tmp_path/'empty', **SMALL)


def test_phantom_is_the_same_in_another_process(tmp_path):
    here = digest(make_phantom(tmp_path/'here', **SMALL))
    p = python(f'import sys; from busiseg_nb.core import make_phantom; make_phantom(sys.argv[1], **{SMALL})', tmp_path/'there',
               PYTHONHASHSEED='7', OMP_NUM_THREADS='2')
    assert p.wait(60) == 0 and digest(tmp_path/'there') == here
    np.random.seed(1); assert digest(make_phantom(tmp_path/'again', **SMALL)) == here


def test_phantom_survives_a_kill(tmp_path):
    p = python('import sys; from busiseg_nb.core import make_phantom; print("go", flush=True); make_phantom(sys.argv[1], (200, 0, 0))', tmp_path/'p')
    assert p.stdout.readline() == 'go\n'
    time.sleep(.5); p.kill(); p.wait(10)
    assert not (tmp_path/'p').exists()                 # whole or not at all
    make_phantom(tmp_path/'p', **SMALL)


def test_phantom_matches_busi_statistics(tmp_path):
    for label, low, high in (('benign', .05, .09), ('malignant', .11, .18)):
        masks = [phantom_image(label, (141, 168), (0, i))[1][0] for i in range(150)]
        assert low < np.mean([m.mean() for m in masks]) < high
        assert all(m.any() and not m[[0, -1]].any() and not m[:, [0, -1]].any() for m in masks)


@pytest.mark.parametrize('size', [(32, 32), (33, 90), (310, 190), (57, 1048)])
@pytest.mark.parametrize('label', LABELS)
def test_any_size(label, size):
    img, masks = phantom_image(label, size, seed=1)
    assert img.shape == size and img.dtype == np.uint8 and img.std() > 3
    assert len(masks) == (label != 'normal') and all(m.shape == size and m.any() for m in masks)


def test_bad_arguments(tmp_path):
    for kw in (dict(label='cyst'), dict(label='benign', lesions=0), dict(label='benign', size=(8, 300)),
               dict(label='benign', seed=-1), dict(label='benign', size=(32, 32), lesions=300)):
        with pytest.raises(BusisegError): phantom_image(**kw)
    for kw in (dict(n=(1, 2)), dict(n=(1, -1, 0)), dict(seed=-1), dict(scale=0), dict(scale=float('nan'))):
        with pytest.raises(BusisegError): make_phantom(tmp_path/'p', **kw)


def test_layout(phantom):
    for label, n in zip(LABELS, (8, 6, 3)):
        images = [p for p in (phantom/label).iterdir() if '_mask' not in p.name]
        assert {p.name for p in images} == {f'{label} ({i}).png' for i in range(1, n + 1)}
        for p in images:
            im = Image.open(p); masks = [Image.open(m) for m in sorted(p.parent.glob(f'{p.stem}_mask*.png'))]
            assert im.mode == 'L' and masks and all(m.size == im.size for m in masks)
            assert all((np.array(m.convert('L')).max() > 0) == (label != 'normal') for m in masks)
    assert (phantom/'benign'/'benign (2)_mask_1.png').exists()
