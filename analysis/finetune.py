"""Starting from a trained model or from random weights, with the same budget: the measurement behind notebook
07c's last section.

    python analysis/finetune.py --start shipped --seeds 5
"""
import argparse
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.stats import t as student

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.common import finish, write_result
from busiseg_nb.core import fail, seed_everything
from busiseg_nb.models import CONFIG, UNet, save_model
from busiseg_nb.phantom import make_xray_phantom
from busiseg_nb.runs import How, make_profile, read_start, run

STARTS = ('start', 'random')
FRACTIONS = (.375, .125, .5)      # train, valid, test
SCORE = 'mean of the pooled test IoU of the classes other than background'


def summary(x):
    return {'mean': round(float(x.mean()), 4), 'values': x.round(4).tolist()}


def paired(a, b):
    "Mean scores, and their mean difference with its 95 % interval (Student's t over seeds)"
    a, b = np.asarray(a), np.asarray(b)
    difference, n, half = a - b, len(a), float('nan')
    if n > 1:
        half = student.ppf(.975, n - 1)*difference.std(ddof=1)/np.sqrt(n)
    low, high = difference.mean() - half, difference.mean() + half
    return {'start': summary(a),
            'random': summary(b),
            'difference': {**summary(difference), 'low': round(float(low), 4), 'high': round(float(high), 4),
                           'wins': int((difference > 0).sum())}}


def verdict(budgets):
    "What the intervals say, in a sentence"
    sentences = []
    for epochs, budget in budgets.items():
        d = budget['difference']
        word = 'is not distinguishable from'
        if d['low'] > 0:
            word = 'is better than'
        elif d['high'] < 0:
            word = 'is worse than'
        sentences.append(f'after {epochs} epochs starting from the model {word} random weights '
                         f"({d['mean']:+.3f} mean IoU of the two findings, "
                         f"{d['low']:+.3f} to {d['high']:+.3f})")
    return '; '.join(sentences) + '.'


def untrained(model):
    "The same network with random weights"
    config = {key: value for key, value in model.config.items() if key in CONFIG}
    return UNet(**{**config, 'encoder_weights': None, 'members': 1})    # as a start goes on with one


def train_once(data, folder, name, which, args, epochs):
    "Result of one training on the X-ray phantom"
    seed = int(name.partition('-')[0])
    p = make_profile('own', tile=-(-args.size//32)*32, epochs=epochs, lr=args.lr, bs=4, fractions=FRACTIONS)
    how = How(name, folder/'runs', folder/'cache', progress=False, say=lambda line: None)
    return run(data, replace(p, resize=None), folder/which, how, seed).result


def train_all(source, args):
    "(epochs, start) -> IoU of each class, a list a seed; and the last result"
    classes, result = {(e, which): [] for e in args.epochs for which in STARTS}, None
    with tempfile.TemporaryDirectory() as tmp:
        folder = Path(tmp)
        save_model(source, folder/'start')
        for seed in range(args.seeds):
            data = make_xray_phantom(folder/f'data{seed}', args.images, args.size, seed)
            seed_everything(seed)
            save_model(untrained(source), folder/'random')
            for epochs, which in classes:
                result = train_once(data, folder, f'{seed}-{epochs}-{which}', which, args, epochs)
                classes[epochs, which].append([result['scores'][f'iou_{name}'][0]
                                               for name in result['classes']])
                score = findings(classes[epochs, which])[-1]
                print(f'seed {seed}, {epochs} epochs, {which}: mean IoU {score:.3f}', flush=True)
    return classes, result


def findings(rows):
    "Mean IoU of each row without the background, which any model has at once"
    return [float(np.mean(row[1:])) for row in rows]


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--start', default='shipped', help='shipped, a folder of a model or run, or a hub id')
    parser.add_argument('--seeds', type=int, default=5)
    parser.add_argument('--images', type=int, default=40)
    parser.add_argument('--size', type=int, default=128, help='pixels')
    parser.add_argument('--epochs', type=int, nargs='+', default=[5, 15], help='budgets')
    parser.add_argument('--lr', type=float, default=2e-3)
    parser.add_argument('--out', '--json', default='results/analysis/finetune.json')
    return parser.parse_args()


def main():
    args = parse()
    source, began = read_start(args.start), time.time()
    if source is None or args.seeds < 2 or min(args.epochs) < 1:
        fail('finetune', 'needs a model, 2 seeds and 1 epoch or more', 'give --start, --seeds, --epochs')
    classes, last = train_all(source, args)
    budgets = {}
    for epochs in args.epochs:
        means = {which: np.round(np.mean(classes[epochs, which], 0), 4).tolist() for which in STARTS}
        budgets[str(epochs)] = {**paired(*(findings(classes[epochs, which]) for which in STARTS)),
                                'classes': {w: dict(zip(last['classes'], means[w], strict=True))
                                            for w in STARTS}}
    shipped = args.start == 'shipped'
    command = (f"analysis/finetune.py --start {'shipped' if shipped else '<MODEL>'} --seeds {args.seeds} "
               f"--images {args.images} --size {args.size} --epochs {' '.join(map(str, args.epochs))} "
               f"--lr {args.lr}")
    varied = {'seed': None, 'data': None, 'split_sha256': None, 'epochs': args.epochs, 'start': None}
    result = {'start': args.start if shipped else Path(args.start).name,
              'network': source.encoder_name,
              'score': SCORE,
              'seeds': list(range(args.seeds)),
              'images': {**last['split_sizes'], 'size': args.size},
              'settings': last['config'] | varied,
              'budgets': budgets,
              'verdict': verdict(budgets),
              'seconds': round(time.time() - began, 1)}
    print(verdict(budgets))
    write_result(result, args.out, command=command, threads=torch.get_num_threads())


if __name__ == '__main__':
    finish(main)
