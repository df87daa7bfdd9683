"""AT2's figures and the calibration of its forecasts, on small made-up tables."""

import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest

from papers.at2.figures import calibration, figures, main


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    rows = [
        ("A", method, i, 1 / i, 0.1, 50 / i, 2.0, 50 / i)
        for method in ("at2", "portfolio")
        for i in range(1, 11)
    ]
    columns = [
        "database",
        "method",
        "iteration",
        "regret",
        "regret_se",
        "rank",
        "rank_se",
        "rank_smoothed",
    ]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "pairs.csv", index=False)
    elbo = pd.DataFrame(
        {"product": ["O-P-A", "O-T-A"], "task": "OptiLand", "elbo": [1.0, 0.2], "size": "small"}
    )
    elbo.to_csv(tmp_path / "elbo.csv", index=False)
    decile = np.arange(10.0)
    distance = pd.DataFrame(
        {"decile": decile, "true": decile / 10, "predicted": decile / 20, "spread": 0.01}
    )
    distance.assign(product="O-P-A", size="small").to_csv(tmp_path / "distances.csv", index=False)
    observed = rng.uniform(0, 1, 4000)
    forecast = pd.DataFrame(
        {
            "iteration": np.repeat([1, 10], 2000),
            "observed": observed,
            "mean": observed + rng.normal(0, 0.1, 4000),
            "std": np.repeat([0.1, 0.05], 2000),
            "queried": False,
            "database": "A",
        }
    )
    forecast.to_csv(tmp_path / "forecast.csv", index=False)
    return tmp_path


def test_calibration_tells_honest_deviations_from_small_ones(folder):
    table = calibration(pd.read_csv(folder / "forecast.csv")).set_index("iteration")
    assert table.loc[1, "inside"] == pytest.approx(0.9, abs=0.02)
    assert table.loc[10, "inside"] == pytest.approx(0.59, abs=0.03)  # P(|z| < 1.645 / 2)
    assert table["rmse"].to_numpy() == pytest.approx(0.1, abs=0.005)


def test_what_was_observed_already_does_not_count(folder):
    forecast = pd.read_csv(folder / "forecast.csv")
    forecast.loc[forecast["iteration"] == 10, "queried"] = True
    assert calibration(forecast)["iteration"].tolist() == [1]


def test_every_table_has_its_picture(folder):
    drawn = figures(folder)
    assert set(drawn) == {"figure1.svg", "figure3.svg", "figure5-A.svg"}
    for text in drawn.values():
        ET.fromstring(text)
    assert "portfolio" in drawn["figure1.svg"]
    # the better of a task kernel's
    assert "O-P-A" in drawn["figure3.svg"] and "O-T-A" not in drawn["figure3.svg"]


def test_an_empty_folder_is_an_error_in_words(tmp_path, capsys):
    assert main(["--reports", str(tmp_path)]) == 2
    assert "papers.at2.pairs" in capsys.readouterr().err
