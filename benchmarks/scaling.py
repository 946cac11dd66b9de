"""What a large folder costs, and what a second process gives: prediction and training as one process and as
two.

    python benchmarks/scaling.py --json results/benchmarks/scaling.json

The images are phantoms at the sizes of BUSI; 60 are made, and copied under other names up to the number asked
for. Each process has one thread, all on one machine. Wall time depends on what else the machine does (its
load is recorded), processor time hardly: read that where both are given. Training is the shipped network on
256-pixel tiles with batch norm per process, as it is without GPUs.
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
from benchmarks.common import arguments, finish, peak_mb, write_result
from busiseg_nb.core import BusisegError, fail, seed_everything
from busiseg_nb.files import read_json, write_json
from busiseg_nb.machine import is_main, main_first, processes
from busiseg_nb.phantom import make_phantom


def measure(job):
    "Result, wall seconds and processor seconds of a call"
    wall, cpu = time.perf_counter(), time.process_time()
    result = job()
    return result, time.perf_counter() - wall, time.process_time() - cpu


def predict_worker(src, out):
    "One process's part of `busiseg predict`, without the start of Python"
    from busiseg_nb.predict import predict_files
    loaded = peak_mb()
    _, wall, cpu = measure(lambda: predict_files([src], out))
    row = dict(seconds=wall, cpu_seconds=cpu, peak_mb=peak_mb(), before_mb=loaded)
    write_json(row, f'{out}-{processes()[0]}.json')


def train_worker(src, out):
    "Three epochs of the small network"
    from busiseg_nb.dataset import find_cases
    from busiseg_nb.models import DiceCELoss, build_model
    from busiseg_nb.preprocessing import build_cache
    from busiseg_nb.splits import split_cases
    from busiseg_nb.training import get_dls, get_learner, train
    cases = find_cases(src)
    split = split_cases(cases, seed=0)
    cache = main_first(build_cache, cases, Path(src).parent/'cache', channels=1, progress=False)
    seed_everything(0)
    dls = get_dls(cache, split, 8, device='cpu')
    learn = get_learner(dls, build_model('small', None), DiceCELoss(), 1e-3)
    history, _, cpu = measure(lambda: train(learn, 3, out, progress=False))
    row = dict(epoch_seconds=history.seconds.min(), cpu_seconds=cpu,
               tiles=sum(len(d.rows) for d in learn.dls), steps=len(learn.dls.train), batch=8,
               train_loss=history.train_loss.tolist(), valid_loss=history.valid_loss.tolist())
    write_json(row, f'{out}-{processes()[0]}.json')


WORKERS = {'predict': predict_worker, 'train': train_worker}


def launched(worker, n, src, out):
    "What each of `n` processes wrote about its run"
    start = [sys.executable, '-W', 'ignore']
    if n > 1:
        start += ['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', str(n)]
    done = subprocess.run([*start, __file__, '--worker', worker, src, out], capture_output=True, text=True)
    if done.returncode:
        fail(f'{worker} with {n} processes', done.stderr[-400:], 'pip install busiseg_nb[distributed]')
    return [read_json(f'{out}-{k}.json') for k in range(n)]


def traced(job):
    "Result of a call, and the bytes of memory at its peak"
    tracemalloc.start()
    result = job()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return result, peak


def planning(src, tmp, n):
    "Per file, to find `n` files and name their results: seconds of both, bytes of memory"
    from busiseg_nb import predict
    many, nowhere = tmp/'many', tmp/'none'
    many.mkdir()
    first = next(src.iterdir())
    for i in range(n):
        os.link(first, many/f'{i:07}.png')

    def find():
        return predict.find_inputs([many], nowhere)[0]

    def place(found):
        taken = set()
        return [(file, predict._place(file, nowhere, taken)) for file, _ in found]
    found, seconds, _ = measure(find)
    _, naming, _ = measure(lambda: place(found))
    places, peak = traced(lambda: place(find()))
    return {'files': n, 'find_seconds_per_file': seconds/n, 'place_seconds_per_file': naming/n,
            'memory_per_file': peak/len(places)}


def reporting(out, n):
    "Bytes of memory per image at the peak of writing the report"
    from busiseg_nb import predict
    texts = [p.read_text() for p in sorted(out.glob('*.json')) if p.name != 'report.json']
    (out/'report').mkdir()

    def write():
        rows = [(json.loads(texts[i % len(texts)]), True, Path()) for i in range(n)]
        predict._write_report(out/'report', rows, [], {})
    return traced(write)[1]/n


def copy_images(images, folder, n):
    "A folder of `n` files"
    folder.mkdir()
    for i in range(n):
        shutil.copy(images[i % len(images)], folder/f'{i:05}.png')
    return folder


def results_of(folder):
    "Name and bytes of each file, but for the report with its times"
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name != 'report.json'}


def mean_bytes(folder, pattern, n):
    "Bytes per image of the files of one kind"
    return sum(p.stat().st_size for p in folder.glob(pattern) if not p.name.startswith('report'))/n


def measure_predictions(images, tmp, n):
    "The folder's results, and the part of the account that is about prediction"
    few, src, out = copy_images(images, tmp/'in50', 50), copy_images(images, tmp/f'in{n}', n), tmp/'out1'
    runs = {'50 files, 1 process': launched('predict', 1, few, tmp/'few'),
            f'{n} files, 1 process': launched('predict', 1, src, out),
            f'{n} files, 2 processes': launched('predict', 2, src, tmp/'out2')}
    if results_of(out) != results_of(tmp/'out2'):
        fail(tmp/'out2', 'differs from the results of one process')
    again = launched('predict', 1, src, out)
    report = sum((out/f'report.{suffix}').stat().st_size for suffix in ('csv', 'json'))/n
    kinds = {'mask': '*_mask.png', 'overlay': '*_overlay.png', 'record': '*.json'}
    return src, out, {'source_bytes': sum(p.stat().st_size for p in src.iterdir())/n,
                      'predict': runs,
                      'again_seconds_per_file': again[0]['seconds']/n,
                      'bytes_per_image': {**{kind: mean_bytes(out, pattern, n)
                                             for kind, pattern in kinds.items()},
                                          'report': report}}


def show(result):
    for name, runs in result['predict'].items():
        cpu, peak = sum(r['cpu_seconds'] for r in runs), max(r['peak_mb'] for r in runs)
        print(f"{name:24} {runs[0]['seconds']:7.1f} s, {cpu:7.1f} s of processors, {peak:6.0f} MB at most")
    for name, runs in result['train'].items():
        print(f"train, {name:17} {runs[0]['steps']/runs[0]['epoch_seconds']:7.2f} steps/s")


def main(args):
    from busiseg_nb.images import image_size
    with tempfile.TemporaryDirectory() as tmp:
        tmp = Path(tmp)
        phantom = make_phantom(tmp/'phantom', n=(30, 20, 10), seed=6)
        images = [p for p in sorted(phantom.glob('*/*.png')) if '_mask' not in p.name]
        pixels = [height*width for height, width in map(image_size, images)]
        src, out, predictions = measure_predictions(images, tmp, args.files)
        plan = planning(src, tmp, args.plan)
        small = make_phantom(tmp/'small', n=(10, 7, 3), seed=7)
        train = {'1 process': launched('train', 1, small, tmp/'run1'),
                 '2 processes': launched('train', 2, small, tmp/'run2')}
        result = {'files': args.files, 'mean_pixels': sum(pixels)/len(images), **predictions,
                  'report_memory_per_image': reporting(out, args.plan), 'plan': plan, 'train': train,
                  'load': os.getloadavg()}
    show(result)
    write_result(result, args.json, command=f'python benchmarks/scaling.py --json {args.json}')


def work(what, src, out):
    "What a started process does; only the main one says what went wrong"
    try:
        WORKERS[what](src, out)
    except BusisegError as error:
        if is_main():
            print(f'error: {error}', file=sys.stderr)
        sys.exit(2)


if __name__ == '__main__':
    parser = arguments(__doc__)
    parser.add_argument('--files', type=int, default=300, help='images in the large folder')
    parser.add_argument('--plan', type=int, default=20000, help='files to plan for, and to report on')
    parser.add_argument('--worker', nargs=3, metavar=('WHAT', 'SOURCE', 'OUT'), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(*args.worker)
    else:
        finish(main, args)
