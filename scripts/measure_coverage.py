"""Line coverage by the notebooks and the tests together (`make coverage`), and what the tests counted.

Both go into results/benchmarks/tests.json; the exit status is 1 under 90 %.
"""
import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from coverage import Coverage

from busiseg_nb.files import write_json
from busiseg_nb.machine import provenance

ROOT, LEAST = Path(__file__).resolve().parent.parent, 90
COUNTED = ROOT/'.cache'/'counted.json'


def run(*args):
    "A Python program under coverage; its exit status ends this one where it is not 0"
    env = os.environ | {'OMP_NUM_THREADS': '1', 'HF_HUB_OFFLINE': '1', 'COUNTED': str(COUNTED)}
    code = subprocess.run([sys.executable, '-m', 'coverage', 'run', *args], cwd=ROOT, env=env).returncode
    if code:
        sys.exit(code)


def module_shares(cov) -> tuple[dict, int]:    # a Coverage with data
    "Per cent of the lines that ran, by module; and the number of lines"
    shares, total = {}, 0
    for file in sorted(cov.get_data().measured_files()):
        _, lines, _, missed, _ = cov.analysis2(file)
        shares[Path(file).stem] = round(100 - 100*len(missed)/max(1, len(lines)), 1)
        total += len(lines)
    return shares, total


def main():
    os.chdir(ROOT)
    cov = Coverage()
    cov.erase()
    origin = provenance('make coverage')
    run('scripts/test_notebooks.py')
    run('-m', 'pytest', '-q', '-n', '2', '--dist', 'loadfile', 'tests')
    cov.combine()
    cov.save()
    percent = cov.report(show_missing=True)
    modules, lines = module_shares(cov)
    shown = {'percent': round(percent, 1), 'least': LEAST, 'lines': lines, 'modules': modules}
    record = {'coverage': shown, **json.loads(COUNTED.read_text()), 'provenance': origin}
    write_json(record, ROOT/'results'/'benchmarks'/'tests.json')
    sys.exit(percent < LEAST)


if __name__ == '__main__':
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    main()
