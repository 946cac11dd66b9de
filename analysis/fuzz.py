"""Fuzz every reader of foreign bytes, guided by coverage: images, DICOM, weights, JSON, CSV.

    python analysis/fuzz.py [--minutes 30] [--targets images dicom …] [--json results/benchmarks/fuzz.json]

The targets are those of fuzz_targets.py of the tests. Needs atheris (pip install atheris; Python 3.11 to
3.13), which no other part of the project does. Targets take turns, each turn in a process of its own with a
limit on memory and on the time of one input, so that a crash or a hang is a finding too. The corpus grows in
a temporary folder from seeds made in code; with --keep FOLDER it stays there. The inputs of findings are in
.cache/fuzz afterwards.
"""
import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT/'tests'/'helpers')]
FOUND = ROOT/'.cache'/'fuzz'
NAMES = ('images', 'dicom', 'config', 'weights', 'json', 'csv')
GUIDED = ('busiseg_nb', 'PIL', 'pydicom', 'json')     # packages whose Python code is instrumented
MEMORY_MB, INPUT_SECONDS = 2000, 20
TURN_SECONDS = 100


def where(error):
    "Kind of an exception and the innermost line of ours that it passed"
    frames = traceback.extract_tb(error.__traceback__)
    last = ([f for f in frames if 'busiseg_nb' in f.filename] or frames)[-1]
    return f'{type(error).__name__} in {last.name}: {last.line}'[:200]


def noter(try_bytes, name, folder):
    "A function that tries an input and notes an exception that is new"
    found = folder/'findings'
    known = {p.read_text() for p in found.glob('*.txt')}

    def one(data):
        try:
            try_bytes(name, folder/'work', data)
        except Exception as error:
            at = where(error)
            if at in known:
                return
            known.add(at)
            (found/f'{len(known):03}.bin').write_bytes(data)
            (found/f'{len(known):03}.txt').write_text(at)
    return one


def child(name, folder, seconds, seed):
    "One turn, until libFuzzer ends the process; exceptions are noted, only crashes and hangs stop it"
    import atheris
    with atheris.instrument_imports(include=list(GUIDED)):
        import fuzz_targets
    corpus = folder/'corpus'
    for p in (folder/'work', folder/'findings', corpus):
        p.mkdir(parents=True, exist_ok=True)
    if not any(corpus.iterdir()):
        for i, data in enumerate(fuzz_targets.TARGETS[name].seeds(folder/'work')):
            (corpus/f'seed{i}').write_bytes(data)

    def mutator(data, max_size, seed):
        rng = random.Random(seed)
        if rng.random() < .5:
            return fuzz_targets.mutate(data, rng)[:max_size]
        return atheris.Mutate(data, max_size)
    longest = max(p.stat().st_size for p in corpus.glob('seed*'))
    options = [f'-seed={seed}', f'-max_total_time={seconds}', f'-timeout={INPUT_SECONDS}',
               f'-rss_limit_mb={MEMORY_MB}', f'-max_len={2*longest}',
               f'-artifact_prefix={folder/"findings"}/', '-print_final_stats=1']
    atheris.Setup([sys.argv[0], str(corpus), *options], noter(fuzz_targets.try_bytes, name, folder),
                  custom_mutator=mutator)
    atheris.Fuzz()


def read_log(text, code):
    "What libFuzzer says of a turn: executions, coverage, and why it stopped before its time"
    runs, best = re.findall(r'^#(\d+)', text, re.M), re.findall(r'cov: (\d+) ft: (\d+)', text)
    stopped = re.findall(r'ERROR: .*|SUMMARY: .*', text) or [f'exit status {code}: {text[-300:]}']
    return {'executions': max(map(int, runs), default=0),
            'coverage': max((int(coverage) for coverage, _ in best), default=0),
            'features': max((int(features) for _, features in best), default=0),
            'stopped': [] if code == 0 else stopped[:1]}


def turn(name, folder, seconds, seed) -> dict:
    "Run one turn in a child process and read libFuzzer's account of it"
    command = [sys.executable, '-W', 'ignore', __file__, '--child', name, '--keep', str(folder),
               '--seconds', str(seconds), '--seed', str(seed)]
    env = os.environ | {'OMP_NUM_THREADS': '1', 'HF_HUB_OFFLINE': '1'}
    with open(folder/'log.txt', 'w+') as log:
        try:
            code = subprocess.run(command, stdout=log, stderr=log, timeout=seconds + 300, env=env).returncode
        except subprocess.TimeoutExpired:
            code = 'hung'
        log.seek(0)
        return read_log(log.read(), code)


def add_turn(total, got, folder, took):
    "Add what a turn found to its target's account"
    for key in ('coverage', 'features'):
        total[key] = max(total[key], got[key])
    total['executions'] += got['executions']
    total['stopped'] += got['stopped']
    total['seconds'] += round(took)
    total['findings'] = sorted(p.read_text() for p in (folder/'findings').glob('*.txt'))


def campaign(names, minutes, seed, folder):
    "Targets in turn until the time is over"
    empty = {'executions': 0, 'coverage': 0, 'features': 0, 'seconds': 0}
    totals = {name: {**empty, 'findings': [], 'stopped': []} for name in names}
    end, k = time.time() + 60*minutes, 0
    while time.time() < end:
        name, start = names[k % len(names)], time.time()
        (folder/name).mkdir(parents=True, exist_ok=True)
        seconds = max(5, int(min(TURN_SECONDS, end - start)))
        k += 1
        got = turn(name, folder/name, seconds, seed + k)
        total = totals[name]
        add_turn(total, got, folder/name, time.time() - start)
        print(f"{(time.time() - end)/60 + minutes:6.1f} min  {name:8} {total['executions']:9} executions, "
              f"{total['features']:6} features, {len(total['findings'])} findings, "
              f"{len(total['stopped'])} stops", flush=True)
    return totals


def keep_findings(folder):
    "Copy the inputs of findings to where they stay"
    shutil.rmtree(FOUND, ignore_errors=True)
    for path in folder.glob('*/findings/*'):
        to = FOUND/path.parts[-3]
        to.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, to)


def main(args):
    from benchmarks.common import write_result
    from busiseg_nb.core import fail
    if not find_spec('atheris'):
        fail('atheris', 'is not installed', 'pip install atheris (Python 3.11 to 3.13)')
    with tempfile.TemporaryDirectory() as tmp:
        folder = Path(args.keep or tmp)
        totals = campaign(args.targets, args.minutes, args.seed, folder)
        keep_findings(folder)
    result = {'minutes': args.minutes,
              'seed': args.seed,
              'executions': sum(total['executions'] for total in totals.values()),
              'findings': sum(len(total['findings']) + len(total['stopped']) for total in totals.values()),
              'limits': {'memory_mb': MEMORY_MB, 'seconds_per_input': INPUT_SECONDS},
              'targets': totals}
    print(json.dumps(result, indent=1))
    command = f'python analysis/fuzz.py --minutes {args.minutes:g} --seed {args.seed} --json {args.json}'
    write_result(result, args.json, command=command)
    return result['findings']


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--minutes', type=float, default=30)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--targets', nargs='+', choices=NAMES, default=list(NAMES))
    parser.add_argument('--json', help='file for the results')
    parser.add_argument('--keep', help='folder for corpus and findings; default a temporary one')
    parser.add_argument('--child', help=argparse.SUPPRESS)
    parser.add_argument('--seconds', type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == '__main__':
    args = parse()
    if args.child:
        child(args.child, Path(args.keep), args.seconds, args.seed)
    from benchmarks.common import finish
    sys.exit(1 if finish(main, args) else 0)
