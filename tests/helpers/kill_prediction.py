"""Helper of test_faults: FOLDER KILLS.

Predict undisturbed, then with SIGKILLs at random moments, then in two processes at once; print counts, JSON.
"""
import json
import os
import random
import shutil
import signal
import sys
import time
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from PIL import Image

from busiseg_nb.core import LABELS, seed_everything
from busiseg_nb.phantom import phantom_image
from busiseg_nb.predict import predict_files
from kill_loop import contents, ended_well, fork, kill_at_random, whole
from tiny import tiny

torch.set_num_threads(1)
seed_everything(0)
tmp, kills, reported = Path(sys.argv[1]), int(sys.argv[2]), {}
source, killed = tmp/'images', tmp/'killed'
model = tiny(tile_size=64).eval()
(source/'more').mkdir(parents=True)
pictures = [Image.fromarray(phantom_image(LABELS[i % 3], (90 + 5*i, 120), i)[0]) for i in range(14)]
pictures[0].save(source/'frames.tif', save_all=True, append_images=pictures[1:3])
for i, im in enumerate(pictures[3:]):
    im.save(source/('more' if i % 3 else '.')/f'{i//2}.{"png" if i % 2 else "bmp"}')   # also two of one stem


def done(out):
    "The files that a finished record or the report promises, with their bytes"
    found = {p: json.loads(p.read_text()) for p in out.rglob('*.json') if p.name[0] != '.'}
    records = {p: record for p, record in found.items() if record.get('settings') and p.name != 'report.json'}
    files = [p.parent/im[k] for p, r in records.items() for im in r['images'] for k in ('mask', 'overlay')]
    if (out/'report.csv').exists():
        files += [out/f for k in ('mask', 'overlay') for f in pd.read_csv(out/'report.csv')[k]]
    return {p: p.read_bytes() for p in [*records, *files]}


def check():
    "No file is torn, none that was promised is missing; how many of those ever promised are gone or changed"
    whole(killed)
    reported.update(done(killed))
    return sum(not p.exists() or p.read_bytes() != data for p, data in reported.items())


def finished():
    "The same bytes as the undisturbed run, and nothing else; then another run begins"
    assert contents(killed) == contents(tmp/'whole')
    shutil.rmtree(killed)
    reported.clear()


def together(stop):
    "Two processes at the same work: the same bytes and nothing else; one of them killed: so after a rerun"
    pids = [fork(run, tmp/'both') for _ in range(2)]
    if stop:
        time.sleep(random.Random(stop).uniform(0, took))
        os.kill(pids[0], signal.SIGKILL)
    for pid in pids:
        ended_well(pid)
    if stop:
        ended_well(fork(run, tmp/'both'))
    assert contents(tmp/'both') == contents(tmp/'whole')
    shutil.rmtree(tmp/'both')


def run(out):
    assert not predict_files([source], out, model)['failed']


start = time.time()
ended_well(fork(run, tmp/'whole'))
took = time.time() - start
assert len(contents(tmp/'whole')) == 14*2 + 12 + 2
kills, lost = kill_at_random(partial(run, killed), kills, finished, check, took)
for stop in range(4):
    together(stop)
print(json.dumps({'kills': kills, 'lost': lost, 'pairs': 4}))
