"""What a large folder costs, and what a second process gives: prediction and training as one process and as two, on one machine.

    python benchmarks/scaling.py --json results/benchmarks/scaling.json

The images are phantoms at the sizes of BUSI; 60 are made, and copied under other names up to the number asked for. Each process has one
thread. Wall time depends on what else the machine does (its load is recorded), processor time hardly: read that where both are given.
Training is the shipped network on 256-pixel tiles with batch norm per process, as it is without GPUs.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

os.environ['OMP_NUM_THREADS'] = '1'

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from busiseg_nb.core import BusisegError, fail, is_main, main_first, make_phantom, processes, provenance, read_json, write_json


def peak_mb():
    "Most memory that this process has held so far"
    return int(next(l for l in Path('/proc/self/status').read_text().splitlines() if l.startswith('VmHWM')).split()[1])/1024


def measure(f):
    "Result, wall seconds and processor seconds of a call"
    wall, cpu = time.perf_counter(), time.process_time()
    r = f()
    return r, time.perf_counter() - wall, time.process_time() - cpu


def predict_worker(src, out):
    "One process's part of `busiseg predict`, without the start of Python"
    from busiseg_nb.predict import predict_files
    loaded = peak_mb()
    _, wall, cpu = measure(lambda: predict_files([src], out))
    write_json(dict(seconds=wall, cpu_seconds=cpu, peak_mb=peak_mb(), before_mb=loaded), f'{out}-{processes()[0]}.json')


def train_worker(src, out):
    "Three epochs of the small network"
    from busiseg_nb.core import seed_everything
    from busiseg_nb.dataset import find_cases, split_cases
    from busiseg_nb.models import DiceCELoss, build_model
    from busiseg_nb.preprocessing import build_cache
    from busiseg_nb.training import get_dls, get_learner, train
    cases = find_cases(src); split = split_cases(cases, seed=0)
    cache = main_first(build_cache, cases, Path(src).parent/'cache', channels=1, progress=False)
    seed_everything(0)
    learn = get_learner(get_dls(cache, split, 8, device='cpu'), build_model('small', None), DiceCELoss(), 1e-3)
    history, _, cpu = measure(lambda: train(learn, 3, out, progress=False))
    write_json(dict(epoch_seconds=history.seconds.min(), cpu_seconds=cpu, tiles=sum(len(d.rows) for d in learn.dls), steps=len(learn.dls.train), batch=8,
                    train_loss=history.train_loss.tolist(), valid_loss=history.valid_loss.tolist()), f'{out}-{processes()[0]}.json')


def launched(worker, n, src, out):
    "What each of `n` processes wrote about its run"
    start = [sys.executable, '-W', 'ignore'] + (['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', str(n)] if n > 1 else [])
    done = subprocess.run([*start, __file__, '--worker', worker, src, out], capture_output=True, text=True)
    if done.returncode: fail(f'{worker} with {n} processes', done.stderr[-400:], 'pip install busiseg_nb[distributed]')
    return [read_json(f'{out}-{k}.json') for k in range(n)]


def planning(src, tmp, n):
    "Per file, to find `n` files and name their results: seconds of both, bytes of memory"
    from busiseg_nb.predict import _place, find_inputs
    (tmp/'many').mkdir(); first = next(src.iterdir())
    for i in range(n): os.link(first, tmp/'many'/f'{i:07}.png')
    find = lambda: find_inputs([tmp/'many'], tmp/'none')[0]
    def place(found): taken = set(); return [(f, _place(f, tmp/'none', taken)) for f, _ in found]
    found, seconds, _ = measure(find)
    _, naming, _ = measure(lambda: place(found))
    tracemalloc.start(); found = find(); places = place(found); peak = tracemalloc.get_traced_memory()[1]; tracemalloc.stop()
    return {'files': n, 'find_seconds_per_file': seconds/n, 'place_seconds_per_file': naming/n, 'memory_per_file': peak/len(places)}


def reporting(out, n):
    "Bytes of memory per image at the peak of writing the report"
    from busiseg_nb.predict import _write_report
    texts = [p.read_text() for p in sorted(out.glob('*.json')) if p.name != 'report.json']
    (out/'report').mkdir(); tracemalloc.start()
    _write_report(out/'report', [(json.loads(texts[i % len(texts)]), True, Path()) for i in range(n)], [], {})
    peak = tracemalloc.get_traced_memory()[1]; tracemalloc.stop()
    return peak/n


def main(args):
    from busiseg_nb.preprocessing import image_size
    with tempfile.TemporaryDirectory() as tmp:
        tmp = Path(tmp); phantom = make_phantom(tmp/'phantom', n=(30, 20, 10), seed=6)
        images = [p for p in sorted(phantom.glob('*/*.png')) if '_mask' not in p.name]
        for n in (50, args.files):
            (tmp/f'in{n}').mkdir()
            for i in range(n): shutil.copy(images[i % len(images)], tmp/f'in{n}'/f'{i:05}.png')
        src, out = tmp/f'in{args.files}', tmp/'out1'
        few, one, two = launched('predict', 1, tmp/'in50', tmp/'few'), launched('predict', 1, src, out), launched('predict', 2, src, tmp/'out2')
        names = lambda o: {p.name: p.read_bytes() for p in o.iterdir() if p.name != 'report.json'}
        if names(out) != names(tmp/'out2'): fail(tmp/'out2', 'differs from the results of one process')
        again = launched('predict', 1, src, out)
        size = lambda pattern: sum(p.stat().st_size for p in out.glob(pattern) if not p.name.startswith('report'))/args.files
        plan = planning(src, tmp, args.plan)
        small = make_phantom(tmp/'small', n=(10, 7, 3), seed=7)
        train = {n: launched('train', n, small, tmp/f'run{n}') for n in (1, 2)}
        result = {'files': args.files, 'mean_pixels': sum(h*w for h, w in map(image_size, images))/len(images), 'source_bytes': sum(p.stat().st_size for p in src.iterdir())/args.files,
                  'predict': {'50 files, 1 process': few, f'{args.files} files, 1 process': one, f'{args.files} files, 2 processes': two},
                  'again_seconds_per_file': again[0]['seconds']/args.files,
                  'bytes_per_image': {'mask': size('*_mask.png'), 'overlay': size('*_overlay.png'), 'record': size('*.json'),
                                      'report': sum((out/f'report.{e}').stat().st_size for e in ('csv', 'json'))/args.files},
                  'report_memory_per_image': reporting(out, args.plan), 'plan': plan,
                  'train': {f'{n} process{"es"*(n > 1)}': t for n, t in train.items()},
                  'load': os.getloadavg(), 'provenance': provenance(f'python benchmarks/scaling.py --json {args.json}')}
    for k, runs in result['predict'].items():
        print(f"{k:24} {runs[0]['seconds']:7.1f} s, {sum(r['cpu_seconds'] for r in runs):7.1f} s of processors, {max(r['peak_mb'] for r in runs):6.0f} MB at most")
    for k, runs in result['train'].items(): print(f"train, {k:17} {runs[0]['steps']/runs[0]['epoch_seconds']:7.2f} steps/s")
    if args.json: write_json(result, args.json)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--json', help='file for the results')
    parser.add_argument('--files', type=int, default=300, help='images in the large folder')
    parser.add_argument('--plan', type=int, default=20000, help='files to plan for, and to report on')
    parser.add_argument('--worker', nargs=3, metavar=('WHAT', 'SOURCE', 'OUT'), help=argparse.SUPPRESS)
    args = parser.parse_args()
    try:
        if args.worker: {'predict': predict_worker, 'train': train_worker}[args.worker[0]](*args.worker[1:])
        else: main(args)
    except BusisegError as e:
        if is_main(): print(f'error: {e}', file=sys.stderr)
        sys.exit(2)
