"""The card's measurements on the small random model: they run, and agree with simpler ones."""

import json

import numpy as np
import pytest

from stmoe_golden.model import plots
from stmoe_golden.model.__main__ import main
from stmoe_golden.model.card import perplexity_table, routing_tables
from stmoe_golden.model.engine import GoldenEngine
from stmoe_golden.model.error import ModelError
from stmoe_golden.model.evaluation import perplexities, routing_statistics, spread
from stmoe_golden.model.export import export, load_tokens
from stmoe_golden.model.storage import load_model, save_model
from stmoe_golden.model.transformer import Transformer


@pytest.fixture(scope="module")
def heldout(tokens):
    return {"english": tokens[:250], "python": tokens[250:]}


def test_tables_and_figures(model, float_model, heldout, tmp_path):
    scores = perplexities(model, heldout, float_model)
    assert list(scores["python"]) == ["float", "dequantised", "hardware", "host routing"]
    assert scores["python"]["float"]["tokens"] == 249
    statistics = routing_statistics(model, heldout)
    assert json.loads(json.dumps(statistics)) == statistics
    assert "| english | hardware |" in perplexity_table(scores)
    tables = routing_tables(statistics)
    assert {name: text.count("\n") for name, text in tables.items()} == {
        "balance": 5, "pairs": 4, "overlap": 5}
    (tmp_path / "log.csv").write_text("step,tokens,english,python\n1,10,5,4\n2,20,3,2.5\n")
    plots.plot_training(plots.read_log(tmp_path / "log.csv"), {"english": 20.0, "python": 9.0},
                        tmp_path / "training.png")
    plots.plot_load(statistics, tmp_path / "load.png")
    plots.plot_coactivation(statistics, tmp_path / "pairs.png")
    plots.plot_overlap(statistics, tmp_path / "overlap.png")
    assert all(1000 < file.stat().st_size < 150_000 for file in tmp_path.glob("*.png"))
    (tmp_path / "log.csv").write_text("step\n")
    with pytest.raises(ModelError, match="no row with a column 'tokens'"):
        plots.read_log(tmp_path / "log.csv")


def test_statistics_are_those_of_the_golden_engine(model, heldout):
    found = routing_statistics(model, {"english": heldout["english"][:48]})
    use = np.zeros((model.shape.layers, model.shape.experts))
    engine, transformer = GoldenEngine(model), Transformer(model.backbone)
    for at in (0, 24):
        cache = transformer.new_cache()
        for token in heldout["english"][at:at + 24]:
            transformer.step(cache, int(token), engine)
            for layer, record in enumerate(engine.records):
                use[layer, record.experts] += 1
    assert found["domains"]["english"]["load"] == pytest.approx(
        use / use.mean(1, keepdims=True))
    assert "divergence" not in found


def test_sample_is_spread_over_the_text():
    tokens = np.repeat(np.arange(100), 512)
    sample = spread(tokens, 2048)
    assert sample.dtype == np.uint16 and len(sample) == 2048
    assert sample[::512].tolist() == [0, 33, 66, 99]
    assert spread(tokens[:700], 2048).tolist() == tokens[:700].tolist()


def test_export_and_measurement_from_the_file(float_model, heldout, tmp_path, write_checkpoint,
                                              capsys):
    write_checkpoint(float_model, tmp_path / "c.npz")
    np.savez(tmp_path / "t.npz", **heldout)
    (tmp_path / "data.json").write_text('{"sources": [{"licence": "PSF-2.0"}]}')
    model = export(tmp_path / "c.npz", tmp_path / "t.npz", tmp_path / "t.npz",
                   tmp_path / "data.json")
    save_model(model, tmp_path / "m.safetensors")
    again = load_model(tmp_path / "m.safetensors")
    assert again.facts["training"] == {"steps": 12}
    assert again.facts["sources"] == [{"licence": "PSF-2.0"}]
    assert main([str(tmp_path / "m.safetensors")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 9 and lines[1].split()[:2] == ["english", "checkpoint"]
    assert float(lines[1].split()[2]) == pytest.approx(
        model.facts["sample"]["english"]["perplexity"], rel=1e-4)
    assert main([str(tmp_path / "absent")]) == 1
    assert "no such model file" in capsys.readouterr().err


def test_token_files_are_checked(tmp_path):
    with pytest.raises(ModelError, match="no such file"):
        load_tokens(tmp_path / "absent.npz")
    (tmp_path / "text.npz").write_text("text")
    with pytest.raises(ModelError, match=r"not a readable \.npz of tokens"):
        load_tokens(tmp_path / "text.npz")
    np.savez(tmp_path / "wide.npz", english=np.zeros(3, np.int64))
    with pytest.raises(ModelError, match=r"'english' must be uint16 \[n\], not int64\[3\]"):
        load_tokens(tmp_path / "wide.npz")
