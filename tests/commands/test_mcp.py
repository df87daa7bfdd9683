"""`foretune mcp`: its tools through the client of the protocol's own SDK."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from recommended import picture_task, ranking_of

from foretune.commands.cli import main
from foretune.recommenders import recommendation
from foretune.recommenders.recommendation import Recommendation
from foretune.running.told_runs import tell_run

mcp = pytest.importorskip("mcp", reason="the extra mcp is not installed")
from foretune.commands.mcp import server  # noqa: E402

RATES = (0.3, 0.1, 0.03, 0.01, 0.003)


async def asked(client: Any, tool: str, **arguments: Any) -> dict[str, Any]:
    """What a tool answers; `AssertionError` where it refuses."""
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content[0].text
    json.loads(json.dumps(result.structured_content, allow_nan=False))
    return result.structured_content


async def refused(client: Any, tool: str, **arguments: Any) -> str:
    """The words in which a tool refuses."""
    result = await client.call_tool(tool, arguments)
    assert result.is_error, result
    text = str(result.content[0].text)
    # the SDK checks types itself, in lines of pydantic's
    assert "Traceback" not in text and ("\n" not in text.strip() or "validation error" in text)
    return text


def in_process(data: Path, work: Any) -> Any:
    """What `work(client)` gives, on a server in this process."""

    async def talk() -> Any:
        async with mcp.Client(server(data)) as client:
            return await work(client)

    return asyncio.run(talk())


async def tell_five(client: Any, task: str = "roses", **more: Any) -> None:
    for k, rate in enumerate(RATES):
        await asked(
            client,
            "tell",
            task=task,
            config={"lr": rate, "model": "resnet18"},
            metric="val_acc",
            values=[0.5, 0.6 + 0.08 * k - 0.02 * k * k],
            **more,
        )


def files_below(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def test_tools_say_what_they_are_for(tmp_path: Path):
    async def work(client: Any) -> Any:
        return (await client.list_tools()).tools

    tools = {tool.name: tool for tool in in_process(tmp_path, work)}
    assert set(tools) == {"recommend", "next", "history", "tell", "report"}
    assert all(len(tool.description) > 80 for tool in tools.values())
    assert tools["tell"].input_schema["required"] == ["task", "config", "metric", "values"]
    assert tools["next"].annotations.read_only_hint and not tools["tell"].annotations.read_only_hint


def test_what_is_told_is_what_next_goes_by(tmp_path: Path):
    data = tmp_path / "data"

    async def work(client: Any) -> Any:
        await tell_five(client)
        await tell_five(client, "birds")
        found = await asked(client, "next", store="told", task="roses", trainer="timm")
        report = await asked(client, "report", name="told", task="roses")
        return found, report, await asked(client, "history")

    found, report, history = in_process(data, work)
    assert found["runs"] == 5 and found["past"]["runs"] >= 5 and 0 <= found["chance"] <= 1
    assert found["held"]["network"] == "resnet18" and "learning_rate" in found["config"]
    assert found["command"].startswith("python train.py IMAGES --model resnet18")
    (task,) = report["tasks"]
    assert task["best"][0]["value"] == pytest.approx(0.68) and task["states"] == {"complete": 5}
    told = next(source for source in history["sources"] if source["name"] == "told")
    assert told["tasks"] == ["birds", "roses"] and told["varied"] == ["learning_rate"]
    assert files_below(tmp_path) == files_below(data / "history" / "told")


def test_telling_again_adds_nothing_and_telling_more_epochs_replaces(tmp_path: Path):
    run = {"task": "roses", "config": {"lr": 0.1}, "metric": "val_acc", "name": "a"}

    async def work(client: Any) -> Any:
        first = await asked(client, "tell", **run, values=[0.5], state="running", planned_epochs=3)
        again = await asked(client, "tell", **run, values=[0.5], state="running", planned_epochs=3)
        more = await asked(client, "tell", **run, values=[0.5, 0.6, 0.7], planned_epochs=3)
        return first, again, more, await asked(client, "report", name="told")

    first, again, more, report = in_process(tmp_path, work)
    assert (first["new"], again["new"], more["new"]) == (True, False, True)
    (task,) = report["tasks"]
    assert task["runs"] == 1 and task["best"][0]["value"] == 0.7
    assert more["run"]["state"] == "complete" and first["run"]["state"] == "running"


def test_a_run_that_failed_or_diverged_is_kept_as_that(tmp_path: Path):
    run = {"task": "roses", "metric": "val_loss"}

    async def work(client: Any) -> Any:
        failed = await asked(client, "tell", **run, config={"lr": 9.0}, values=[], state="failed")
        gone = await asked(client, "tell", **run, config={"lr": 3.0}, values=[2.0, None])
        return failed["run"], gone["run"]

    failed, gone = in_process(tmp_path, work)
    assert (gone["state"], gone["goal"], gone["value"]) == ("diverged", "minimize", 2.0)
    assert failed["state"] in ("failed", "diverged") and "value" not in failed


def test_secrets_and_places_are_left_out(tmp_path: Path):
    config = {"lr": 0.1, "output_dir": "/home/ann/out", "api_key": "hunter2", "user": "ann"}

    async def work(client: Any) -> Any:
        return await asked(
            client, "tell", task="roses", config=config, metric="val_acc", values=[0.5]
        )

    told = in_process(tmp_path, work)
    assert {n for names in told["left_out"].values() for n in names} >= {"output_dir", "api_key"}
    stored = b"".join(path.read_bytes() for path in files_below(tmp_path))
    assert b"hunter2" not in stored and b"/home/ann" not in stored


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("next", {"store": "nowhere"}, "no run store"),
        ("next", {"store": ""}, "must be a path or a name"),
        ("next", {"store": "a\0b"}, "must be a path or a name"),
        ("next", {"store": "told", "task": "rose"}, "did you mean roses"),
        ("next", {"store": "told", "trainer": "tim"}, "did you mean timm"),
        ("next", {"store": "told", "images": "photos"}, "name a trainer too"),
        ("next", {"store": "told", "seed": -1}, "seed=-1"),
        ("next", {"store": 3}, "store"),
        ("next", {}, "store"),
        ("recommend", {"images": "nowhere/photos"}, "there is no such folder"),
        ("recommend", {"images": "photos", "trainer": "tim"}, "did you mean timm"),
        ("recommend", {"images": "photos", "epochs": 3}, "name one"),
        ("report", {"name": "nothing"}, "nor is it a study"),
        ("report", {"name": "told", "task": "tulips"}, "no run with a value"),
        ("tell", {"store": "../away"}, "must be a plain folder name"),
        ("tell", {"store": "/tmp/away"}, "must be a plain folder name"),
        ("tell", {"config": {}}, "config is empty"),
        ("tell", {"values": []}, "values is empty"),
        ("tell", {"values": ["a"]}, "values"),
        ("tell", {"state": "done"}, "must be one of finished"),
        ("tell", {"task": " "}, "must be a name"),
        ("tell", {"metric": "quality"}, "cannot be told"),
        ("tell", {"goal": "up"}, "maximize or minimize"),
        ("tell", {"seconds": -1}, "seconds=-1"),
        ("forget", {}, "forget"),
    ],
)
def test_wrong_input_is_refused_in_words(tmp_path: Path, monkeypatch, tool, arguments, said):
    monkeypatch.chdir(tmp_path)
    run = {"task": "roses", "config": {"lr": 0.1}, "metric": "val_acc", "values": [0.5]}
    if tool == "tell":
        arguments = run | arguments

    tell_run(tmp_path / "data", "told", **(run | {"config": {"lr": 0.2}}))

    async def work(client: Any) -> str:
        before = files_below(tmp_path)
        try:
            text = await refused(client, tool, **arguments)
        except mcp.MCPError as error:  # the protocol's own refusal
            text = str(error)
        assert files_below(tmp_path) == before
        return text

    assert said in in_process(tmp_path / "data", work)


def test_recommend_ranks_or_gives_command_lines(tmp_path: Path, meta, monkeypatch):
    answer = Recommendation(picture_task(), meta, ranking_of(meta), "hyperstar")
    monkeypatch.setattr(recommendation, "recommend", lambda images, data: answer)

    async def work(client: Any) -> Any:
        lines = await asked(client, "recommend", images="new", trainer="lightning", epochs=4)
        return await asked(client, "recommend", images="new"), lines

    ranking, lines = in_process(tmp_path, work)
    assert [row["config"] for row in ranking["ranking"]] == [r.config for r in answer.rows[:5]]
    assert len(lines["runs"]) == 3 and lines["confidence"] in ("low", "medium", "high")
    assert all("--trainer.max_epochs 4" in run["command"] for run in lines["runs"])


def test_as_a_process_over_standard_input_and_output(tmp_path: Path):
    """As an agent starts it: nothing but the protocol on standard output."""
    source = tmp_path / "runs.csv"
    source.write_text("id,dataset,lr,val_acc\n" + "".join(
        f"r{k},roses,{rate},{0.6 + 0.08 * k - 0.02 * k * k}\n" for k, rate in enumerate(RATES)
    ), encoding="utf-8")  # fmt: skip
    data = tmp_path / "data"
    parameters = mcp.StdioServerParameters(
        command=sys.executable,
        args=["-m", "foretune", "mcp", "--data", str(data)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )

    async def talk() -> Any:
        async with mcp.Client(parameters) as client:
            found = await asked(client, "next", store=str(source))
            wrong = await refused(client, "next", store=str(source), task="rose")
            await asked(
                client, "tell", task="a", config={"lr": 0.1}, metric="val_acc", values=[0.5]
            )
            return found, wrong

    found, wrong = asyncio.run(talk())
    assert found["task"] == "roses" and "did you mean roses" in wrong
    assert files_below(tmp_path) - {source} == files_below(data / "history" / "told")


def test_without_the_sdk_the_extra_is_named(monkeypatch, tmp_path: Path, capsys):
    monkeypatch.setitem(sys.modules, "mcp.server.mcpserver", None)
    assert main(["mcp", "--data", str(tmp_path)]) == 2
    assert "pip install 'foretune[mcp]'" in capsys.readouterr().err


def test_a_file_is_no_data_folder(tmp_path: Path, capsys):
    (tmp_path / "a.csv").write_text("a", encoding="utf-8")
    assert main(["mcp", "--data", str(tmp_path / "a.csv")]) == 2
    assert "is a file" in capsys.readouterr().err
