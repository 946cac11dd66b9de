"The project as a whole: who may import whom, notebooks and modules in step, nothing that unpickles, no stray paths."
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
PKG = ROOT/'busiseg_nb'
MODULES = sorted(p.stem for p in PKG.glob('*.py') if not p.stem.startswith('_'))
ORDER = ['core', 'dataset', 'preprocessing', 'tiling', 'models', 'architecture', 'training', 'metrics', 'inference', 'predict', 'runs', 'own_data',
         'comparison', 'leakage', 'deploy', 'app', 'cli']
MAY = {  # module: what of ours it may import at most, where that is less than all before it
    'core': set(), 'dataset': {'core'}, 'preprocessing': {'core', 'dataset'}, 'tiling': {'core'}, 'models': {'core'}, 'metrics': {'core'},
    'architecture': {'core', 'models'}, 'leakage': {'core', 'dataset', 'preprocessing', 'tiling', 'metrics'}}


def imports(path):
    "Modules of the package that `path` imports, anywhere in it"
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ''] if isinstance(node, ast.ImportFrom) else []
        if isinstance(node, ast.ImportFrom) and node.module == 'busiseg_nb': names += [f'busiseg_nb.{a.name}' for a in node.names]
        found |= {n.split('.')[1] for n in names if n.startswith('busiseg_nb.')}
    return found


@pytest.mark.parametrize('module', MODULES)
def test_imports_go_one_way(module):
    assert module in ORDER, 'a new module needs a place in the order'
    allowed = MAY.get(module, set(ORDER[:ORDER.index(module)]))
    assert imports(PKG/f'{module}.py') <= allowed


@pytest.mark.parametrize('module', ['dataset', 'preprocessing', 'tiling', 'metrics'])
def test_light_modules_need_neither_fastai_nor_torch(module):
    code = f"import sys, busiseg_nb.{module}; print([m for m in ('torch', 'fastai') if m in sys.modules])"
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.strip() == '[]'


def test_export_and_clean_leave_no_diff(tmp_path):
    copy = tmp_path/'repo'
    shutil.copytree(ROOT, copy, symlinks=True, ignore=shutil.ignore_patterns('.venv', 'runs', '.cache', '_docs', '_proc', '.git', '*.egg-info', '__pycache__', '.pytest_cache', 'results'))
    before = {p.relative_to(copy): p.read_bytes() for d in ('nbs', 'busiseg_nb') for p in (copy/d).rglob('*') if p.is_file()}
    bin_ = Path(sys.executable).parent
    env = os.environ | {'PYTHONPATH': str(copy), 'PATH': f"{bin_}:{os.environ['PATH']}"}
    for tool in ('nbdev_export', 'nbdev_clean'): subprocess.run([bin_/tool], cwd=copy, env=env, check=True, capture_output=True)
    after = {p.relative_to(copy): p.read_bytes() for d in ('nbs', 'busiseg_nb') for p in (copy/d).rglob('*') if p.is_file()}
    assert [str(p) for p in sorted(before.keys() | after.keys()) if before.get(p) != after.get(p) and '__pycache__' not in str(p)] == []


RUNS_WHAT_IT_READS = ('load_learner', 'torch.jit.load', 'yaml.load', 'yaml.unsafe_load', 'eval', 'exec', 'os.system', 'os.popen', 'pd.read_pickle')


def unsafe(code):
    "What in `code` could run something that it reads: modules that unpickle, and calls"
    found = []
    for n in ast.walk(ast.parse(code)):
        if isinstance(n, ast.Import): found += [a.name for a in n.names if a.name.split('.')[0] in ('pickle', 'cPickle', 'dill', 'cloudpickle', 'joblib', 'marshal', 'shelve')]
        if isinstance(n, ast.ImportFrom): found += unsafe(f"import {(n.module or '_').split('.')[0]}") + [a.name for a in n.names if f'{n.module}.{a.name}' == 'torch.load']
        if not isinstance(n, ast.Call): continue
        name, args = ast.unparse(n.func), {k.arg: ast.unparse(k.value) for k in n.keywords}
        if name in RUNS_WHAT_IT_READS or args.get('shell', 'False') != 'False' or args.get('allow_pickle', 'False') != 'False': found.append(name)
        if name == 'torch.load' and args.get('weights_only') != 'True': found.append(name)
    return found


@pytest.mark.parametrize('code', ['import pickle', 'from joblib import load', 'import dill.source', 'from torch import load', 'torch.load(p)', 'torch.load(p, weights_only=safe)', 'eval(s)',
                                  'np.load(p, allow_pickle=True)', 'load_learner(p)', 'yaml.load(s)', 'exec(s)', 'run(c, shell=True)', 'os.system(c)'])
def test_the_search_finds_what_is_unsafe(code):
    assert unsafe(code) and unsafe(f'def f():\n    if x: {code}')


@pytest.mark.parametrize('path', sorted(p for d in ('busiseg_nb', 'scripts', 'benchmarks', 'analysis') for p in (ROOT/d).glob('*.py')), ids=lambda p: p.name)
def test_nothing_unpickles(path):
    assert unsafe(path.read_text(encoding='utf-8')) == []


class Evil:
    "Makes a file when it is unpickled"
    def __init__(self, path): self.path = path
    def __reduce__(self): return Path.touch, (self.path,)


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


PLACES = ('model/model.safetensors', 'model/config.json', 'cache/images.npy', 'cache/masks.npy', 'cache/meta.json', 'cache/index.csv', 'resume.pt', 'split.json', 'net.onnx',
          'image.png', 'image.dcm')


def read(path):
    "With what reads such a file"
    from busiseg_nb.dataset import load_split
    from busiseg_nb.deploy import load_predictor
    from busiseg_nb.models import load_model
    from busiseg_nb.predict import iter_images
    from busiseg_nb.preprocessing import TileCache
    from busiseg_nb.training import read_resume
    folders, files = {'model': load_model, 'cache': TileCache}, {'.pt': read_resume, '.json': lambda p: load_split(p, []), '.onnx': load_predictor}
    return folders[path.parent.name](path.parent) if path.parent.name in folders else files.get(path.suffix, lambda p: list(iter_images(p)))(path)


FORMS = {'pickle': lambda f, evil: pickle.dump(evil, f), 'torch': lambda f, evil: torch.save({'w': evil}, f), 'numpy': lambda f, evil: np.save(f, np.array([evil]), allow_pickle=True)}


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('place', PLACES)
def test_a_pickle_is_refused_wherever_it_lies(sound, tmp_path, place, form, record_property):
    shutil.copytree(sound, tmp_path/'root'); path = tmp_path/'root'/place
    with open(path, 'wb') as f: FORMS[form](f, Evil(tmp_path/'ran'))
    with pytest.raises(BusisegError): read(path)
    assert not (tmp_path/'ran').exists(); record_property('bad inputs tried', 1)


def test_these_pickles_would_run(tmp_path):
    for form, write in FORMS.items():
        with open(tmp_path/form, 'wb') as f: write(f, Evil(tmp_path/f'{form} ran'))
    pickle.loads((tmp_path/'pickle').read_bytes()); torch.load(tmp_path/'torch', weights_only=False); np.load(tmp_path/'numpy', allow_pickle=True)
    assert all((tmp_path/f'{form} ran').exists() for form in FORMS)


def checks(fn, known, seen=()):
    "Whether `fn`, or a function of the tests that it calls, could fail: an assert of more than a constant, `pytest.raises` and its like"
    for n in ast.walk(fn):
        if isinstance(n, ast.Assert) and not isinstance(n.test, (ast.Constant, ast.Tuple)): return True
        if not isinstance(n, ast.Call): continue
        name = ast.unparse(n.func).split('.')[-1]
        if name in ('raises', 'warns', 'fail') or name.startswith('assert_') or any(k.arg == 'check' and ast.unparse(k.value) == 'True' for k in n.keywords): return True
        if name in known and name not in seen and checks(known[name], known, (*seen, name)): return True
    return False


def functions(code): return {n.name: n for n in ast.walk(ast.parse(code)) if isinstance(n, ast.FunctionDef)}


def test_every_test_asserts_something():
    files = {p.name: functions(p.read_text(encoding='utf-8')) for p in (ROOT/'tests').glob('*.py')}; known = {k: f for fs in files.values() for k, f in fs.items()}
    assert [f'{file}: {k}' for file, fs in files.items() for k, f in fs.items() if k.startswith('test_') and not checks(f, known)] == []
    empty = functions("def test_a(): f()\ndef test_b(): assert True\ndef test_c(): assert (x == 1, 'text')\ndef f(): f()\ndef test_d(): g()\ndef g(): assert x")
    assert [k for k, f in empty.items() if not checks(f, empty)] == ['test_a', 'test_b', 'test_c', 'f']


def test_no_path_of_one_machine():
    # an absolute path that is neither part of every system or of Colab (/content, /repo) nor the /path/to of an example, or the folder beside the project
    bad = re.compile(r"""\.\./shared|(?:^|["'\s=(])/(?!usr/|etc/|proc/|tmp/|dev/|path/to/|content\b|repo/)[a-z]+/[\w.]""", re.M)
    files = [*PKG.glob('*.py'), *(ROOT/'nbs').glob('*.ipynb'), *(ROOT/'benchmarks').glob('*.py'), *(ROOT/'analysis').glob('*.*'), ROOT/'README.md', ROOT/'settings.ini', *(ROOT/'results').rglob('*.json')]
    assert [str(p.relative_to(ROOT)) for p in files if p.is_file() and bad.search(p.read_text(encoding='utf-8'))] == []


def test_no_picture_of_the_data_is_committed():
    allowed = {'nbs/images'}
    pictures = [p for p in ROOT.rglob('*') if p.suffix.lower() in ('.png', '.jpg', '.jpeg', '.tif', '.bmp') and not set(p.relative_to(ROOT).parts) & {'.venv', 'runs', '.cache', '_docs', '_proc'}]
    assert [str(p) for p in pictures if str(p.parent.relative_to(ROOT)) not in allowed] == []
