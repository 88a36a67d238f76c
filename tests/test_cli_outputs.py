"""The files that the command line writes, whatever becomes of the terminal or the run."""

import contextlib
import errno
import io
import itertools
import json
import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from linreg_jax import Params
from linreg_jax._cli import job
from linreg_jax.checking import Comparison, GradientReport
from linreg_jax.cli import main
from linreg_jax.saving import load, save
from linreg_jax.tables import ColumnModel
from linreg_jax.training import Status
from tests.command_line import ROWS, assert_refused


def interrupted(*arguments, **keywords):
    raise KeyboardInterrupt


def test_an_interrupted_fit_leaves_a_saved_model_whole(run, table, tmp_path, monkeypatch):
    model = tmp_path / "m.model"
    arguments = ("fit", table, "--target", "price", "--save", model)
    assert run(*arguments)[0] == 0
    before = model.read_bytes()
    monkeypatch.setattr("linreg_jax._cli.commands.train", interrupted)
    code, out, err = run(*arguments)
    assert (code, out) == (130, "")
    assert err == "linreg-jax: interrupted; nothing was written\n"
    assert model.read_bytes() == before


def test_a_run_stopped_at_its_progress_bar_is_reported_and_saved(run, table, tmp_path, monkeypatch):
    def stopped(*arguments, **keywords):
        result = job.train(*arguments, **keywords)
        return result._replace(status=np.int32(Status.INTERRUPTED))

    monkeypatch.setattr("linreg_jax._cli.commands.train", stopped)
    model = tmp_path / "m.model"
    code, out, _ = run("fit", table, "--target", "price", "--save", model)
    assert code == 130
    assert "interrupted after" in out
    with jax.enable_x64(True):
        assert load(model).target == "price"


def test_a_reader_that_has_read_enough_is_no_error(tmp_path):
    path, model = tmp_path / "long.csv", tmp_path / "m.model"
    path.write_text("x\n" + "0.125\n" * 30_000)  # predictions of more bytes than a pipe holds
    save(ColumnModel(Params(np.ones(1), np.array(0.0)), ("x",), "y", "mse"), model)
    predict = [sys.executable, "-m", "linreg_jax", "predict", str(path), "--model", str(model)]
    piped = f"{subprocess.list2cmdline(predict)} | head -n 2"
    done = subprocess.run(["sh", "-c", piped], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("y\n0.125\n", "")


def test_ctrl_c_ends_a_running_fit(table):
    with table.open("a") as file:
        file.write(",,,\n")  # dropped with a warning, which says that the process is under way
    fit = [sys.executable, "-m", "linreg_jax", "fit", str(table), "--target", "price"]
    slow = [*fit, "--drop-missing", "--loss", "mae", "--steps", "100000000"]
    pipe = subprocess.PIPE
    # A shell's background job, such as this may be, ignores Ctrl-C, and so would its children.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(slow, stdout=pipe, stderr=pipe, text=True) as process:
        signal.signal(signal.SIGINT, before)
        assert "dropped 1 of 61 rows" in process.stderr.readline()
        for _ in range(2):
            time.sleep(1)
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                out, err = process.communicate(timeout=60)
                break
        else:
            process.kill()
    assert process.returncode == 130
    # It was compiling, or under way. One Ctrl-C within JAX's own callback of the garbage collector
    # is lost, as Python says then.
    written = err.endswith("linreg-jax: interrupted; nothing was written\n")
    assert (written and (err.startswith("linreg") or "Exception ignored" in err)) or (
        "interrupted after" in out
    )


@contextlib.contextmanager
def unread_output():
    """Within, standard output is a pipe that nobody reads any more."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream, contextlib.redirect_stdout(stream):
        yield


def test_the_files_are_written_before_the_report(table, tmp_path):
    paths = [tmp_path / name for name in ("m.model", "fit.json", "fit.svg")]
    outputs = zip(("--save", "--json", "--plot"), map(str, paths), strict=True)
    with unread_output():
        assert main(["fit", str(table), "--target", "price", *itertools.chain(*outputs)]) == 0
    with jax.enable_x64(True):
        assert load(paths[0]).target == "price"
    assert json.loads(paths[1].read_text())["target"] == "price"
    assert "<svg" in paths[2].read_text()[:500]


def test_a_reader_that_stops_does_not_turn_a_wrong_gradient_right(table, monkeypatch):
    compared = Comparison("autodiff", "by_loops", "bias", (1.0, 2.0), 1.0, 1e-3)
    report = GradientReport("the title", (compared,), (), None)
    monkeypatch.setattr("linreg_jax._cli.commands.check_gradients", lambda *_: report)
    with unread_output():
        assert main(["check", str(table), "--target", "price"]) == 1


def test_the_picture_of_the_demonstration_is_there_before_its_text(tmp_path, monkeypatch):
    path = tmp_path / "hubble.png"

    def demonstrate(**settings):
        assert path.stat().st_size > 20_000
        print("a line", flush=True)

    monkeypatch.setattr("linreg_jax.demonstration.demonstrate", demonstrate)
    with unread_output():
        assert main(["--plot", str(path)]) == 0


def test_a_full_disk_behind_the_report_is_an_error_and_costs_no_file(table, tmp_path, capsys):
    path = tmp_path / "m.model"
    with open("/dev/full", "w") as stream, contextlib.redirect_stdout(stream):
        assert main(["fit", str(table), "--target", "price", "--save", str(path)]) == 2
    assert capsys.readouterr().err == "linreg-jax: standard output: No space left on device\n"
    with jax.enable_x64(True):
        assert load(path).target == "price"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_every_terminal_can_print_every_report(table, tmp_path, monkeypatch, encoding):
    """Letters that it does not have are replaced; data are in UTF-8 whatever it has."""
    taken = io.BytesIO()
    stream = io.TextIOWrapper(taken, encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)

    def printed(*arguments):
        assert main(list(map(str, arguments))) == 0
        text = taken.getvalue()
        taken.seek(0)
        taken.truncate()
        return text

    named = table.read_text().replace("price", "größe")
    table.write_text(named, encoding="utf-8")
    model = tmp_path / "m.model"
    fitted = printed("fit", table, "--target", "größe", "--save", model, "--json", "-")
    assert json.loads(fitted)["target"] == "größe"
    fitted = printed("fit", table, "--target", "größe", "--loss", "mae", "--steps", 20)
    assert ("R2" if encoding == "ascii" else "R²") in fitted.decode(encoding)
    assert stream.errors == "strict"  # as it was
    predictions = printed("predict", table, "--model", model)
    assert predictions.decode("utf-8").splitlines()[0] == "größe"
    assert printed("diagnose", table, "--target", "größe")
    assert printed("check", table, "--target", "größe", "--ridge", 0.1)


def test_standard_streams_that_are_closed(run, table, tmp_path, monkeypatch, capsys):
    model, path = tmp_path / "m.model", tmp_path / "out.csv"
    fit = ["fit", str(table), "--target", "price", "--save", str(model)]
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", None)
        assert main(fit) == 0
        assert main([*fit, "--json", "-"]) == 2
        assert main(["predict", str(table), "--model", str(model)]) == 2
        assert main(["predict", str(table), "--model", str(model), "--out", str(path)]) == 0
        assert main(["check", str(table), "--target", "price"]) == 0
    assert capsys.readouterr().err == (
        "linreg-jax: standard output is closed: pass --json FILE\n"
        "linreg-jax: standard output is closed: pass --out FILE\n"
    )
    assert len(path.read_text().splitlines()) == ROWS + 1
    table.write_text("x,one,z,price\n" + "1,1,0,2\n2,1,5,3\n4,1,1,9\n" * 20)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", None)
        code, out, _ = run("fit", table, "--target", "price", "--json", "-")
    assert code == 0
    assert json.loads(out)["rows"] == ROWS  # and no warning of the constant column before it


def test_no_file_takes_the_place_of_a_closed_stream(table, tmp_path):
    """The first file that is opened would be standard output, and hold what is printed."""
    model = tmp_path / "m.model"
    fit = [sys.executable, "-m", "linreg_jax", "fit", str(table), "--target", "price"]
    command = subprocess.list2cmdline([*fit, "--save", str(model)])
    subprocess.run(["sh", "-c", f"{command} <&- >&- 2>&-"], check=True)
    with jax.enable_x64(True):
        assert load(model).target == "price"


def test_one_file_that_fails_costs_neither_the_others_nor_the_report(
    run, table, tmp_path, monkeypatch
):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device", "m.model")

    monkeypatch.setattr("linreg_jax._cli.commands.save", full)
    path = tmp_path / "fit.json"
    arguments = ("--save", tmp_path / "m.model", "--json", path)
    code, out, err = run("fit", table, "--target", "price", *arguments)
    assert (code, err) == (2, "linreg-jax: m.model: No space left on device\n")
    assert "R²" in out
    assert json.loads(path.read_text())["rows"] == ROWS


def test_ctrl_c_between_two_files_says_what_was_written(run, table, tmp_path, monkeypatch):
    monkeypatch.setattr("linreg_jax._cli.commands.write_whole", interrupted)
    model, path = tmp_path / "m.model", tmp_path / "fit.json"
    code, _, err = run("fit", table, "--target", "price", "--save", model, "--json", path)
    assert (code, err) == (130, f"linreg-jax: interrupted; {model} was written\n")
    assert model.exists()
    assert not path.exists()


def test_a_run_that_diverged_says_that_nothing_was_written(run, table, tmp_path):
    model, path = tmp_path / "m.model", tmp_path / "fit.png"
    explodes = (table, "--target", "price", "--learning-rate", 5)
    code, out, err = run("fit", *explodes, "--save", model)
    assert (code, out) == (1, "")
    assert err.endswith("; nothing was written\n")
    code, _, err = run("fit", *explodes)
    assert code == 1
    assert "nothing was written" not in err
    code, out, err = run("plot", *explodes, "--kind", "fit", "--out", path)
    assert (code, out) == (1, "")
    assert "diverged at step" in err
    assert os.listdir(tmp_path) == ["table.csv"]


def test_no_output_takes_the_place_of_an_input_or_of_another(run, table, tmp_path, monkeypatch):
    model = tmp_path / "m.model"
    assert run("fit", table, "--target", "price", "--save", model)[0] == 0
    before = model.read_bytes(), table.read_bytes()
    monkeypatch.chdir(tmp_path)
    links = {}
    for name, target in (("model", model), ("table", table)):
        os.link(target, f"{name}.hard")
        os.symlink(target, f"{name}.soft.png")
        links[name] = [target, target.name, f"{name}.hard", f"{name}.soft.png"]
    predict = ("predict", table, "--model", model, "--out")
    message = "an input: give the output another name"
    for path in links["model"] + links["table"]:
        assert_refused(run(*predict, path), message)
    for path in links["table"]:
        for option in ("--save", "--json"):
            assert_refused(run("fit", table, "--target", "price", option, path), message)
    soft = "table.soft.png"
    assert_refused(run("fit", table, "--target", "price", "--plot", soft), message)
    assert_refused(run("plot", table, "--target", "price", "--out", soft), message)
    for one, other in itertools.combinations(("--save", "--json", "--plot"), 2):
        same = (one, "model.hard", other, "model.soft.png")
        refused = run("fit", table, "--target", "price", *same)
        assert_refused(refused, "two outputs have the same name, model.soft.png")
    assert (model.read_bytes(), table.read_bytes()) == before


def test_a_device_may_be_named_twice(run, table):
    outputs = ("--save", "/dev/null", "--json", "/dev/null")
    assert run("fit", table, "--target", "price", *outputs)[0] == 0


def test_data_come_from_standard_input_and_predictions_go_to_standard_output(table, tmp_path):
    """As a process, whose streams have numbers; and never over the file that they come from."""
    model, out = tmp_path / "m.model", tmp_path / "out.csv"
    command = subprocess.list2cmdline([sys.executable, "-m", "linreg_jax"])
    fit = f"{command} fit - --target price --save {model} < {table}"
    predict = f"cat {table} | {command} predict /dev/stdin --model {model} --out /dev/stdout"
    over = f"{command} predict - --model {model} --out {table} < {table}"
    appended = f"{predict} >> {out}"
    out.write_text("before\n")
    both = f"{command} fit {table} --target price --json {out}.json > {out}.json"
    done = subprocess.run(["bash", "-c", both], capture_output=True, text=True)
    assert done.returncode == 2
    assert f"standard output goes to {out}.json too" in done.stderr
    script = f"{fit} > /dev/null && {predict} | head -n 2 && {appended} && {over}"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", script], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == (
        f"linreg-jax: {table} is standard input, an input: give the output another name\n"
    )
    assert done.stdout.splitlines()[0] == "price"
    assert out.read_text().splitlines()[:2] == ["before", "price"]
    assert len(out.read_text().splitlines()) == ROWS + 2
