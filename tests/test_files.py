"""Files written: whole or not there, through links, and never over what is no file."""

import errno
import os
import secrets
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from zero_jax import cli
from zero_jax.support import files
from zero_jax.support.files import check_writable, write_atomically


def entries(folder):
    return sorted(path.name for path in folder.iterdir())


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def umask():
    before = os.umask(0o027)
    yield 0o027
    os.umask(before)


def test_a_new_file_has_the_usual_permissions(tmp_path, umask):
    write_atomically(tmp_path / "new", "text")
    assert (tmp_path / "new").read_text() == "text"
    assert mode(tmp_path / "new") == 0o640
    assert entries(tmp_path) == ["new"]


@pytest.mark.parametrize("permissions", [0o600, 0o664, 0o755])
def test_a_file_keeps_its_permissions(tmp_path, umask, permissions):
    file = tmp_path / "old"
    file.write_text("before")
    file.chmod(permissions)
    check_writable(file)
    write_atomically(file, b"after")
    assert (file.read_text(), mode(file)) == ("after", permissions)


def test_a_link_is_followed_and_stays(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "target").write_text("before")
    (tmp_path / "near").symlink_to("there/target")
    (tmp_path / "far").symlink_to(tmp_path / "near")
    for name in ("near", "far"):
        check_writable(tmp_path / name)
        write_atomically(tmp_path / name, name)
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / "there" / "target").read_text() == name
    assert entries(tmp_path / "there") == ["target"]


def test_a_link_to_nothing_makes_what_it_leads_to(tmp_path):
    (tmp_path / "link").symlink_to("made")
    write_atomically(tmp_path / "link", "text")
    assert (tmp_path / "made").read_text() == "text"
    assert (tmp_path / "link").is_symlink()
    (tmp_path / "astray").symlink_to("nowhere/made")
    with pytest.raises(OSError, match=r"cannot write .*astray: folder .*nowhere does not exist"):
        write_atomically(tmp_path / "astray", "text")


def test_of_two_hard_links_the_other_keeps_what_it_had(tmp_path):
    (tmp_path / "one").write_text("before")
    os.link(tmp_path / "one", tmp_path / "two")
    write_atomically(tmp_path / "one", "after")
    assert [(tmp_path / name).read_text() for name in ("one", "two")] == ["after", "before"]


def refused(path, words):
    before = path.lstat() if os.path.lexists(path) else None
    with pytest.raises(ValueError, match=words):
        check_writable(path)
    with pytest.raises(OSError, match=words):
        write_atomically(path, "text")
    assert (path.lstat() if os.path.lexists(path) else None) == before


def test_what_is_no_file_is_refused(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "to a fifo").symlink_to("fifo")
    (tmp_path / "round").symlink_to("round")
    refused(tmp_path / "folder", "it is a folder")
    refused(tmp_path / "fifo", "it is a FIFO")
    refused(tmp_path / "to a fifo", "it is a FIFO")
    refused(tmp_path / "nowhere" / "file", "folder .*nowhere does not exist")
    refused(tmp_path / "fifo" / "file", "cannot write|Not a directory")
    refused(tmp_path / "round", "symbolic links")
    assert entries(tmp_path) == ["fifo", "folder", "round", "to a fifo"]


def test_what_may_not_be_written_is_refused():
    """Root may write all, so as somebody else."""
    with tempfile.TemporaryDirectory() as name:
        folder, root = Path(name), os.geteuid() == 0
        (folder / "file").write_text("before")
        (folder / "file").chmod(0o444)
        (folder / "closed").mkdir()
        (folder / "closed").chmod(0o555)
        folder.chmod(0o777)
        if root:
            os.seteuid(65534)
        try:
            refused(folder / "file", "no permission to write .*file")
            refused(folder / "closed" / "new", "no permission to write .*closed")
        finally:
            if root:
                os.seteuid(0)
        assert (folder / "file").read_text() == "before"


def test_devices_are_written_to():
    before = os.lstat("/dev/null")
    check_writable("/dev/null")
    write_atomically(Path("/dev/null"), "text")
    assert (os.lstat("/dev/null").st_ino, os.lstat("/dev/null").st_rdev) == (before.st_ino, before.st_rdev)


def test_a_link_to_a_device_is_written_through(tmp_path):
    (tmp_path / "sink").symlink_to("/dev/null")
    write_atomically(tmp_path / "sink", "text")
    assert os.readlink(tmp_path / "sink") == "/dev/null"


PRINTS = """
import sys
from pathlib import Path
from zero_jax.support.files import check_writable, write_atomically
print("before")
check_writable(sys.argv[1])
write_atomically(Path(sys.argv[1]), "text\\n")
print("after")
"""


@pytest.mark.parametrize(("to", "name"), [("pipe", "/dev/stdout"), ("file", "/dev/fd/1"), ("file", "link")])
def test_the_output_of_the_process_is_written_to_in_order(tmp_path, to, name):
    (tmp_path / "link").symlink_to("/dev/stdout")
    with open(tmp_path / "out", "wb") as file:
        where = {"stdout": file} if to == "file" else {"capture_output": True}
        command = [sys.executable, "-c", PRINTS, str(tmp_path / name) if name == "link" else name]
        done = subprocess.run(command, check=True, **where)
    out = (tmp_path / "out").read_bytes() if to == "file" else done.stdout
    assert out == b"before\ntext\nafter\n"


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device"), MemoryError()]
)
@pytest.mark.parametrize("call", ["fsync", "replace", "fchmod"])
def test_nothing_remains_of_a_failure(tmp_path, monkeypatch, error, call):
    (tmp_path / "file").write_text("before")

    def fails(*args):
        raise error

    monkeypatch.setattr(files.os, call, fails)
    with pytest.raises(type(error)) as raised:
        write_atomically(tmp_path / "file", "after")
    if isinstance(error, OSError):
        assert str(tmp_path / "file") in str(raised.value)
    assert entries(tmp_path) == ["file"]
    assert (tmp_path / "file").read_text() == "before"


def test_a_file_of_somebody_else_is_not_taken_for_ours(tmp_path, monkeypatch):
    (tmp_path / ".00.tmp").write_text("precious")
    monkeypatch.setattr(secrets, "token_hex", lambda n: "00")
    with pytest.raises(FileExistsError):
        write_atomically(tmp_path / "file", "text")
    assert (tmp_path / ".00.tmp").read_text() == "precious"


def test_names_may_be_as_long_as_the_system_lets_them(tmp_path):
    write_atomically(tmp_path / ("x" * 255), "text")
    assert entries(tmp_path) == ["x" * 255]


# ---------------------------------------------------------------------------------------------- the command line


def test_tune_looks_where_to_write_before_it_begins(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("zero_jax.use.tuning.tune", lambda *args, **how: pytest.fail("it began"))
    os.mkfifo(tmp_path / "fifo")
    assert cli.main(["tune", "linear", "--out", str(tmp_path / "fifo")]) == 2
    assert capsys.readouterr() == ("", f"zero-jax: cannot write {tmp_path / 'fifo'}: it is a FIFO\n")


def test_tune_writes_to_a_device_and_through_a_link(tmp_path, capsys):
    few = ["--evaluations", "2", "--tasks", "2", "--train", "10", "--valid", "5"]
    (tmp_path / "link").symlink_to("tuned.txt")
    for out in ("/dev/null", str(tmp_path / "link")):
        assert cli.main(["tune", "linear", "--out", out, *few]) == 0, capsys.readouterr().err
    assert stat.S_ISCHR(os.lstat("/dev/null").st_mode)
    assert (tmp_path / "link").is_symlink()
    assert "def Setup():" in (tmp_path / "tuned.txt").read_text()
