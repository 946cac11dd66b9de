"Helper of test_resume: train once undisturbed, then again with SIGKILLs at random moments; compare the bytes of the weights."
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

torch.set_num_threads(1)
from busiseg_nb.core import make_phantom, seed_everything
from busiseg_nb.dataset import find_cases, split_cases
from busiseg_nb.metrics import fastai_metrics
from busiseg_nb.models import DiceCELoss, build_model
from busiseg_nb.preprocessing import build_cache
from busiseg_nb.training import Augment, get_dls, get_learner, train

tmp, kills = Path(sys.argv[1]), int(sys.argv[2])
EPOCHS = 6
cases = find_cases(make_phantom(tmp/'phantom', n=(14, 10, 4), seed=3, scale=.3))
split, cache = split_cases(cases, seed=0), build_cache(cases, tmp/'cache', size=64, resize=64, channels=1, progress=False)


def attempt(folder):
    "One process's worth of training: everything from the seed and the files, nothing from the parent"
    pid = os.fork()
    if pid: return pid
    seed_everything(0)
    model = build_model('tu-mobilenetv3_small_050', None, in_channels=1, decoder_channels=(16, 16, 16, 8, 8))
    learn = get_learner(get_dls(cache, split, 4, Augment(64), device='cpu'), model, DiceCELoss(), 1e-3, metrics=fastai_metrics(3))
    train(learn, EPOCHS, folder, resume=True, schedule='one-cycle', ema=.9, progress=False)
    os._exit(0)


start = time.time(); os.waitpid(attempt(tmp/'whole'), 0); whole = time.time() - start
done, tries, rng = 0, 0, random.Random(0)
while done < kills:
    tries += 1
    if (tmp/'killed'/'last').exists():   # finished before the last kill: start another run, keep counting
        for f in ('best', 'last'): assert (tmp/'killed'/f/'model.safetensors').read_bytes() == (tmp/'whole'/f/'model.safetensors').read_bytes()
        import shutil; shutil.rmtree(tmp/'killed')
    pid = attempt(tmp/'killed'); time.sleep(rng.uniform(.02, whole*.45)); os.kill(pid, signal.SIGKILL)
    if os.WIFSIGNALED(os.waitpid(pid, 0)[1]): done += 1
    if tries > 20*kills: sys.exit('the kills came too late to hit anything')
while not (tmp/'killed'/'last').exists(): os.waitpid(attempt(tmp/'killed'), 0)
for f in ('best/model.safetensors', 'last/model.safetensors', 'best/config.json'):
    if (tmp/'killed'/f).read_bytes() != (tmp/'whole'/f).read_bytes(): sys.exit(f'{f} differs')
drop = lambda p: [','.join(l.split(',')[:-1]) for l in p.read_text().splitlines()]   # all but the seconds
if drop(tmp/'killed'/'history.csv') != drop(tmp/'whole'/'history.csv'): sys.exit('the histories differ')
print(f'{done} kills survived in {tries} attempts, weights and history identical')
