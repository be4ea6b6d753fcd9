"""Trio and llhttp, answering 202 to whole requests: the floor under every figure."""

import socket
import sys

import httptools
import trio

ANSWER = b"HTTP/1.1 202 Accepted\r\ncontent-type: application/json\r\ncontent-length: 21\r\n\r\n" + b'{"status":"accepted"}'


class Request:
    """Counts the whole requests that a parser has seen."""

    def __init__(self) -> None:
        self.whole = 0

    def on_message_complete(self) -> None:
        self.whole += 1


async def connection(stream: trio.SocketStream) -> None:
    """Answer until the other end closes."""
    plain = socket.socket(fileno=stream.socket.detach())
    plain.settimeout(0)
    request = Request()
    parser = httptools.HttpRequestParser(request)
    with plain:
        while True:
            await trio.lowlevel.wait_readable(plain)
            try:
                data = plain.recv(65536)
            except OSError:
                return
            if not data:
                return
            parser.feed_data(data)
            if request.whole:
                plain.send(ANSWER * request.whole)
                request.whole = 0


trio.run(trio.serve_tcp, connection, int(sys.argv[1]))
