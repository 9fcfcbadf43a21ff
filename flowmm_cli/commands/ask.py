"""`flowmm ask`: answers from a context file."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flowmm import BatchError, InputError, UsageError
from flowmm_cli import options as o
from flowmm_cli import output
from flowmm_cli.questions import as_line, is_text, open_answers, read_questions

if TYPE_CHECKING:
    from flowmm import Answer, Opened, Question

_BATCH, _GENERATION = "Many questions", "Generation"
Questions = Annotated[list[str] | None, typer.Argument(metavar="QUESTION...", help="One or more questions.")]
Input = Annotated[
    str | None,
    typer.Option(
        "--input",
        "-i",
        metavar="FILE",
        help='Questions as JSON Lines, {"id": ..., "question": ..., "file": ...}; - is stdin.',
        rich_help_panel=_BATCH,
    ),
]
File = Annotated[
    str | None,
    typer.Argument(
        metavar="FILE", help="The context file, ctx.kv, or its URL; not needed if every line of -i names one."
    ),
]
Also = Annotated[
    list[str] | None,
    typer.Option("--also", metavar="FILE", help="Ask this context file too; repeatable.", rich_help_panel=_BATCH),
]
Answers = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="Append answers here as JSON Lines.", rich_help_panel=_BATCH),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Skip questions that -o already answers.", rich_help_panel=_BATCH)
]
KeepGoing = Annotated[
    bool,
    typer.Option("--keep-going", help="Answer the rest when lines of -i are bad; exit 7.", rich_help_panel=_BATCH),
]
Batch = Annotated[
    int | None,
    typer.Option(
        "--batch",
        metavar="N",
        min=1,
        help="Questions decoded together. Default: what half of the free memory holds, at most 64.",
        rich_help_panel=_BATCH,
    ),
]
MaxNewTokens = Annotated[
    int,
    typer.Option("--max-new-tokens", "-n", metavar="N", min=1, help="Longest answer.", rich_help_panel=_GENERATION),
]
Temperature = Annotated[float, typer.Option("--temperature", min=0.0, help="0 is greedy.", rich_help_panel=_GENERATION)]
TopP = Annotated[
    float, typer.Option("--top-p", min=0.0, max=1.0, help="Nucleus sampling.", rich_help_panel=_GENERATION)
]
TopK = Annotated[
    int, typer.Option("--top-k", min=0, help="Sample from the K likeliest; 0 is all.", rich_help_panel=_GENERATION)
]
Stop = Annotated[
    list[str] | None,
    typer.Option(
        "--stop", metavar="TEXT", help="End the answer before this text; repeatable.", rich_help_panel=_GENERATION
    ),
]


def ask(
    file: File = None,
    question: Questions = None,
    input_file: Input = None,
    output_file: Answers = None,
    also: Also = None,
    resume: Resume = False,
    keep_going: KeepGoing = False,
    batch: Batch = None,
    max_new_tokens: MaxNewTokens = 256,
    temperature: Temperature = 0.0,
    top_p: TopP = 1.0,
    top_k: TopK = 0,
    stop: Stop = None,
    seed: o.Seed = 0,
    model: o.ModelOfFile = None,
    revision: o.Revision = None,
    device: o.Device = "auto",
    dtype: o.Dtype = "auto",
    device_map: o.DeviceMap = None,
    offline: o.Offline = False,
    trust_remote_code: o.TrustRemoteCode = False,
    json: o.Json = False,
    stats: o.Stats = False,
    quiet: o.Quiet = False,
) -> None:
    """Answer questions from a context file, or from several."""
    questions, bad = _questions(question or [], input_file, keep_going=keep_going)
    questions = _of_files(questions, file, also or [])
    total, many = len(questions) + len(bad), len(questions) > 1 or input_file is not None
    if output_file is not None:
        questions = open_answers(output_file, questions, resume=resume)
    elif resume:
        raise UsageError("--resume without -o", "Name the answers file to go on with: -o answers.jsonl --resume.")
    one_file = len({question.file for question in questions}) <= 1
    if not questions and not quiet:
        output.say(f"{output_file}: every question is answered already")
    from flowmm import Generation, ask_files

    streaming = not (many or json or output_file) and sys.stdout.isatty()
    notices = output.Notices(wanted=not quiet)

    def stream(text: str) -> None:
        notices.begin()
        print(output.harmless(text), end="", flush=True)

    answers = ask_files(
        questions,
        model=o.model_options(model, revision, device, dtype, device_map, offline, trust_remote_code),
        generation=Generation(max_new_tokens, temperature, top_p, top_k, seed, tuple(stop or ()), batch),
        on_text=stream if streaming else None,
        notice=notices,
        on_open=_say_opened if stats else None,
    )
    if output_file is not None:
        answers = _append(answers, output_file)
    for asked, answer in answers if questions else ():
        notices.begin()
        if output_file is None:
            _print(asked, answer, one_file=one_file, many=many, json=json, streaming=streaming, quiet=quiet)
        if stats:
            output.say(_stats(answer))
    if bad:
        raise BatchError(
            f"{len(bad)} of {total} lines held no question; the others are answered",
            "Mend the lines named above and run it again with --resume.",
        )


def _questions(
    texts: list[str], input_file: str | None, *, keep_going: bool
) -> "tuple[list[Question], list[InputError]]":
    """The questions, and the bad lines of their file, which are already on stderr."""
    if texts and input_file is not None:
        raise UsageError("questions on the command line and in --input", "Give them in one place.")
    if input_file is not None:
        questions, bad = read_questions(input_file)
        if bad and not (keep_going and questions):
            raise bad[0]
        for error in bad:
            output.say(error.what)
        return questions, bad
    if not texts:
        raise UsageError("no question", 'Ask one: flowmm ask ctx.kv "What is the total?", or a file of them: -i FILE.')
    for text in texts:
        if not text.strip():
            raise UsageError("an empty question", 'Ask something: flowmm ask ctx.kv "What is the total?".')
        if not is_text(text):
            raise UsageError("a question is not in UTF-8", "Write it in UTF-8, or put it into a file for -i.")
    from flowmm import Question

    return [Question(text, str(number)) for number, text in enumerate(texts, start=1)], []


def _of_files(questions: "list[Question]", file: str | None, also: list[str]) -> "list[Question]":
    """The questions, each of a file: its own, else all of those on the command line, one after the other."""
    files = [*([] if file is None else [file]), *also]
    if also and any(question.file is not None for question in questions):
        raise UsageError("--also, and questions that name their file", "Name the files in one place.")
    if not files and not all(question.file is not None for question in questions):
        raise UsageError("no context file", "Name it before the questions, or in each line of -i.")
    if also:
        several = [(question, of) for of in files for question in questions]
        return [replace(question, id=f"{of}:{question.id}", file=of) for question, of in several]
    return [question if question.file is not None else replace(question, file=file) for question in questions]


def _append(answers: "Iterator[tuple[Question, Answer]]", path: Path) -> "Iterator[tuple[Question, Answer]]":
    """Write each answer as it comes, so that a run that is stopped loses nothing it had."""
    try:
        file = path.open("a", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}", "Check its permissions.") from None
    with file:
        for question, answer in answers:
            file.write(as_line(question, answer) + "\n")
            file.flush()
            yield question, answer


def _print(
    question: "Question", answer: "Answer", *, one_file: bool, many: bool, json: bool, streaming: bool, quiet: bool
) -> None:
    if json and many:
        output.put(as_line(question, answer))
    elif json:
        output.put_json(answer.as_dict())
    elif streaming:
        output.put("")  # the text is on the screen already
    else:
        if many and not quiet:
            output.say(f"> {question.text}" if one_file else f"> {question.file}: {question.text}")
        output.put(answer.text)


def _say_opened(opened: "Opened") -> None:
    times = ", ".join(f"{phase} {output.human_seconds(seconds)}" for phase, seconds in opened.seconds.items())
    output.say(f"{opened.path}: {times}")


def _stats(answer: "Answer") -> str:
    times = ", ".join(f"{phase} {output.human_seconds(seconds)}" for phase, seconds in answer.seconds.items())
    reused = f"{answer.tokens_reused} tokens reused, {answer.tokens_prefilled} read, {len(answer.token_ids)} written"
    return f"{reused}{'; ' + times if times else ''}"
