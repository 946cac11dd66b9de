"""Tiles per second of training, each step of the way from the naive loop to the one this library uses, in one run.

    python benchmarks/training.py --data FOLDER [--model resnext50] [--bs 16] [--reps 3] [--json results/benchmarks/training.json]

The rows take turns, one step each, so that a change of the machine's speed hits all alike; the numbers are medians. Weights are
random: they do not change the speed. `--curves` trains a small network twice from the same seed, fp32 and bf16, and writes both
loss curves to results/benchmarks/precision.csv. Without --data (and BUSI_ROOT) the phantom is used.
"""
import argparse
import os
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
import torch

from busiseg_nb.core import atomic_path, make_phantom, provenance, seed_everything, write_json
from busiseg_nb.dataset import find_cases, split_cases
from busiseg_nb.models import DiceCELoss, DiceLoss, build_model
from busiseg_nb.preprocessing import build_cache, load_case
from busiseg_nb.tiling import tile_image
from busiseg_nb.training import Callback, TileDL, default_device, get_dls, get_learner, has_bf16, train


class NaiveTiles(torch.utils.data.Dataset):
    "One tile an item: decode its image and mask, cut them, take the tile"
    def __init__(self, cases, index): self.cases, self.index = {c.name: c for c in cases}, index
    def __len__(self): return len(self.index)
    def __getitem__(self, i):
        row = self.index.iloc[i]; img, mask = load_case(self.cases[row.case])
        (x, grid), (y, _) = tile_image(img), tile_image(mask)
        k = row.row*grid.cols + row.col
        return torch.from_numpy(x[k]).permute(2, 0, 1).float()/255, torch.from_numpy(y[k]).long()


def stepper(model, batches, bf16, fused, device, compile=False):
    "A function that takes one training step and returns its seconds, data included"
    opt = torch.optim.Adam(model.parameters(), lr=1e-4, fused=fused); loss = DiceLoss(); net = torch.compile(model) if compile else model
    model.train(); it = iter(())
    def step():
        nonlocal it
        sync(device); t = time.perf_counter()
        try: x, y = next(it)
        except StopIteration: it = iter(batches); x, y = next(it)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16): z = net(x.to(device))
        loss(z, y.to(device)).backward(); opt.step(); opt.zero_grad(set_to_none=True)
        sync(device); return time.perf_counter() - t
    return step


def sync(device):
    if device.type == 'cuda': torch.cuda.synchronize()


class TakeTurns(Callback):
    "After each step of the Learner, one step of the plain loop; the seconds of both"
    order = 1000
    def __init__(self, plain): self.plain, self.learned, self.others = plain, [], []
    def before_train(self): self.mark()
    def mark(self): sync(self.dls.device); self.t = time.perf_counter()
    def after_batch(self):
        if not self.training: return
        sync(self.dls.device); self.learned.append(time.perf_counter() - self.t)
        self.others.append(self.plain()); self.mark()


def learner_overhead(cache, make, bs, device, bf16, steps):
    "Seconds a step of the same steps in a plain loop and in the Learner, step by step in turn; the first of each is warm-up"
    from fastai.data.core import DataLoaders
    rows = np.arange(bs*(steps + 1)) % len(cache); dl = lambda: TileDL(cache, rows, bs=bs, device=device)
    turns = TakeTurns(stepper(make(), dl(), bf16, True, device))
    learn = get_learner(DataLoaders(dl(), TileDL(cache, rows[:1], bs=1, device=device), device=device), make(), bf16=bf16, cbs=[turns])
    with learn.no_bar(), learn.no_logging(): learn.fit(1)
    return turns.others[1:], turns.learned[1:]


def curves(cases, folder, out, epochs):
    "The same seed in fp32 and bf16: loss per epoch"
    split = split_cases(cases, seed=0); cache = build_cache(cases, folder/'curves', size=128, resize=128, channels=1, progress=False)
    rows = []
    for bf16 in (False, True):
        seed_everything(0)
        learn = get_learner(get_dls(cache, split, 8), build_model('small', None), DiceCELoss(), 5e-4, bf16=bf16)
        h = train(learn, epochs, folder/f'run{bf16}', progress=False)
        rows.append(h[['epoch', 'train_loss', 'valid_loss']].assign(precision='bf16' if bf16 else 'fp32'))
    with atomic_path(out) as tmp: pd.concat(rows).round(5).to_csv(tmp, index=False)
    print(pd.concat(rows).pivot(index='epoch', columns='precision').round(4).to_string())


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument('--data', default=os.environ.get('BUSI_ROOT')); ap.add_argument('--model', default='resnext50'); ap.add_argument('--bs', type=int, default=16)
    ap.add_argument('--reps', type=int, default=3); ap.add_argument('--limit', type=int, default=120); ap.add_argument('--json'); ap.add_argument('--compile', action='store_true')
    ap.add_argument('--curves', type=int, metavar='EPOCHS', help='also compare fp32 and bf16 over so many epochs'); args = ap.parse_args()
    device, tmp = default_device(), Path(tempfile.mkdtemp())
    cases = find_cases(args.data or make_phantom(tmp/'phantom'))
    some = cases[::max(1, len(cases)//args.limit)]
    cache = build_cache(some, tmp/'cache', progress=False); bf16 = has_bf16(device)
    def make(cl=True):
        seed_everything(0); m = build_model(args.model, None, in_channels=3, classes=3).to(device)
        return m.to(memory_format=torch.channels_last) if cl else m
    dl = lambda **kw: TileDL(cache, bs=args.bs, shuffle=True, device=device, **kw)
    naive = torch.utils.data.DataLoader(NaiveTiles(some, cache.index), batch_size=args.bs, shuffle=True)
    plain_order = [(x.contiguous(), y) for x, y in [next(iter(dl()))]]
    rows = {'naive: decode PNGs, fp32': stepper(make(False), naive, False, False, device),
            '+ tile cache': stepper(make(False), plain_order, False, False, device),
            '+ channels-last': stepper(make(), dl(), False, False, device),
            '+ bf16': stepper(make(), dl(), bf16, False, device),
            '+ fused Adam': stepper(make(), dl(), bf16, True, device)}
    if args.compile: rows['+ torch.compile'] = stepper(make(), dl(drop_last=True), bf16, True, device, True)
    times = {k: [] for k in rows}
    for rep in range(args.reps + 1):
        for name, step in rows.items():
            s = step()
            if rep: times[name].append(s)
    rows.clear()
    batches = dl(); t = time.perf_counter(); n = sum(1 for _ in batches); data = (time.perf_counter() - t)/n
    plain, learned = learner_overhead(cache, make, args.bs, device, bf16, 4*args.reps)
    times['= the Learner'] = learned; base = median(times['naive: decode PNGs, fp32'])
    table = [{'loop': k, 'seconds_a_step': round(median(v), 4), 'tiles_per_second': round(args.bs/median(v), 2), 'ratio_to_naive': round(base/median(v), 2)} for k, v in times.items()]
    overhead = median(learned)/median(plain) - 1; share = data/median(times['+ fused Adam'])
    print(pd.DataFrame(table).to_string(index=False))
    print(f'data side: {data*1e3:.1f} ms a step, {share:.2%} of it; Learner over a plain loop: {overhead:+.2%}')
    if args.curves: curves(some, tmp, Path('results/benchmarks/precision.csv'), args.curves)
    if args.json: write_json({'model': args.model, 'batch': args.bs, 'device': str(device), 'bf16': bf16, 'rows': table, 'times': times, 'data_seconds_a_step': data, 'data_share': share,
                              'learner_overhead': overhead, 'plain_seconds': plain, 'learner_seconds': learned, 'provenance': provenance()}, args.json)


if __name__ == '__main__': main()
