"The command as a user runs it: a whole run on the phantom as a subprocess; bad input is in bad_inputs.py"
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BUSISEG = Path(sys.executable).with_name('busiseg')
HELP = """
import sys
sys.argv = ['busiseg', '--help']
from busiseg_nb import cli
try: cli.main()
except SystemExit: pass
print('torch' in sys.modules)
"""
SMALL = ('--profile', 'demo', '--model', 'tu-mobilenetv3_small_050', '--epochs', '2', '--no-progress')


def call(*args, cwd, **env):
    "The command in a process of its own"
    return subprocess.run([BUSISEG, *map(str, args)], cwd=cwd, capture_output=True, text=True, timeout=300,
                          env=os.environ | {'HF_HUB_OFFLINE': '1', **env})


def tree(folder):
    return {p.relative_to(folder): p.read_bytes() for p in sorted(Path(folder).rglob('*')) if p.is_file()}


@pytest.fixture(scope='module')
def run(phantom, tmp_path_factory):
    "A finished run of the main job on the phantom"
    cwd = tmp_path_factory.mktemp('cli')
    done = call('reproduce', '--data', phantom, '--name', 'a', *SMALL, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return cwd, done.stdout


def test_main_job_end_to_end(run):
    cwd, out = run
    folder = cwd/'runs'/'a'
    assert 'Mean IoU' in out and '73.17' in out
    written = {p.name for p in folder.iterdir()}
    assert {'results.json', 'history.csv', 'counts.csv', 'split.json', 'best', 'curves.png'} <= written
    r = json.loads((folder/'results.json').read_text())
    told = set(r['provenance'])
    assert {'command', 'versions', 'hardware', 'commit', 'config', 'seed', 'data_fingerprint'} <= told
    value, low, high = r['scores']['iou_mean']
    assert low <= value <= high
    assert r['encoder_weights'] is None and 'random' in out.lower()


def test_finished_run_is_not_overwritten_and_scores_again(run, phantom):
    cwd, _ = run
    before = tree(cwd/'runs'/'a'/'best')
    again = call('reproduce', '--data', phantom, '--name', 'a', *SMALL, cwd=cwd)
    assert again.returncode == 2 and 'already holds a finished run' in again.stderr
    assert tree(cwd/'runs'/'a'/'best') == before
    scored = call('test', cwd/'runs'/'a', '--data', phantom, '--no-progress', cwd=cwd)
    assert scored.returncode == 0 and 'largest difference from the recorded scores: 0.000000' in scored.stdout


def test_same_seed_same_run_in_another_process(run, phantom):
    cwd, _ = run
    assert call('reproduce', '--data', phantom, '--name', 'b', *SMALL, cwd=cwd).returncode == 0
    for f in ('counts.csv', 'split.json', 'best/model.safetensors'):
        assert (cwd/'runs'/'a'/f).read_bytes() == (cwd/'runs'/'b'/f).read_bytes(), f


def test_checkpoint_of_other_classes(run, phantom):
    from busiseg_nb.core import BusisegError
    from busiseg_nb.models import load_model
    with pytest.raises(BusisegError, match='has 3 classes, not 1'):
        load_model(run[0]/'runs'/'a'/'best', classes=1)


def test_help_answers_without_torch():
    out = subprocess.run([sys.executable, '-c', HELP], capture_output=True, text=True).stdout
    assert out.strip().endswith('False') and 'reproduce' in out
