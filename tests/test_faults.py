"Killed, raced, out of space: nothing is torn, nothing reported as done is lost, a rerun ends the same."
import errno
import os
import shutil
import signal
import subprocess
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import children
import tiny
from busiseg_nb import files
from busiseg_nb.core import BusisegError
from busiseg_nb.files import atomic_path, clear_up, locked

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(os.name != 'posix', reason='signals and locks of POSIX')


def python(code, *args):
    "A process that runs `code` and has said that it is under way"
    p = children.python(code, *args)
    assert p.stdout.readline() == 'go\n'
    return p


# ---- one writer at a time ----

WRITE = '''import sys
from busiseg_nb.files import atomic_path
path, folder, me, n = sys.argv[1], sys.argv[2] == 'True', sys.argv[3], int(sys.argv[4])
print('go', flush=True)
sys.stdin.readline()
for i in range(n):
    with atomic_path(path, folder) as p:
        for f in [p/str(k) for k in range(20)] if folder else [p]:
            f.write_text(me*1000)
'''


@pytest.mark.parametrize('folder', [False, True])
def test_processes_that_replace_the_same_thing_at_once(tmp_path, folder):
    path = tmp_path/'out'/'scores.json'
    runs = [python(WRITE, path, folder, me, 300) for me in 'abc']
    for p in runs:
        p.stdin.write('\n')
        p.stdin.flush()
    for p in runs:
        p.communicate(timeout=120)
    assert [p.returncode for p in runs] == [0, 0, 0] and os.listdir(tmp_path/'out') == ['scores.json']
    texts = {f.read_text() for f in (path.iterdir() if folder else [path])}
    assert texts in [{me*1000} for me in 'abc'] and (not folder or len(os.listdir(path)) == 20)


HOLD = '''import sys
from busiseg_nb.files import atomic_path
with atomic_path(sys.argv[1], sys.argv[2] == 'True') as p:
    (p/'a' if p.is_dir() else p).write_text('half')
    print('go', flush=True)
    sys.stdin.readline()
'''


@pytest.mark.parametrize('folder', [False, True])
def test_a_live_writer_is_waited_for_and_a_killed_one_cleared_away(tmp_path, folder):
    path, own = tmp_path/'result', tmp_path/'.result.k3j2h1g0'
    own.mkdir()
    (own/'mine').write_text('')   # a user's own, whatever it looks like
    first = python(HOLD, path, folder)

    def write():
        with atomic_path(path, folder) as p:
            (p/'b' if folder else p).write_text('second')

    second = threading.Thread(target=write)
    second.start()
    second.join(.3)
    assert second.is_alive() and not path.exists() and len(os.listdir(tmp_path)) == 2
    first.send_signal(signal.SIGKILL)
    first.communicate()
    second.join(30)
    assert not second.is_alive() and sorted(os.listdir(tmp_path)) == ['.result.k3j2h1g0', 'result']
    assert (os.listdir(path) == ['b']) if folder else (path.read_text() == 'second')


@pytest.mark.parametrize('folder', [False, True])
def test_what_the_dead_left_is_cleared_and_what_the_living_write_is_not(tmp_path, folder):
    (tmp_path/'.mine').write_text('')
    dead, living = (python(HOLD, tmp_path/name, folder) for name in 'ab')
    dead.send_signal(signal.SIGKILL)
    dead.communicate()
    assert sorted(os.listdir(tmp_path)) == ['.busiseg.a', '.busiseg.b', '.mine']
    clear_up(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ['.busiseg.b', '.mine']
    living.stdin.write('\n')
    living.communicate()
    assert sorted(os.listdir(tmp_path)) == ['.mine', 'b']


KILLED_BETWEEN = '''import os, sys
from busiseg_nb.files import atomic_path
rename = os.replace
os.replace = lambda a, b: (rename(a, b), os.kill(os.getpid(), 9))
with atomic_path(sys.argv[1], folder=True) as p:
    (p/'weights').write_text('new')
'''


@pytest.mark.parametrize('ends_well', [False, True])
def test_killed_between_the_two_renames_of_an_exchange(tmp_path, ends_well):
    "The old folder comes back, or the next one takes its place"
    old = tmp_path/'best'
    old.mkdir()
    (old/'weights').write_text('old')
    children.python(KILLED_BETWEEN, old).communicate()
    assert not old.exists()
    if ends_well:
        with atomic_path(old, folder=True) as p:
            (p/'weights').write_text('newer')
    else:
        with pytest.raises(KeyboardInterrupt), atomic_path(old, folder=True):
            raise KeyboardInterrupt
    assert os.listdir(tmp_path) == ['best']
    assert (old/'weights').read_text() == ('newer' if ends_well else 'old')


@pytest.mark.parametrize('folder', [False, True])
@pytest.mark.parametrize('locks', ['none', 'refused'])
def test_where_nothing_can_be_locked(tmp_path, monkeypatch, folder, locks):
    "Writing is whole all the same, under a name that no other process takes"
    def refused(*a):
        raise OSError(errno.ENOLCK, 'No locks available')

    refusing = SimpleNamespace(flock=refused, LOCK_EX=2, LOCK_NB=4)
    monkeypatch.setattr(files, 'fcntl', refusing if locks == 'refused' else None)
    path, names = tmp_path/'out', set()
    for text in 'ab':
        with locked(tmp_path, wait=False), atomic_path(path, folder) as p:
            names.add(p.name)
            (p/'f' if folder else p).write_text(text)
        with pytest.raises(KeyboardInterrupt), atomic_path(path, folder) as p:
            (p/'f' if folder else p).write_text('half')
            raise KeyboardInterrupt
        assert os.listdir(tmp_path) == ['out'] and (path/'f' if folder else path).read_text() == text
    assert len(names) == 2


# ---- one training per run ----

def small(data, tmp_path, name, profile, start):
    "A small and silent run"
    from busiseg_nb.runs import How, make_profile, run
    how = How(name, tmp_path/'runs', tmp_path/'cache', progress=False, say=lambda line: None)
    return run(data, make_profile(profile, model=tiny.NAME, epochs=1, resize=64, tile=64), start, how)


def demo(data, tmp_path, name):
    return small(data, tmp_path, name, 'demo', None)


def own(data, tmp_path, name):
    return small(data, tmp_path, name, 'own', 'none')


LOCK = '''import sys
from busiseg_nb.files import locked
with locked(sys.argv[1], wait=False):
    print('go', flush=True)
    sys.stdin.readline()
'''


@pytest.mark.parametrize('train', [demo, own])
def test_a_run_has_one_training_at_a_time(folder, tmp_path, train, monkeypatch):
    from busiseg_nb import runs
    monkeypatch.setattr(runs, '_learner', lambda *a: pytest.fail('trained'))
    run = tmp_path/'runs'/'r'
    run.mkdir(parents=True)
    other = python(LOCK, run)
    with pytest.raises(BusisegError, match='r: is being written by another process; wait') as e:
        train(folder, tmp_path, name='r')
    assert '\n' not in str(e.value) and run.is_dir() and not os.listdir(run)
    other.send_signal(signal.SIGKILL)
    other.communicate()
    with pytest.raises(pytest.fail.Exception, match='trained'):
        train(folder, tmp_path, name='r')
    assert not run.exists()                            # nothing was written in it


# ---- a source that changes ----

@pytest.mark.parametrize('train', [demo, own])
def test_no_training_on_a_stale_cache(folder, tmp_path, train, monkeypatch):
    "A change that keeps length and time of a file is found by its bytes"
    from busiseg_nb import runs
    seen, p = [], folder/'benign'/'benign (1).png'

    def look(learn, *args, **course):
        seen.append(learn.dls.train.cache)
        pytest.fail('enough')

    monkeypatch.setattr(runs, 'train', look)
    for value in (10, 200):
        with Image.open(p) as im:
            size = im.size
        Image.new('L', size, value).save(p, compress_level=0)
        os.utime(p, ns=(1, 1))
        length = p.stat().st_size
        with pytest.raises(pytest.fail.Exception, match='enough'):
            train(folder, tmp_path, name=f'r{value}')
        cached = seen[-1].images[seen[-1].rows('benign (1)')[0]]
        assert p.stat().st_size == length and np.unique(cached).tolist() in ([value], [0, value])


# ---- killed, raced, full ----

def test_prediction_is_killed_and_raced(tmp_path, record_property):
    got = children.script('kill_prediction.py', tmp_path, 20)
    record_property('kills survived', got['kills'])
    record_property('results lost', got['lost'])
    assert got == {'kills': 20, 'lost': 0, 'pairs': 4}


def test_the_disk_fills_up(tmp_path):
    disk = tmp_path/'disk'
    disk.mkdir()
    mount = f'mount -t tmpfs -o size=60m tmpfs "{disk}"'
    alone = ['unshare', '-rm', 'sh', '-c', f'{mount} && exec "$@"', 'sh']    # unseen by others
    if not shutil.which('unshare') or subprocess.run([*alone, 'true'], capture_output=True).returncode:
        pytest.skip('no small file system can be mounted here')
    full = children.script('full_disk.py', tmp_path, disk, before=alone)
    assert set(full) == {'phantom', 'split', 'predict', 'train'} and all(n > 0 for n in full.values())
