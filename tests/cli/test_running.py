"""Folders of trainings: made, refused, or gone on in."""

import pytest

from llmcourse.cli.running import prepare_folder


def test_checkpoints_of_an_earlier_part_are_found_too(tmp_path, capsys):
    place = tmp_path / "part-1" / "checkpoints"
    place.mkdir(parents=True)
    (place / "step-00000000.safetensors").touch()
    prepare_folder(tmp_path, resume=True)
    assert not capsys.readouterr().err
    with pytest.raises(ValueError, match="holds checkpoints already: add --resume"):
        prepare_folder(tmp_path, resume=False)


def test_a_folder_is_made_begun_anew_or_refused(tmp_path, capsys):
    folder = tmp_path / "one"
    prepare_folder(folder, resume=False)
    assert not capsys.readouterr().err
    prepare_folder(folder, resume=True)
    assert "no checkpoint in" in capsys.readouterr().err
    place = folder / "reward" / "checkpoints"
    place.mkdir(parents=True)
    (place / "step-00000001.safetensors").touch()
    prepare_folder(folder, resume=True)
    assert not capsys.readouterr().err
    with pytest.raises(ValueError, match=r"one' holds checkpoints already: add"):
        prepare_folder(folder, resume=False)
