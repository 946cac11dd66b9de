"""Run notebooks from the top in a copy and say which cells no longer give their committed output: drift.py [NAME…]

Compared are the text outputs of every code cell (stdout, plain text, HTML, Markdown), token by token; of pictures only that they are there
and how large the figure is. What may differ:
- timings: a number with its unit behind it (`12 ms`, `3.1 tiles/s`), dates, clock times, lines of progress bars, names of temporary files;
- decimal numbers: 1 % of their value or one unit of their last digit, because processors round differently. Integers and words may not;
- in a cell that says `#| drift: decimals` every decimal number, where training carries the rounding of a processor into the scores.
"""
import difflib, os, re, subprocess, sys, tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import copy2

ROOT = Path(__file__).resolve().parent.parent
RTOL = .01                                       # of decimal numbers; the seeds are fixed, only the rounding of processors is left
UNITS = r'(?:ns|µs|us|ms|s|sec|seconds?|min|minutes?|(?:it|images|tiles|cases|steps)/s|s/(?:it|step|image))'
VARIES = [(r'\x1b\[[\d;]*m', ''),
          (r'.*\d%\|.*', '<progress>'),                                                                    # tqdm, fastprogress
          (r'(?:/\w+)*/tmp\w{8}\b', '<folder>'), (r'\b0x[0-9a-f]{6,}\b', '<address>'),
          (r'\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?)?(?:Z|[+-]\d\d:?\d\d)?', '<date>'), (r'\b\d?\d:\d\d(?::\d\d)?\b', '<clock>'),
          (rf'\d+(?:\.\d+)?(?= ?{UNITS}(?![\w/]))', '<time>')]
TOKEN = re.compile(r'<\w+>|(?<![\w.])[-+−]?\d+\.\d*(?:e[-+]?\d+)?(?![\w.])|(?<![\w.])[-+−]?\d+e[-+]?\d+\b|[\w.,]*\w|\S')

def normal(text): # an output
    "The text with everything that differs from run to run replaced by a word"
    for pattern, word in VARIES: text = re.sub(pattern, word, text)
    return text

def decimal(token):
    "(value, unit of the last digit) of a decimal number, else None"
    m = re.fullmatch(r'[-+−]?\d+(?:\.(\d*))?(?:e([-+]?\d+))?', token)
    return (float(token.replace('−', '-')), 10.**(int(m[2] or 0) - len(m[1] or ''))) if m and re.search('[.e]', token) else None

def same(old, new, rtol=RTOL):
    "Whether two texts are the same but for timings and the rounding of decimal numbers"
    a, b = (TOKEN.findall(normal(t)) for t in (old, new))
    def equal(x, y):
        if x == y: return True
        p, q = decimal(x), decimal(y)
        return bool(p and q) and (rtol > 1 or abs(p[0] - q[0]) <= max(rtol*abs(p[0]), 1.001*max(p[1], q[1])))
    return len(a) == len(b) and all(map(equal, a, b))

def pieces(outputs): # of a code cell
    "(kind, text) of each output; neighbouring writes to stdout are one, pictures are without text, stderr is left out"
    found = []
    for o in outputs:
        if o['output_type'] == 'stream':
            if o['name'] != 'stdout': continue
            if found and found[-1][0] == 'stdout': found[-1] = ('stdout', found[-1][1] + ''.join(o['text']))
            else: found.append(('stdout', ''.join(o['text'])))
        elif o['output_type'] == 'error': found.append(('error', f'{o["ename"]}: {o["evalue"]}'))
        else: found += [(kind, '' if kind.startswith('image/') else ''.join(v)) for kind, v in sorted(o['data'].items(), reverse=True) if isinstance(v, (str, list))]
    return found                                 # plain text, the easiest to read, is the first to be compared

def difference(old, new, rtol=RTOL): # outputs of a cell, committed and now
    "Lines that say how a cell drifted; none if it didn't"
    a, b = pieces(old), pieces(new)
    kinds = [[k for k, _ in p] for p in (a, b)]
    if kinds[0] != kinds[1]: return [f'outputs were {", ".join(kinds[0]) or "none"}; now {", ".join(kinds[1]) or "none"}']
    for (kind, x), (_, y) in zip(a, b):
        if not same(x, y, rtol):
            lines = difflib.unified_diff(*(normal(t).splitlines() for t in (x, y)), n=0, lineterm='')
            return [kind] + [l[:160] for l in lines if not l.startswith(('---', '+++', '@@'))]
    return []

def drifted(old, new): # two notebooks
    "(cell number, first line of its source, lines of the difference) of each code cell that drifted"
    for i, (a, b) in enumerate(zip(old['cells'], new['cells'])):
        if a['cell_type'] != 'code': continue
        source = ''.join(a['source']); rtol = float('inf') if re.search(r'^#\| drift: decimals$', source, re.M) else RTOL
        if lines := difference(a['outputs'], b['outputs'], rtol): yield i, next((l for l in source.splitlines() if l and not l.startswith('#|')), ''), lines

def execute(path): # of a notebook
    "The notebook as it is and after a run from the top: offline, without BUSI, one thread"
    import nbclient, nbformat
    old, new = nbformat.read(path, 4), nbformat.read(path, 4)
    env = {k: v for k, v in os.environ.items() if k != 'BUSI_ROOT'} | dict(OMP_NUM_THREADS='1', HF_HUB_OFFLINE='1', PYTHONPATH=str(path.parent.parent))
    try: nbclient.NotebookClient(new, timeout=1200, kernel_name='python3', resources=dict(metadata=dict(path=str(path.parent)))).execute(env=env)
    except nbclient.exceptions.CellExecutionError: pass          # the cell's error is its output, and what follows has none
    return old, new

def check(path): # of a notebook
    "Run one notebook and print what drifted; returns the number of cells"
    found = list(drifted(*execute(path)))
    print('\n'.join([f'{path.name}: {len(found) or "nothing"} drifted'] + [f'  cell {i}: {head}\n' + '\n'.join(f'    {l}' for l in lines[:8]) for i, head, lines in found]), flush=True)
    return len(found)

def main(names):
    files = sorted(p.name for p in (ROOT/'nbs').glob('*.ipynb') if not names or p.stem in names or p.name in names)
    if len(files) < max(1, len(names)): sys.exit(f'no such notebook among {names}')
    with tempfile.TemporaryDirectory() as copy, ThreadPoolExecutor(2) as pool:
        listed = subprocess.run(['git', 'ls-files', '-co', '--exclude-standard'], cwd=ROOT, text=True, capture_output=True, check=True).stdout
        for f in filter(lambda f: (ROOT/f).is_file(), listed.splitlines()): (to := Path(copy)/f).parent.mkdir(parents=True, exist_ok=True); copy2(ROOT/f, to)
        n = sum(pool.map(check, (Path(copy)/'nbs'/f for f in files)))
    print(f'{n} cells in {len(files)} notebooks drifted')
    return bool(n)

if __name__ == '__main__': sys.exit(main(sys.argv[1:]))
