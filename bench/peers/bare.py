"""Quart-Trio on Hypercorn, answering 202 and doing nothing."""

import sys
from functools import partial

import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from quart import request
from quart_trio import QuartTrio

app = QuartTrio("bare")


@app.post("/webhook/<name>")
async def hook(name: str) -> tuple[dict[str, str], int]:
    """Take the body and answer."""
    del name
    await request.get_data()
    return {"status": "accepted"}, 202


config = Config()
config.bind = [f"127.0.0.1:{sys.argv[1]}"]
config.accesslog = config.errorlog = None
config.keep_alive_max_requests = 1_000_000
trio.run(partial(serve, app, config))
