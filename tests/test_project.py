"The project as a whole: who may import whom, notebooks and modules in step, nothing that unpickles, no stray paths."
import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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


def test_nothing_unpickles():
    for path in PKG.glob('*.py'):
        tree = ast.parse(path.read_text(encoding='utf-8'))
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call): continue
            name = ast.unparse(node.func)
            assert name not in ('load_learner', 'pickle.load', 'pickle.loads', 'joblib.load', 'torch.jit.load'), f'{path.name}: {name}'
            if name == 'torch.load': assert 'weights_only=True' in ast.unparse(node), path.name
            if name == 'np.load': assert 'allow_pickle=True' not in ast.unparse(node), path.name


def test_no_path_of_one_machine():
    # an absolute path that is neither part of every system nor the /path/to of an example, or the folder beside the project
    bad = re.compile(r"""\.\./shared|(?:^|["'\s=(])/(?!usr/|etc/|proc/|tmp/|dev/|path/to/|content\b)[a-z]+/[\w.]""", re.M)
    files = [*PKG.glob('*.py'), *(ROOT/'nbs').glob('*.ipynb'), *(ROOT/'benchmarks').glob('*'), ROOT/'README.md', ROOT/'settings.ini', *(ROOT/'results').rglob('*.json')]
    assert [str(p.relative_to(ROOT)) for p in files if p.is_file() and bad.search(p.read_text(encoding='utf-8'))] == []


def test_no_picture_of_the_data_is_committed():
    allowed = {'nbs/images'}
    pictures = [p for p in ROOT.rglob('*') if p.suffix.lower() in ('.png', '.jpg', '.jpeg', '.tif', '.bmp') and not set(p.relative_to(ROOT).parts) & {'.venv', 'runs', '.cache', '_docs', '_proc'}]
    assert [str(p) for p in pictures if str(p.parent.relative_to(ROOT)) not in allowed] == []
