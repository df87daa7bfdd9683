"""The live page over real HTTP: what it shows, follows and stops, and whom it refuses."""

import json
import threading
from http.client import HTTPConnection

import pytest
import toy
from inline import Inline
from killed import as_killed

from foretune.errors import BadInput
from foretune.running.presence import STOP, Presence, running
from foretune.running.runner import run_study
from foretune.searchers.registry import searcher
from foretune.study.study import Step
from foretune.views.server import TOKEN, LiveServer, served


@pytest.fixture
def study(tmp_path):
    folder = tmp_path / "cats <b>"
    folder.mkdir()
    with toy.toy_study(folder, toy.toy_pool(20), 60) as study:
        yield study


@pytest.fixture
def server(study):
    with LiveServer(study.folder) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(server, method, path, token=True, **headers):
    """Status, headers and body of an answer."""
    connection = HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    sent = {TOKEN: server.token} if token is True else {TOKEN: token} if token else {}
    connection.request(
        method, path, headers=sent | {k.replace("_", "-"): v for k, v in headers.items()}
    )
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, dict(answer.headers), body


def look(server, seen=0):
    """What the page's script is told."""
    status, _, body = ask(server, "GET", f"/live?seen={seen}")
    assert status == 200
    return json.loads(body)


def own(server):
    return f"http://127.0.0.1:{server.server_port}"


def test_the_page_is_whole_and_nothing_in_it_can_come_from_elsewhere(server):
    status, headers, body = ask(server, "GET", f"/?token={server.token}", token=None)
    assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Content-Security-Policy"] == "frame-ancestors 'none'"
    assert "default-src 'none'" in body and "connect-src 'self'" in body
    assert "cats &lt;b&gt;" in body and "cats <b>" not in body
    assert server.token in body and "http://" not in body.replace("http://www.w3.org", "")


def test_it_follows_the_study_and_sends_only_what_changed(server, study):
    first = look(server)
    assert first["running"] is False and "not begun" in first["html"]
    assert look(server, first["version"]) == {"version": first["version"]}
    study.tell(Step(3, 0, 2), [0.25, 0.5])
    second = look(server, first["version"])
    assert second["version"] == first["version"] + 1
    assert "trial 3, epoch 2" in second["html"] and "0.5" in second["html"]
    assert "the command that started it continues it" in second["html"]
    assert look(server, second["version"]) == {"version": second["version"]}
    study.fail(Step(4, 0, 1), 1, "<script>alert(1)</script>")
    third = look(server, second["version"])["html"]
    assert "&lt;script&gt;alert(1)" in third and "<script" not in third


def test_while_a_run_is_at_work_it_shows_what_is_trained_where_and_why(server, study):
    step = study.ask(searcher("random"))
    study.tell(step, [0.5], elapsed=2.0)
    with Presence(study.folder) as presence:
        presence({step.config_id: "process 77"})
        now = look(server)
    assert now["running"] is True
    assert f"trial {step.config_id}" in now["html"] and "process 77" in now["html"]
    assert f"epoch 1 of {step.stop}" in now["html"]
    assert f"Why: {step.because['why']}" in now["html"]
    # 59 epochs remain at 2 s each
    assert "1 min 58 s" in now["html"]
    after = look(server, now["version"])
    assert after["running"] is False and "process 77" not in after["html"]


def test_the_button_ends_the_run(server, study):
    answers = []

    def press(changed):
        if not answers:
            answers.append(ask(server, "POST", "/stop", Origin=own(server)))

    with pytest.raises(KeyboardInterrupt):
        run_study(study, searcher("random"), Inline(toy.Toy(study.folder)), on_change=press)
    assert answers[0][0] == 200 and json.loads(answers[0][2]) == {"stopping": True}
    assert 0 < study.spent < 60 and running(study.folder) is None
    status, _, body = ask(server, "POST", "/stop", Origin=own(server))
    assert status == 409 and "there is nothing to stop" in json.loads(body)["problem"]


def test_nobody_else_stops_a_study(server, study):
    with Presence(study.folder) as presence:
        presence({})
        for token, headers in (
            (None, {"Origin": own(server)}),
            ("wrong", {"Origin": own(server)}),
            ("\N{LATIN SMALL LETTER E WITH ACUTE}", {"Origin": own(server)}),
            (True, {}),
            (True, {"Origin": "http://evil.example"}),
            (True, {"Origin": "null"}),
            (True, {"Origin": "http://evil.example", "Host": "evil.example"}),
            (True, {"Origin": own(server), "Host": f"127.0.0.1.evil.example:{server.server_port}"}),
        ):
            assert ask(server, "POST", "/stop", token=token, **headers)[0] == 403
        assert ask(server, "GET", "/stop")[0] == 404
        assert not (study.folder / STOP).exists()


def test_nobody_else_reads_it(server):
    for path in ("/", "/?token=wrong", "/live?seen=0", f"/live?seen=0&token={server.token}"):
        status, _, body = ask(server, "GET", path, token=None)
        assert status == 403 and server.token not in body
    for path in ("/etc/passwd", "/../study.json", "/live/"):
        assert ask(server, "GET", path)[0] in (403, 404)
    status, _, _ = ask(server, "GET", f"/?token={server.token}", Host="evil.example")
    assert status == 403


def test_a_damaged_journal_is_told_and_a_repaired_one_read_anew(server, study):
    study.tell(Step(3, 0, 2), [0.25, 0.5])
    version = look(server)["version"]
    journal = study.folder / "journal.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"event": "epoch"}\n')
    status, _, body = ask(server, "GET", "/live?seen=0")
    assert status == 409 and "line 3, is damaged" in json.loads(body)["problem"]
    as_killed(study.folder, whole[: whole.index(b"\n") + 1])
    assert "trial 3, epoch 1" in look(server, version)["html"]


def test_a_port_that_is_taken_is_named(server, study):
    with pytest.raises(BadInput, match=f"port {server.server_port} cannot be served"):
        LiveServer(study.folder, server.server_port)
    with pytest.raises(BadInput, match="port 70000"):
        LiveServer(study.folder, 70000)


def test_the_page_is_served_beside_the_run_and_gone_after_it(study):
    with served(study.folder) as server:
        address = server.address
        status, _, body = ask(server, "GET", f"/?token={server.token}", token="")
        assert status == 200 and "cats" in body and str(server.server_port) in address
    with pytest.raises(OSError, match="refused"):
        ask(server, "GET", f"/?token={server.token}")
