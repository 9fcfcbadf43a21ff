"""Context files at URLs: as on the disk, and the same errors; through fsspec's file system in memory, and a bucket."""

import subprocess
import sys
from pathlib import Path

import fsspec
import pytest
import torch

from flowmm.errors import CorruptFileError, InputError
from flowmm.header import read_header, verify
from flowmm.remote import is_url
from flowmm.store import load, save
from flowmm_cli.app import run
from tests.unit import small_caches

ROOT = Path(__file__).parents[2]
URL = "memory://shelf/ctx.kv"


@pytest.fixture
def local(tmp_path):
    save(small_caches.ragged(), tmp_path / "ctx.kv")
    return tmp_path / "ctx.kv"


@pytest.fixture
def data(local):
    return local.read_bytes()


def put(data, url=URL):
    with fsspec.open(url, "wb") as file:
        file.write(data)
    return url


def test_urls_are_told_from_paths():
    assert all(map(is_url, ("s3://b/k.kv", "simplecache::s3://b/k.kv", "S3://b/k", "https://a.b/c")))
    assert not any(map(is_url, ("ctx.kv", "./s3:/b/k", "C://x", "a::b", Path("s3://b/k"))))


def test_a_remote_file_is_read_verified_and_loaded_as_a_local_one(local, data):
    url = put(data)
    header = verify(url)
    assert (header.path, header.file_bytes, header.checksums) == (url, len(data), read_header(local).checksums)
    there, here = load(url), load(local)
    assert there.provenance == here.provenance
    for one, other in zip(there.layers, here.layers, strict=True):
        assert torch.equal(one.keys, other.keys)
        assert torch.equal(one.position, other.position)


def test_a_cached_one_is_fetched_once(data):
    put(data, "memory://shelf/cached.kv")
    assert verify("simplecache::memory://shelf/cached.kv").file_bytes == len(data)
    fsspec.filesystem("memory").rm("/shelf/cached.kv")
    assert load("simplecache::memory://shelf/cached.kv").num_tokens == 5


def test_the_commands_take_urls(data, capsys):
    put(data)
    assert run(["inspect", URL]) == 0
    assert run(["verify", URL]) == 0
    assert run(["ask", URL, "Which?"]) == 2  # a model in some folder: the header was read
    said = capsys.readouterr()
    assert f"{URL}: context file, format" in said.out
    assert f"{URL}: " in said.out.splitlines()[-1]
    assert f"{URL}: was made with the model in a local folder" in said.err


def test_damage_is_found_wherever_the_file_is(data):
    flipped = bytearray(data)
    flipped[-1] ^= 1
    with pytest.raises(CorruptFileError, match="is damaged"):
        verify(put(bytes(flipped)))
    with pytest.raises(CorruptFileError, match="truncated"):
        read_header(put(data[:-8]))
    with pytest.raises(CorruptFileError, match="the file is empty"):
        read_header(put(b""))


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("memory://shelf/none.kv", "memory://shelf/none.kv: cannot be read: no such file"),
        ("abcd://shelf/ctx.kv", "abcd://shelf/ctx.kv: cannot be read: Protocol not known: abcd"),
        ("file:///etc/hostname", "file:///etc/hostname: is a URL of a local file"),
    ],
)
def test_what_cannot_be_opened_is_an_input_error(url, what):
    with pytest.raises(InputError) as error:
        load(url)
    assert error.value.what == what
    assert error.value.hint


def test_without_what_reads_such_files_two_lines_say_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    assert run(["inspect", "gcs://bucket/ctx.kv"]) == 3
    monkeypatch.setitem(sys.modules, "fsspec", None)
    assert run(["inspect", "s3://bucket/ctx.kv"]) == 3
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 4
    assert said[0].startswith("gcs://bucket/ctx.kv: cannot be read: ")
    assert said[1] == said[3] == "Install what reads it; for s3:// that is pip install 'flowmm[s3]'."


def test_a_connection_that_breaks_is_no_bug(data, monkeypatch):
    put(data)
    opened = fsspec.open(URL, "rb")

    class Breaking:
        def __init__(self):
            self._file = opened.open()
            self.seek, self.tell, self.close = self._file.seek, self._file.tell, self._file.close

        def read(self, count):
            if self._file.tell() + count > len(data) - 8:
                raise RuntimeError("connection\nreset")
            return self._file.read(count)

    header = read_header(URL)
    monkeypatch.setattr("fsspec.open", lambda *_: type("Opened", (), {"open": staticmethod(Breaking)}))
    with pytest.raises((CorruptFileError, InputError), match="connection reset"):
        load(URL)
    assert header.file_bytes == len(data)


def test_local_files_are_read_without_fsspec(local):
    check = f"from flowmm_cli.app import run; import sys; assert run(['verify', {str(local)!r}]) == 0; "
    done = subprocess.run(
        [sys.executable, "-c", f"{check}assert 'fsspec' not in sys.modules, 'imported'"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_bucket_is_a_shelf(data, monkeypatch):
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        settings = {"endpoint_url": f"http://{host}:{port}", "key": "a", "secret": "b"}
        monkeypatch.setitem(fsspec.config.conf, "s3", settings)
        fsspec.filesystem("s3").mkdir("shelf")
        url = put(data, "s3://shelf/ctx.kv")
        assert verify(url).file_bytes == len(data)
        assert load(url).num_tokens == load(f"simplecache::{url}").num_tokens == 5
        with pytest.raises(InputError, match=r"s3://shelf/none\.kv: cannot be read: no such file"):
            read_header("s3://shelf/none.kv")
        with pytest.raises(InputError, match=r"s3://none/ctx\.kv: cannot be read: "):
            read_header("s3://none/ctx.kv")
    finally:
        server.stop()
