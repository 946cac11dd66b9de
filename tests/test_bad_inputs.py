"Every case of the table in bad_inputs.py: one line, status 2, nothing changed. And odd input that is good"
import contextlib
import importlib
import os
import shutil
import subprocess
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bad_inputs import CASES, HUNGRY, IMAGE, IMAGES, MASK, RIGHTS, Bad, make_good, png
from busiseg_nb import cli
from busiseg_nb.core import BusisegError
from busiseg_nb.dataset import find_cases
from busiseg_nb.images import foreground, mask_facts, read_class_values, read_image
from busiseg_nb.predict import predict_files
from busiseg_nb.splits import load_split
from test_predict import FORMATS, GRAY, Dark

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope='module')
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp('good')
    make_good(folder)
    return folder


@pytest.fixture
def folder(good, tmp_path, monkeypatch):
    "A copy of the good folder, to work in"
    import huggingface_hub.constants as hub
    monkeypatch.setattr(hub, 'HF_HUB_OFFLINE', True)
    monkeypatch.delenv('BUSI_ROOT', raising=False)
    monkeypatch.chdir(shutil.copytree(good, tmp_path/'f'))
    return tmp_path/'f'


def tree(folder):
    "All that is in a folder: links, folders and the bytes of files"
    def what(p):
        if p.is_symlink():
            return os.readlink(p)
        return None if p.is_dir() else p.read_bytes()
    return {p.relative_to(folder): what(p) for p in sorted(folder.rglob('*'))}


def inside(monkeypatch, capfd, args):
    "The command in this process: status (None where it broke down), standard error with warnings among it"
    monkeypatch.setattr(sys, 'argv', ['busiseg', *args])
    code, broken = None, ''
    with warnings.catch_warnings(record=True) as warned:
        for kind in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter('ignore', kind)
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code
        except Exception:
            broken = traceback.format_exc()
    return code, capfd.readouterr().err + ''.join(f'{w.message}\n' for w in warned) + broken


def check(case, code, err):
    "One line, and the right one"
    assert 'Traceback' not in err and err.count('\n') == 1 and err.strip().isprintable(), err
    assert case.says in err and '; ' in err and len(err) < 6000 and code == 2, err


@pytest.mark.parametrize('case', CASES, ids=lambda c: c.name.encode('unicode_escape').decode())
def test_bad_input(case, folder, monkeypatch, capfd, record_property):
    case.make(folder)
    before = tree(folder)
    code, err = inside(monkeypatch, capfd, case.args)
    record_property('bad inputs tried', 1)
    record_property('tracebacks', int('Traceback' in err))
    check(case, code, err)
    assert tree(folder) == before


@pytest.mark.parametrize('name', ['mask all 0', 'own: value that is no class', 'image: text.png',
                                  'weights: missing', 'argument: groups of unknown names',
                                  'argument: tile 100'])
def test_no_folder_is_begun(name, folder, monkeypatch, capfd):
    "Without earlier work, where a command would make its folders itself"
    case = next(c for c in CASES if c.name == name)
    for d in ('out', 'runs', 'cache'):
        shutil.rmtree(d)
    case.make(folder)
    before = tree(folder)
    check(case, *inside(monkeypatch, capfd, case.args))
    assert tree(folder) == before


@contextlib.contextmanager
def without_rights():
    "As a user who is not root"
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.mark.skipif(not hasattr(os, 'geteuid'), reason='rights are another matter on Windows')
@pytest.mark.parametrize('name, path, mode, args, says', RIGHTS, ids=[r[0] for r in RIGHTS])
def test_no_rights(name, path, mode, args, says, good, monkeypatch, capfd, record_property):
    with tempfile.TemporaryDirectory() as tmp:
        folder = Path(shutil.copytree(good, Path(tmp)/'f'))
        for p in (Path(tmp), folder, *folder.rglob('*')):
            p.chmod(0o777)
        before = tree(folder)
        (folder/path).chmod(mode)
        monkeypatch.chdir(folder)
        with without_rights():
            code, err = inside(monkeypatch, capfd, args)
        (folder/path).chmod(0o777)
        record_property('bad inputs tried', 1)
        record_property('tracebacks', int('Traceback' in err))
        check(Bad(name, None, args, says), code, err)
        assert tree(folder) == before


def peak():
    "The most memory since `clear_refs`, in MB"
    lines = Path('/proc/self/status').read_text().splitlines()
    return int(next(line for line in lines if line.startswith('VmHWM')).split()[1])/1024


def taken(read, file):
    "The memory that reading a file takes at most, in MB"
    importlib.import_module('tifffile')                # what is loaded once is no file's
    Path('/proc/self/clear_refs').write_text('5')      # the peak begins again
    before = peak()
    read(file)
    return peak() - before


@pytest.mark.skipif(not os.access('/proc/self/clear_refs', os.W_OK),
                    reason='the peak of memory cannot be read here')
@pytest.mark.parametrize('case', HUNGRY, ids=lambda c: c.name)
def test_a_small_file_gets_little_memory(case, tmp_path):
    "Each of them took 1 to 15 GB once, or would have: as a picture, and as a mask"
    case.make(tmp_path)

    def picture(file):
        with pytest.raises(BusisegError, match=case.says.split(': ')[1]):
            read_image(file)

    def mask(file):
        with contextlib.suppress(BusisegError):        # a mask is the first page alone
            mask_facts(file)
    assert taken(picture, tmp_path/case.args[-1]) < 100
    assert taken(mask, tmp_path/case.args[-1]) < 100


def test_a_mask_is_held_to_the_limit(tmp_path):
    "A header of a few bytes asked for 22 GB: Pillow makes room for all rows before it decodes one"
    (tmp_path/'a.png').write_bytes(png(1200, 2**31 - 1))
    for read in (mask_facts, foreground, read_class_values):
        with pytest.raises(BusisegError, match='would have 2,576,980,376,400 pixels'):
            read(tmp_path/'a.png')


def test_bad_files_do_not_stop_the_good(folder, monkeypatch, capfd):
    "All bad images and two good ones in a folder: a line for each bad one, masks of the good ones, status 2"
    bad = [c for c in IMAGES if '/' not in c.args[-1] and '*' not in c.args[-1] and len(c.args[-1]) < 99]
    (folder/'mixed').mkdir()
    for c in bad:
        c.make(folder/'mixed')
    limit = Image.MAX_IMAGE_PIXELS
    for n in ('good.png', 'good.tif'):
        Image.fromarray(GRAY).save(folder/'mixed'/n)
    code, err = inside(monkeypatch, capfd, ['predict', '--model', 'model', '-o', 'new', '--jobs', '3',
                                            'mixed'])
    told = [line.split(': ')[0] for line in err.splitlines()]
    suffixes = ('.png', '.jpg', '.tif', '.dcm', '.webp', '.bmp', '.gif')
    known = {p.name for p in (folder/'mixed').iterdir() if p.is_file() and p.suffix in suffixes}
    known -= {'good.png', 'good.tif'}
    assert code == 2 and len(told) == len(set(told)) == len(known) > 30
    assert all(t.startswith('mixed/') for t in told)
    assert sorted(p.name for p in (folder/'new').glob('*_mask.png')) == ['good_mask.png', 'good_tif_mask.png']
    assert not [p for p in (folder/'new').iterdir() if not p.name.startswith(('good', 'report'))]
    assert Image.MAX_IMAGE_PIXELS == limit


@pytest.mark.parametrize('name', ['image: flipped.tif', 'argument: batch that is no number',
                                  'argument: no data', 'argument: unknown option'])
def test_in_a_process_of_its_own(name, folder):
    "As from a shell, with all that C libraries and warnings write"
    case = next(c for c in CASES if c.name == name)
    case.make(folder)
    before = tree(folder)
    env = os.environ | {'PYTHONPATH': str(ROOT), 'HF_HUB_OFFLINE': '1'}
    done = subprocess.run([sys.executable, '-m', 'busiseg_nb.cli', *case.args], capture_output=True,
                          text=True, timeout=300, env=env)
    check(case, done.returncode, done.stderr)
    assert tree(folder) == before


# ---- odd but good ----

WIDE = np.tile(GRAY[:3], (1, 820))[:, :65535].copy()


def with_profile(p):
    from PIL import ImageCms
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB'))
    Image.fromarray(np.dstack([GRAY]*3)).save(p, icc_profile=profile.tobytes())


def animated(p):
    Image.fromarray(GRAY).save(p, save_all=True, append_images=[Image.fromarray(255 - GRAY)])


def plain(a):
    return lambda p: Image.fromarray(a).save(p)


ODD = {   # name: writer, gray values; FORMATS holds the modes
    'one-pixel.png': (plain(GRAY[:1, :1].copy()), GRAY[:1, :1]),
    'one-row.png': (plain(GRAY[:1].copy()), GRAY[:1]), '65535-wide.png': (plain(WIDE), WIDE),
    'animated.gif': (animated, GRAY), 'profile.png': (with_profile, GRAY),
    'ünï-乳腺.png': (plain(GRAY), GRAY), 'line\nbreak.png': (plain(GRAY), GRAY),
    '-o.png': (plain(GRAY), GRAY),
    **{n: (FORMATS[n][0], FORMATS[n][1]) for n in ('deep.png', 'one-bit.png', 'cmyk.jpg', 'turned.jpg',
                                                   'palette.png', 'float.tiff')}}


@pytest.mark.parametrize('name', ODD, ids=lambda n: n.encode('unicode_escape').decode())
def test_odd_but_good(name, tmp_path):
    "A mask of the image's own size whose classes are those of its gray values"
    write, want = ODD[name]
    write(tmp_path/name)
    gray = np.array(Image.fromarray(want).convert('L')).astype(int)
    r = predict_files([tmp_path/name], tmp_path/'out', Dark(), bf16=False)
    [im] = r['images']
    mask = np.array(Image.open(tmp_path/'out'/im['mask']))
    sure = (abs(gray - 39.5) > 16) & (abs(gray - 89.5) > 16)
    assert not r['failed'] and mask.shape == want.shape[:2] and sure.mean() > .3
    assert (mask == np.where(gray < 40, 2, np.where(gray < 90, 1, 0)))[sure].all()


def test_names_that_differ_in_case_and_output_within_the_input(folder, monkeypatch, capfd):
    (folder/'in').mkdir()
    for n in ('a.png', 'A.png'):
        Image.fromarray(GRAY).save(folder/'in'/n)
    os.symlink('../scan.png', folder/'in'/'linked.png')
    before = tree(folder/'in')
    for _ in range(2):
        assert inside(monkeypatch, capfd, ['predict', '--model', 'model', '-o', 'in/out', 'in']) == (0, '')
        assert len({p.name.lower() for p in (folder/'in'/'out').glob('*_mask.png')}) == 3
        assert {k: v for k, v in tree(folder/'in').items() if k.parts[0] != 'out'} == before


def test_odd_data_sets(folder, monkeypatch, capfd):
    "Names of any script, linked files, a mask of 0 and 127"
    for p in (folder/'data'/'benign').glob('benign (1)*'):
        p.rename(p.with_name(p.name.replace('benign (1)', 'gutartig ü 良性\n1')))
    mask = np.array(Image.open(folder/MASK).convert('L'))
    Image.fromarray((mask > 0)*np.uint8(127)).save(folder/MASK)
    shutil.move(folder/IMAGE, folder/'elsewhere.png')
    os.symlink(folder/'elsewhere.png', folder/IMAGE)
    os.symlink('data', folder/'link')
    assert inside(monkeypatch, capfd, ['verify', 'link']) == (0, '')
    assert inside(monkeypatch, capfd, ['split', 'new.json', '--data', 'link']) == (0, '')
    assert sum(map(len, load_split(folder/'new.json', find_cases(folder/'data'), verify=True).values())) == 9
