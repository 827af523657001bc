"""A run's folder belongs to one run, and only whole checkpoints are continued from."""

import json
import re
import types

import pytest
import torch
from conftest import arguments

from recipes import grpo
from recipes.shared import run_folder, tracking
from recipes.shared.launch import Launch
from recipes.shared.run_config import RunConfig

GIVEN = {"model_name_or_path": "m", "learning_rate": 1e-4, "max_steps": 10, "output_dir": "x", "run_name": "x"}


def open_run(folder, resume=None, launch=Launch(), **changes):  # noqa: B008, it is frozen
    arguments = types.SimpleNamespace(output_dir=str(folder), resume_from_checkpoint=resume)
    checkpoint = run_folder.open_run(arguments, RunConfig("grpo", GIVEN | changes, launch=launch))
    run_folder.claim(folder)
    return checkpoint


def write_checkpoint(folder, step, state=None):
    path = folder / f"checkpoint-{step}"
    path.mkdir()
    (path / "model.safetensors").write_text("weights")
    (path / "trainer_state.json").write_text(json.dumps({"global_step": step}) if state is None else state)
    return path


def test_a_new_folder_is_made_and_holds_the_config(tmp_path):
    assert open_run(tmp_path / "a" / "run") is None
    assert "learning_rate: 0.0001" in (tmp_path / "a" / "run" / "config.yaml").read_text()


@pytest.mark.parametrize("resume", [None, "false"])
def test_a_folder_with_a_run_is_refused_and_left_alone(tmp_path, resume):
    open_run(tmp_path / "run")
    write_checkpoint(tmp_path / "run", 5)
    before = sorted(p.name for p in (tmp_path / "run").rglob("*"))
    with pytest.raises(ValueError, match=r"already holds an unfinished run.*--resume_from_checkpoint true"):
        open_run(tmp_path / "run", resume)
    run_folder.write_summary(str(tmp_path / "run"), {})
    with pytest.raises(ValueError, match="already holds a finished run"):
        open_run(tmp_path / "run", resume)
    assert sorted(p.name for p in (tmp_path / "run").rglob("*") if p.name != "summary.json") == before


@pytest.mark.parametrize("resume", [None, "true"])
def test_a_folder_with_other_files_is_refused(tmp_path, resume):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(ValueError, match="other files"):
        open_run(tmp_path, resume)
    assert (tmp_path / "thesis.tex").read_text() == "mine"


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(ValueError, match="is a file"):
        open_run(tmp_path / "run")


def test_resume_refuses_another_run_and_names_the_difference(tmp_path):
    open_run(tmp_path / "run")
    with pytest.raises(ValueError, match=r"another run \(learning_rate was 0.0001, is 0.001\)"):
        open_run(tmp_path / "run", "true", learning_rate=1e-3)
    assert open_run(tmp_path / "run", "true", max_steps=20, report_to="none") is None, "a longer run is the same run"


def test_resume_with_vllm_on_another_node_or_with_less_memory(tmp_path):
    open_run(tmp_path / "colocate", vllm_gpu_memory_utilization=0.5)
    assert open_run(tmp_path / "colocate", "true", vllm_gpu_memory_utilization=0.3) is None
    open_run(tmp_path / "run", vllm_server_host="gpu3", vllm_mode="server")
    assert open_run(tmp_path / "run", "true", vllm_server_host="gpu7", vllm_mode="server") is None
    with pytest.raises(ValueError, match="vllm_mode was 'server', is 'colocate'"):
        open_run(tmp_path / "run", "true", vllm_server_host="gpu7", vllm_mode="colocate")


def test_resume_with_another_number_of_processes_is_another_run_and_deletes_nothing(tmp_path):
    open_run(tmp_path / "run")
    write_checkpoint(tmp_path / "run", 5)
    (tmp_path / "run" / "launch.json").write_text('{"num_processes": 2}')
    with pytest.raises(ValueError, match="num_processes was 2, is 1"):
        open_run(tmp_path / "run", "true")
    assert (tmp_path / "run" / "checkpoint-5").is_dir()


def test_resume_with_other_shards_is_refused_as_it_could_not_read_the_states(tmp_path):
    open_run(tmp_path / "run", launch=Launch(sharding="zero2"))
    assert open_run(tmp_path / "run", "true", launch=Launch(sharding="zero2")) is None
    with pytest.raises(ValueError, match="sharding was 'zero2', is 'none'"):
        open_run(tmp_path / "run", "true")


def test_machines_that_would_each_save_are_refused(capsys):
    with pytest.raises(SystemExit):
        arguments(grpo, "--config", "recipes/configs/grpo/tiny.yaml", "--save_on_each_node", "true")
    assert re.search(r"save_on_each_node=True.*leave it out", capsys.readouterr().err)


def test_a_checkpoint_is_whole_once_every_process_has_written_its_last_file(tmp_path, monkeypatch):
    monkeypatch.setattr(run_folder, "PartialState", lambda: types.SimpleNamespace(num_processes=2))
    path = write_checkpoint(tmp_path, 5)
    for rank in (0, 1):
        assert not run_folder.is_complete(path)
        torch.save({"cpu": torch.arange(1000)}, path / f"rng_state_{rank}.pth")
    assert run_folder.is_complete(path)
    written = (path / "rng_state_1.pth").read_bytes()
    (path / "rng_state_1.pth").write_bytes(written[: len(written) // 2])  # killed while it was written
    assert not run_folder.is_complete(path)


def test_a_run_killed_before_its_config_was_written_is_no_run(tmp_path):
    (tmp_path / "launch.json").write_text('{"num_processes": 2}')
    (tmp_path / "config.yaml.tmp").write_text("model_na")
    (tmp_path / "wandb").mkdir()
    assert open_run(tmp_path) is None


def test_completions_written_after_the_checkpoint_are_dropped(tmp_path):
    """Whole lines up to the checkpoint's step stay, whatever separators a completion holds; a torn last line goes."""
    rows = [{"step": s, "completion": "a\u2028b\x85c\nd"} for s in (1, 2, 3)]
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    (tmp_path / "completions.jsonl").write_text("".join(lines) + '{"step": 4, "compl', encoding="utf-8")
    trainer = types.SimpleNamespace(args=types.SimpleNamespace(output_dir=str(tmp_path)))
    state = types.SimpleNamespace(is_world_process_zero=True, global_step=2)
    tracking.Rollouts(trainer, 4).on_train_begin(None, state, None)
    assert (tmp_path / "completions.jsonl").read_text(encoding="utf-8") == "".join(lines[:2])


def test_resume_takes_the_last_whole_checkpoint_and_removes_broken_ones(tmp_path, capsys):
    folder = tmp_path / "run"
    open_run(folder)
    for step in (9, 10):
        write_checkpoint(folder, step)
    write_checkpoint(folder, 11, state='{"global_step": 1')  # killed while it was written
    (folder / "checkpoint-12").mkdir()  # killed before
    write_checkpoint(folder, 13, state='{"global_step": 12}')
    assert open_run(folder, "true") == str(folder / "checkpoint-10")
    assert sorted(p.name for p in folder.glob("checkpoint-*")) == ["checkpoint-10", "checkpoint-9"]
    assert capsys.readouterr().out.count("removing") == 3


def test_resume_without_a_checkpoint_starts_from_the_beginning(tmp_path, capsys):
    open_run(tmp_path / "run")
    assert open_run(tmp_path / "run", "true") is None
    assert "from the beginning" in capsys.readouterr().out
    assert open_run(tmp_path / "new", "true") is None


def test_a_named_checkpoint_must_be_whole_and_the_last(tmp_path):
    folder = tmp_path / "run"
    open_run(folder)
    nine, ten = write_checkpoint(folder, 9), write_checkpoint(folder, 10)
    assert open_run(folder, str(ten)) == str(ten)
    for other in (nine, tmp_path / "nowhere"):
        with pytest.raises(ValueError, match="not the last complete checkpoint"):
            open_run(folder, str(other))
    (ten / "trainer_state.json").unlink()
    with pytest.raises(ValueError, match=r"which is .*checkpoint-9"):
        open_run(folder, str(ten))
    with pytest.raises(ValueError, match="holds no run to resume"):
        open_run(tmp_path / "new", str(nine))
