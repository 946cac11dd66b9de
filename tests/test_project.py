"The project as a whole: notebooks and modules in step, nothing that unpickles, no stray paths or pictures."
import ast
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from busiseg_nb.core import BusisegError

ROOT = Path(__file__).resolve().parent.parent


def notebooks_and_modules(root):
    "Their bytes"
    files = [p for d in ('nbs', 'busiseg_nb') for p in (root/d).rglob('*') if p.is_file()]
    return {str(p.relative_to(root)): p.read_bytes() for p in files if '__pycache__' not in str(p)}


def test_export_and_clean_leave_no_diff(tmp_path):
    copy = tmp_path/'repo'
    left = shutil.ignore_patterns('.venv', 'runs', '.cache', '_docs', '_proc', '.git', '*.egg-info', 'w',
                                  '__pycache__', '.pytest_cache', 'results')
    shutil.copytree(ROOT, copy, symlinks=True, ignore=left)
    before = notebooks_and_modules(copy)
    tools = Path(sys.executable).parent
    env = os.environ | {'PYTHONPATH': str(copy), 'PATH': f"{tools}:{os.environ['PATH']}"}
    for tool in ('nbdev_export', 'nbdev_clean'):
        subprocess.run([tools/tool], cwd=copy, env=env, check=True, capture_output=True)
    after = notebooks_and_modules(copy)
    assert [p for p in sorted(before.keys() | after.keys()) if before.get(p) != after.get(p)] == []


RUNS_WHAT_IT_READS = ('load_learner', 'torch.jit.load', 'yaml.load', 'yaml.unsafe_load', 'eval', 'exec',
                      'os.system', 'os.popen', 'pd.read_pickle')
UNPICKLES = ('pickle', 'cPickle', 'dill', 'cloudpickle', 'joblib', 'marshal', 'shelve')


def unsafe_import(node):
    if isinstance(node, ast.Import):
        return [a.name for a in node.names if a.name.split('.')[0] in UNPICKLES]
    names = [a.name for a in node.names if f'{node.module}.{a.name}' == 'torch.load']
    return names + [m for m in [(node.module or '').split('.')[0]] if m in UNPICKLES]


def unsafe_call(node):
    name, given = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
    asked = any(given.get(k, 'False') != 'False' for k in ('shell', 'allow_pickle'))
    whole = name == 'torch.load' and given.get('weights_only') != 'True'
    return [name] if name in RUNS_WHAT_IT_READS or asked or whole else []


def unsafe(code):
    "What in `code` could run something that it reads: modules that unpickle, and calls"
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            found += unsafe_import(node)
        elif isinstance(node, ast.Call):
            found += unsafe_call(node)
    return found


@pytest.mark.parametrize('code', [
    'import pickle', 'from joblib import load', 'import dill.source', 'from torch import load', 'exec(s)',
    'torch.load(p)', 'torch.load(p, weights_only=safe)', 'eval(s)', 'np.load(p, allow_pickle=True)',
    'load_learner(p)', 'yaml.load(s)', 'run(c, shell=True)', 'os.system(c)'])
def test_the_search_finds_what_is_unsafe(code):
    assert unsafe(code) and unsafe(f'def f():\n    if x: {code}')


FOLDERS = ('busiseg_nb', 'scripts', 'benchmarks', 'analysis')
SOURCES = sorted(p for d in FOLDERS for p in (ROOT/d).rglob('*.py'))


@pytest.mark.parametrize('path', SOURCES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_nothing_unpickles(path):
    assert unsafe(path.read_text(encoding='utf-8')) == []


class Evil:
    "Makes a file when it is unpickled"
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture(scope='module')
def sound(phantom, tmp_path_factory):
    "A model, a tile cache and a few files, all sound"
    from busiseg_nb.dataset import find_cases
    from busiseg_nb.models import build_model, save_model
    from busiseg_nb.preprocessing import build_cache
    root = tmp_path_factory.mktemp('sound')
    save_model(build_model('tu-mobilenetv3_small_050', encoder_weights=None), root/'model')
    build_cache(find_cases(phantom)[:2], root/'cache', resize=64, size=64)
    return root


PLACES = ('model/model.safetensors', 'model/config.json', 'cache/images.npy', 'cache/masks.npy',
          'cache/meta.json', 'cache/index.csv', 'resume.pt', 'split.json', 'net.onnx', 'image.png',
          'image.dcm')


def read(path):
    "With what reads such a file"
    from busiseg_nb.deploy import load_predictor
    from busiseg_nb.images import iter_images
    from busiseg_nb.models import load_model
    from busiseg_nb.preprocessing import TileCache
    from busiseg_nb.splits import load_split
    from busiseg_nb.training import read_resume
    if path.parent.name in ('model', 'cache'):
        return {'model': load_model, 'cache': TileCache}[path.parent.name](path.parent)
    readers = {'.pt': read_resume, '.json': lambda p: load_split(p, []), '.onnx': load_predictor}
    return readers.get(path.suffix, lambda p: list(iter_images(p)))(path)


def write_array(file, evil):
    np.save(file, np.array([evil]), allow_pickle=True)


FORMS = {'pickle': lambda f, evil: pickle.dump(evil, f), 'torch': lambda f, evil: torch.save({'w': evil}, f),
         'numpy': write_array}


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('place', PLACES)
def test_a_pickle_is_refused_wherever_it_lies(sound, tmp_path, place, form, record_property):
    shutil.copytree(sound, tmp_path/'root')
    path = tmp_path/'root'/place
    with open(path, 'wb') as f:
        FORMS[form](f, Evil(tmp_path/'ran'))
    with pytest.raises(BusisegError):
        read(path)
    assert not (tmp_path/'ran').exists()
    record_property('bad inputs tried', 1)


def test_these_pickles_would_run(tmp_path):
    for form, write in FORMS.items():
        with open(tmp_path/form, 'wb') as f:
            write(f, Evil(tmp_path/f'{form} ran'))
    pickle.loads((tmp_path/'pickle').read_bytes())
    torch.load(tmp_path/'torch', weights_only=False)
    np.load(tmp_path/'numpy', allow_pickle=True)
    assert all((tmp_path/f'{form} ran').exists() for form in FORMS)


def checks(fn, known, seen=()):
    "Whether `fn`, or a function of tests that it calls, could fail: an assert of no constant, or its like"
    for n in ast.walk(fn):
        if isinstance(n, ast.Assert) and not isinstance(n.test, (ast.Constant, ast.Tuple)):
            return True
        if not isinstance(n, ast.Call):
            continue
        name = ast.unparse(n.func).split('.')[-1]
        checked = any(k.arg == 'check' and ast.unparse(k.value) == 'True' for k in n.keywords)
        if checked or name in ('raises', 'warns', 'fail') or name.startswith('assert_'):
            return True
        if name in known and name not in seen and checks(known[name], known, (*seen, name)):
            return True
    return False


def functions(code):
    return {n.name: n for n in ast.walk(ast.parse(code)) if isinstance(n, ast.FunctionDef)}


EMPTY_AND_NOT = """
def test_a(): f()
def test_b(): assert True
def test_c(): assert (x == 1, 'text')
def f(): f()
def test_d(): g()
def g(): assert x
"""


def test_every_test_asserts_something():
    paths = [*(ROOT/'tests').glob('*.py'), *(ROOT/'tests'/'helpers').glob('*.py')]
    files = {p.name: functions(p.read_text(encoding='utf-8')) for p in paths}
    known = {name: f for found in files.values() for name, f in found.items()}
    idle = [f'{file}: {name}' for file, found in files.items() for name, f in found.items()
            if name.startswith('test_') and not checks(f, known)]
    assert idle == []
    empty = functions(EMPTY_AND_NOT)
    assert [name for name, f in empty.items() if not checks(f, empty)] == ['test_a', 'test_b', 'test_c', 'f']


STRAY = re.compile(r"""
    \.\./shared                                      # the folder beside the project
    | (?:^|["'\s=(])/                                # or a path from the root that is not
    (?!usr/|etc/|proc/|tmp/|dev/                     # of every system,
      |content\b|repo/                               # of Colab,
      |path/to/)                                     # of an example
    [a-z]+/[\w.]""", re.M | re.X)


def test_no_path_of_one_machine():
    assert STRAY.search('open("/home/me/a.png")') and STRAY.search('cd ../shared')
    assert not STRAY.search('"/tmp/a", "/path/to/b", "/content/c", 1/a.b, a/b/c.d')
    places = {'busiseg_nb': '*.py', 'nbs': '*.ipynb', 'benchmarks': '*.py', 'analysis': '*.*',
              'results': '**/*.json'}
    files = [p for d, pattern in places.items() for p in (ROOT/d).glob(pattern) if p.is_file()]
    files += [ROOT/'README.md', ROOT/'settings.ini', ROOT/'pyproject.toml']
    assert [str(p.relative_to(ROOT)) for p in files if STRAY.search(p.read_text(encoding='utf-8'))] == []


def test_make_help_names_every_target():
    text = (ROOT/'Makefile').read_text(encoding='utf-8')
    targets = set(re.findall(r'^([a-z][a-z-]*):', text, re.M)) - {'help'}
    said = subprocess.run(['make', 'help'], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {'reproduce', 'test'} <= targets <= set(re.findall(r'^make ([a-z-]+)  ', said, re.M))


def test_no_picture_of_the_data_is_committed():
    work = {'.venv', 'runs', '.cache', '_docs', '_proc'}
    suffixes = ('.png', '.jpg', '.jpeg', '.tif', '.bmp', '.webp', '.dcm')
    pictures = [p.relative_to(ROOT) for p in ROOT.rglob('*') if p.suffix.lower() in suffixes]
    kept = [p for p in pictures if not set(p.parts) & work]
    assert [str(p) for p in kept if str(p.parent) != 'nbs/images'] == []
