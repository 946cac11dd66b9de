"What tests share that start other processes; and one hash over a folder."
import json
import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def python(code, *args, **env):
    "Start `code` in a fresh interpreter that imports this checkout; its standard input and output are pipes"
    return subprocess.Popen([sys.executable, '-c', code, *map(str, args)], cwd=ROOT, text=True,
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            env={**os.environ, 'PYTHONPATH': str(ROOT), **env})


def digest(root):
    "One hash over the names and bytes of all files under `root`"
    found = sha256()
    for path in sorted(p for p in root.rglob('*') if p.is_file()):
        found.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return found.hexdigest()


def script(name, *args, before=(), **env):
    "What a script of this folder prints last, as JSON; `before` is a program that starts it"
    command = [*before, sys.executable, '-W', 'ignore', Path(__file__).with_name(name), *map(str, args)]
    out = subprocess.run(command, capture_output=True, text=True, timeout=900,
                         env={**os.environ, 'OMP_NUM_THREADS': '1', **env})
    assert out.returncode == 0, out.stdout + out.stderr
    return json.loads(out.stdout.splitlines()[-1])
