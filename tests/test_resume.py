"Training that is killed at random moments ends in the same weights as training that is not."
import subprocess
import sys
from pathlib import Path

import pytest

KILLS = 10


def test_killed_ten_times_ends_bit_identical(tmp_path):
    "One process prepares everything and forks a child for each attempt; the parent kills it after a random time"
    out = subprocess.run([sys.executable, Path(__file__).with_name('kill_training.py'), tmp_path, str(KILLS)], capture_output=True, text=True, timeout=600)
    print(out.stdout)
    assert out.returncode == 0, out.stdout + out.stderr
    assert f'{KILLS} kills survived' in out.stdout


def test_resume_file_is_never_unpickled(tmp_path):
    import pickle
    from busiseg_nb.core import BusisegError
    from busiseg_nb.training import read_resume

    class Evil:
        def __reduce__(self): return (Path.touch, (tmp_path/'ran',))
    (tmp_path/'resume.pt').write_bytes(pickle.dumps(Evil()))
    with pytest.raises(BusisegError, match='is not a resume file'): read_resume(tmp_path/'resume.pt')
    assert not (tmp_path/'ran').exists()


def test_minutes_end_a_run_cleanly(phantom, tmp_path):
    from busiseg_nb.runs import reproduce
    args = dict(name='t', profile='demo', model='tu-mobilenetv3_small_050', epochs=3, resize=64, tile=64, runs=tmp_path, cache=tmp_path/'c', progress=False, say=lambda s: None)
    first = reproduce(phantom, minutes=1e-6, **args)
    assert first == {'finished': False, 'epochs_done': 1} and not (tmp_path/'t'/'results.json').exists()
    assert reproduce(phantom, resume=True, **args)['training']['epochs'] == 3
