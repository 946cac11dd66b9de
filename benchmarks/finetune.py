"Starting from a trained model or from random weights, with the same budget: the measurement behind notebook 07c's last section"
import argparse, sys, tempfile, time
from pathlib import Path

import numpy as np
import torch
from scipy.stats import t as student

from busiseg_nb.core import fail, provenance, seed_everything, write_json
from busiseg_nb.models import CONFIG, UNet, save_model
from busiseg_nb.own_data import make_xray_phantom, read_start, train_own


def paired(a, b):
    "Mean scores, and their mean difference with its 95 % interval (Student's t over seeds)"
    a, b = np.asarray(a), np.asarray(b); d = a - b
    half = student.ppf(.975, len(d) - 1)*d.std(ddof=1)/np.sqrt(len(d)) if len(d) > 1 else float('nan')
    summary = lambda x: {'mean': round(float(x.mean()), 4), 'values': x.round(4).tolist()}
    return {'start': summary(a), 'random': summary(b), 'difference': {**summary(d), 'low': round(float(d.mean() - half), 4), 'high': round(float(d.mean() + half), 4),
                                                                     'wins': int((d > 0).sum())}}


def verdict(budgets):
    "What the intervals say, in a sentence"
    out = []
    for e, b in budgets.items():
        d = b['difference']
        word = 'is better than' if d['low'] > 0 else 'is worse than' if d['high'] < 0 else 'is not distinguishable from'
        out.append(f"after {e} epochs starting from the model {word} random weights ({d['mean']:+.3f} mean IoU of the two findings, {d['low']:+.3f} to {d['high']:+.3f})")
    return '; '.join(out) + '.'


def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--start', default='shipped', help='shipped, a folder of a model or run, or a hub id')
    p.add_argument('--seeds', type=int, default=5)
    p.add_argument('--images', type=int, default=40)
    p.add_argument('--size', type=int, default=128, help='pixels')
    p.add_argument('--epochs', type=int, nargs='+', default=[5, 15], help='budgets')
    p.add_argument('--lr', type=float, default=2e-3)
    p.add_argument('--out', default='results/analysis/finetune.json')
    a = p.parse_args(argv); src, t0 = read_start(a.start), time.time()
    if src is None or a.seeds < 2 or min(a.epochs) < 1: fail('finetune', 'needs a model, 2 seeds and 1 epoch or more', 'give --start, --seeds, --epochs')
    scores, classes, sizes, fractions = {(e, w): [] for e in a.epochs for w in ('start', 'random')}, {(e, w): [] for e in a.epochs for w in ('start', 'random')}, None, (.375, .125, .5)
    with tempfile.TemporaryDirectory() as tmp:
        tmp = Path(tmp); save_model(src, tmp/'start')
        for seed in range(a.seeds):
            data = make_xray_phantom(tmp/f'data{seed}', a.images, a.size, seed); seed_everything(seed)
            save_model(UNet(**{**{k: v for k, v in src.config.items() if k in CONFIG}, 'encoder_weights': None}), tmp/'random')   # the same network, untrained
            for e in a.epochs:
                for which in ('start', 'random'):
                    r = train_own(data, f'{seed}-{e}-{which}', tmp/which, tile=-(-a.size//32)*32, resize=None, seed=seed, runs=tmp/'runs', cache=tmp/'cache', epochs=e,
                                  lr=a.lr, bs=4, fractions=fractions, progress=False, say=lambda s: None)
                    classes[e, which].append([r['scores'][f'iou_{n}'][0] for n in r['classes']]); sizes = r['split_sizes']
                    scores[e, which].append(float(np.mean(classes[e, which][-1][1:])))   # without the background, which any model has at once
                    print(f'seed {seed}, {e} epochs, {which}: mean IoU {scores[e, which][-1]:.3f}', flush=True)
    budgets = {str(e): {**paired(scores[e, 'start'], scores[e, 'random']),
                        'classes': {w: dict(zip(r['classes'], np.round(np.mean(classes[e, w], 0), 4).tolist())) for w in ('start', 'random')}} for e in a.epochs}
    command = f"benchmarks/finetune.py --start {'shipped' if a.start == 'shipped' else '<MODEL>'} --seeds {a.seeds} --images {a.images} --size {a.size} --epochs {' '.join(map(str, a.epochs))} --lr {a.lr}"
    write_json({'start': a.start if a.start == 'shipped' else Path(a.start).name, 'network': src.encoder_name, 'score': 'mean of the pooled test IoU of the classes other than background', 'seeds': list(range(a.seeds)),
                'images': {**sizes, 'size': a.size}, 'settings': r['config'] | {'seed': None, 'data': None, 'split_sha256': None, 'epochs': a.epochs, 'start': None},
                'budgets': budgets, 'verdict': verdict(budgets), 'seconds': round(time.time() - t0, 1),
                'provenance': provenance(command, threads=torch.get_num_threads())}, a.out)
    print(verdict(budgets)); print(f'wrote {a.out}')


if __name__ == '__main__':
    try: main()
    except ValueError as e: print(e, file=sys.stderr); sys.exit(2)
