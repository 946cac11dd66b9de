"""Tiles per second of training, each step of the way from the naive loop to the one this library uses, in one
run.

    python benchmarks/training.py --data FOLDER [--model resnext50] [--json results/benchmarks/training.json]

The rows take turns, one step each, so that a change of the machine's speed hits all alike; the numbers are
medians. Weights are random: they do not change the speed. `--curves` trains a small network twice from the
same seed, fp32 and bf16, and writes both loss curves to results/benchmarks/precision.csv. Without --data (and
BUSI_ROOT) the phantom is used.
"""
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
import torch
from fastai.callback.core import Callback
from fastai.data.core import DataLoaders

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.common import ROOT, arguments, finish, write_result
from busiseg_nb.core import seed_everything
from busiseg_nb.dataset import find_cases
from busiseg_nb.files import atomic_path
from busiseg_nb.machine import default_device, has_bf16
from busiseg_nb.models import DiceCELoss, DiceLoss, build_model
from busiseg_nb.phantom import make_phantom
from busiseg_nb.preprocessing import build_cache, load_case
from busiseg_nb.splits import split_cases
from busiseg_nb.tiling import tile_image
from busiseg_nb.training import TileDL, get_dls, get_learner, train

NAIVE, FUSED, LEARNER = 'naive: decode PNGs, fp32', '+ fused Adam', '= the Learner'


class NaiveTiles(torch.utils.data.Dataset):
    "One tile an item: decode its image and mask, cut them, take the tile"
    def __init__(self, cases, index):
        self.cases, self.index = {case.name: case for case in cases}, index

    def __len__(self):
        return len(self.index)

    def __getitem__(self, i):
        row = self.index.iloc[i]
        img, mask = load_case(self.cases[row.case])
        (x, grid), (y, _) = tile_image(img), tile_image(mask)
        k = row.row*grid.cols + row.col
        return torch.from_numpy(x[k]).permute(2, 0, 1).float()/255, torch.from_numpy(y[k]).long()


@dataclass
class Setting:
    "What a row of the table trains"
    make: object       # channels_last -> a new network
    batch: int         # tiles
    device: torch.device
    bf16: bool


def forever(batches):
    "The batches, again and again"
    while True:
        yield from batches


def stepper(model, batches, device, bf16=False, fused=False):
    "A function that takes one training step and returns its seconds, data included"
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=fused)
    loss, source = DiceLoss(), forever(batches)
    model.train()

    def step():
        sync(device)
        start = time.perf_counter()
        x, y = next(source)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            z = model(x.to(device))
        loss(z, y.to(device)).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        sync(device)
        return time.perf_counter() - start
    return step


def sync(device):
    if device.type == 'cuda':
        torch.cuda.synchronize()


class TakeTurns(Callback):
    "After each step of the Learner, one step of the plain loop; the seconds of both"
    order = 1000

    def __init__(self, plain):
        self.plain, self.learned, self.others = plain, [], []

    def before_train(self):
        self.mark()

    def mark(self):
        sync(self.dls.device)
        self.start = time.perf_counter()

    def after_batch(self):
        if not self.training:
            return
        sync(self.dls.device)
        self.learned.append(time.perf_counter() - self.start)
        self.others.append(self.plain())
        self.mark()


def learner_overhead(cache, how, steps):
    "Seconds a step in a plain loop and in the Learner, in turn; the first of each is warm-up"
    rows = np.arange(how.batch*(steps + 1)) % len(cache)

    def loader():
        return TileDL(cache, rows, bs=how.batch, device=how.device)
    turns = TakeTurns(stepper(how.make(True), loader(), how.device, how.bf16, fused=True))
    dls = DataLoaders(loader(), TileDL(cache, rows[:1], bs=1, device=how.device), device=how.device)
    learn = get_learner(dls, how.make(True), bf16=how.bf16, cbs=[turns])
    with learn.no_bar(), learn.no_logging():
        learn.fit(1)
    return turns.others[1:], turns.learned[1:]


def curves(cases, folder, out, epochs):
    "The same seed in fp32 and bf16: loss per epoch"
    split = split_cases(cases, seed=0)
    cache = build_cache(cases, folder/'curves', size=128, resize=128, channels=1, progress=False)
    rows = []
    for bf16 in (False, True):
        seed_everything(0)
        learn = get_learner(get_dls(cache, split, 8), build_model('small', None), DiceCELoss(), 5e-4,
                            bf16=bf16)
        history = train(learn, epochs, folder/f'run{bf16}', progress=False)
        losses = history[['epoch', 'train_loss', 'valid_loss']]
        rows.append(losses.assign(precision='bf16' if bf16 else 'fp32'))
    with atomic_path(out) as tmp:
        pd.concat(rows).round(5).to_csv(tmp, index=False)
    print(pd.concat(rows).pivot(index='epoch', columns='precision').round(4).to_string())


def all_steppers(cases, cache, how, compiled):
    "The rows of the table, each a step more than the one before it"
    device, bf16 = how.device, how.bf16

    def loader(**options):
        return TileDL(cache, bs=how.batch, shuffle=True, device=device, **options)
    naive = torch.utils.data.DataLoader(NaiveTiles(cases, cache.index), batch_size=how.batch, shuffle=True)
    x, y = next(iter(loader()))
    rows = {NAIVE: stepper(how.make(False), naive, device),
            '+ tile cache': stepper(how.make(False), [(x.contiguous(), y)], device),
            '+ channels-last': stepper(how.make(True), loader(), device),
            '+ bf16': stepper(how.make(True), loader(), device, bf16),
            FUSED: stepper(how.make(True), loader(), device, bf16, fused=True)}
    if compiled:
        rows['+ torch.compile'] = stepper(torch.compile(how.make(True)), loader(drop_last=True), device, bf16,
                                          fused=True)
    return rows


def times_of(rows, reps):
    "Seconds of each row's steps, the rows taking turns; one round of warming up goes before"
    times = {name: [] for name in rows}
    for rep in range(reps + 1):
        for name, step in rows.items():
            took = step()
            if rep:
                times[name].append(took)
    return times


def data_seconds(batches):
    "Seconds a batch of the data side alone"
    start = time.perf_counter()
    n = sum(1 for _ in batches)
    return (time.perf_counter() - start)/n


def table_of(times, batch):
    base = median(times[NAIVE])
    return [{'loop': name, 'seconds_a_step': round(median(values), 4),
             'tiles_per_second': round(batch/median(values), 2),
             'ratio_to_naive': round(base/median(values), 2)} for name, values in times.items()]


def parse():
    parser = arguments(__doc__)
    parser.add_argument('--model', default='resnext50')
    parser.add_argument('--bs', type=int, default=16)
    parser.add_argument('--reps', type=int, default=3)
    parser.add_argument('--limit', type=int, default=120, help='images at most')
    parser.add_argument('--compile', action='store_true')
    parser.add_argument('--curves', type=int, metavar='EPOCHS',
                        help='also compare fp32 and bf16 over so many epochs')
    return parser.parse_args()


def main():
    args, device = parse(), default_device()
    bf16 = has_bf16(device)

    def make(channels_last):
        seed_everything(0)
        model = build_model(args.model, None, in_channels=3, classes=3).to(device)
        return model.to(memory_format=torch.channels_last) if channels_last else model
    how = Setting(make, args.bs, device, bf16)
    with tempfile.TemporaryDirectory() as tmp:
        tmp = Path(tmp)
        cases = find_cases(args.data or make_phantom(tmp/'phantom'))
        some = cases[::max(1, len(cases)//args.limit)]
        cache = build_cache(some, tmp/'cache', progress=False)
        times = times_of(all_steppers(some, cache, how, args.compile), args.reps)
        data = data_seconds(TileDL(cache, bs=args.bs, shuffle=True, device=device))
        plain, learned = learner_overhead(cache, how, 4*args.reps)
        if args.curves:
            curves(some, tmp, ROOT/'results'/'benchmarks'/'precision.csv', args.curves)
    times[LEARNER] = learned
    table = table_of(times, args.bs)
    overhead, share = median(learned)/median(plain) - 1, data/median(times[FUSED])
    print(pd.DataFrame(table).to_string(index=False))
    print(f'data side: {data*1e3:.1f} ms a step, {share:.2%} of it; '
          f'Learner over a plain loop: {overhead:+.2%}')
    result = {'model': args.model, 'batch': args.bs, 'device': str(device), 'bf16': bf16, 'rows': table,
              'times': times,
              'data_seconds_a_step': data, 'data_share': share, 'learner_overhead': overhead,
              'plain_seconds': plain,
              'learner_seconds': learned}
    write_result(result, args.json)


if __name__ == '__main__':
    finish(main)
