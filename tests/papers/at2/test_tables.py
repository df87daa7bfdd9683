"""The kernel products' tables: the paper's ranking, names, resuming, refusals."""

import pandas as pd
import pytest
from synthetic import synthetic_meta

from foretune.errors import BadInput
from papers.at2 import tables as at2_tables
from papers.at2.tables import PAPER, Size, kernels_of, main, ranked, run, tables


def test_the_papers_ranking_has_all_64_products_in_order():
    assert len(PAPER) == 64 and list(PAPER.values()) == sorted(PAPER.values(), reverse=True)
    assert {n[0] for n in PAPER} == {"O", "M", "L", "P"} and len({n[2:] for n in PAPER}) == 16
    assert next(iter(PAPER)) == "O-P-A" and kernels_of("M-T-F") == ("MTBO", "Tree", "Fabolas")


def test_a_product_is_scored_on_held_out_rows():
    meta = synthetic_meta(tasks=4, configs=60, epochs=9)
    row, bins = run(meta, "O-F-M", Size(600, 20, 100, 12))
    # better than a constant's; likeness is seen
    assert row["elbo"] > 0.0 and row["distance_spearman"] > 0.1
    assert len(bins) == 10 and bins["true"].is_monotonic_increasing
    assert bins["predicted"].between(0, 1).all()


def test_runs_that_are_there_are_not_repeated_and_time_ends_it(tmp_path, monkeypatch):
    ran = []

    def quick(meta, product, size, seed=0):
        ran.append(product)
        row = {
            "product": product,
            "task": "",
            "configuration": "",
            "fidelity": "",
            "elbo": -len(ran),
        }
        bins = pd.DataFrame(
            {"decile": [0], "true": [0.1], "predicted": [0.2], "spread": [0.0], "product": product}
        )
        return {**row, "train_elbo": 0.0, "distance_spearman": 0.0, "seconds": 0.0}, bins

    monkeypatch.setattr(at2_tables, "run", quick)
    meta = synthetic_meta(tasks=2, configs=4, epochs=2)
    tables(meta, tmp_path, products=["O-P-A", "M-L-M"], say=print)
    done = tables(meta, tmp_path, products=["M-L-M", "O-L-A"], say=print)
    assert ran == ["O-P-A", "M-L-M", "O-L-A"]
    assert done["product"].tolist() == ["O-P-A", "M-L-M", "O-L-A"] and done["rank"].tolist() == [
        1,
        2,
        3,
    ]
    assert len(tables(meta, tmp_path, minutes=-1.0)) == 3
    assert len(pd.read_csv(tmp_path / "distances.csv")) == 3


def test_ranks_are_within_a_size():
    table = pd.DataFrame({"product": ["M-T-F", "O-P-A"], "size": "small", "elbo": [0.5, 0.1]})
    out = ranked(table).set_index("product")
    assert out.loc["M-T-F", "rank"] == 1 and out.loc["M-T-F", "paper_rank"] == 2


def test_bad_names_are_refused(tmp_path, capsys):
    meta = synthetic_meta(tasks=2, configs=4, epochs=2)
    with pytest.raises(BadInput, match="size 'huge'"):
        tables(meta, tmp_path, size="huge")
    meta.save(tmp_path)
    assert main([str(tmp_path), "--products", "X-Y-Z"]) == 2 and "X-Y-Z" in capsys.readouterr().err
