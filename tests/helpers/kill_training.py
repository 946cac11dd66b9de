"""Helper of test_resume: FOLDER NAME KILLS WORKERS.

Train undisturbed, then with SIGKILLs at random moments; print as JSON what must be the same everywhere.
"""
import hashlib
import json
import shutil
import sys
import time
from functools import partial
from pathlib import Path

import pandas as pd
import torch

from busiseg_nb.core import seed_everything
from busiseg_nb.dataset import find_cases
from busiseg_nb.metrics import fastai_metrics
from busiseg_nb.models import DiceCELoss
from busiseg_nb.phantom import make_phantom
from busiseg_nb.preprocessing import Augment, TileCache, build_cache
from busiseg_nb.splits import split_cases, split_hash
from busiseg_nb.training import get_dls, get_learner, read_resume, train
from kill_loop import contents, ended_well, fork, kill_at_random, whole
from tiny import tiny

tmp, (kills, workers), EPOCHS = Path(sys.argv[1]), map(int, sys.argv[3:]), 4
here = tmp/sys.argv[2]
killed = here/'killed'
cases = find_cases(make_phantom(tmp/'phantom', n=(7, 5, 2), seed=3, scale=.2))
split = split_cases(cases, seed=0)
cache = build_cache(cases, here/'cache', size=32, resize=32, channels=1, workers=workers, progress=False)


def run(folder, threads=1):
    "One process's worth of training: everything from the seed and the files, nothing from the parent"
    torch.set_num_threads(threads)
    seed_everything(0)
    dls = get_dls(cache, split, 4, Augment(32), device='cpu')
    learn = get_learner(dls, tiny(), DiceCELoss(), 1e-3, metrics=fastai_metrics(3))
    train(learn, EPOCHS, folder, resume=True, schedule='one-cycle', ema=.9, progress=False)


def check():
    "No file is torn; how many epochs of the history are not in the resume file; are the best weights gone"
    whole(killed)
    if not (killed/'history.csv').exists():
        return 0
    aside = killed/'.busiseg-old.best'                # killed between two renames: the next run puts it back
    gone = not (killed/'best').is_dir() and not aside.is_dir()
    return max(0, len(pd.read_csv(killed/'history.csv')) - read_resume(killed/'resume.pt')['epoch']) + gone


def finished():
    "The same bytes as the undisturbed run, and nothing else; then another run begins"
    one, other = contents(killed), contents(here/'whole1')
    differ = [k for k in {**one, **other} if one.get(k) != other.get(k)]
    assert set(differ) <= {'resume.pt'}, differ      # it holds seconds
    shutil.rmtree(killed)


def sha(*files):
    return hashlib.sha256(b''.join(f.read_bytes() for f in files)).hexdigest()


start = time.time()
ended_well(fork(run, here/'whole1'))
took = time.time() - start
ended_well(fork(run, here/'whole2', 2))
kills, lost = kill_at_random(partial(run, killed), kills, finished, check, took*.4) if kills else (0, 0)
weights = {f'weights, {n} threads': sha(*(here/f'whole{n}'/d/'model.safetensors' for d in ('last', 'best')))
           for n in (1, 2)}
print(json.dumps({'kills': kills, 'lost': lost, 'split': split_hash(split),
                  'cache': sha(*(here/'cache'/f for f in TileCache.FILES)), **weights}))
