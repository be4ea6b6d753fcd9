"""The part of GitHub's REST API that the cycle calls, with the paths, statuses and shapes of the real one.

It keeps labels, assignees, comments and state of any issue it is asked about, and wants the token as GitHub does.
"""

import hmac
import os
from typing import Any

from quart import request
from quart_trio import QuartTrio

Answer = tuple[Any, int]


def make_app() -> QuartTrio:
    """A GitHub on which nothing has happened yet."""
    app = QuartTrio("github", static_folder=None)
    token = f"Bearer {os.environ.get('GITHUB_TOKEN', 'github_pat_demo')}"
    issues: dict[tuple[str, int], dict[str, Any]] = {}
    comments: dict[tuple[str, int], list[dict[str, Any]]] = {}

    @app.before_request
    async def known() -> Answer | None:
        sent = request.headers.get("authorization", "")
        if not hmac.compare_digest(sent.encode(), token.encode()):
            return {"message": "Bad credentials", "documentation_url": "https://docs.github.com/rest"}, 401
        return None

    def found(repository: str, number: int) -> dict[str, Any]:
        fresh: dict[str, Any] = {"number": number, "state": "open", "state_reason": None, "labels": [], "assignees": []}
        return issues.setdefault((repository, number), fresh)

    @app.get("/repos/<path:repository>/issues/<int:number>")
    async def look(repository: str, number: int) -> Answer:
        return {**found(repository, number), "comments": len(comments.get((repository, number), []))}, 200

    @app.patch("/repos/<path:repository>/issues/<int:number>")
    async def change(repository: str, number: int) -> Answer:
        said = await request.get_json()
        issue = found(repository, number)
        issue.update({name: said[name] for name in ("state", "state_reason") if name in said})
        return issue, 200

    @app.post("/repos/<path:repository>/issues/<int:number>/labels")
    async def label(repository: str, number: int) -> Answer:
        labels = found(repository, number)["labels"]
        known = {one["name"] for one in labels}
        labels += [{"name": name} for name in (await request.get_json())["labels"] if name not in known]
        return labels, 200

    @app.post("/repos/<path:repository>/issues/<int:number>/assignees")
    async def assign(repository: str, number: int) -> Answer:
        issue = found(repository, number)
        issue["assignees"] += [{"login": login} for login in (await request.get_json())["assignees"]]
        return issue, 201

    @app.get("/repos/<path:repository>/issues/<int:number>/comments")
    async def read(repository: str, number: int) -> Answer:
        return comments.get((repository, number), []), 200

    @app.post("/repos/<path:repository>/issues/<int:number>/comments")
    async def comment(repository: str, number: int) -> Answer:
        said = comments.setdefault((repository, number), [])
        said.append({"id": len(said) + 1, "body": (await request.get_json())["body"]})
        return said[-1], 201

    return app
