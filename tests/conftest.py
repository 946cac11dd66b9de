"Where tests find data: the real BUSI if it is there, the phantom always."
import json
import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
os.environ.setdefault('BUSISEG_WAY', 'torch')   # else each network of a test would be measured


def busi_root():
    "The real data set: `BUSI_ROOT`, else the folder that stands beside the project, else None"
    env = os.environ.get('BUSI_ROOT')
    root = Path(env) if env else ROOT.parent/'shared'/'data'/'Dataset_BUSI_with_GT'
    return root if root.is_dir() else None


@pytest.fixture(scope='session')
def busi():
    root = busi_root()
    if root is None:
        pytest.skip('the BUSI data set is not here: set BUSI_ROOT to its folder')
    return root


@pytest.fixture(scope='session')
def phantom(tmp_path_factory):
    "A small phantom data set in BUSI's layout"
    from busiseg_nb.phantom import make_phantom
    return make_phantom(tmp_path_factory.mktemp('data')/'phantom', n=(8, 6, 3), seed=1)


@pytest.fixture
def folder(phantom, tmp_path):
    "Nine cases of one's own to spoil: a small data set in a folder"
    from busiseg_nb.core import LABELS
    for label in LABELS:
        (tmp_path/'data'/label).mkdir(parents=True)
        for p in (phantom/label).glob(f'{label} ([123])*.png'):
            shutil.copy(p, tmp_path/'data'/label)
    return tmp_path/'data'


def pytest_terminal_summary(terminalreporter):
    """Add up what tests counted with `record_property(name, number)`: cases tried, kills survived, …

    The sums go into the JSON file COUNTED, too, with the number and seconds of the tests."""
    totals, passed, seconds = {}, {}, {}
    reports = [r for found in terminalreporter.stats.values() for r in found if hasattr(r, 'when')]
    for r in reports:
        file = Path(r.nodeid.split('::')[0]).stem
        seconds[file] = seconds.get(file, 0) + r.duration
        passed[file] = passed.get(file, 0) + (r.when == 'call' and r.passed)
        if r.when == 'teardown':                     # which knows what fixtures counted, too
            for name, n in r.user_properties:
                if isinstance(n, int):
                    totals[name] = totals.get(name, 0) + n
    if totals:
        terminalreporter.write_line('counted: ' + ', '.join(f'{n} {name}' for name, n in totals.items()))
    if path := os.environ.get('COUNTED'):
        rounded = {file: round(s, 1) for file, s in seconds.items()}
        Path(path).write_text(json.dumps({'counted': totals, 'tests': passed, 'seconds': rounded}))
