"""Helper of test_faults: FOLDER DISK.

Run the commands on a disk that has ever more space until each ends well; print as JSON how often it was full.
"""
import json
import os
import shutil
import sys
import traceback
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import torch

from busiseg_nb.cli import main
from busiseg_nb.core import seed_everything
from busiseg_nb.models import save_model
from busiseg_nb.phantom import make_phantom, make_xray_phantom
from kill_loop import contents, whole
from tiny import tiny

for room in ('app', 'comparison', 'predict', 'runs'):   # what every child would import
    if find_spec(f'busiseg_nb.{room}'):
        import_module(f'busiseg_nb.{room}')
torch.set_num_threads(1)
seed_everything(0)
tmp, disk = map(Path, sys.argv[1:])
filler = disk/'filler'
data, own = make_phantom(tmp/'data', (4, 3, 2), scale=.3), make_xray_phantom(tmp/'own', 12, 64)
model = save_model(tiny(tile_size=64), tmp/'model')
own_model = save_model(tiny(tile_size=64, resize=64), tmp/'start')
COMMANDS = {   # what writes to {0}
    'phantom': 'phantom {0}/p --benign 3 --malignant 2 --normal 1 --scale .3',
    'split': f'split {{0}}/split.json --data {data}',
    'predict': f'predict {data} -o {{0}}/out --model {model}',
    'train': f'train --data {own} --from {own_model} --epochs 3 --runs {{0}}/runs --cache {{0}}/cache '
             '--name r --resume --no-progress',
}


def busiseg(command):
    "Exit status and standard error of a command, in a child"
    err = tmp/'stderr'
    pid = os.fork()
    if not pid:
        os.dup2(os.open(err, os.O_CREAT | os.O_TRUNC | os.O_WRONLY), 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.argv = ['busiseg', *command.split()]
        try:
            main()
            status = 0
        except SystemExit as e:
            status = e.code or 0
        except BaseException:
            traceback.print_exc()
            status = 1
        sys.stderr.flush()
        os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), err.read_text()


def leave(free):
    "Fill the disk up to so many bytes"
    filler.unlink(missing_ok=True)
    size = shutil.disk_usage(disk).free - free
    with open(filler, 'wb') as f:
        if size > 0:
            os.posix_fallocate(f.fileno(), 0, size)


def until_it_fits(command, used):
    "How often the disk was full on the way to the end"
    full = 0
    for free in sorted({int(share*used)//4096*4096 for share in (0, .02, .15, .4, .7, .95)} | {2**25}):
        leave(free)
        status, err = busiseg(command.format(disk))
        whole(disk)
        names = [p.relative_to(disk).as_posix() for p in disk.rglob('*')]
        assert not any('.busiseg' in n for n in names), names
        if status == 0:
            break
        full += 1
        assert status == 2 and err.count('\n') == 1 and str(disk) in err and 'free some space' in err, err
    assert status == 0 and full, (command, status, err)
    filler.unlink()
    return full


def differences(a, b):
    "Files that are not the same in both; a resume file holds seconds"
    one, other = contents(a), contents(b)
    return [k for k in {**one, **other} if one.get(k) != other.get(k) and not k.endswith('resume.pt')]


result = {}
for name, command in COMMANDS.items():
    (tmp/name).mkdir()
    status, err = busiseg(command.format(tmp/name))
    assert status == 0, err
    result[name] = until_it_fits(command, sum(p.stat().st_size for p in (tmp/name).rglob('*') if p.is_file()))
    assert differences(disk, tmp/name) == []
    for p in disk.iterdir():
        if p.is_dir():
            shutil.rmtree(p)
        else:
            p.unlink()
print(json.dumps(result))
