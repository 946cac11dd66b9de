"What the notebook of files cannot show: kills, and folders that may not be written."
import os
import signal
import tempfile
from pathlib import Path

import pandas as pd
import pytest

from busiseg_nb.core import BusisegError
from busiseg_nb.files import atomic_path, natural, read_csv, read_json, write_csv, write_json
from busiseg_nb.phantom import make_phantom
from children import python


def names(folder):
    return sorted(p.name for p in folder.iterdir())


@pytest.fixture
def old(tmp_path):
    "A folder that holds a file"
    folder = tmp_path/'data'
    folder.mkdir()
    (folder/'old').write_text('old')
    return folder


def test_atomic_path_keeps_old_folder_on_failure(tmp_path, old):
    with pytest.raises(RuntimeError):
        with atomic_path(old, folder=True) as tmp:
            (tmp/'new').write_text('half')
            raise RuntimeError
    assert names(tmp_path) == ['data'] and names(old) == ['old']


def test_atomic_path_replaces_whole_folder(tmp_path, old):
    with atomic_path(old, folder=True) as tmp:
        (tmp/'new').write_text('new')
    assert names(tmp_path) == ['data'] and names(old) == ['new']


HALF = '''import sys, time
from busiseg_nb.files import atomic_path
with atomic_path(sys.argv[1], folder=sys.argv[2] == "True") as p:
    (p/"b" if p.is_dir() else p).write_text("half")
    print("writing", flush=True)
    time.sleep(60)
'''


@pytest.mark.parametrize('folder', [False, True])
def test_atomic_path_keeps_old_on_kill(tmp_path, folder):
    path = tmp_path/'scores.json'
    if folder:
        path.mkdir()
        (path/'a').write_text('old')
    else:
        path.write_text('old')
    p = python(HALF, path, folder)
    assert p.stdout.readline() == 'writing\n'
    p.send_signal(signal.SIGKILL)
    p.wait(10)
    assert names(path) == ['a'] if folder else path.read_text() == 'old'


def test_write_json_refuses_what_it_cannot_write(tmp_path):
    file = tmp_path/'a.json'
    write_json({'a': 1}, file)
    with pytest.raises(TypeError):
        write_json({'a': object()}, file)
    assert read_json(file) == {'a': 1} and len(names(tmp_path)) == 1


def test_a_table_comes_back(tmp_path):
    table = pd.DataFrame({'file': ['a', 'b'], 'pixels': [1, 2]})
    write_csv(table, tmp_path/'a.csv')
    pd.testing.assert_frame_equal(read_csv(tmp_path/'a.csv', ['file', 'pixels']), table)
    assert names(tmp_path) == ['a.csv']


@pytest.mark.parametrize('text, problem', [
    ('', 'cannot be read as CSV'), (None, 'cannot be read as CSV'),
    ('a,b\n1,2\n', 'lacks the columns c'), ('\x00\xff', 'lacks the columns c')])
def test_a_table_that_is_none(tmp_path, text, problem):
    if text is not None:
        (tmp_path/'a.csv').write_text(text)
    with pytest.raises(BusisegError, match=f'{problem}.*; give a CSV with the columns c$'):
        read_csv(tmp_path/'a.csv', ['c'])


def test_natural_order():
    given = ['b (10)', 'b (2)', 'B (1)', 'a', 'a01', 'a1']
    assert sorted(given, key=natural) == ['a', 'a01', 'a1', 'B (1)', 'b (2)', 'b (10)']
    assert sorted(given[::-1], key=natural) == sorted(given, key=natural)
    assert sorted(['1', 'x', ''], key=natural) == ['', '1', 'x']


@pytest.mark.skipif(not hasattr(os, 'geteuid'), reason='permissions as on POSIX')
def test_folder_that_may_not_be_written():
    with tempfile.TemporaryDirectory(dir='/tmp') as d:
        os.chmod(d, 0o755)
        locked = Path(d)/'locked'
        locked.mkdir()
        os.chmod(locked, 0o555)
        writes = [lambda: make_phantom(locked/'phantom', n=(2, 1, 1), seed=5, scale=.3),
                  lambda: write_json({}, locked/'a.json')]
        me = os.geteuid()
        if me == 0:
            os.seteuid(65534)                        # root may write anywhere
        try:
            for write in writes:
                with pytest.raises(BusisegError, match='cannot be written') as e:
                    write()
                assert str(locked) in str(e.value) and '\n' not in str(e.value)
        finally:
            if me == 0:
                os.seteuid(0)
            os.chmod(locked, 0o755)
        assert names(locked) == []
