"The command-line page: every command with its options, from what `--help` reads"
import re
import shlex
from enum import Enum

from docsite.api import cell_text

KINDS = {'integer': 'whole number', 'int': 'whole number', 'float': 'number', 'str': 'text',
         'path': 'file or folder'}


def runnable(command: str, data: str = 'BUSI_FOLDER') -> str:    # as recorded; what stands for the data
    "The command with `--data` where the data set came from BUSI_ROOT, so that it runs as it stands"
    words = shlex.split(command)
    needs = 'busiseg' in words and any(w in words for w in ('reproduce', 'train', 'test', 'split'))
    if not needs or '--data' in words or any(w.startswith('--data=') for w in words):
        return command
    at = next(i for i, w in enumerate(words) if w in ('reproduce', 'train', 'test', 'split'))
    return f'{shlex.join(words[:at + 1])} --data {data} {shlex.join(words[at + 1:])}'.rstrip()


def commands(group, name: str):    # a click group; what is typed before its commands
    "(name as typed, click command) of every command, groups walked through"
    for key, command in group.commands.items():
        if getattr(command, 'hidden', False):
            continue
        if hasattr(command, 'commands'):
            yield from commands(command, f'{name} {key}')
        else:
            yield f'{name} {key}', command


def default_of(par) -> str:
    "The default of an option as it would be typed; '' where there is none to tell"
    value = par.default
    if callable(value) or value is None or value is False or value in ((), ''):
        return ''
    if value is True:
        return 'on'
    values = value if isinstance(value, (list, tuple)) else [value]
    return '`' + ' '.join(str(getattr(v, 'value', v)) for v in values) + '`'


def kind_of(par) -> str:
    "What an option takes: 'number', 'file or folder', the choices; '' for a switch"
    if getattr(par, 'is_flag', False):
        return ''
    own = getattr(par, 'type_descriptor', None)      # of newer versions of typer; else click's type
    kind = own.annotation if own is not None else par.type
    if inner := getattr(kind, '__args__', None):     # list[Path]
        return f'{KINDS.get(inner[0].__name__.lower(), inner[0].__name__)}, may be given again'
    choices = getattr(kind, 'choices', None)
    if choices is None and isinstance(kind, type) and issubclass(kind, Enum):
        choices = list(kind)
    if choices:
        return ' or '.join(f'`{getattr(c, "value", c)}`' for c in choices)
    name = kind.__name__ if isinstance(kind, type) else getattr(kind, 'name', str(kind))
    return KINDS.get(name.lower(), name.lower())


def help_text(text) -> str:    # of a command or an option, or None
    "Help as Markdown: options in it are code, so that their hyphens stay hyphens"
    return re.sub(r'(?<![\w`-])--[a-z][\w-]*', r'`\g<0>`', cell_text(text or ''))


def option_rows(command) -> list[str]:
    "A row of Markdown for each argument and option"
    rows = []
    if hasattr(command, 'fill'):      # names from the library's tables go into the help
        command.fill()
    for par in command.params:
        if getattr(par, 'hidden', False) or par.name == 'help':
            continue
        if par.param_type_name == 'argument':
            shown = f'`{par.metavar or par.name.upper()}`'
        else:
            shown = ', '.join(f'`{o}`' for o in [*par.opts, *par.secondary_opts])
        default = '*required*' if par.required else default_of(par)
        text = help_text(getattr(par, 'help', ''))
        rows.append(f'| {shown} | {kind_of(par)} | {default} | {text} |')
    return rows


def section(name: str, command) -> list[str]:
    "One command: what it does, how it is typed, its options"
    places = [p.metavar or p.name.upper() for p in command.params if p.param_type_name == 'argument']
    anchor = name.split(' ', 1)[-1].replace(' ', '-')
    text = re.sub(r'\s*\n(?!\n)\s*', ' ', (command.help or '').replace('\b', '').strip())
    out = [f'### `{name}` {{#{anchor}}}', '', help_text(text).replace(r'\|', '|'), '']
    out += ['```sh', ' '.join([name, *places, '[OPTIONS]']), '```', '']
    if rows := option_rows(command):
        out += ['| option | takes | default | meaning |', '|---|---|---|---|', *rows, '']
    return out


def command_reference(app, name: str = 'busiseg') -> str:    # a Typer app
    "The section Reference of the command-line page"
    from typer.main import get_command
    out = ['## Reference {#reference}', '', 'Every command with its options, as `--help` gives them.', '']
    for typed, command in commands(get_command(app), name):
        out += section(typed, command)
    return '\n'.join(out)
