"""`foretune recommend`: what it prints and writes, the fallback, and what it refuses."""

import json

import numpy as np
import pytest

from foretune.cli import main
from foretune.errors import BadInput
from foretune.images import Task, load_task
from foretune.recommendation import Recommendation, recommend
from foretune.recommenders.base import Past, Ranking
from foretune.summary import number


def picture_task(name="new", seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(24) % 2
    return Task(
        name,
        rng.integers(0, 255, size=(24, 16, 16, 3)).astype(np.uint8),
        labels.astype(np.int64),
        ("a", "b"),
        (np.arange(24) // 2 % 3).astype(np.uint8),
    )


@pytest.fixture
def data(tmp_path, meta):
    (tmp_path / "images").mkdir()
    picture_task().save(tmp_path / "images" / "new.npz")
    meta.save(tmp_path / "meta" / "light")
    return tmp_path


def ranking_of(meta, supported=True):
    past = Past.of(meta)
    n, t = len(meta), len(meta.tasks)
    weights = np.linspace(t, 1, t) / np.linspace(t, 1, t).sum()
    scores = np.linspace(1, 0, n)[np.random.default_rng(3).permutation(n)]
    return Ranking(
        past,
        scores,
        dict(zip(past.tasks, weights, strict=True)),
        support=0.5,
        supported=supported,
        predicted=meta.sign * scores,
        spread=np.full(n, 0.05),
    )


def test_best_of_the_portfolio_comes_first_and_a_page_is_written(data, meta, capsys):
    assert main(["recommend", "new", "--recommender", "portfolio", "--data", str(data), "--top", "2"]) == 0
    out = capsys.readouterr().out
    assert "looks at no images" in out and "new: 24 images, 2 classes" in out
    first = Past.of(meta).portfolio()[0]
    shown = out.split("  1  ")[1].splitlines()[0]
    assert all(number(value) in shown for value in meta.configs[first].values())
    page = (data / "recommendations" / "new-portfolio.html").read_text()
    assert "what to try first" in page and page.count("data:image/png") == 1


def test_json_holds_configurations_and_reasons(data, meta, capsys):
    assert main(["recommend", "new", "--recommender", "mean-rank", "--data", str(data), "--top", "3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["ranking"]) == 3 and found["ranking"][0]["config"] in meta.configs
    assert not (data / "recommendations").exists()


def test_explained_ranking_names_the_past_runs_and_their_places(meta, data):
    from foretune.commands.recommend import html, lines

    found = Recommendation(picture_task(), meta, ranking_of(meta), "hyperstar")
    text = "\n".join(lines(found, 3, True))
    best = found.rows[0]
    reason = best.reasons[0]
    assert f"there it was number {reason.rank + 1} of {len(meta)}" in text
    assert text.count("leans on") == 9 and "± " in text
    assert reason.task == meta.tasks[0] and reason.rank == int(Past.of(meta).ranks[0, best.row])
    assert html(found, data, 3).count("there it was number") == 9


def test_task_unlike_any_past_one_gets_the_portfolio_and_is_told_so(meta):
    from foretune.commands.recommend import lines

    found = Recommendation(picture_task(), meta, ranking_of(meta, supported=False), "hyperstar")
    assert [r.row for r in found.rows] == Past.of(meta).portfolio().tolist()
    assert all(r.predicted is None for r in found.rows)
    text = "\n".join(lines(found, 3, True))
    assert "greedy portfolio" in text and "%)" not in text.split("leans on")[1]
    assert found.rows[0].reasons[0].rank == Past.of(meta).ranks[:, found.rows[0].row].min()
    scores = found.notes["scores"]
    assert scores == sorted(scores, reverse=True)


def test_notes_name_a_pools_configurations_and_leave_out_what_it_lacks(meta):
    found = Recommendation(picture_task(), meta, ranking_of(meta), "hyperstar")
    pool = [*reversed(meta.configs[:7]), {**meta.configs[0], "unknown": 1}]
    notes = found.in_pool(pool)
    by_score = sorted(range(7), key=lambda i: -found.ranking.scores[6 - i])
    assert notes["order"] == by_score
    assert notes["scores"][:7] == pytest.approx([found.ranking.scores[6 - i] for i in range(7)], abs=1e-5)
    assert notes["scores"][7] == -1.0  # scores run from 1 to 0
    json.dumps(notes)


def test_what_worked_is_in_the_metrics_unit(meta):
    found = Recommendation(picture_task(), meta, ranking_of(meta), "hyperstar")
    config, value = found.worked_on(meta.tasks[1], 1)[0]
    best = meta.best([meta.tasks[1]])[0]
    assert config == meta.configs[int(np.nanargmax(best))]
    assert value == pytest.approx(meta.sign * np.nanmax(best))


def test_images_of_a_past_task_are_recognised(data, meta):
    meta.about["hashes"] = {meta.tasks[2]: load_task("new", data).hash}
    try:
        meta.save(data / "meta" / "light")
        assert recommend("new", data=data, recommender="portfolio").known_as == meta.tasks[2]
    finally:
        del meta.about["hashes"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--top", "0"], "--top 0"),
        (["--recommender", "oracle"], "unknown recommender 'oracle'"),
        (["--meta", "nowhere"], "nowhere"),
        (["--out", "."], "is a folder"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(data, options, said, capsys):
    assert main(["recommend", "new", "--data", str(data), "--recommender", "portfolio", *options]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1


def test_fitted_recommender_of_another_meta_dataset_is_refused(data, meta):
    from foretune.recommenders.registry import recommender

    recommender("portfolio").fit(meta, {}).save(data / "models" / "portfolio")
    assert recommend("new", data=data, recommender="portfolio").rows
    import shutil

    from foretune.evaluation.synthetic import synthetic_meta

    shutil.rmtree(data / "meta" / "light")
    synthetic_meta(configs=5).save(data / "meta" / "light")
    with pytest.raises(BadInput, match="fitted on another meta-dataset"):
        recommend("new", data=data, recommender="portfolio")


def test_equal_ids_with_other_configurations_are_refused(data, meta):
    from foretune.meta import MetaDataset
    from foretune.recommenders.registry import recommender

    recommender("portfolio").fit(meta, {}).save(data / "models" / "portfolio")
    turned = dict(zip(meta.config_ids, reversed(meta.configs), strict=True))
    about = {**meta.about, "tasks": meta.tasks, "max_epoch": meta.max_epoch}
    MetaDataset.build(meta.space, turned, meta.table, **about).save(data / "meta" / "other")
    with pytest.raises(BadInput, match="fitted on another meta-dataset"):
        recommend("new", data=data, meta="other", recommender="portfolio")


def test_json_with_a_page_is_refused(data, capsys):
    command = ["recommend", "new", "--data", str(data), "--recommender", "portfolio"]
    assert main([*command, "--json", "--out", str(data / "x.html")]) == 2
    assert main([*command, "--out", str(data / "nowhere" / "x.html")]) == 2
    assert "there is no folder" in capsys.readouterr().err
