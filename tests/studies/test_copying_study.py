"""How soon a model learns to look a word up, from four starts."""

import torch
from copying_study import CopyingConfig, lookups, new_model, run_study

CONFIG = CopyingConfig(seeds=(0,), steps=4, batch_size=2, interval=2)


def test_each_text_has_its_answer_once_before_the_mark():
    rows, places = lookups(50, torch.Generator().manual_seed(0))
    assert (rows[:, -2] == 0).all()
    assert (rows[torch.arange(50), places] == rows[:, -1]).all()
    assert ((rows[:, :-2] <= 64) & (rows[:, :-2] > 0)).sum() == 50


def test_each_start_has_its_part_of_the_mimetic_one():
    neither, heads, embeddings, both = (
        new_model(start, 0, CONFIG)
        for start in ("neither", "W_O = W_V^T", "large embeddings", "both")
    )
    for model, copies in ((neither, False), (heads, True), (embeddings, False)):
        attention = model.blocks[0].attention
        alike = torch.allclose(attention.output.weight, attention.value.weight.T)
        assert alike == copies
    assert torch.equal(neither.embedding.weight, heads.embedding.weight)
    assert torch.equal(embeddings.embedding.weight, both.embedding.weight)
    assert embeddings.embedding.weight.std() > 5 * neither.embedding.weight.std()


def test_a_study_has_a_curve_for_each_start_and_goes_on(tmp_path):
    path = tmp_path / "copying.json"
    study = run_study(path, CONFIG)
    assert len(study.points) == 4
    assert all(len(curve.losses) == len(curve.looks) == 3 for curve in study.points)
    assert run_study(path, CONFIG) == study
