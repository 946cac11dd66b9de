"""The project's address, from `settings.ini` alone.

    python scripts/address.py            writes it into every file that must hold it
    python scripts/address.py --check    only says which files hold another one

To host the project elsewhere, change `user` (and `repo`) in settings.ini and run this once.
"""
import argparse
import re
import subprocess
import sys
from configparser import ConfigParser
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOLDERS = ('nbs/*.ipynb', 'nbs/*.yml', '_quarto.yml', 'README.md')     # files that cannot read settings.ini
GENERATED = ('busiseg_nb/_modidx.py',)                                 # nbdev_export writes it there


@dataclass(frozen=True)
class Address:
    "Where the project is hosted"
    user: str         # or organisation
    repo: str         # name of the repository
    branch: str
    git_url: str      # 'https://github.com/USER/REPO'
    site_url: str     # of the rendered documentation
    title: str

    def colab(self, notebook: str) -> str:    # '03_tiling.ipynb'
        "The notebook on Colab"
        path = f'{self.user}/{self.repo}/blob/{self.branch}/nbs/{notebook}'
        return f'https://colab.research.google.com/github/{path}'

    def file(self, path: str, first: int = 0, last: int = 0) -> str:    # path in the repository; lines from 1
        "A file of the repository, or some of its lines"
        lines = f'#L{first}-L{last}' if first and last > first else f'#L{first}'
        return f'{self.git_url}/blob/{self.branch}/{path}' + (lines if first else '')


def read_address(root: Path = ROOT) -> Address:
    "The address that settings.ini gives"
    parser = ConfigParser(delimiters=['='])
    parser.read(root/'settings.ini', encoding='utf-8')
    settings = parser['DEFAULT']
    names = {name: settings[name] for name in ('user', 'repo', 'branch', 'git_url', 'title')}
    return Address(site_url=settings['doc_host'] + settings['doc_baseurl'], **names)


def written_address(root: Path = ROOT) -> tuple[str, str]:
    "(user, repo) that the files hold now, read from _quarto.yml"
    text = (root/'_quarto.yml').read_text(encoding='utf-8')
    found = re.search(r'repo-url:\s*"?https://github\.com/([\w.-]+)/([\w.-]+?)"?\s*$', text, re.M)
    if not found:
        sys.exit('_quarto.yml: has no repo-url of the form https://github.com/USER/REPO')
    return found[1], found[2]


def moved(text: str, old: tuple[str, str], new: tuple[str, str]) -> str:
    "The text with every address of the old place turned into one of the new place"
    (old_user, old_repo), (user, repo) = old, new
    end = r'(?![\w-])'
    code = rf'(github(?:\.com)?/){re.escape(old_user)}/{re.escape(old_repo)}{end}'
    site = rf'{re.escape(old_user)}\.github\.io/{re.escape(old_repo)}{end}'
    return re.sub(site, f'{user}.github.io/{repo}', re.sub(code, rf'\g<1>{user}/{repo}', text))


def holders(root: Path = ROOT) -> list[Path]:
    "The files that hold the address"
    return sorted(path for pattern in HOLDERS for path in root.glob(pattern))


def strangers(root: Path = ROOT) -> list[str]:
    "Tracked files that hold the address though they could read it from settings.ini"
    address = read_address(root)
    patterns = ['-e', f'{address.user}/{address.repo}', '-e', f'{address.user}.github.io']
    command = ['git', 'grep', '-lI', *patterns]
    found = subprocess.run(command, cwd=root, text=True, capture_output=True).stdout.split()
    known = {path.relative_to(root).as_posix() for path in holders(root)} | set(GENERATED)
    return [name for name in found if name not in known]


def main(check: bool) -> int:    # only look
    "Write, or compare; returns the exit status"
    address, old, changed = read_address(), written_address(), []
    for path in holders():
        text = path.read_text(encoding='utf-8')
        new = moved(text, old, (address.user, address.repo))
        if new != text:
            changed.append(path.relative_to(ROOT).as_posix())
            if not check:
                path.write_text(new, encoding='utf-8')
    done = 'differ' if check else 'written'
    print(f'{address.git_url}: {len(changed)} files {done} {" ".join(changed)}'.rstrip())
    wrong = strangers()
    for name in wrong:
        print(f'{name}: holds the address; it should read settings.ini', file=sys.stderr)
    return int(bool(wrong) or (check and bool(changed)))


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--check', action='store_true', help='only say which files hold another one')
    sys.exit(main(parser.parse_args().check))
