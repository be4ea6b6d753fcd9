"""Cycles that keep their callers waiting, each in its own way, and a look that waits for something to be so."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.system.harness import Server
from tests.system.partner import Partner

RETRIED = """
cycle: retried
connectors: {shop: {}, remote: {base_url: "%s", allow_private: true}}
steps:
  asked: {webhook: shop, identifier: retried-asked, fields: {n: integer}, answer_within: 2 seconds}
  fast: {decide: asked.n == 1, else: late}
  soon: {post: remote, path: /second, body: {n: 1}, on_error: {retry: [10 milliseconds]}, next: answer}
  late: {post: remote, path: /second, body: {n: 2}, on_error: {retry: [2500 milliseconds]}}
  answer: {respond: {status: 201, body: {n: "{{ asked.n }}"}}}
"""
PARTS = """
cycle: parts
connectors: {shop: {}, remote: {base_url: "%s", allow_private: true}}
settings: {on_error: stop_transaction}
steps:
  asked: {webhook: shop, identifier: parts-asked, fields: {items: list}}
  part: {split: asked.items}
  kind: {decide: part.kind, cases: {slow: slow, fails: broken, silent: silent}, default: answer}
  slow: {post: remote, path: /signal, next: answer}
  broken: {post: remote, path: /second, next: end}
  silent: {post: remote, path: /effects, next: end}
  answer: {respond: {body: {n: "{{ part.n }}"}}}
"""
HELD = """
cycle: held
connectors: {shop: {}, remote: {base_url: "%s", allow_private: true}}
steps:
  asked: {webhook: shop, identifier: held-asked, fields: {n: integer}}
  told: {respond: {status: 201, body: {asked: "{{ asked.n }}"}}}
  back: {webhook: shop, identifier: held-back, fields: {n: integer, word: text}, match: {n: asked.n}}
  work: {post: remote, path: /signal, body: {word: "{{ back.word }}"}}
  answer: {respond: {body: {word: "{{ back.word }}", pass: "{{ transaction.pass }}"}}}
"""
TWICE = """
cycle: twice
connectors: {shop: {}, remote: {base_url: "%s", allow_private: true}}
steps:
  asked: {webhook: shop, identifier: twice-asked, fields: {n: integer}}
  first: {respond: {status: 201, headers: {x-first: "yes"}, body: {answer: 1}}}
  work: {post: remote, path: /signal, body: {n: "{{ asked.n }}"}}
  second: {respond: {status: 202, body: {answer: 2}}}
"""
WAITS = """
cycle: waits
connectors: {shop: {}, remote: {base_url: "%s", allow_private: true}}
steps:
  asked: {webhook: shop, identifier: waits-asked, fields: {n: integer}}
  work: {post: remote, path: /signal, body: {n: "{{ asked.n }}"}}
  answer: {respond: {status: 201, body: {n: "{{ asked.n }}"}}}
"""
LATE = """
cycle: late
connectors: {shop: {}, remote: {base_url: "%s", allow_private: true}}
steps:
  asked: {webhook: shop, identifier: late-asked, fields: {n: integer}, answer_within: 10 milliseconds}
  work: {post: remote, path: /signal, body: {n: "{{ asked.n }}"}}
  answer: {respond: {body: {n: "{{ asked.n }}"}}}
"""
BIG = """
cycle: big
connectors: {shop: {}}
steps:
  asked: {webhook: shop, identifier: big-asked, fields: {text: text}}
  answer: {respond: {body: "{{ asked.text }}", body_as: text}}
"""
DELAYED = """
cycle: delayed
connectors: {shop: {}}
steps:
  asked: {webhook: shop, identifier: delayed-asked, fields: {n: integer}}
  wait: {delay: 1 second}
  answer: {respond: {body: {n: "{{ asked.n }}"}}}
"""
FILES = {
    "retried": RETRIED,
    "parts": PARTS,
    "held": HELD,
    "twice": TWICE,
    "waits": WAITS,
    "late": LATE,
    "big": BIG,
    "delayed": DELAYED,
}


def project(folder: Path, partner: Partner) -> Path:
    """All cycles of this file, beside a remote system."""
    for name, text in FILES.items():
        (folder / f"{name}.cycle.yaml").write_text(text % partner.url if "%s" in text else text)
    return folder


def until(server: Server, holds: Callable[[], Any]) -> Any:
    """What a look gives, once it gives something."""
    end = time.perf_counter() + 10
    while time.perf_counter() < end:
        if found := holds():
            return found
        server.pause()
    raise AssertionError("it never came to that")
