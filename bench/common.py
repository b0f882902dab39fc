"""What the benchmarks share: where peers and models lie, and how a record is kept."""

import datetime
import os
import pathlib
import platform
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
CACHE = os.environ.get("XDG_CACHE_HOME", "~/.cache") + "/freehold-bench"
FOLDER = pathlib.Path(os.environ.get("FREEHOLD_BENCH", CACHE)).expanduser().absolute()


def peer_folder(peer):
    return FOLDER / "bin" / peer


def add_arguments(parser):
    """The options that all have; `parse` reads them."""
    parser.add_argument("--model", action="append", default=[], help="name or file; repeatable")
    parser.add_argument("--only", action="append", default=[], metavar="CELL", help="repeatable")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--freehold", type=pathlib.Path, default=ROOT / "target/release/freehold")
    parser.add_argument("--record", type=pathlib.Path, help="default: a file in bench/record")


def parse(parser):
    args = parser.parse_args()
    args.freehold = args.freehold.absolute()
    return args


def models(args):
    """The files; without a choice all that lie in the folder."""
    folder = FOLDER / "models"
    chosen = [
        path if (path := pathlib.Path(name)).suffix == ".gguf" else folder / f"{name}.gguf"
        for name in args.model
    ]
    chosen = chosen or sorted(folder.glob("*.gguf"))
    missing = [str(path) for path in chosen if not path.exists()]
    if missing or not chosen:
        raise SystemExit(f"no model {' '.join(missing) or folder}")
    return [path.absolute() for path in chosen]


def cells_of(args, cells):
    unknown = set(args.only) - cells.keys()
    if unknown:
        raise SystemExit(f"unknown cell {', '.join(unknown)}; known: {', '.join(cells)}")
    return args.only or list(cells)


class Record:
    """What is kept: where and how it was measured, each figure, and the table.

    `programs` has the names of what is measured in `modes` and each command in `commands`.
    """

    def __init__(self, args, what, programs):
        self.args = args
        self.programs = programs
        self.parts = []
        self.path = args.record
        if self.path is None:
            name = f"{datetime.date.today()}-{what}.txt"
            self.path = ROOT / "bench" / "record" / name

    def add(self, part):
        self.parts.append(part)

    def table(self, rows):
        n_columns = " | ".join(rows[0]).count("|") + 1
        lines = ["| " + " | ".join(row) + " |" for row in rows]
        lines.insert(1, "|" + " --- |" * n_columns)
        table = "\n".join(lines)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text = "\n".join([self.head(), *self.parts, "", table, ""])
        with self.path.open("a") as file:
            file.write(text + "\n")
        print(table)
        print(f"added to {self.path}", file=sys.stderr)

    def head(self):
        freehold = output([self.args.freehold, "--version"])
        commit = output(["git", "-C", ROOT, "describe", "--always", "--dirty"])
        isa = os.environ.get("FREEHOLD_ISA", "the best")
        lines = [
            f"date       {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC",
            f"machine    {machine()}",
            f"freehold   {freehold}, commit {commit}, {output(['rustc', '--version'])}, ISA: {isa}",
        ]
        for name in self.programs.modes:
            note = peer_folder(name) / "done"
            if note.exists():
                lines.append(f"{name}: {'; '.join(note.read_text().splitlines())}")
        argv = [pathlib.Path(a).name if a.startswith("/") else a for a in sys.argv[1:]]
        lines.append(f"command    bench/{pathlib.Path(sys.argv[0]).name} {' '.join(argv)}")
        lines.append(f"rounds     {self.args.rounds}, threads {self.args.threads}")
        lines += [f"           {command}" for command in self.programs.commands]
        return "\n".join(lines)


def note(commands, name, command):
    """Keeps a command for the record, once; files by their names."""
    parts = map(str, command)
    shown = (pathlib.Path(part).name if part.startswith("/") else part for part in parts)
    commands[f"{name}: {' '.join(shown)}"] = None


def machine():
    info = pathlib.Path("/proc/cpuinfo").read_text()
    name, family, number = (
        re.search(rf"^{key}\s*: (.*)", info, re.MULTILINE).group(1)
        for key in ("model name", "cpu family", "model")
    )
    amx = ", AMX" if " amx_int8" in info else ""
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    cpu = f"{name} (family {family}, model {number}{amx})"
    return f"{cpu}, {os.cpu_count()} virtual cores, {gib:.0f} GiB, {system}"


def output(command):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    return done.stdout.strip() or "unknown"
