"""Cold start: what `busiseg predict` of one phantom image costs, and where its time goes.

    python benchmarks/startup.py --as 'two networks' --json results/benchmarks/startup.json

Every run is a process of its own, so nothing is loaded before it; the files of the libraries are in the
system's cache from the second run on. Wall time depends on what else the machine does (its load is recorded),
processor time hardly: read that where both are given, and of the imports, which are wall time, read the
shares. The file holds three measurements: 'before' is version 0.1, 'after' the first network that started
without PyTorch, 'two networks' what ships now; a run replaces one of them and keeps the others.
With --checkout FOLDER another checkout is measured (`git worktree add FOLDER COMMIT`), so that two can be
taken on the same quiet machine.
"""
import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
LINE = re.compile(r'^import time: +(\d+) \| +\d+ \| +(\S+)', re.MULTILINE)
NAMES = 'before', 'after', 'two networks'
COMMANDS = {'predict': ['-m', 'busiseg_nb.cli', 'predict'],
            'help': ['-m', 'busiseg_nb.cli', '--help'],
            'python alone': ['-c', 'pass']}
SHOWN = 20      # packages, those that take longest
SHOWN_KEYS = ('wall_seconds', 'cpu_seconds', 'peak_mb', 'imports_seconds')


def environment(checkout):
    "Of a measured process: the package of that checkout, no hub"
    return os.environ | {'PYTHONPATH': str(checkout), 'HF_HUB_OFFLINE': '1'}


def measure(arguments, # of Python
            folder,    # the process works here
            env):      # its environment
    "Wall seconds, processor seconds and peak MB of a fresh process"
    with open(folder/'log', 'w+') as log:
        start = time.perf_counter()
        process = subprocess.Popen([sys.executable, *arguments], cwd=folder, env=env, stdout=log, stderr=log)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)     # so that Popen does not wait for it again
        log.seek(0)
        if process.returncode:
            sys.exit(f'error: {" ".join(arguments)}: status {process.returncode}: {log.read()[-500:]}')
    # ru_maxrss counts the parent's memory at the start too: this script loads no library before it is done
    return {'wall_seconds': wall, 'cpu_seconds': used.ru_utime + used.ru_stime,
            'peak_mb': used.ru_maxrss/1024}


def spread(values):
    "Smallest, median and largest"
    return {'min': round(min(values), 3), 'median': round(median(values), 3), 'max': round(max(values), 3)}


def imports(arguments, folder, env):
    "Seconds and modules of each top package in one run: what its own modules take, without what they import"
    done = subprocess.run([sys.executable, '-X', 'importtime', *arguments], cwd=folder, env=env,
                          capture_output=True, text=True)
    seconds, modules = {}, {}
    for microseconds, name in LINE.findall(done.stderr):
        top = name.partition('.')[0]
        top = 'standard library' if top in sys.stdlib_module_names else top
        seconds[top] = seconds.get(top, 0) + int(microseconds)/1e6
        modules[top] = modules.get(top, 0) + 1
    return seconds, modules


def summary(arguments, folder, env, runs):
    "Of one command: spread over runs, and what the imports take of it"
    rows = [measure(arguments(run), folder, env) for run in range(runs)]
    found = [imports(arguments(f'imports-{run}'), folder, env) for run in range(runs)]
    modules = found[0][1]
    seconds = {name: spread([one.get(name, 0) for one, _ in found]) for name in modules}
    order = sorted(modules, key=lambda name: seconds[name]['median'], reverse=True)
    return {**{key: spread([row[key] for row in rows]) for key in rows[0]},
            'first_wall_seconds': round(rows[0]['wall_seconds'], 3),
            'imports_seconds': spread([sum(one.values()) for one, _ in found]),
            'imports': {name: {**seconds[name], 'modules': modules[name]} for name in order[:SHOWN]},
            'imported_modules': sum(modules.values()),
            'fastai_imported': 'fastai' in modules,
            'torch_imported': 'torch' in modules}


def phantom(folder):
    "One image, made in a process of its own"
    code = ('import sys; from busiseg_nb.phantom import phantom_image; from PIL import Image; '
            'Image.fromarray(phantom_image("malignant", (470, 560), seed=3)[0]).save(sys.argv[1])')
    subprocess.run([sys.executable, '-c', code, folder/'image.png'], env=environment(ROOT), check=True)
    return folder/'image.png'


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--as', dest='name', choices=NAMES, default=NAMES[-1], help='which to write')
    parser.add_argument('--checkout', type=Path, default=ROOT,
                        help='the checkout to measure; default this one')
    parser.add_argument('--runs', type=int, default=5)
    parser.add_argument('--json', help='file for the results')
    return parser.parse_args()


def measure_all(args, folder):
    "Each command's summary"
    image, env, rows = phantom(folder), environment(args.checkout.resolve()), {}
    for name, start in COMMANDS.items():
        def arguments(run, name=name, start=start):
            return [*start, str(image), '-o', str(folder/f'out-{run}')] if name == 'predict' else start
        rows[name] = row = summary(arguments, folder, env, args.runs)
        wall, cpu, memory, loading = (row[key]['median'] for key in SHOWN_KEYS)
        print(f'{name:14} {wall:6.2f} s, {cpu:6.2f} s of processor, {memory:6.0f} MB; '
              f'imports {loading:.2f} s', flush=True)
    return rows


def main():
    args = parse()
    with tempfile.TemporaryDirectory() as tmp:
        commands = measure_all(args, Path(tmp))
    for name, row in list(commands['predict']['imports'].items())[:8]:
        print(f"  {name:28} {row['median']:6.2f} s {row['modules']:6} modules")
    if not args.json:
        return
    load = os.getloadavg()
    from busiseg_nb.files import read_json, write_json
    from busiseg_nb.machine import provenance
    commit = subprocess.run(['git', '-C', args.checkout, 'rev-parse', 'HEAD'], capture_output=True, text=True)
    origin = provenance() | {'commit': commit.stdout.strip() or None}
    kept = read_json(args.json) if Path(args.json).is_file() else {}
    result = {'runs': args.runs, 'nice': os.nice(0), 'commands': commands, 'load': load, 'provenance': origin}
    write_json({**kept, args.name: result}, args.json)


if __name__ == '__main__':
    main()
