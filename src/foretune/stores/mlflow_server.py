"""Runs of an MLflow server, by its REST API 2.0.

Asked for: experiments, runs and the history of every metric; nothing is written. Credentials come
from where MLflow's own client takes them: MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and
MLFLOW_TRACKING_PASSWORD, or `http://user:password@host`. They are sent to that host alone and are
written nowhere.
"""

import base64
import json
import math
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode, urlsplit

from foretune.errors import BadInput
from foretune.stores.mlflow_files import PARENT, without_steps
from foretune.stores.record import MAX_BYTES, Record, Source

TIMEOUT_SECONDS = 60.0
PAGE = 1000
HISTORY_PAGE = 25_000


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the credentials to another host."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


class _Server:
    """An MLflow server's API; `url` without credentials may be shown."""

    def __init__(self, address: str):
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise BadInput("an MLflow server's address must begin with http:// or https://")
        host = parts.hostname + (f":{parts.port}" if parts.port else "")
        self.url = f"{parts.scheme}://{host}{parts.path.rstrip('/')}"
        self.host = host
        self._headers = {"Content-Type": "application/json"}
        user = parts.username or os.environ.get("MLFLOW_TRACKING_USERNAME")
        password = parts.password or os.environ.get("MLFLOW_TRACKING_PASSWORD") or ""
        if token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
            self._headers["Authorization"] = f"Bearer {token}"
        elif user:
            both = base64.b64encode(f"{user}:{password}".encode()).decode()
            self._headers["Authorization"] = f"Basic {both}"
        self._opener = urllib.request.build_opener(_NoRedirect)

    def ask(
        self, path: str, body: dict[str, Any] | None = None, query: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """The answer of one call. Raises `BadInput` where there is none."""
        url = f"{self.url}/api/2.0/mlflow/{path}" + (f"?{urlencode(query)}" if query else "")
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, self._headers)
        try:
            with self._opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
                found = json.loads(answer.read(MAX_BYTES))
        except urllib.error.HTTPError as error:
            hint = (
                "; set MLFLOW_TRACKING_TOKEN or MLFLOW_TRACKING_USERNAME and _PASSWORD"
                if error.code in (401, 403)
                else ""
            )
            raise BadInput(f"{self.url} answered {path} with {error.code}{hint}") from error
        except (OSError, ValueError) as error:
            raise BadInput(f"{self.url} does not answer as an MLflow server: {error}") from error
        if not isinstance(found, dict):
            raise BadInput(f"{self.url} does not answer as an MLflow server")
        return found

    def pages(self, path: str, key: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """All entries `key` of a search, page by page."""
        token = ""
        while True:
            more: dict[str, Any] = {"page_token": token} if token else {}
            answer = self.ask(path, {"max_results": PAGE, **body, **more})
            yield from answer.get(key, ())
            token = answer.get("next_page_token", "")
            if not token:
                return


def read(address: str) -> Source:
    """Read all active runs of all active experiments. Raises `BadInput` where nobody answers."""
    server = _Server(address)
    source = Source("mlflow", server.host)
    for experiment in server.pages("experiments/search", "experiments", {}):
        name = experiment.get("name", "")
        wanted = {"experiment_ids": [experiment["experiment_id"]], "run_view_type": "ACTIVE_ONLY"}
        for run in server.pages("runs/search", "runs", wanted):
            source.records.append(_record(server, run, "" if name == "Default" else name))
    return source


def _record(server: _Server, run: dict[str, Any], group: str) -> Record:
    info, data = run["info"], run.get("data", {})
    record = Record(info["run_id"], group, unique=True, state=str(info.get("status")).lower())
    if "end_time" in info and "start_time" in info:
        record.seconds = max(0, int(info["end_time"]) - int(info["start_time"])) / 1000
    record.params = {p["key"]: p.get("value", "") for p in data.get("params", ())}
    record.parent = next((t["value"] for t in data.get("tags", ()) if t["key"] == PARENT), "")
    for metric in data.get("metrics", ()):
        key, token = metric["key"], ""
        while True:
            more: dict[str, Any] = {"page_token": token} if token else {}
            answer = server.ask(
                "metrics/get-history",
                query={
                    "run_id": record.name,
                    "metric_key": key,
                    "max_results": HISTORY_PAGE,
                    **more,
                },
            )
            for point in answer.get("metrics", ()):
                value = point.get("value", math.nan)
                record.add(key, float(point.get("step", 0)), value)
            token = answer.get("next_page_token", "")
            if not token:
                break
        record.series.get(key, []).sort(key=lambda point: point[0])
    without_steps(record)
    return record
