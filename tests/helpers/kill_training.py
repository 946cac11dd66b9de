"Helper of test_resume: FOLDER NAME KILLS WORKERS; train undisturbed, then with SIGKILLs at random moments; print as JSON what must be the same everywhere."
import hashlib
import json
import shutil
import sys
import time
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from kill_loop import contents, ended_well, fork, kill_at_random, whole

from busiseg_nb.core import make_phantom, seed_everything
from busiseg_nb.dataset import find_cases, split_cases, split_hash
from busiseg_nb.metrics import fastai_metrics
from busiseg_nb.models import DiceCELoss, build_model
from busiseg_nb.preprocessing import TileCache, build_cache
from busiseg_nb.training import Augment, get_dls, get_learner, read_resume, train

tmp, (kills, workers), EPOCHS = Path(sys.argv[1]), map(int, sys.argv[3:]), 4
here = tmp/sys.argv[2]; killed = here/'killed'
cases = find_cases(make_phantom(tmp/'phantom', n=(7, 5, 2), seed=3, scale=.2))
split, cache = split_cases(cases, seed=0), build_cache(cases, here/'cache', size=32, resize=32, channels=1, workers=workers, progress=False)


def run(folder, threads=1):
    "One process's worth of training: everything from the seed and the files, nothing from the parent"
    torch.set_num_threads(threads); seed_everything(0)
    model = build_model('tu-mobilenetv3_small_050', None, in_channels=1, decoder_channels=(16, 16, 16, 8, 8))
    learn = get_learner(get_dls(cache, split, 4, Augment(32), device='cpu'), model, DiceCELoss(), 1e-3, metrics=fastai_metrics(3))
    train(learn, EPOCHS, folder, resume=True, schedule='one-cycle', ema=.9, progress=False)


def check():
    "No file is torn; how many epochs of the history are not in the resume file, and whether the best weights are gone"
    whole(killed)
    if not (killed/'history.csv').exists(): return 0
    best = (killed/'best').is_dir() or (killed/'.busiseg-old.best').is_dir()       # killed between two renames: the next run puts it back
    return max(0, len(pd.read_csv(killed/'history.csv')) - read_resume(killed/'resume.pt')['epoch']) + (not best)


def finished():
    "The same bytes as the undisturbed run, and nothing else; then another run begins"
    same = [{k: v for k, v in contents(d).items() if k != 'resume.pt'} for d in (killed, here/'whole1')]    # which holds seconds
    assert same[0] == same[1], [k for k in {**same[0], **same[1]} if same[0].get(k) != same[1].get(k)]
    shutil.rmtree(killed)


def sha(*files): return hashlib.sha256(b''.join(f.read_bytes() for f in files)).hexdigest()


start = time.time(); ended_well(fork(run, here/'whole1')); took = time.time() - start
ended_well(fork(run, here/'whole2', 2))
kills, lost = kill_at_random(partial(run, killed), kills, finished, check, took*.4) if kills else (0, 0)
print(json.dumps({'kills': kills, 'lost': lost, 'split': split_hash(split), 'cache': sha(*(here/'cache'/f for f in TileCache.FILES)),
                  **{f'weights, {n} threads': sha(here/f'whole{n}'/'last'/'model.safetensors', here/f'whole{n}'/'best'/'model.safetensors') for n in (1, 2)}}))
