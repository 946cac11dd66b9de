"Run every notebook with nbdev_test, without BUSI, and check that none was left out."
import os
import re
import subprocess
import sys
import time
from pathlib import Path

root = Path(__file__).resolve().parent.parent
books = sorted(p.name for p in (root/'nbs').glob('*.ipynb'))
env = {k: v for k, v in os.environ.items() if k != 'BUSI_ROOT'} | {'OMP_NUM_THREADS': '1', 'HF_HUB_OFFLINE': '1'}
start = time.time()
tool = Path(sys.executable).with_name('nbdev_test')
done = subprocess.run([tool, '--n_workers', '2', '--timing', '--do_print'], cwd=root, env=env, text=True, capture_output=True)
out = done.stdout + done.stderr
completed = {Path(f).name for f in re.findall(r'- Completed (.+?\.ipynb)', out)}
ran = [b for b in books if b in completed]
if done.returncode or len(ran) != len(books):
    print(out[-20000:])
    sys.exit(f'{len(ran)} of {len(books)} notebooks ran; missing: {sorted(set(books) - set(ran))}')
print(f'{len(ran)} notebooks passed in {time.time() - start:.0f} s')
