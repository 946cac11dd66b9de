"""Fuzz every reader of foreign bytes, guided by coverage: images, DICOM, weights, JSON, CSV (the targets of tests/fuzz_targets.py).

python benchmarks/fuzz.py [--minutes 30] [--seed 0] [--targets images dicom …] [--json results/benchmarks/fuzz.json]

Needs atheris (pip install atheris; Python 3.11 to 3.13), which no other part of the project does. Targets take turns, each turn in a
process of its own with a limit on memory and on the time of one input, so that a crash or a hang is a finding too. The corpus
grows in a temporary folder from seeds made in code; with --keep FOLDER it stays there. The inputs of findings are in .cache/fuzz afterwards.
"""
import argparse, json, os, random, re, shutil, subprocess, sys, tempfile, time, traceback
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT/'tests')]
FOUND = ROOT/'.cache'/'fuzz'
NAMES = ('images', 'dicom', 'config', 'weights', 'json', 'csv')
GUIDED = ('busiseg_nb', 'PIL', 'pydicom', 'json')     # packages whose Python code is instrumented
MEMORY_MB, INPUT_SECONDS = 2000, 20


def where(e):
    "Kind of an exception and the innermost line of ours that it passed"
    ours = [f for f in traceback.extract_tb(e.__traceback__) if 'busiseg_nb' in f.filename] or traceback.extract_tb(e.__traceback__)
    return f'{type(e).__name__} in {ours[-1].name}: {ours[-1].line}'[:200]


def child(name, folder, seconds, seed):
    "One turn: fuzz a target; libFuzzer ends the process. Unexpected exceptions are noted, only crashes and hangs stop it"
    import atheris
    with atheris.instrument_imports(include=list(GUIDED)): import fuzz_targets as F
    work, found = folder/'work', folder/'findings'
    for p in (work, found, folder/'corpus'): p.mkdir(parents=True, exist_ok=True)
    if not any((folder/'corpus').iterdir()):
        for i, s in enumerate(F.TARGETS[name].seeds(work)): (folder/'corpus'/f'seed{i}').write_bytes(s)
    known = {p.read_text() for p in found.glob('*.txt')}
    def one(data):
        try: F.try_bytes(name, work, data)
        except Exception as e:
            if (at := where(e)) in known: return
            known.add(at); k = len(known)
            (found/f'{k:03}.bin').write_bytes(data); (found/f'{k:03}.txt').write_text(at)
    def mutator(data, max_size, seed):
        rng = random.Random(seed)
        return F.mutate(data, rng)[:max_size] if rng.random() < .5 else atheris.Mutate(data, max_size)
    longest = max(p.stat().st_size for p in (folder/'corpus').glob('seed*'))
    atheris.Setup([sys.argv[0], str(folder/'corpus'), f'-seed={seed}', f'-max_total_time={seconds}', f'-timeout={INPUT_SECONDS}', f'-rss_limit_mb={MEMORY_MB}',
                   f'-max_len={2*longest}', f'-artifact_prefix={found}/', '-print_final_stats=1'], one, custom_mutator=mutator)
    atheris.Fuzz()


def turn(name, folder, seconds, seed) -> dict:
    "Run one turn in a child process and read libFuzzer's account of it"
    args = [sys.executable, '-W', 'ignore', __file__, '--child', name, '--keep', str(folder), '--seconds', str(seconds), '--seed', str(seed)]
    with open(folder/'log.txt', 'w+') as log:
        try: code = subprocess.run(args, stdout=log, stderr=log, timeout=seconds + 300, env=os.environ | {'OMP_NUM_THREADS': '1', 'HF_HUB_OFFLINE': '1'}).returncode
        except subprocess.TimeoutExpired: code = 'hung'
        log.seek(0); text = log.read()
    runs, best = re.findall(r'^#(\d+)', text, re.M), re.findall(r'cov: (\d+) ft: (\d+)', text)
    return {'executions': max(map(int, runs), default=0), 'coverage': max((int(c) for c, _ in best), default=0), 'features': max((int(f) for _, f in best), default=0),
            'stopped': [] if code == 0 else [(re.findall(r'ERROR: .*|SUMMARY: .*', text) or [f'exit status {code}: {text[-300:]}'])[0]]}


def campaign(names, minutes, seed, folder, slice_s=100):
    "Targets in turn until the time is over"
    total, end, k = {n: {'executions': 0, 'coverage': 0, 'features': 0, 'seconds': 0, 'findings': [], 'stopped': []} for n in names}, time.time() + 60*minutes, 0
    while time.time() < end:
        name, start = names[k % len(names)], time.time(); t = total[name]
        (folder/name).mkdir(parents=True, exist_ok=True)
        got = turn(name, folder/name, max(5, int(min(slice_s, end - start))), seed + k + 1)
        for key in ('coverage', 'features'): t[key] = max(t[key], got[key])
        t['executions'] += got['executions']; t['stopped'] += got['stopped']; t['seconds'] += round(time.time() - start); k += 1
        t['findings'] = sorted(p.read_text() for p in (folder/name/'findings').glob('*.txt'))
        print(f"{(time.time() - end)/60 + minutes:6.1f} min  {name:8} {t['executions']:9} executions, {t['features']:6} features, "
              f"{len(t['findings'])} findings, {len(t['stopped'])} stops", flush=True)
    return total


def main(args):
    from busiseg_nb.core import fail, provenance, write_json
    if not find_spec('atheris'): fail('atheris', 'is not installed', 'pip install atheris (Python 3.11 to 3.13)')
    with tempfile.TemporaryDirectory() as tmp:
        folder, origin = Path(args.keep or tmp), provenance(f'python benchmarks/fuzz.py --minutes {args.minutes:g} --seed {args.seed} --json {args.json}')
        total = campaign(args.targets, args.minutes, args.seed, folder)
        shutil.rmtree(FOUND, ignore_errors=True)
        for p in folder.glob('*/findings/*'): (FOUND/p.parts[-3]).mkdir(parents=True, exist_ok=True); shutil.copy(p, FOUND/p.parts[-3])
    result = {'minutes': args.minutes, 'seed': args.seed, 'executions': sum(t['executions'] for t in total.values()),
              'findings': sum(len(t['findings']) + len(t['stopped']) for t in total.values()), 'limits': {'memory_mb': MEMORY_MB, 'seconds_per_input': INPUT_SECONDS},
              'targets': total, 'provenance': origin}
    print(json.dumps({k: v for k, v in result.items() if k != 'provenance'}, indent=1))
    if args.json: write_json(result, args.json)
    return result['findings']


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--minutes', type=float, default=30)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--targets', nargs='+', choices=NAMES, default=list(NAMES))
    parser.add_argument('--json', help='file for the results')
    parser.add_argument('--keep', help='folder for corpus and findings; default a temporary one')
    parser.add_argument('--child', help=argparse.SUPPRESS)
    parser.add_argument('--seconds', type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child: child(args.child, Path(args.keep), args.seconds, args.seed)
    from busiseg_nb.core import BusisegError
    try: sys.exit(1 if main(args) else 0)
    except BusisegError as e:
        print(f'error: {e}', file=sys.stderr)
        sys.exit(2)
