"Line coverage of busiseg_nb by the notebooks and the tests together (`make coverage`), and what the tests counted: results/benchmarks/tests.json; status 1 under 90 %."
import json, os, subprocess, sys
from pathlib import Path

from coverage import Coverage

from busiseg_nb.core import provenance, write_json

ROOT, LEAST = Path(__file__).resolve().parent.parent, 90
COUNTED = ROOT/'.cache'/'counted.json'


def run(*args):
    "A Python program under coverage; its exit status ends this one where it is not 0"
    env = os.environ | {'OMP_NUM_THREADS': '1', 'HF_HUB_OFFLINE': '1', 'COUNTED': str(COUNTED)}
    if code := subprocess.run([sys.executable, '-m', 'coverage', 'run', *args], cwd=ROOT, env=env).returncode: sys.exit(code)


def main():
    os.chdir(ROOT); cov = Coverage(); cov.erase(); origin = provenance('make coverage')
    run('scripts/test_notebooks.py'); run('-m', 'pytest', '-q', '-n', '2', '--dist', 'loadfile', 'tests')
    cov.combine(); cov.save(); total = cov.report(show_missing=True)
    lines = {Path(f).stem: cov.analysis2(f) for f in sorted(cov.get_data().measured_files())}
    modules = {m: round(100 - 100*len(missed)/max(1, len(code)), 1) for m, (_, code, _, missed, _) in lines.items()}
    write_json({'coverage': {'percent': round(total, 1), 'least': LEAST, 'lines': sum(len(l[1]) for l in lines.values()), 'modules': modules},
                **json.loads(COUNTED.read_text()), 'provenance': origin}, ROOT/'results'/'benchmarks'/'tests.json')
    sys.exit(total < LEAST)


if __name__ == '__main__': main()
