"Two processes on one CPU, joined by gloo, do what one process does."
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import tiny

HERE = Path(__file__).resolve().parent
TOLERANCE = 1e-9   # relative, of losses in numbers of 64 bits: one process rounds its sums in another order


def launch(*args, cwd=None):
    "Run a command as two processes, as `accelerate launch` runs it on two GPUs; here without any"
    pytest.importorskip('accelerate', reason='it is not installed: pip install busiseg_nb[distributed]')
    launcher = ['-m', 'accelerate.commands.launch', '--multi_gpu', '--num_processes', '2',
                '--num_machines', '1', '--main_process_port', '0',
                '--mixed_precision', 'no', '--dynamo_backend', 'no']
    env = {**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': '', 'PYTHONPATH': str(HERE.parent)}
    command = [sys.executable, *launcher, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=env, cwd=cwd)


def tree(folder):
    "Every file's bytes; report.json without its provenance"
    files = {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob('*')) if p.is_file()}
    report = json.loads(files.pop('report.json'))
    report.pop('provenance')
    return files, report


def history(run):
    return pd.read_csv(run/'history.csv').drop(columns='seconds')


def test_same_loss_curve(tmp_path):
    """The same global batches, the last one uneven, under augmentation, EMA and a schedule

    And the same again when training is stopped and resumed.
    """
    import two_processes
    out = launch(HERE/'helpers'/'two_processes.py', tmp_path, tmp_path/'two')
    assert out.returncode == 0, out.stderr
    two_processes.main(tmp_path, tmp_path/'one')
    one, two = history(tmp_path/'one'/'whole'), history(tmp_path/'two'/'whole')
    assert one.valid_loss.iloc[-1] < one.valid_loss.iloc[0] - .05     # it learns: a wrong gradient shows
    losses = ['train_loss', 'valid_loss']
    np.testing.assert_allclose(two[losses], one[losses], rtol=TOLERANCE)
    np.testing.assert_allclose(two, one, rtol=TOLERANCE)
    pd.testing.assert_frame_equal(history(tmp_path/'two'/'pieces'), two)
    for who in '01':
        assert (tmp_path/'two'/f'heard-{who}').read_text() == 'process 1: is broken'
    files = [tmp_path/who/'whole'/'resume.pt' for who in ('one', 'two')]
    state = [torch.load(file, weights_only=True)['model'] for file in files]
    for k, v in state[0].items():
        torch.testing.assert_close(state[1][k], v, rtol=1e-6, atol=1e-9, msg=k)


def test_train_command(phantom, tmp_path):
    "One set of lines, one run folder"
    args = ['-m', 'busiseg_nb.cli', 'train', '--data', phantom, '--from', 'none', '--model', tiny.NAME,
            '--tile', '64', '--resize', '64', '--epochs', '1', '--no-progress',
            '--runs', tmp_path/'runs', '--cache', tmp_path/'cache', '--name', 'r']
    out = launch(*args)
    assert out.returncode == 0, out.stderr
    assert out.stdout.count('fingerprint') == 1 and out.stdout.count('results and curves: ') == 1
    result = json.loads((tmp_path/'runs'/'r'/'results.json').read_text())
    assert result['training']['processes'] == 2 and result['finished']
    written = {p.name for p in (tmp_path/'runs'/'r').iterdir()}
    assert {'best', 'last', 'history.csv', 'resume.pt', 'split.json', 'counts.csv'} <= written


def test_bad_input_is_told_once(tmp_path):
    out = launch('-m', 'busiseg_nb.cli', 'phantom', tmp_path/'p', '--benign', '-1')
    assert out.stderr.count('busiseg: ') == out.stderr.count('counts and scale: must not be negative') == 1
    assert 'exitcode  : 2' in out.stderr and not (tmp_path/'p').exists()


def test_predict_divides_files(tmp_path, monkeypatch):
    """Names, masks, overlays, records and reports are those of one process

    Clashing stems, pages, subfolders and a broken file included.
    """
    from busiseg_nb.models import save_model
    from busiseg_nb.phantom import phantom_image
    from busiseg_nb.predict import predict_files
    monkeypatch.chdir(tmp_path)
    save_model(tiny.tiny(tile_size=64), 'model')
    images = [Image.fromarray(phantom_image('benign', (90, 120), k)[0]) for k in range(4)]
    Path('in/sub').mkdir(parents=True)
    images[0].save('in/c.tif', save_all=True, append_images=images[1:3])
    Path('in/broken.png').write_text('')
    for name, im in zip(('a.png', 'a.jpg', 'b.png', 'sub/a.png'), images, strict=True):
        im.save(Path('in')/name)
    report = predict_files(['in', 'absent.png'], 'one', 'model', say=lambda line: None)
    out = launch('-m', 'busiseg_nb.cli', 'predict', 'in', 'absent.png', '-o', 'two', '--model', 'model')
    assert 'exitcode  : 2' in out.stderr
    assert out.stderr.count('broken.png:') == out.stderr.count('absent.png: does not exist') == 1
    assert out.stdout.count('5 predicted, 0 kept from before, 2 failed') == 1
    assert len(report['images']) == 7 and tree(tmp_path/'one') == tree(tmp_path/'two')


@pytest.mark.parametrize('rank', [0, 1])
def test_accelerate_missing(rank, tmp_path, monkeypatch, capsys):
    "The main process says so in one line; another only where it has waited in vain to be ended with it"
    from busiseg_nb import cli
    monkeypatch.setenv('RANK', str(rank))
    monkeypatch.setenv('WORLD_SIZE', '2')
    waits = []
    monkeypatch.setattr(cli.time, 'sleep', waits.append)
    monkeypatch.setitem(sys.modules, 'accelerate', None)
    monkeypatch.setattr(sys, 'argv', ['busiseg', 'predict', str(tmp_path), '-o', str(tmp_path/'out')])
    with pytest.raises(SystemExit) as e:
        cli.main()
    said, = (line for line in capsys.readouterr().err.splitlines() if line.startswith('busiseg: '))
    assert e.value.code == 2 and len(waits) == rank and not (tmp_path/'out').exists()
    wanted = 'accelerate: is missing, and 2 processes were launched; pip install busiseg_nb[distributed]'
    assert wanted in said


def test_synchronised_batch_norm_computes_the_same():
    "timm's norm layers hold activations, which PyTorch's own conversion drops"
    from timm.layers import convert_sync_batchnorm

    from busiseg_nb.models import build_model
    model = build_model('small', None).eval()
    x = torch.rand(1, 1, 64, 64)
    before = model(x)
    synced = convert_sync_batchnorm(model)
    assert any(isinstance(m, torch.nn.SyncBatchNorm) for m in synced.modules())
    torch.testing.assert_close(synced(x), before)
