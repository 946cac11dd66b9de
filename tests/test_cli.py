"The command as a user runs it: a whole run on the phantom as a subprocess, and one clear line for every kind of bad input."
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

BUSISEG = Path(sys.executable).with_name('busiseg')
SMALL = ('--profile', 'demo', '--model', 'tu-mobilenetv3_small_050', '--epochs', '2', '--no-progress')


def call(*args, cwd, **env):
    "The command in a process of its own"
    return subprocess.run([BUSISEG, *map(str, args)], cwd=cwd, capture_output=True, text=True, timeout=300, env=os.environ | {'HF_HUB_OFFLINE': '1', **env})


def inside(monkeypatch, capsys, *args):
    "The same command in this process: exit status and what it wrote on standard error"
    from busiseg_nb import cli
    monkeypatch.setattr(sys, 'argv', ['busiseg', *map(str, args)])
    with pytest.raises(SystemExit) as stop: cli.main()
    return stop.value.code, capsys.readouterr().err


def tree(folder): return {p.relative_to(folder): p.read_bytes() for p in sorted(Path(folder).rglob('*')) if p.is_file()}


@pytest.fixture(scope='module')
def run(phantom, tmp_path_factory):
    "A finished run of the main job on the phantom"
    cwd = tmp_path_factory.mktemp('cli')
    done = call('reproduce', '--data', phantom, '--name', 'a', *SMALL, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return cwd, done.stdout


def test_main_job_end_to_end(run):
    cwd, out = run; folder = cwd/'runs'/'a'
    assert 'Mean IoU' in out and '73.17' in out
    assert {'results.json', 'history.csv', 'counts.csv', 'split.json', 'best', 'curves.png'} <= {p.name for p in folder.iterdir()}
    r = json.loads((folder/'results.json').read_text())
    assert {'command', 'versions', 'hardware', 'commit', 'config', 'seed', 'data_fingerprint'} <= set(r['provenance'])
    value, low, high = r['scores']['iou_mean']; assert low <= value <= high
    assert r['encoder_weights'] is None and 'random' in out.lower()


def test_finished_run_is_not_overwritten_and_scores_again(run, phantom):
    cwd, _ = run; before = tree(cwd/'runs'/'a'/'best')
    again = call('reproduce', '--data', phantom, '--name', 'a', *SMALL, cwd=cwd)
    assert again.returncode == 2 and 'already holds a finished run' in again.stderr and tree(cwd/'runs'/'a'/'best') == before
    scored = call('test', cwd/'runs'/'a', '--data', phantom, '--no-progress', cwd=cwd)
    assert scored.returncode == 0 and 'largest difference from the recorded scores: 0.000000' in scored.stdout


def test_same_seed_same_run_in_another_process(run, phantom):
    cwd, _ = run
    assert call('reproduce', '--data', phantom, '--name', 'b', *SMALL, cwd=cwd).returncode == 0
    for f in ('counts.csv', 'split.json', 'best/model.safetensors'): assert (cwd/'runs'/'a'/f).read_bytes() == (cwd/'runs'/'b'/f).read_bytes(), f


def break_(data, how):
    "Damage a copy of the phantom; returns what the message must name"
    image, mask = data/'benign'/'benign (1).png', data/'benign'/'benign (1)_mask.png'
    if how == 'truncated image': image.write_bytes(image.read_bytes()[:500]); return image.name
    if how == 'truncated mask': mask.write_bytes(mask.read_bytes()[:60]); return mask.name
    if how == 'mask of another size': Image.fromarray(np.zeros((9, 9), np.uint8)).save(mask); return mask.name
    if how == 'image without mask': mask.unlink(); return image.name
    if how == 'image without mask 2': [p.unlink() for p in data.glob('benign/benign (1)_mask*')]; return image.name
    if how == 'text for an image': image.write_text('not a picture'); return image.name
    if how == 'empty mask': Image.fromarray(np.zeros(Image.open(image).size[::-1], np.uint8)).save(mask); return mask.name
    if how == 'no classes': [shutil.rmtree(data/d) for d in ('benign', 'malignant', 'normal')]; return str(data)
    raise ValueError(how)


@pytest.mark.parametrize('how', ['truncated image', 'truncated mask', 'mask of another size', 'image without mask', 'image without mask 2', 'text for an image', 'empty mask', 'no classes'])
def test_bad_data_is_one_line(how, phantom, tmp_path, monkeypatch, capsys):
    data = tmp_path/'data'; shutil.copytree(phantom, data); named = break_(data, how)
    code, err = inside(monkeypatch, capsys, 'reproduce', '--data', data, '--runs', tmp_path/'runs', '--cache', tmp_path/'cache', *SMALL)
    assert code == 2 and named in err and err.count('\n') == 1 and 'Traceback' not in err
    assert not tree(tmp_path/'runs') and not (tmp_path/'cache').exists()


BAD = {  # arguments of reproduce: what the one line must say
    'missing folder': (['--data', 'nowhere'], 'nowhere'),
    'a file for a folder': (['--data', __file__], 'test_cli.py'),
    'unknown model': (['--model', 'resnext5000'], 'resnext5000'),
    'unknown profile': (['--profile', 'papre'], 'papre'),
    'unknown weights': (['--model', 'resnext101', '--weights', 'imagenet'], 'imagenet'),
    'unknown split': (['--split', 'fair'], 'fair'),
    'batch of 0': (['--batch-size', '0'], 'batch size 0'),
    'negative minutes': (['--minutes', '-1'], '-1.0 minutes'),
    'no epochs': (['--epochs', '0'], '0 epochs'),
    'groups that are no table': (['--groups', 'nothing.csv'], 'nothing.csv'),
    'runs folder is a file': (['--runs', __file__], 'test_cli.py'),
    'hub out of reach': (['--model', 'resnext50', '--weights', 'imagenet'], '--weights none'),
}


@pytest.mark.parametrize('case', BAD)
def test_bad_arguments_are_one_line(case, phantom, tmp_path, monkeypatch, capsys):
    extra, says = BAD[case]; monkeypatch.setenv('HF_HUB_OFFLINE', '1'); monkeypatch.chdir(tmp_path)
    import huggingface_hub.constants as hub; monkeypatch.setattr(hub, 'HF_HUB_OFFLINE', True)
    args = {'--data': str(phantom), '--profile': 'demo', '--model': 'tu-mobilenetv3_small_050', '--epochs': '1', '--runs': str(tmp_path/'runs'), '--cache': str(tmp_path/'cache')}
    args |= dict(zip(extra[::2], extra[1::2]))
    code, err = inside(monkeypatch, capsys, 'reproduce', '--no-progress', *[a for kv in args.items() for a in kv])
    assert code == 2 and says in err and err.count('\n') == 1 and 'Traceback' not in err
    assert not tree(tmp_path/'runs') if (tmp_path/'runs').exists() else True


def test_checkpoint_of_other_classes(run, phantom):
    from busiseg_nb.core import BusisegError
    from busiseg_nb.models import load_model
    with pytest.raises(BusisegError, match='has 3 classes, not 1'): load_model(run[0]/'runs'/'a'/'best', classes=1)


def test_read_only_output(phantom, tmp_path):
    if os.geteuid() == 0: pytest.skip('root may write everywhere')
    (tmp_path/'runs').mkdir(mode=0o555)
    done = call('reproduce', '--data', phantom, *SMALL, cwd=tmp_path)
    assert done.returncode == 2 and 'cannot be written' in done.stderr


def test_help_answers_without_torch():
    code = "import sys; sys.argv = ['busiseg', '--help']\nfrom busiseg_nb import cli\ntry: cli.main()\nexcept SystemExit: pass\nprint('torch' in sys.modules)"
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True).stdout
    assert out.strip().endswith('False') and 'reproduce' in out
