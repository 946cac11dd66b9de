"Children forked from a parent that has imported everything, and their end by SIGKILL."
import json
import os
import random
import signal
import sys
import time
import traceback

import pandas as pd
from PIL import Image
from safetensors.torch import load_file

# what two runs of the same may differ in
RUN = ('provenance', 'predicted', 'kept', 'training', 'test_images_per_second')


def whole(root):
    "Read every file under `root` that has its final name: none is torn"
    read = {'.png': lambda p: Image.open(p).load(), '.json': lambda p: json.loads(p.read_text()),
            '.csv': pd.read_csv, '.safetensors': load_file}
    for p in root.rglob('*'):
        if '.busiseg' not in str(p.relative_to(root)) and p.suffix in read:
            read[p.suffix](p)


def contents(root):
    "Name and bytes of every file, without the parts that tell how a run went"
    def plain(p):
        if p.name in ('results.json', 'report.json'):
            return {k: v for k, v in json.loads(p.read_text()).items() if k not in RUN}
        return pd.read_csv(p).drop(columns='seconds').to_csv() if p.name == 'history.csv' else p.read_bytes()
    return {p.relative_to(root).as_posix(): plain(p) for p in root.rglob('*') if p.is_file()}


def fork(f, *args):
    "The number of a child that runs `f` and ends with status 0, or 1 where it fails"
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    try:
        f(*args)
        sys.stdout.flush()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def ended_well(pid):
    "Wait for a child; False where it was killed, an exception where it failed"
    status = os.waitpid(pid, 0)[1]
    if status and not os.WIFSIGNALED(status):
        sys.exit('an attempt failed, see above')
    return status == 0


def kill_at_random(attempt, kills, finished, check, longest, seed=0):
    """Start `attempt` again and again, killed within `longest` seconds; kills that hit, results lost

    `check` counts what a kill lost. Once an attempt has come to its end, `finished` checks and starts afresh.
    """
    done, lost, rng = 0, 0, random.Random(seed)
    for _ in range(20*kills):
        if done == kills:
            break
        pid = fork(attempt)
        time.sleep(rng.uniform(.01, longest))
        os.kill(pid, signal.SIGKILL)
        if ended_well(pid):
            finished()
        else:
            done += 1
            lost += check()
    while not ended_well(fork(attempt)):
        pass
    finished()
    return done, lost
