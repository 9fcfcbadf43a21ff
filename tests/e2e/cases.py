"""Everything that can go wrong, how to make it happen, and what the exit code is. docs/limits.md shows the messages."""

import ctypes
import json
import os
import resource
import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.documents import write_huge_png, write_pdf
from tests.e2e.process import FLOWMM, Finished, run

READER = Path(__file__).parents[2] / "flowmm" / "reader" / "weights"
BUG = "import flowmm_cli.output as o; o.put_json = None; from flowmm_cli.app import main; main()"


def nothing(folder: Path) -> None:
    """Most cases need no preparation."""


@dataclass(frozen=True)
class Case:
    """One thing that goes wrong. ``command`` is what a user types; ``run`` is how the test types it."""

    title: str
    command: str
    code: int
    prepare: Callable[[Path], None] = nothing
    ours: bool = True  # whether the wording is this project's, not typer's
    limit: Callable[[], None] | None = None

    def finish(self, folder: Path) -> Finished:
        self.prepare(folder)
        return run(folder, *FLOWMM, *shlex.split(self.command)[1:], limit=self.limit)


@dataclass(frozen=True)
class Bug(Case):
    """A command that is broken on purpose."""

    def finish(self, folder: Path) -> Finished:
        return run(folder, sys.executable, "-c", BUG, *shlex.split(self.command)[1:])


def file(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None


def damaged_pdf(folder: Path) -> None:
    data = (folder / "report.pdf").read_bytes()
    (folder / "damaged.pdf").write_bytes(data[:200])


def reader_with(name: str, change: Callable[[Path], None]) -> Callable[[Path], None]:
    """A copy of the embedded reader in which something is different."""

    def prepare(folder: Path) -> None:
        shutil.copytree(READER, folder / name, dirs_exist_ok=True)
        change(folder / name)

    return prepare


def config_only(model: Path, model_type: str) -> None:
    (model / "config.json").write_text(json.dumps({"model_type": model_type}), encoding="utf-8")


def change_weight(model: Path) -> None:
    path = model / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-2] ^= 1  # the lowest bit of the last bfloat16
    path.write_bytes(data)


def change_template(model: Path) -> None:
    path = model / "chat_template.jinja"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("{%", "{# changed #}{%", 1), encoding="utf-8")


def other_model(model: Path) -> None:
    """A small random Llama with the reader's tokenizer: another architecture."""
    import torch
    import transformers

    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vocabulary = len(json.loads((model / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]) + 64
    torch.manual_seed(0)
    for name in ("config.json", "preprocessor_config.json", "processor_config.json", "generation_config.json"):
        (model / name).unlink(missing_ok=True)
    transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=vocabulary, **size)).save_pretrained(model)


def changed_file(name: str, change: Callable[[bytearray], bytes | bytearray]) -> Callable[[Path], None]:
    """A changed copy of ctx.kv."""

    def prepare(folder: Path) -> None:
        (folder / name).write_bytes(change(bytearray((folder / "ctx.kv").read_bytes())))

    return prepare


def flipped(data: bytearray, at: int) -> bytearray:
    data[at] ^= 1
    return data


def misnamed(data: bytearray) -> bytearray:
    return flipped(data, data.find(b"num_tokens"))


def newer(data: bytearray) -> bytes:
    return bytes(data).replace(b'"format_version":"2"', b'"format_version":"3"', 1)


def shelf(folder: Path) -> None:
    """A folder with two context files."""
    (folder / "shelf").mkdir(exist_ok=True)
    for name in ("one.kv", "two.kv"):
        shutil.copy(folder / "ctx.kv", folder / "shelf" / name)


def read_only(folder: Path) -> None:
    (folder / "closed").mkdir(exist_ok=True)
    (folder / "closed").chmod(0o555)


def without_privileges() -> None:
    """Root may write everywhere; give up the capabilities that say so (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH)."""
    if os.geteuid() == 0:
        for capability in (1, 2):
            ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


def small_disk() -> None:
    """No file may grow beyond 8 kB, which is how a full disk looks to the program."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))


def old_answers(folder: Path) -> None:
    (folder / "q.jsonl").write_text('{"id": "a", "question": "What is the code of Zato?"}\n', encoding="utf-8")
    (folder / "old.jsonl").write_text('{"id": "a", "answer": "4821"}\n', encoding="utf-8")


def pickled(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")


def suite(line: bytes) -> Callable[[Path], None]:
    """A suite of one context."""

    def write(folder: Path) -> None:
        (folder / "suite").mkdir(exist_ok=True)
        (folder / "suite" / "suite.jsonl").write_bytes(line)

    return write


WELL = (
    b'{"id": "c", "parts": [{"text": "Zato: 4821."}], "questions": [{"id": "q", "question": "Which?", '
    b'"answers": ["4821"], "kind": "needle"}]}\n'
)
QUALITY = "flowmm bench quality --suite suite -o results"
PREFILL = "flowmm prefill notes.txt -o out.kv"
READ = "-m flowmm/reader"
CASES: tuple[Case, ...] = (
    Bug("a bug in flowmm", "flowmm methods --json", 1),
    Case("wrong flag", f"{PREFILL} --keeep 0.2", 2, ours=False),
    Case("wrong command", "flowmm prefil notes.txt -o out.kv", 2, ours=False),
    Case("no output named", "flowmm prefill notes.txt", 2, ours=False),
    Case("unknown method", f"{PREFILL} --method snapvk", 2),
    Case("unknown profile", f"{PREFILL} -p qwen2_5_lv", 2),
    Case(
        "profile that is damaged",
        "flowmm profiles check ./bad.yaml",
        2,
        file("bad.yaml", b"extends: default\nmetod: snapkv\n"),
    ),
    Case("--keep 0", f"{PREFILL} --keep 0", 2),
    Case("--keep 1.5", f"{PREFILL} --keep 1.5", 2),
    Case("--keep abc", f"{PREFILL} --keep abc", 2),
    Case("two budgets", f"{PREFILL} --keep 0.1 --keep-tokens 50", 2),
    Case("two methods", f"{PREFILL} --method kvzip --quality fast", 2),
    Case("an agreement that is none", f"{PREFILL} --min-agreement 98", 2),
    Case("too few bytes", f"{PREFILL} -q --max-bytes 1kB", 2),
    Case("a reduction that leaves nothing", f"{PREFILL} --reduce 100%", 2),
    Case("unknown precision", f"{PREFILL} --kv-dtype bf61", 2, ours=False),
    Case("bad pages", f"{PREFILL} --pages 4-1", 2),
    Case("output exists", "flowmm prefill notes.txt -o ctx.kv", 2),
    Case("no question", "flowmm ask ctx.kv", 2),
    Case("questions of no file", "flowmm ask -i q.jsonl", 2, old_answers),
    Case("small file compressed again", "flowmm compress ctx.kv -o out.kv --keep 0.1 --method snapkv", 2),
    Case("answers exist", "flowmm ask ctx.kv -i q.jsonl -o old.jsonl", 2, old_answers),
    Case("a size that is none", "flowmm prune . --max-bytes much", 2),
    Case("an age that is none", "flowmm prune . --max-bytes 20GB --older-than 30", 2),
    Case("nobody to ask", "flowmm prune shelf --max-bytes 1kB", 2, shelf),
    Case("unknown kind of suite", "flowmm bench make nedle -o made", 2),
    Case("a suite's folder that holds something", "flowmm bench make needle -o shelf", 2, shelf),
    Case("contexts too small for a suite", "flowmm bench make needle --tokens 200 -o made", 2),
    Case("unknown method in a benchmark", f"{QUALITY} --method snapvk", 2, suite(WELL)),
    Case("a method twice", f"{QUALITY} --method snapkv,snapkv", 2, suite(WELL)),
    Case("an unknown score", f"{QUALITY} --method snapkv --score acuracy", 2, suite(WELL)),
    Case("missing document", "flowmm prefill missing.pdf -o out.kv", 3),
    Case("missing suite", "flowmm bench quality --suite nowhere --method snapkv -o results", 3),
    Case("a folder that is no suite", "flowmm bench quality --suite shelf --method snapkv -o results", 3, shelf),
    Case("a misspelt key in a suite", f"{QUALITY} --method snapkv", 3, suite(WELL.replace(b'"kind"', b'"kinds"'))),
    Case("a document that a suite misses", f"{QUALITY} --method snapkv", 3, suite(WELL.replace(b"text", b"path"))),
    Case("results that are none", "flowmm bench order shelf shelf", 3, shelf),
    Case("a folder as document", "flowmm prefill folder -o out.kv", 3, lambda f: (f / "folder").mkdir(exist_ok=True)),
    Case("empty document", "flowmm prefill empty.txt -o out.kv", 3, file("empty.txt", b"")),
    Case("damaged PDF", "flowmm prefill damaged.pdf -o out.kv", 3, damaged_pdf),
    Case(
        "encrypted PDF",
        "flowmm prefill secret.pdf -o out.kv",
        3,
        lambda folder: write_pdf(folder / "secret.pdf", [["Kenu: 3164"]], password="open"),
    ),
    Case(
        "20000 x 20000 PNG",
        "flowmm prefill huge.png -o out.kv",
        3,
        lambda folder: write_huge_png(folder / "huge.png", 20000),
    ),
    Case("text named .png", "flowmm prefill fake.png -o out.kv", 3, file("fake.png", b"not a picture\n")),
    Case("binary named .txt", "flowmm prefill blob.txt -o out.kv", 3, file("blob.txt", bytes(range(256)) * 4)),
    Case("missing folder for the output", "flowmm prefill notes.txt -o nowhere/out.kv", 3),
    Case("missing context file", "flowmm ask missing.kv 'What is the code of Zato?'", 3),
    Case(
        "bad line of questions",
        "flowmm ask ctx.kv -i bad.jsonl",
        3,
        file("bad.jsonl", b'{"question": "a?"}\n{"q": 1}\n'),
    ),
    Case("missing folder of context files", "flowmm ls missing", 3),
    Case("missing document for a section", "flowmm bench kill --markdown missing.md", 3),
    Case("missing model folder", f"{PREFILL} -m ./missing", 3),
    Case("hub model that is not here, offline", f"{PREFILL} -m someone/something --offline", 3),
    Case("another model", "flowmm ask ctx.kv 'Which?' -m other", 4, reader_with("other", other_model)),
    Case("changed weights", "flowmm ask ctx.kv 'Which?' -m tuned", 4, reader_with("tuned", change_weight)),
    Case("changed template", "flowmm ask ctx.kv 'Which?' -m chatty", 4, reader_with("chatty", change_template)),
    Case("profile of another model", f"{PREFILL} {READ} -p gemma3", 4),
    Case("truncated context file", "flowmm inspect cut.kv", 5, changed_file("cut.kv", lambda data: data[:-100])),
    Case("flipped byte in a tensor", "flowmm ask bit.kv 'Which?'", 5, changed_file("bit.kv", lambda d: flipped(d, -9))),
    Case("flipped byte in the header", "flowmm inspect head.kv", 5, changed_file("head.kv", misnamed)),
    Case("file of a newer flowmm", "flowmm inspect newer.kv", 5, changed_file("newer.kv", newer)),
    Case("no context file at all", "flowmm inspect report.pdf", 5),
    Case("read-only folder", "flowmm prefill notes.txt -o closed/out.kv", 6, read_only, limit=without_privileges),
    Case("full disk", f"{PREFILL} {READ}", 6, limit=small_disk),
    Case(
        "bad lines of questions passed over",
        "flowmm ask ctx.kv -i bad.jsonl --keep-going -q",
        7,
        file("bad.jsonl", b'{"question": "a?"}\n{"q": 1}\n'),
    ),
    Case(
        "architecture that is not handled",
        f"{PREFILL} -m gemma2",
        8,
        reader_with("gemma2", lambda model: config_only(model, "gemma2")),
    ),
    Case("weights that are a pickle", f"{PREFILL} -m pickled", 8, reader_with("pickled", pickled)),
)
