"""The command line, as a user meets it."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from harness.cli import cli, main
from harness.store import create_run
from tests.harness.conftest import Bench
from tests.harness.test_manifest import flip

ROOT = Path(__file__).parents[2]


def harness(bench: Bench, *arguments: str) -> int:
    runs = (
        ["--runs-dir", str(bench.runs)] if arguments[0] in {"run", "rerun", "verify", "show", "list"} else []
    )
    return main([*arguments, *runs])


def test_help_and_list_load_nothing_heavy() -> None:
    code = (
        "import sys; from harness.cli import main\n"
        "main(['--help']); main(['list', '--runs-dir', 'nowhere'])\n"
        "heavy = {'torch', 'lightning', 'numpy', 'scipy', 'matplotlib', 'rich', 'requests', 'h5py'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    settings = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=settings, capture_output=True, text=True, check=True
    )
    assert "Exit codes: 0 done, 1 run failed" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def commands_of(group: click.Group) -> Iterator[click.Command]:
    for command in group.commands.values():
        yield command
        if isinstance(command, click.Group):
            yield from commands_of(command)


def test_every_command_is_told_in_one_line_and_no_escape_is_left_in_its_help() -> None:
    narrow = CliRunner().invoke(cli, ["--help"], terminal_width=80).output
    for command in commands_of(cli):
        assert not command.get_short_help_str(60).endswith("..."), command.name
        assert "\\b" not in (command.help or ""), command.name
    assert "..." not in narrow.split("Commands:")[1]


def test_plan_prints_what_would_run_and_writes_nothing(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(bench.spec.parent.rglob("*"))
    assert harness(bench, "plan", str(bench.spec)) == 0
    printed = capsys.readouterr().out
    assert "10 groups, 2 epochs" in printed
    assert "-m harness.worker RUN_DIR" in printed
    assert "\nenvironment   " in printed
    assert " variables and none of the caller's others: --verbose lists them\n" in printed
    assert "LANG=" not in printed
    assert "CPU-seconds" in printed
    assert "GB" in printed
    assert sorted(bench.spec.parent.rglob("*")) == before


def test_plan_lists_the_variables_of_the_worker_when_asked_and_counts_them_else(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert harness(bench, "plan", str(bench.spec), "--json") == 0
    variables = json.loads(capsys.readouterr().out)["environment"]
    assert harness(bench, "plan", str(bench.spec)) == 0
    assert f"environment   {len(variables)} variables" in capsys.readouterr().out
    assert harness(bench, "plan", str(bench.spec), "--verbose") == 0
    listed = capsys.readouterr().out.split("environment   ")[1].splitlines()
    assert [line.strip().partition("=")[0] for line in listed] == sorted(variables)
    assert "              LANG=C.UTF-8" in listed  # a variable has its own line


def test_a_position_convention_that_nobody_stated_is_noted_and_one_that_was_is_not(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert harness(bench, "plan", str(bench.spec)) == 0
    assert "scan.npz does not state what its positions point at, so ptychopinn" in capsys.readouterr().err
    assert harness(bench, "plan", str(bench.spec), "--set", "data.positions=center") == 0
    assert "positions" not in capsys.readouterr().err


def test_plan_says_first_how_many_steps_how_long_and_how_much_memory(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("n_groups=7", "batch_size=2", "epochs=3", "execution.accum_steps=3")
    assert harness(bench, "plan", str(bench.spec), *(part for one in given for part in ("--set", one))) == 0
    labels, steps = zip(
        *(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()[:4]), strict=True
    )
    assert labels == ("name", "steps", "time", "memory")
    assert steps[1] == "6 of the optimizer, 2 an epoch"


def test_plan_as_json_is_json(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert harness(bench, "plan", str(bench.spec), "--json", "--set", "epochs=7") == 0
    planned = json.loads(capsys.readouterr().out)
    assert planned["values"]["training.epochs"] == 7
    assert planned["estimate"]["cpu_seconds"] > 0


def test_explain_says_value_layer_place_and_what_is_hidden(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert harness(bench, "explain", str(bench.spec), "nphotons") == 0
    assert capsys.readouterr().out.splitlines() == [
        "data.nphotons = 100000.0  (PyTorch default)",
        "    instead of 1000000000.0  (canonical default)",
    ]
    assert harness(bench, "explain", str(bench.spec), "training.epochs") == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first == "training.epochs = 2  (explicit override, spec.yaml:4:34)"


def test_explain_without_a_key_explains_every_leaf_of_the_manifest(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert harness(bench, "explain", str(bench.spec), "--json") == 0
    assert set(json.loads(capsys.readouterr().out)) == set(bench.run().manifest.resolved)


def test_a_misspelt_key_is_answered_with_the_nearest(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert harness(bench, "explain", str(bench.spec), "nphoton") == 2
    assert "did you mean 'nphotons'?" in capsys.readouterr().err


@pytest.mark.parametrize(("device", "accelerator"), [("cpu", "cpu"), ("cpu:1", "cpu")])
def test_device_is_short_for_two_overrides(
    bench: Bench, capsys: pytest.CaptureFixture[str], device: str, accelerator: str
) -> None:
    assert harness(bench, "explain", str(bench.spec), "accelerator", "--device", device) == 0
    assert f'execution.accelerator = "{accelerator}"  (explicit override' in capsys.readouterr().out


def test_a_device_that_is_not_there_is_blamed_on_the_option_that_named_it(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    if "cuda" in bench.executor().inventory().accelerators:
        pytest.skip("there is a graphics card here, so there is nothing to refuse")
    assert harness(bench, "plan", str(bench.spec), "--set", "epochs=3", "--device", "cuda:2") == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("--device:1:1 execution.accelerator: asks for a GPU")
    assert said[1:3] == ["    cuda:2", "    ^"]
    assert said[3].startswith("--device:1:6 execution.n_devices: is 2")
    assert said[4:] == ["    cuda:2", "         ^"]


@pytest.mark.parametrize("device", ["tpu", "cuda:", "cuda:x", ""])
def test_a_device_that_is_none_is_refused(
    bench: Bench, capsys: pytest.CaptureFixture[str], device: str
) -> None:
    assert harness(bench, "plan", str(bench.spec), "--device", device) == 2
    assert "--device" in capsys.readouterr().err


def test_a_wrong_spec_is_refused_with_its_place_and_without_a_trace(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.spec.write_text(bench.spec.read_text().replace("epochs: 2", "epochs: none, n_group: 3"))
    assert harness(bench, "run", str(bench.spec)) == 2
    printed = capsys.readouterr().err
    assert f"{bench.spec}:4:" in printed
    assert "Traceback" not in printed
    assert not bench.runs.exists()


@pytest.mark.parametrize("condition", ["phase_correlation", "phase_correlation>0.8", ">=1", "a>=b"])
def test_a_requirement_that_is_no_condition_is_refused_before_anything_runs(
    bench: Bench, condition: str
) -> None:
    assert harness(bench, "run", str(bench.spec), "--require", condition) == 2
    assert not bench.runs.exists()


def test_unknown_commands_options_and_runs_are_bad_input(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["nonsense"]) == 2
    assert main(["list", "--nonsense"]) == 2
    assert harness(bench, "show", "no-such-run") == 2
    assert "there is no run 'no-such-run'" in capsys.readouterr().err


def test_what_the_disk_refuses_is_said_in_one_sentence(bench: Bench) -> None:
    code = (
        "import resource, sys; from harness.cli import main; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (700, 700)); sys.exit(main(sys.argv[1:]))"
    )
    words = ["run", str(bench.spec), "--runs-dir", str(bench.runs)]
    answer = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    assert answer.stderr.splitlines()[-1].startswith(
        "the operating system refused ([Errno 27] File too large)"
    )
    assert "Traceback" not in answer.stderr


def test_show_prints_the_manifest_itself_as_json(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    path = bench.run().path
    assert harness(bench, "show", path.name, "--json") == 0
    assert json.loads(capsys.readouterr().out) == json.loads((path / "manifest.json").read_text())


def test_show_tells_a_person_what_the_run_was(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    path = bench.run().path
    assert harness(bench, "show", str(path)) == 0
    printed = capsys.readouterr().out
    parts = ("completed", "scan.npz", "checkpoints/last.ckpt", "phase correlation 0.900", "portable")
    for part in (*parts, f"folder        {path}\n"):
        assert part in printed


def test_show_lists_the_values_that_are_no_defaults_with_where_they_come_from(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.spec.write_text(bench.spec.read_text() + "execution: {accum_steps: 1, scheduler: WarmupCosine}\n")
    path = bench.run("complete", "epochs=4", "model.gridsize=1", "attention=false").path
    assert harness(bench, "show", str(path)) == 0
    lines = capsys.readouterr().out.splitlines()
    [first] = [number for number, line in enumerate(lines) if line.startswith("values ")]
    listed = [line[14:] for line in itertools.takewhile(lambda line: line[:1] in {"v", " "}, lines[first:])]
    told = {line.partition(" = ")[0]: line.partition(" = ")[2] for line in listed}
    assert told["training.epochs"] == "4  (explicit override, --set:1:8, instead of 50)"
    assert told["model.attention"] == "false  (explicit override, --set:3:11, instead of true)"
    assert told["training.n_groups"] == "10  (explicit override, spec.yaml:4:22)"
    scheduler = '"WarmupCosine"  (execution config, spec.yaml:5:40, instead of "Default")'
    assert told["execution.scheduler"] == scheduler
    assert told["data.units"].startswith('"count_amplitude"  (inferred from data, ')
    said_again = {"model.gridsize", "execution.accum_steps"}  # written, and the default all the same
    by_default = {"training.loss", "training.batch_size", "seed", "checkpoints.every_seconds"}
    assert told.keys().isdisjoint({*said_again, *by_default, "name", "data.train.file"})


@pytest.mark.parametrize(
    ("file", "words"),
    [("notes.txt", "with untracked files besides"), ("harness/gate.py", "with uncommitted changes")],
)
def test_show_tells_changed_code_from_files_that_lie_beside_it(
    make_bench: Callable[[Path], Bench],
    own_tree: Path,
    capsys: pytest.CaptureFixture[str],
    file: str,
    words: str,
) -> None:
    bench = make_bench(own_tree)
    with (own_tree / file).open("a") as stream:
        stream.write("# diff --git a/x b/x\n")
    path = bench.run().path
    assert harness(bench, "show", str(path)) == 0
    assert f", {words}, source" in capsys.readouterr().out


def test_show_names_the_command_that_continues_a_run_that_was_broken_off(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    path = bench.run("killed").path
    assert harness(bench, "show", str(path)) == 0
    assert f"continue      harness resume {path}\n" in capsys.readouterr().out
    assert harness(bench, "verify", str(path)) == 2
    assert f"{path.name} is failed, so there is no end to verify" in (said := capsys.readouterr().err)
    assert said.endswith(f"continue it by `harness resume {path}`\n")
    (path / "manifest.json").unlink()  # as after the death of the host
    assert harness(bench, "show", str(path)) == 0
    printed = capsys.readouterr().out
    assert f"continue      harness resume {path}\n" in printed
    assert "rerun" not in printed


def test_show_and_list_read_the_journal_of_a_run_without_a_manifest(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    with create_run(bench.runs, "dead") as run:
        assert harness(bench, "show", str(run.path), "--json") == 0
        assert json.loads(capsys.readouterr().out)["status"] == "running"
    assert harness(bench, "show", str(run.path)) == 0
    assert "interrupted" in capsys.readouterr().out
    finished = bench.run()
    assert harness(bench, "list", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert [(one["name"], one["status"]) for one in listed] == [
        ("dead", "interrupted"),
        ("small", "completed"),
    ]
    assert listed[1]["path"] == str(finished.path)
    assert listed[1]["created"].startswith("20")


@pytest.mark.parametrize("name", ["manifest.json", "checkpoints/last.ckpt", "products/weights.safetensors"])
def test_a_flipped_bit_is_named_by_show_and_by_verify(
    bench: Bench, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    path = bench.run().path
    assert harness(bench, "verify", str(path), "--files-only") == 0
    flip(path / name, 300)
    for command in (["show", str(path)], ["verify", str(path), "--files-only"], ["verify", str(path)]):
        capsys.readouterr()
        assert harness(bench, *command) == 3
        assert name in capsys.readouterr().err
    assert harness(bench, "list") == 0


def test_a_flipped_bit_of_the_data_is_named_by_verify(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    path = bench.run().path
    flip(bench.data, 4000)
    for command in (["verify", str(path), "--files-only"], ["verify", str(path)], ["rerun", str(path)]):
        assert harness(bench, *command) == 3
        assert "scan.npz has sha256" in capsys.readouterr().err


def test_help_names_the_exit_code_of_a_rerun_that_differs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rerun", "--help"]) == 0
    assert "exit code is 3" in capsys.readouterr().out


def test_new_writes_a_spec_that_plans_as_it_is(
    bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bench.data.parent)
    assert main(["new", str(bench.data)]) == 0
    spec = bench.data.with_suffix(".yaml")
    said = capsys.readouterr()
    assert spec.name in said.out
    assert "note: scan.npz does not state what its positions point at, so ptychopinn is assumed" in said.err
    assert main(["plan", str(spec)]) == 0
    assert "note" not in capsys.readouterr().err
    assert main(["new", str(bench.data)]) == 2
    assert "exists already" in capsys.readouterr().err


SPEC = """\
name: real
data:
  train: {simulate: {object: {size_px: 110}, scan: {rows: 6, columns: 6}}}
model: {n_filters_scale: 1}
training: {n_groups: 30, epochs: 1, batch_size: 8}
"""


@pytest.mark.slow
def test_a_real_run_is_rerun_and_verified_to_the_last_bit(tmp_path: Path, planted: Path) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC)
    settings = {"PATH": os.environ["PATH"], "PYTHONPATH": str(planted), "HOME": str(tmp_path)}

    def call(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-P", "-m", "harness", *arguments]
        environment = {**settings, **more}
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    # A network trained for one epoch is no reconstruction, and the run says so.
    answer = call("run", "spec.yaml", "--require", "phase_correlation>=0.99")
    assert answer.returncode == 1
    assert "not good enough: phase_correlation" in answer.stderr
    (first,) = json.loads(call("list", "--json").stdout)
    assert first["status"] == "collapsed"
    (tmp_path / "spec.yaml").unlink()
    answer = call("verify", first["path"], TZ="Asia/Tokyo", LANG="tr_TR.UTF-8", PYTHONHASHSEED="7")
    assert (answer.returncode, answer.stdout.splitlines()[0]) == (0, "bitwise")
    assert answer.stdout.splitlines()[-1].startswith("repeated in runs/_out/real-")
