"""Imports a dashboard bundle into an Apache Superset that is started for it, and asks for each chart's data.

    check.py BUNDLE.zip URL FOLDER [SCREENSHOT.png]

URL is that of the database to read, FOLDER an empty one for Superset's own files. A line is printed for
each chart; the exit code is 1 if one of them has an error or no rows. A screenshot is taken with
Chromium as a browser shows the dashboard, whose own queries must be answered too.
"""

import json
import os
import secrets
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import requests

BIN = Path(sys.executable).parent
CONFIG = """
SECRET_KEY = {secret!r}
SQLALCHEMY_DATABASE_URI = "sqlite:///{folder}/superset.db"
TALISMAN_ENABLED = False
LOG_LEVEL = "WARNING"
"""
CHARTS = "chart/?q=(page_size:100)"
# Longest wait for the server, and for the charts of the page, seconds.
PATIENCE = 120


def environment(folder):
    config = folder / "superset_config.py"
    config.write_text(CONFIG.format(secret=secrets.token_urlsafe(42), folder=folder))
    config.chmod(0o600)
    return {
        **os.environ,
        "FLASK_APP": "superset.app:create_app()",
        "HOME": str(folder),
        "SUPERSET_CONFIG_PATH": str(config),
        "SUPERSET_HOME": str(folder),
    }


def prepare(folder, env, password):
    """Superset's own tables, roles and administrator."""
    admin = ["fab", "create-admin", "--username", "admin", "--firstname", "A", "--lastname", "B"]
    admin += ["--email", "admin@example.com", "--password", password]
    for arguments in (["db", "upgrade"], admin, ["init"]):
        with open(folder / "prepare.log", "ab") as log:
            subprocess.run(
                [BIN / "superset", *arguments], env=env, stdout=log, stderr=log, check=True
            )


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Api:
    """A session of the administrator."""

    def __init__(self, base, password):
        self.base, self.session = base, requests.Session()
        self.form = {"username": "admin", "password": password}
        login = {**self.form, "provider": "db", "refresh": True}
        token = self.session.post(f"{base}/api/v1/security/login", json=login).json()
        self.session.headers["Authorization"] = f"Bearer {token['access_token']}"
        csrf = self.get("security/csrf_token/")["result"]
        self.session.headers.update({"X-CSRFToken": csrf, "Referer": base})

    def log_in(self):
        """The cookies of a browser that has filled in the form."""
        form = {**self.form, "csrf_token": self.session.headers["X-CSRFToken"]}
        self.session.post(f"{self.base}/login/", data=form, allow_redirects=False)
        return [{"name": c.name, "value": c.value, "url": self.base} for c in self.session.cookies]

    def get(self, path):
        answer = self.session.get(f"{self.base}/api/v1/{path}")
        answer.raise_for_status()
        return answer.json()

    def post(self, path, **what):
        answer = self.session.post(f"{self.base}/api/v1/{path}", **what)
        if not answer.ok:
            raise SystemExit(f"{path}: {answer.status_code} {answer.text[:1000]}")
        return answer.json()


def own_database(bundle, url, folder):
    """The bundle with the address of the database; its password travels apart."""
    import zipfile

    import yaml

    parts = urlsplit(url)
    place = f"{parts.hostname}:{parts.port or 5432}{parts.path}"
    known = folder / "bundle.zip"
    with zipfile.ZipFile(bundle) as source, zipfile.ZipFile(known, "w") as copy:
        for name in source.namelist():
            text = source.read(name)
            if "/databases/" in name:
                database = yaml.safe_load(text)
                user = f"{parts.username}:XXXXXXXXXX"
                database["sqlalchemy_uri"] = f"postgresql+psycopg2://{user}@{place}"
                text = yaml.safe_dump(database)
                inner = name.split("/", 1)[1]
            copy.writestr(name, text)
    return known, {inner: parts.password}


def query(params):
    """What a chart asks for, as its form says it."""
    kind = params["viz_type"]
    asked = {"row_limit": params["row_limit"], "columns": [], "metrics": [], "filters": []}
    if kind == "big_number_total":
        asked["metrics"] = [params["metric"]]
    elif kind == "table":
        del asked["metrics"]  # rows as they are; an empty list would group them
        asked["columns"] = params["all_columns"]
        asked["orderby"] = [json.loads(order) for order in params["order_by_cols"]]
    elif kind == "histogram_v2":
        asked["columns"] = [params["column"]]
    elif kind == "heatmap_v2":
        asked["columns"] = [params["x_axis"], params["groupby"]]
        asked["metrics"] = [params["metric"]]
    else:
        asked["columns"] = [params["x_axis"], *params["groupby"]]
        asked["metrics"] = params["metrics"]
    where = [f"({rule['sqlExpression']})" for rule in params["adhoc_filters"]]
    asked["extras"] = {"where": " AND ".join(where)}
    return asked


def check(api):
    """Whether each chart has rows; prints a line for each."""
    good = True
    for chart in api.get(CHARTS)["result"]:
        params = json.loads(api.get(f"chart/{chart['id']}")["result"]["params"])
        source = int(params["datasource"].split("__")[0])
        body = {"datasource": {"id": source, "type": "table"}, "queries": [query(params)]}
        answer = api.post("chart/data", json={**body, "result_format": "json"})["result"][0]
        rows, error = answer["rowcount"], answer.get("error")
        print(f"{chart['slice_name']}: {error or f'{rows} rows'}")
        good = good and not error and rows > 0
    return good


def screenshot(api, path):
    """The page as a browser shows it, and whether its own queries were answered."""
    from playwright.sync_api import sync_playwright

    answers, charts = {}, {chart["id"] for chart in api.get(CHARTS)["result"]}

    def keep(response):
        if "/api/v1/chart/data" in response.url and response.request.method == "POST":
            form = json.loads(response.request.post_data or "{}").get("form_data", {})
            ok = response.ok and all(r["rowcount"] > 0 for r in response.json()["result"])
            # The filter's own question has no chart.
            if form.get("slice_id") in charts:
                answers[form["slice_id"]] = ok

    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.context.add_cookies(api.log_in())
        page.on("response", keep)
        page.goto(f"{api.base}/superset/dashboard/riskft/?standalone=1")
        page.wait_for_selector(".dashboard-grid", timeout=PATIENCE * 1000)
        # Charts below the window are loaded when they come into sight: the whole page is.
        height = page.evaluate("document.querySelector('.dashboard-grid').scrollHeight")
        page.set_viewport_size({"width": 1400, "height": height + 200})
        end = time.monotonic() + PATIENCE
        while len(answers) < len(charts) and time.monotonic() < end:
            page.wait_for_timeout(500)
        page.wait_for_timeout(4000)
        page.screenshot(path=path, full_page=True)
        browser.close()
    print(f"a browser asked for {len(answers)} of {len(charts)} charts, {sum(answers.values())} have rows")
    return len(answers) == len(charts) and all(answers.values())


def main(bundle, url, folder, picture=None):
    folder = Path(folder).resolve()
    env, password, port = environment(folder), secrets.token_urlsafe(18), free_port()
    base = f"http://127.0.0.1:{port}"
    prepare(folder, env, password)
    command = [BIN / "superset", "run", "--host", "127.0.0.1", "--port", str(port), "--with-threads"]
    with open(folder / "server.log", "ab") as log:
        server = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    try:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and server.poll() is None:
            try:
                if requests.get(f"{base}/health", timeout=5).ok:
                    break
            except requests.RequestException:
                time.sleep(1)
        api = Api(base, password)
        known, passwords = own_database(bundle, url, folder)
        with open(known, "rb") as form:
            api.post(
                "dashboard/import/",
                files={"formData": ("bundle.zip", form, "application/zip")},
                data={"passwords": json.dumps(passwords), "overwrite": "true"},
            )
        good = check(api)
        if picture:
            good = screenshot(api, picture) and good
    finally:
        server.terminate()
        server.wait()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
