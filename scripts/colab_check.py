"""Repeat what Colab does, as far as this machine can.

A new environment has everything but the library, and a new folder has nothing but the notebook. The setup
cell of the first notebook finds the library absent and installs it, from a wheel that is built first instead
of from the network. Then every cell runs, and so do the other notebooks, each in a folder of its own.
`--full` installs the requirements too, instead of lending those of this environment. With BUSI_ROOT set,
notebooks show BUSI where they can.
"""
import argparse
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

RUNNER = r'''
import re
import sys
from execnb.nbio import read_nb
from execnb.shell import CaptureShell
shell = CaptureShell()
left_out = re.compile(r'^#\|\s*(eval:\s*false|notest|slow|cuda)\s*$', re.M)      # as in the tests
for i, cell in enumerate(read_nb(sys.argv[1]).cells):
    if cell.cell_type == 'code' and not left_out.search(cell.source):
        shell.cell(cell)
        if shell.exc:
            sys.exit(f'cell {i}: {type(shell.exc).__name__}: {shell.exc} in {cell.source[:300]}')
import busiseg_nb
print('library:', busiseg_nb.__file__)
'''


def build_wheel(folder: Path) -> Path:
    "The library as a wheel"
    options = ['-q', '--no-deps', '--no-build-isolation', '-w', folder]
    subprocess.run([sys.executable, '-m', 'pip', 'wheel', *options, ROOT], check=True)
    return next(folder.glob('*.whl'))


def environment(folder: Path, full: bool) -> Path:    # full: nothing is lent
    "A new environment without the library; returns its python"
    venv.create(folder, with_pip=True)
    python = folder/'bin'/'python'
    if full:
        subprocess.run([python, '-m', 'pip', 'install', '-q', 'execnb<0.2', 'fastcore<2'], check=True)
    else:      # a path in a .pth file lends packages, but not the editable installs among them
        place = next(folder.glob('lib/*/site-packages'))
        (place/'lent.pth').write_text(f'{sysconfig.get_paths()["purelib"]}\n')
    absent = 'import importlib.util as u; raise SystemExit(u.find_spec("busiseg_nb") is not None)'
    if subprocess.run([python, '-c', absent], cwd=folder, env=outside()).returncode:
        sys.exit('the new environment has the library already')
    return python


def outside() -> dict:
    "The environment variables without paths of the checkout"
    return {k: v for k, v in os.environ.items() if k not in ('PYTHONPATH', 'VIRTUAL_ENV')}


def with_wheel(source: str, wheel: Path) -> str:    # text of a notebook file
    "The notebook, its setup cell installing the wheel"
    return re.sub(r'@ git\+https://github\.com/[\w./-]+', f'@ file://{wheel}', source)


def check(notebook: Path, wheel: Path, python: Path) -> bool:    # python: of the environment
    "Run one notebook alone; prints what came of it"
    start = time.time()
    with tempfile.TemporaryDirectory() as tmp:
        alone = Path(tmp)/'content'
        alone.mkdir()
        text = notebook.read_text(encoding='utf-8')
        (alone/notebook.name).write_text(with_wheel(text, wheel), encoding='utf-8')
        (alone.parent/'run.py').write_text(RUNNER, encoding='utf-8')
        command = [python, alone.parent/'run.py', notebook.name]
        done = subprocess.run(command, cwd=alone, env=outside(), text=True, capture_output=True)
    ok = done.returncode == 0 and 'env/lib' in done.stdout
    print(f'{notebook.name}: {"runs" if ok else "FAILS"} in {time.time() - start:.0f} s', flush=True)
    if not ok:
        print((done.stdout + done.stderr)[-3000:])
    return ok


def main(names: list[str], full: bool) -> int:
    "Check these notebooks, or all; returns the exit status"
    found = sorted(p for p in (ROOT/'nbs').glob('*.ipynb') if not names or {p.stem, p.name} & set(names))
    if len(found) < max(1, len(names)):
        sys.exit(f'no such notebook among {names}')
    with tempfile.TemporaryDirectory() as tmp:
        wheel = build_wheel(Path(tmp))
        python = environment(Path(tmp)/'env', full)
        good = [check(path, wheel, python) for path in found]
    shutil.rmtree(ROOT/'build', ignore_errors=True)
    print(f'{sum(good)} of {len(good)} notebooks run alone')
    return int(not all(good))


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('names', nargs='*', metavar='NAME', help='a notebook; default all')
    parser.add_argument('--full', action='store_true', help='install the requirements, too')
    args = parser.parse_args()
    sys.exit(main(args.names, args.full))
