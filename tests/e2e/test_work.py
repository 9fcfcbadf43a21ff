"""The main job through the real command: read, store, ask in a new process, many questions, resume."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from flowmm.decode import Decode, stored_decode
from flowmm.header import read_header
from tests.e2e.cases import without_privileges
from tests.e2e.process import FLOWMM, ROOT, flowmm, run

FACTS = {"Zato": "4821", "Mobi": "7395", "Kenu": "3164", "Rilo": "9052", "Wopa": "5527"}
ASK_ZATO = "What is the code of Zato?"


@pytest.fixture(scope="module")
def questions(workshop: Path) -> Path:
    path = workshop / "questions.jsonl"
    lines = (json.dumps({"id": key, "question": f"What is the code of {key}?"}) for key in FACTS)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def answers_of(text: str) -> dict[str, str]:
    return {line["id"]: line["answer"] for line in map(json.loads, text.splitlines())}


def test_prefill_prints_its_summary_on_stderr_and_raw_numbers_on_stdout(workshop):
    text = "Zato: 4821.\n" * 20
    done = flowmm(workshop, "prefill", "-", "-o", "stdin.kv", "--keep", "50%", "--json", "--stats", stdin=text)
    assert done.code == 0
    notice, kept, size, agreed, times = done.error
    assert "embedded reader" in notice
    assert kept.startswith("stdin.kv: ")
    assert "->" in size
    assert agreed.startswith("held-out answers: ")
    assert "peak memory" in times
    summary = json.loads(done.stdout)
    assert summary["schema_version"] == 1
    assert summary["bytes_file"] == (workshop / "stdin.kv").stat().st_size
    assert summary["slots"] / summary["slots_full"] == pytest.approx(0.5, abs=0.02)
    assert summary["seconds"]["prefill"] > 0


def test_an_answer_is_all_that_stands_on_stdout(workshop):
    done = flowmm(workshop, "ask", "full.kv", ASK_ZATO)
    assert (done.code, done.stdout) == (0, "4821\n")
    assert "embedded reader" in done.stderr


def test_a_file_that_may_only_be_read_is_asked(workshop, tmp_path):
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    shutil.copy(workshop / "full.kv", shelf)
    (shelf / "full.kv").chmod(0o444)
    shelf.chmod(0o555)
    refused = run(tmp_path, "touch", "shelf/other", limit=without_privileges)
    done = run(tmp_path, *FLOWMM, "ask", "shelf/full.kv", ASK_ZATO, limit=without_privileges)
    shelf.chmod(0o755)
    assert refused.code != 0, "the folder can be written: this test shows nothing"
    assert (done.code, done.stdout) == (0, "4821\n"), done.stderr
    assert [path.name for path in shelf.iterdir()] == ["full.kv"]


def test_questions_from_a_file_are_answered_and_a_stopped_run_is_resumed(workshop, questions):
    out = workshop / "answers.jsonl"
    done = flowmm(workshop, "ask", "full.kv", "-i", questions.name, "-o", out.name, "--stats")
    assert (done.code, done.stdout) == (0, "")
    assert done.stderr.count("tokens reused") == len(FACTS)
    whole = out.read_text(encoding="utf-8")
    right = [key for key, answer in answers_of(whole).items() if answer == FACTS[key]]
    assert list(answers_of(whole)) == list(FACTS)
    assert len(right) >= 3, whole

    two_and_a_half = "".join(whole.splitlines(keepends=True)[:2]) + '{"id": "Kenu", "que'
    out.write_text(two_and_a_half, encoding="utf-8")
    again = flowmm(workshop, "ask", "full.kv", "-i", questions.name, "-o", out.name, "--resume")
    assert again.code == 0, again.stderr
    assert answers_of(out.read_text(encoding="utf-8")) == answers_of(whole)
    finished = flowmm(workshop, "ask", "full.kv", "-i", questions.name, "-o", out.name, "--resume")
    assert (finished.code, finished.error) == (0, ["answers.jsonl: every question is answered already"])


def test_several_questions_are_json_lines_and_leave_the_context_file_as_it_is(workshop, questions):
    before = (workshop / "ctx.kv").read_bytes()
    listed = questions.read_text(encoding="utf-8")
    several = flowmm(workshop, "ask", "ctx.kv", "-i", "-", "--json", "--batch", "2", stdin=listed)
    assert list(answers_of(several.stdout)) == list(FACTS)
    one = flowmm(workshop, "ask", "ctx.kv", ASK_ZATO, "--json")
    assert json.loads(one.stdout)["schema_version"] == 1
    assert json.loads(one.stdout)["answer"] == answers_of(several.stdout)["Zato"]
    assert (workshop / "ctx.kv").read_bytes() == before


def test_several_files_are_asked_in_one_process(workshop):
    done = flowmm(workshop, "ask", "ctx.kv", ASK_ZATO, "--also", "full.kv", "--stats")
    assert (done.code, done.stdout.split()) == (0, [FACTS["Zato"]] * 2)
    assert f"> full.kv: {ASK_ZATO}" in done.stderr
    assert re.search(r"full.kv: context \d", done.stderr)
    lines = [{"id": "a", "question": ASK_ZATO, "file": "full.kv"}, {"id": "b", "question": ASK_ZATO, "file": "ctx.kv"}]
    listed = flowmm(workshop, "ask", "-i", "-", stdin="\n".join(map(json.dumps, lines)))
    assert (listed.code, listed.stdout.split()) == (0, [FACTS["Zato"]] * 2)


def test_inspect_shows_sources_and_layers(workshop):
    done = flowmm(workshop, "inspect", "ctx.kv")
    assert (done.code, done.stderr) == (0, "")
    shown = (
        "flowmm/reader",
        "report.pdf page 2 (pdf)",
        "left.png",
        "notes.txt",
        "20.",
        "held-out attention error",
        "layer",
    )
    for text in shown:
        assert text in done.stdout
    header = json.loads(flowmm(workshop, "inspect", "ctx.kv", "--json").stdout)
    assert header["schema_version"] == 1
    assert header["num_slots"] == sum(sum(layer["lengths"]) for layer in header["layers"])
    assert header["provenance"]["compression"]["keep_asked"] == 0.2
    assert 0 < header["loss"]["held_out_error_mean"] <= header["loss"]["held_out_error_max"]
    assert 0 <= header["loss"]["evicted_everywhere"] < 1


def test_a_file_of_four_bits_is_small_says_so_and_answers(workshop, questions):
    for name in ("bf16", "int4"):
        made = ("compress", "full.kv", "-o", f"{name}.kv", "--keep", "0.6", "--kv-dtype", name, "-q")
        assert flowmm(workshop, *made).code == 0
    headers = {
        name: json.loads(flowmm(workshop, "inspect", f"{name}.kv", "--json").stdout) for name in ("bf16", "int4")
    }
    assert sum(headers["int4"]["bytes_by_layer"]) < 0.45 * sum(headers["bf16"]["bytes_by_layer"])
    assert headers["bf16"]["bits_per_number"] == 16 > 3 * headers["int4"]["bits_per_number"] - 5
    assert headers["int4"]["num_slots_in_16_bits"] > 0
    shown = flowmm(workshop, "inspect", "int4.kv").stdout
    assert "stored    int4, " in shown
    assert re.search(r"^parts     keys .*, values .*, exact .*, position .*, modality .*, header ", shown, re.MULTILINE)
    for header in headers.values():
        assert sum(header["bytes_by_part"].values()) == header["file_bytes"]
    assert flowmm(workshop, "verify", "int4.kv").code == 0
    asked = flowmm(workshop, "ask", "int4.kv", "-i", questions.name, "--json")
    assert (asked.code, answers_of(asked.stdout)["Zato"]) == (0, FACTS["Zato"])


def test_verify_replays_the_probe_with_a_model(workshop):
    plain = flowmm(workshop, "verify", "ctx.kv")
    assert plain.code == 0
    assert "every checksum right" in plain.stdout
    verdict = json.loads(flowmm(workshop, "verify", "full.kv", "-m", "flowmm/reader", "--json").stdout)
    assert (verdict["model_matches"], verdict["probe_matches"]) == (True, True)


def test_a_flipped_byte_in_any_tensor_is_found(workshop):
    tensors = json.loads(flowmm(workshop, "inspect", "ctx.kv", "--json").stdout)["tensors"]
    good = (workshop / "ctx.kv").read_bytes()
    for name, tensor in tensors.items():
        bad = bytearray(good)
        bad[(tensor["start"] + tensor["end"]) // 2] ^= 0x10
        (workshop / "flip.kv").write_bytes(bad)
        done = flowmm(workshop, "verify", "flip.kv")
        assert (done.code, len(done.error)) == (5, 2)
        assert f"tensor {name} is damaged" in done.stderr
    assert len(tensors) > 4


def test_methods_json_is_a_list_of_objects(workshop):
    methods = json.loads(flowmm(workshop, "methods", "--json").stdout)
    by_name = {method["name"]: method for method in methods}
    assert {"full", "random", "streaming-llm", "knorm", "keydiff", "snapkv", "h2o", "flowmm-paper"} <= set(by_name)
    for method in methods:
        assert {"name", "paper", "observe", "score", "budget", "merge", "passes"} <= set(method)
    assert by_name["snapkv"]["merge"]["rule"] == "evict"


def test_profiles_are_listed_shown_and_checked(workshop):
    assert "qwen2_5_vl" in flowmm(workshop, "profiles", "list").stdout
    shown = flowmm(workshop, "profiles", "show", "qwen2_5_vl").stdout
    (workshop / "mine.yaml").write_text(shown, encoding="utf-8")
    assert flowmm(workshop, "profiles", "check", "./mine.yaml").stdout == "./mine.yaml: a valid profile\n"
    assert flowmm(workshop, "profiles", "check", "snapkv").stdout == "snapkv: a valid method\n"
    for of in ((), ("--method",)):
        assert json.loads(flowmm(workshop, "profiles", "schema", *of).stdout)["additionalProperties"] is False


def test_doctor_finds_this_machine_fit(workshop):
    done = flowmm(workshop, "doctor", "--json")
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert [name for name, check in checks.items() if not check["ok"]] == []
    assert "4821" in checks["reader"]["found"]
    assert done.code == 0


def test_the_demo_prints_every_question_with_both_answers(workshop):
    done = flowmm(workshop, "demo", "--json", "--dir", "drawn")
    assert (done.code, done.stderr) == (0, "")
    demo = json.loads(done.stdout)
    assert len(demo["questions"]) >= 12
    assert all({"question", "expected", "full", "file"} <= set(question) for question in demo["questions"])
    assert demo["keep"] == 0.2
    assert demo["bytes_file"] < 0.25 * demo["bytes_full"]
    assert demo["bytes_file"] == (workshop / "drawn" / "ctx.kv").stat().st_size
    assert sum(question["full"] == question["expected"] for question in demo["questions"]) >= 11


def test_output_that_nobody_reads_any_more_ends_quietly(workshop):
    command = f"{' '.join(FLOWMM)} inspect ctx.kv --json | true; exit ${{PIPESTATUS[0]}}"
    done = run(workshop, "bash", "-c", command)
    assert done.stderr == ""
    assert done.code in (0, 141)  # 0 when everything fitted into the pipe before it closed


def test_the_console_script_is_the_same_command(workshop):
    script = Path(sys.prefix, "bin", "flowmm")
    if not script.exists():
        pytest.skip("flowmm is not installed in this environment")
    done = run(workshop, str(script), "--version")
    assert done.stdout.startswith("flowmm ")
    assert shutil.which(str(script)) is not None


def test_hae_recycles_while_it_answers_and_the_file_alone_says_how(workshop, questions):
    shipped = (ROOT / "profiles" / "methods" / "hae.yaml").read_text(encoding="utf-8")
    narrow = workshop / "narrow.yaml"
    narrow.write_text(shipped.partition("decode:")[0] + "decode: {keep: 2, bin: 4}\n", encoding="utf-8")
    answers = []
    for method in ("hae", "narrow.yaml"):
        made = flowmm(workshop, "compress", "full.kv", "-o", f"{method}.kv", "--method", method, "--keep", "0.6", "-q")
        assert (made.code, made.stderr) == (0, "")
    narrow.unlink()
    for method in ("hae", "narrow.yaml"):
        asked = flowmm(workshop, "ask", f"{method}.kv", "-i", questions.name, "--json")
        assert asked.code == 0
        answers.append(answers_of(asked.stdout))
    assert answers[0]["Zato"] == FACTS["Zato"]
    assert answers[0].keys() == answers[1].keys()
    compression = read_header(workshop / "narrow.yaml.kv").provenance.compression
    assert compression is not None
    assert stored_decode(compression.method_text) == Decode(keep=2, bin=4)
