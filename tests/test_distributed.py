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

HERE = Path(__file__).resolve().parent
TOLERANCE = 1e-9   # relative, of the losses of any epoch in numbers of 64 bits: one process rounds its sums in another order


def launch(*args, cwd=None):
    "Run a command as two processes, as `accelerate launch` runs it on two GPUs; here without any"
    pytest.importorskip('accelerate', reason='accelerate is not installed: pip install busiseg_nb[distributed]')
    launcher = ['-m', 'accelerate.commands.launch', '--multi_gpu', '--num_processes', '2', '--num_machines', '1', '--main_process_port', '0',
                '--mixed_precision', 'no', '--dynamo_backend', 'no']
    env = {**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': '', 'PYTHONPATH': str(HERE.parent)}
    return subprocess.run([sys.executable, *launcher, *map(str, args)], capture_output=True, text=True, timeout=300, env=env, cwd=cwd)


def tree(folder):
    "Every file's bytes; report.json without its provenance"
    files = {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob('*')) if p.is_file()}
    report = json.loads(files.pop('report.json')); report.pop('provenance')
    return files, report


def test_same_loss_curve(tmp_path):
    "The same global batches, the last one uneven, under augmentation, EMA and a schedule; and the same again when stopped and resumed"
    import two_processes
    out = launch(HERE/'helpers'/'two_processes.py', tmp_path, tmp_path/'two')
    assert out.returncode == 0, out.stderr
    two_processes.main(tmp_path, tmp_path/'one')
    read = lambda who, run: pd.read_csv(tmp_path/who/run/'history.csv').drop(columns='seconds')
    one, two = read('one', 'whole'), read('two', 'whole')
    assert one.valid_loss.iloc[-1] < one.valid_loss.iloc[0] - .05       # it learns, so a wrong gradient would show
    losses = ['train_loss', 'valid_loss']
    np.testing.assert_allclose(two[losses], one[losses], rtol=TOLERANCE)
    np.testing.assert_allclose(two, one, rtol=TOLERANCE)
    pd.testing.assert_frame_equal(read('two', 'pieces'), two)
    for who in '01': assert (tmp_path/'two'/f'heard-{who}').read_text() == 'process 1: is broken'
    state = [torch.load(tmp_path/who/'whole'/'resume.pt', weights_only=True)['model'] for who in ('one', 'two')]
    for k, v in state[0].items(): torch.testing.assert_close(state[1][k], v, rtol=1e-6, atol=1e-9, msg=k)


def test_train_command(phantom, tmp_path):
    "One set of lines, one run folder"
    args = ['-m', 'busiseg_nb.cli', 'train', '--data', phantom, '--from', 'none', '--model', 'tu-mobilenetv3_small_050', '--tile', '64', '--resize', '64',
            '--epochs', '1', '--no-progress', '--runs', tmp_path/'runs', '--cache', tmp_path/'cache', '--name', 'r']
    out = launch(*args)
    assert out.returncode == 0, out.stderr
    assert out.stdout.count('fingerprint') == 1 and out.stdout.count('results and curves: ') == 1
    result = json.loads((tmp_path/'runs'/'r'/'results.json').read_text())
    assert result['training']['processes'] == 2 and result['finished']
    assert {'best', 'last', 'history.csv', 'resume.pt', 'split.json', 'counts.csv'} <= {p.name for p in (tmp_path/'runs'/'r').iterdir()}


def test_bad_input_is_told_once(tmp_path):
    out = launch('-m', 'busiseg_nb.cli', 'phantom', tmp_path/'p', '--benign', '-1')
    assert out.stderr.count('busiseg: ') == out.stderr.count('counts and scale: must not be negative') == 1
    assert 'exitcode  : 2' in out.stderr and not (tmp_path/'p').exists()


def test_predict_divides_files(tmp_path, monkeypatch):
    "Names, masks, overlays, records and reports are those of one process: clashing stems, pages, subfolders and a broken file included"
    from PIL import Image
    from busiseg_nb.core import phantom_image
    from busiseg_nb.models import build_model, save_model
    from busiseg_nb.predict import predict_files
    monkeypatch.chdir(tmp_path)
    save_model(build_model('tu-mobilenetv3_small_050', None, in_channels=1, decoder_channels=(16, 16, 16, 8, 8), tile_size=64), 'model')
    images = [Image.fromarray(phantom_image('benign', (90, 120), k)[0]) for k in range(4)]
    Path('in/sub').mkdir(parents=True)
    images[0].save('in/c.tif', save_all=True, append_images=images[1:3]); Path('in/broken.png').write_text('')
    for name, im in zip(('a.png', 'a.jpg', 'b.png', 'sub/a.png'), images): im.save(Path('in')/name)
    report = predict_files(['in', 'absent.png'], 'one', 'model', say=lambda line: None)
    out = launch('-m', 'busiseg_nb.cli', 'predict', 'in', 'absent.png', '-o', 'two', '--model', 'model')
    assert 'exitcode  : 2' in out.stderr and out.stderr.count('broken.png:') == out.stderr.count('absent.png: does not exist') == 1
    assert out.stdout.count('5 predicted, 0 kept from before, 2 failed') == 1
    assert len(report['images']) == 7 and tree(tmp_path/'one') == tree(tmp_path/'two')


@pytest.mark.parametrize('rank', [0, 1])
def test_accelerate_missing(rank, tmp_path, monkeypatch, capsys):
    "The main process says so in one line; another says it only where it has waited in vain to be ended with the main one"
    from busiseg_nb import cli
    for k, v in dict(RANK=rank, WORLD_SIZE=2).items(): monkeypatch.setenv(k, str(v))
    waits = []; monkeypatch.setattr(cli.time, 'sleep', waits.append)
    monkeypatch.setitem(sys.modules, 'accelerate', None); monkeypatch.setattr(sys, 'argv', ['busiseg', 'predict', str(tmp_path), '-o', str(tmp_path/'out')])
    with pytest.raises(SystemExit) as e: cli.main()
    said, = (l for l in capsys.readouterr().err.splitlines() if l.startswith('busiseg: '))
    assert e.value.code == 2 and len(waits) == rank and not (tmp_path/'out').exists()
    assert 'accelerate: is missing, and 2 processes were launched; pip install busiseg_nb[distributed]' in said


def test_synchronised_batch_norm_computes_the_same():
    "timm's norm layers hold activations, which PyTorch's own conversion drops"
    from timm.layers import convert_sync_batchnorm
    from busiseg_nb.models import build_model
    model = build_model('small', None).eval(); x = torch.rand(1, 1, 64, 64)
    before = model(x); synced = convert_sync_batchnorm(model)
    assert any(isinstance(m, torch.nn.SyncBatchNorm) for m in synced.modules())
    torch.testing.assert_close(synced(x), before)
