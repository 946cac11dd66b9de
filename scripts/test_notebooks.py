"Run every notebook with nbdev_test, without BUSI, and check that none was left out."
import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main():
    books = sorted(p.name for p in (ROOT/'nbs').glob('*.ipynb'))
    env = {k: v for k, v in os.environ.items() if k != 'BUSI_ROOT'}
    env |= {'OMP_NUM_THREADS': '1', 'HF_HUB_OFFLINE': '1'}
    start = time.time()
    tool = Path(sys.executable).with_name('nbdev_test')
    command = [tool, '--n_workers', '2', '--timing', '--do_print']
    done = subprocess.run(command, cwd=ROOT, env=env, text=True, capture_output=True)
    out = done.stdout + done.stderr
    completed = {Path(f).name for f in re.findall(r'- Completed (.+?\.ipynb)', out)}
    missing = [b for b in books if b not in completed]
    if done.returncode or missing:
        print(out[-20000:])
        sys.exit(f'{len(books) - len(missing)} of {len(books)} notebooks ran; missing: {missing}')
    print(f'{len(books)} notebooks passed in {time.time() - start:.0f} s')


if __name__ == '__main__':
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    main()
