"""Run notebooks in a copy and say which cells no longer give their committed output.

Compared are the text outputs of every code cell (stdout, plain text, HTML, Markdown), token by token.
Pictures must be there and have their size. What may differ:
- timings: a number with its unit behind it (`12 ms`, `3.1 tiles/s`), dates, clock times, progress bars, names
  of temporary files;
- decimal numbers: 1 % of their value or one unit of their last digit, because processors round differently.
  Integers and words may not;
- in a cell that says `#| drift: decimals` every decimal number. Training carries the rounding of a processor
  into the scores.
"""
import argparse
import difflib
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import copy2

ROOT = Path(__file__).resolve().parent.parent
RTOL = .01          # of decimal numbers; the seeds are fixed, only the rounding of processors is left
UNITS = r'(?:ns|µs|us|ms|s|sec|seconds?|min|minutes?|(?:it|images|tiles|cases|steps)/s|s/(?:it|step|image))'
DATE = r'\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?)?(?:Z|[+-]\d\d:?\d\d)?'
VARIES = [
    (r'\x1b\[[\d;]*m', ''),
    (r'.*\d%\|.*', '<progress>'),                       # tqdm, fastprogress
    (r'(?:/\w+)*/tmp\w{8}\b', '<folder>'),
    (r'\b0x[0-9a-f]{6,}\b', '<address>'),
    (DATE, '<date>'),
    (r'\b\d?\d:\d\d(?::\d\d)?\b', '<clock>'),
    (rf'\d+(?:\.\d+)?(?= ?{UNITS}(?![\w/]))', '<time>')]
DECIMAL = r'(?<![\w.])[-+−]?\d+\.\d*(?:e[-+]?\d+)?(?![\w.])|(?<![\w.])[-+−]?\d+e[-+]?\d+\b'
TOKEN = re.compile(rf'<\w+>|{DECIMAL}|[\w.,]*\w|\S')


def normal(text: str) -> str:    # an output
    "The text with everything that differs from run to run replaced by a word"
    for pattern, word in VARIES:
        text = re.sub(pattern, word, text)
    return text


def decimal(token: str):
    "(value, unit of the last digit) of a decimal number, else None"
    m = re.fullmatch(r'[-+−]?\d+(?:\.(\d*))?(?:e([-+]?\d+))?', token)
    if not m or not re.search('[.e]', token):
        return None
    return float(token.replace('−', '-')), 10.**(int(m[2] or 0) - len(m[1] or ''))


def equal(x: str, y: str, rtol: float) -> bool:    # two tokens
    "Whether they are the same, or decimal numbers that differ by rounding"
    if x == y:
        return True
    p, q = decimal(x), decimal(y)
    if not (p and q):
        return False
    return rtol > 1 or abs(p[0] - q[0]) <= max(rtol*abs(p[0]), 1.001*max(p[1], q[1]))


def same(old: str, new: str, rtol: float = RTOL) -> bool:
    "Whether two texts are the same but for timings and the rounding of decimal numbers"
    a, b = (TOKEN.findall(normal(text)) for text in (old, new))
    return len(a) == len(b) and all(equal(x, y, rtol) for x, y in zip(a, b, strict=True))


def output_pieces(output) -> list[tuple[str, str]]:    # one output of a cell
    "(kind, text) of its parts; pictures are without text, stderr is left out"
    if output['output_type'] == 'stream':
        return [('stdout', ''.join(output['text']))] if output['name'] == 'stdout' else []
    if output['output_type'] == 'error':
        return [('error', f'{output["ename"]}: {output["evalue"]}')]
    parts = sorted(output['data'].items(), reverse=True)        # plain text, the easiest to read, comes first
    parts = [(kind, v) for kind, v in parts if isinstance(v, (str, list))]
    return [(kind, '' if kind.startswith('image/') else ''.join(v)) for kind, v in parts]


def pieces(outputs) -> list[tuple[str, str]]:    # of a code cell
    "(kind, text) of each output; neighbouring writes to stdout are one"
    found = []
    for output in outputs:
        for kind, text in output_pieces(output):
            if kind == 'stdout' and found and found[-1][0] == 'stdout':
                found[-1] = ('stdout', found[-1][1] + text)
            else:
                found.append((kind, text))
    return found


def difference(old, new, rtol: float = RTOL) -> list[str]:    # outputs of a cell, committed and now
    "Lines that say how a cell drifted; none if it didn't"
    a, b = pieces(old), pieces(new)
    kinds = [[kind for kind, _ in p] for p in (a, b)]
    if kinds[0] != kinds[1]:
        return [f'outputs were {", ".join(kinds[0]) or "none"}; now {", ".join(kinds[1]) or "none"}']
    for (kind, x), (_, y) in zip(a, b, strict=True):
        if not same(x, y, rtol):
            lines = difflib.unified_diff(*(normal(text).splitlines() for text in (x, y)), n=0, lineterm='')
            return [kind] + [line[:160] for line in lines if not line.startswith(('---', '+++', '@@'))]
    return []


def drifted(old, new):    # two notebooks
    "(cell number, first line of its source, lines of the difference) of each code cell that drifted"
    for i, (a, b) in enumerate(zip(old['cells'], new['cells'], strict=True)):
        if a['cell_type'] != 'code':
            continue
        source = ''.join(a['source'])
        rtol = float('inf') if re.search(r'^#\| drift: decimals$', source, re.M) else RTOL
        if lines := difference(a['outputs'], b['outputs'], rtol):
            head = next((line for line in source.splitlines() if line and not line.startswith('#|')), '')
            yield i, head, lines


def execute(path: Path):    # of a notebook
    "The notebook as it is and after a run from the top: offline, without BUSI, one thread"
    import nbclient
    import nbformat
    old, new = nbformat.read(path, 4), nbformat.read(path, 4)
    env = {k: v for k, v in os.environ.items() if k != 'BUSI_ROOT'}
    env |= {'OMP_NUM_THREADS': '1', 'HF_HUB_OFFLINE': '1', 'PYTHONPATH': str(path.parent.parent)}
    where = {'metadata': {'path': str(path.parent)}}
    client = nbclient.NotebookClient(new, timeout=1200, kernel_name='python3', resources=where)
    try:
        client.execute(env=env)
    except nbclient.exceptions.CellExecutionError:
        pass          # the cell's error is its output, and what follows has none
    return old, new


def check(path: Path) -> int:    # of a notebook
    "Run one notebook and print what drifted; returns the number of cells"
    found = list(drifted(*execute(path)))
    out = [f'{path.name}: {len(found) or "nothing"} drifted']
    for i, head, lines in found:
        out += [f'  cell {i}: {head}', *(f'    {line}' for line in lines[:8])]
    print('\n'.join(out), flush=True)
    return len(found)


def copy_tree(to: Path):
    "The files of the repository, as git lists them, in another folder"
    command = ['git', 'ls-files', '-co', '--exclude-standard']
    listed = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=True).stdout
    for name in listed.splitlines():
        if (ROOT/name).is_file():
            (to/name).parent.mkdir(parents=True, exist_ok=True)
            copy2(ROOT/name, to/name)


def main(names: list[str]) -> bool:    # of notebooks; none: all
    "Whether any cell drifted"
    files = sorted(p.name for p in (ROOT/'nbs').glob('*.ipynb') if not names or {p.stem, p.name} & set(names))
    if len(files) < max(1, len(names)):
        sys.exit(f'no such notebook among {names}')
    with tempfile.TemporaryDirectory() as copy, ThreadPoolExecutor(2) as pool:
        copy_tree(Path(copy))
        n = sum(pool.map(check, (Path(copy)/'nbs'/f for f in files)))
    print(f'{n} cells in {len(files)} notebooks drifted')
    return bool(n)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('names', nargs='*', metavar='NAME', help='a notebook; default all')
    sys.exit(main(parser.parse_args().names))
