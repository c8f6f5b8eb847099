"""Ways to alter a finished run and make its digests fit again, as one would who knows how they are made."""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.checkpoint_file import read_checkpoint, weights_digest
from harness.store import BEGUN, JOURNAL, MANIFEST, OUTCOME, RESOLVED, file_digest, render_json

TRACE, CHECKPOINT, WEIGHTS = "trace.jsonl", "checkpoints/last.ckpt", "products/weights.safetensors"
CSV_LOG = "logs/csv/metrics.csv"

Plain = dict[str, Any]
Change = Callable[[Plain], object]


def rewrite(run: Path, change: Change, name: str = MANIFEST) -> None:
    """Change a manifest and give it the digest that it then should have."""
    plain = json.loads((run / name).read_text())
    change(plain)
    plain["manifest_digest"] = ""
    plain["manifest_digest"] = hashlib.sha256(render_json(plain)).hexdigest()
    (run / name).write_bytes(render_json(plain))


def vouch_for(run: Path, *names: str, is_compared: bool = True) -> None:
    """Record files as they now are, everywhere where the manifest or the outcome speak of them."""

    def change(plain: Plain) -> None:
        for name in names:
            digest = file_digest(run / name)
            if "files" in plain:
                plain["files"][name] = {"sha256": digest, "size": (run / name).stat().st_size}
            for kept in (*plain["checkpoints"], *plain["products"]):
                if kept["path"] == name:
                    kept["sha256"] = digest
            if is_compared and name in plain.get("compared", {}) and name != CHECKPOINT:
                plain["compared"][name] = digest

    both(run, change)


def both(run: Path, change: Change) -> None:
    """Change outcome and manifest alike."""
    outcome = json.loads((run / OUTCOME).read_text())
    change(outcome)
    (run / OUTCOME).write_bytes(render_json(outcome))

    def vouched(plain: Plain) -> None:
        change(plain)
        plain["files"][OUTCOME] = {
            "sha256": file_digest(run / OUTCOME),
            "size": (run / OUTCOME).stat().st_size,
        }

    rewrite(run, vouched)


def replace_in(run: Path, name: str, old: bytes, new: bytes) -> None:
    content = (run / name).read_bytes()
    assert content.count(old) >= 1, (name, old)
    (run / name).write_bytes(content.replace(old, new, 1))


def of_an_earlier_version(run: Path) -> None:
    """Take out of journal and manifest what they did not tell: a second time of the end, what was spent."""
    events = [json.loads(line) for line in (run / JOURNAL).read_text().splitlines()]
    assert [event["event"] for event in events[-2:]] == ["worker ended", "ended"]
    events[-1]["time"] = events[-1].pop("finished")  # no later than the manifest's
    events[-2].pop("cpu_seconds")
    (run / JOURNAL).write_text("".join(f"{json.dumps(event)}\n" for event in events))
    rewrite(run, lambda plain: plain["attempts"][0].pop("cpu_seconds"))


def shorten_journal(run: Path) -> None:
    lines = (run / JOURNAL).read_text().splitlines(keepends=True)
    (run / JOURNAL).write_text("".join(lines[:-1]))


def add_attempt(plain: Plain) -> None:
    plain["attempts"].append({**plain["attempts"][0], "from_step": 7, "exit_status": -9})


def alter_part(run: Path, is_meant: Callable[[str], bool], change: Callable[[bytes], bytes]) -> None:
    """Change one part of the checkpoint's archive; its check sums fit again."""
    with zipfile.ZipFile(run / CHECKPOINT) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    name = next(filter(is_meant, parts))
    parts[name] = change(parts[name])
    with zipfile.ZipFile(run / CHECKPOINT, "w") as archive:
        for part, content in parts.items():
            archive.writestr(part, content)


def add_twins(run: Path) -> None:
    """Put zeros beside every tensor, under a name that torch takes for the tensor's own."""
    with zipfile.ZipFile(run / CHECKPOINT, "a") as archive:
        for name in [name for name in archive.namelist() if "/data/" in name]:
            archive.writestr(name.replace("/data/", "/DATA/"), bytes(archive.getinfo(name).file_size))


def alter_tensor(run: Path) -> None:
    def flipped(content: bytes) -> bytes:
        return bytes([content[0] ^ 1, *content[1:]])

    alter_part(run, lambda name: "/data/" in name, flipped)


def claim_tensors(run: Path) -> None:
    """Record the checkpoint's tensors as they now are."""
    digest = weights_digest(read_checkpoint(run / CHECKPOINT))

    def change(plain: Plain) -> None:
        for kept in plain["checkpoints"]:
            if kept["path"] == CHECKPOINT:
                kept["tensor_digest"] = digest
        if "compared" in plain:
            plain["compared"] |= {CHECKPOINT: digest, "final_tensor_digest": digest}
        else:
            plain["final_tensor_digest"] = digest

    both(run, change)


def edit_loss(run: Path) -> None:
    """Put another loss into the third line of the trace."""
    lines = (run / TRACE).read_text().splitlines(keepends=True)
    third = json.loads(lines[2])
    third["loss"] = (float.fromhex(third["loss"]) * 1.5).hex()
    lines[2] = json.dumps(third, separators=(",", ":")) + "\n"
    (run / TRACE).write_text("".join(lines))


def drop_last_line(run: Path) -> None:
    lines = (run / TRACE).read_text().splitlines(keepends=True)
    (run / TRACE).write_text("".join(lines[:-1]))


def forget(run: Path, name: str) -> None:
    """Remove a file, and every word about it."""
    (run / name).unlink()

    def change(plain: Plain) -> None:
        plain["files"].pop(name)
        plain["compared"].pop(name, None)

    rewrite(run, change)


def exchange(run: Path, one: str, other: str) -> None:
    first, second = (run / one).read_bytes(), (run / other).read_bytes()
    (run / one).write_bytes(second)
    (run / other).write_bytes(first)


def set_metric(name: str, value: float) -> Change:
    def change(plain: Plain) -> None:
        plain["metrics"][name] = value
        if "compared" in plain:
            plain["compared"][f"metrics.{name}"] = value

    return change


def _set(*keys: str, to: Any) -> Change:
    def change(plain: Plain) -> None:
        place = plain
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = to

    return change


def _turn_status(plain: Plain) -> None:
    plain["status"] = "completed" if plain["status"] == "collapsed" else "collapsed"


def _observe(plain: Plain) -> None:
    (plain["exactness"]["observed"] if "exactness" in plain else plain["exactness_observed"])["threads"] = 64


def edit_spec(run: Path) -> None:
    replace_in(run, "spec.yaml", b"epochs", b"epochs ")
    text = (run / "spec.yaml").read_text()
    rewrite(run, _set("spec", to=text))
    vouch_for(run, "spec.yaml")


def edit_number(run: Path) -> None:
    """Alter a number in every copy of the spec, and in nothing that was resolved from it."""
    rewrite_spec(run, r"epochs: (\d+)", r"epochs: \g<1>0")


def rewrite_spec(run: Path, pattern: str, new: str) -> None:
    """Put something else into every copy of the spec, and into nothing that was resolved from it."""
    text = re.sub(pattern, new, (run / "spec.yaml").read_text())
    (run / "spec.yaml").write_text(text)
    for name in (MANIFEST, BEGUN):
        rewrite(run, _set("spec", to=text), name)
    vouch_for(run, "spec.yaml")


def edit_note(run: Path) -> None:
    """Alter in the resolved run what its own digest does not cover: the run's name."""
    plain = json.loads((run / RESOLVED).read_text())
    plain["name"] = "another"
    (run / RESOLVED).write_bytes(render_json(plain))
    vouch_for(run, RESOLVED)


def each(*steps: Callable[[Path], object]) -> Callable[[Path], None]:
    def doctor(run: Path) -> None:
        for step in steps:
            step(run)

    return doctor


def vouched(*names: str, is_compared: bool = True) -> Callable[[Path], None]:
    return lambda run: vouch_for(run, *names, is_compared=is_compared)


def plant(name: str) -> Callable[[Path], object]:
    def doctor(run: Path) -> None:
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text("more")

    return doctor


def log_more(run: Path) -> None:
    """Repeat the csv logger's last line, as a careless continuation would."""
    lines = (run / CSV_LOG).read_text().splitlines(keepends=True)
    (run / CSV_LOG).write_text("".join([*lines, lines[-1]]))


def plant_code(run: Path) -> None:
    """Put a checkpoint in place that would run a program when it is unpickled without care."""
    marker = run.parent / "it ran"
    script = f"cos\nsystem\n(S'touch \"{marker}\"'\ntR.".encode()
    alter_part(run, lambda name: name.endswith("data.pkl"), lambda content: script)


FOUND_IN_THE_RECORD: dict[str, Callable[[Path], object]] = {
    "a figure, the digest as it was": lambda run: replace_in(
        run, MANIFEST, b'"phase_correlation": 0.', b'"phase_correlation": 9.'
    ),
    "a figure among the metrics only": lambda run: rewrite(run, _set("metrics", "train_loss", to=0.01)),
    "a figure among the compared facts only": lambda run: rewrite(
        run, _set("compared", "metrics.train_loss", to=0.01)
    ),
    "the status": lambda run: rewrite(run, _turn_status),
    "the seed": lambda run: rewrite(run, _set("seeds", "seed", to=1)),
    "a resolved value": lambda run: rewrite(run, _set("resolved", "training.epochs", "value", to=99)),
    "a source file's digest": lambda run: rewrite(run, _set("code", "files", "harness/run.py", to="0" * 64)),
    "a package's version": lambda run: rewrite(
        run, _set("environment", "packages", "numpy", "version", to="9.9")
    ),
    "the processor": lambda run: rewrite(run, _set("environment", "cpu", "model", to="Another")),
    "the day": lambda run: rewrite(run, _set("created", to="2020-01-01T00:00:00.000+00:00")),
    "the end": lambda run: rewrite(run, _set("finished", to="2099-01-01T00:00:00.000+00:00")),
    "the end, the journal one of an earlier version": each(
        of_an_earlier_version,
        lambda run: rewrite(run, _set("finished", to="1999-01-01T00:00:00.000+00:00")),
    ),
    "an attempt's seconds": lambda run: rewrite(run, _set("attempts", 0, "seconds", to=86400.5)),  # type: ignore[arg-type]
    "an attempt's processor time": lambda run: rewrite(run, _set("attempts", 0, "cpu_seconds", to=86400.5)),  # type: ignore[arg-type]
    "an attempt more": lambda run: rewrite(run, add_attempt),
    "no attempt": lambda run: rewrite(run, _set("attempts", to=[])),
    "the journal removed": lambda run: (run / JOURNAL).unlink(),
    "the journal's end removed": shorten_journal,
    "what was known at the beginning removed": lambda run: (run / BEGUN).unlink(),
    "the spec in the manifest": lambda run: rewrite(run, _set("spec", to="name: other\n")),
    "the spec, and all digests": edit_spec,
    "a number in every copy of the spec": edit_number,
    "the run's name in what was resolved": edit_note,
    "what was observed, in the manifest only": lambda run: rewrite(run, _observe),
    "the outcome only": lambda run: replace_in(run, OUTCOME, b'"train_loss": 0.', b'"train_loss": 1.'),
    "a tensor": alter_tensor,
    "a tensor, and the file's digests": each(alter_tensor, vouched(CHECKPOINT)),
    "a checkpoint's step": lambda run: both(run, _set("checkpoints", 0, "step", to=7)),  # type: ignore[arg-type]
    "a checkpoint cut short, and the file's digests": each(
        lambda run: (run / CHECKPOINT).write_bytes((run / CHECKPOINT).read_bytes()[:300]), vouched(CHECKPOINT)
    ),
    "a checkpoint with two tensors for one": each(add_twins, vouched(CHECKPOINT)),
    "a checkpoint with a program in it": each(plant_code, vouched(CHECKPOINT)),
    "a trace's line": edit_loss,
    "a trace's line, and the file's digest": each(edit_loss, vouched(TRACE, is_compared=False)),
    "a trace cut short": drop_last_line,
    "two files exchanged": lambda run: exchange(run, WEIGHTS, TRACE),
    "two files exchanged, and their digests": each(
        lambda run: exchange(run, WEIGHTS, TRACE), vouched(WEIGHTS, TRACE, is_compared=False)
    ),
    "a product removed": lambda run: (run / WEIGHTS).unlink(),
    "a product removed, and its file's record": lambda run: forget(run, WEIGHTS),
    "a file too many": plant("products/better.npz"),
    "a checkpoint too many": plant("checkpoints/best.ckpt"),
    "a state to continue from": plant("checkpoints/resume-000000002.ckpt"),
    "a hidden file": plant("products/.better.npz"),
    "a file in a hidden folder": plant(".more/better.npz"),
    "a file that looks unfinished": plant("products/.better.npz.tmp"),
    "a link": lambda run: (run / "products" / "better.npz").symlink_to(run / WEIGHTS),
    "a log's line": log_more,
}
"""What a run's own files contradict: it is found before anything is trained."""

FOUND_BY_TRAINING: dict[str, Callable[[Path], object]] = {
    "a figure everywhere": lambda run: both(run, set_metric("train_loss", 0.01)),
    "a figure more": lambda run: both(run, set_metric("accuracy", 1.0)),
    "the seed that is told, everywhere": lambda run: both(run, _set("seeds", "seed", to=1)),
    "what was observed, everywhere": lambda run: both(run, _observe),
    "a tensor everywhere": each(alter_tensor, claim_tensors, vouched(CHECKPOINT)),
    "the trace's line everywhere": each(edit_loss, vouched(TRACE)),
    "the trace cut short everywhere": each(drop_last_line, vouched(TRACE)),
    "the trace's last line torn everywhere": each(
        lambda run: (run / TRACE).write_bytes((run / TRACE).read_bytes()[:-9]), vouched(TRACE)
    ),
    "a pass of a refinement, everywhere": lambda run: both(
        run, _set("refinement", to={"taken_back": [{"pass": 3}], "network_image": "0" * 64})
    ),
    "the trace removed everywhere": lambda run: forget(run, TRACE),
    "a product everywhere": each(plant(WEIGHTS), vouched(WEIGHTS)),
    "the csv logger's file everywhere": each(log_more, vouched(CSV_LOG)),
    "the csv logger's file removed everywhere": lambda run: forget(run, CSV_LOG),
}
"""What is altered in every place, so that the record agrees with itself: only training again finds it."""
