"""A server of the pages of a study for this computer alone, which reads items as they are shown."""

import html
import json
import re
import threading
from functools import cached_property, lru_cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from preddiff.errors import InputError
from preddiff.pages.contents import Contents, contents_of, data_names
from preddiff.pages.page import item_of, served_page

ADDRESS = "127.0.0.1"
# Items whose arrays are kept: those that are shown, and those that were before.
_KEPT = 4
_LIST_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'"


class Pages:
    """The pages of a study, and the items that they ask for.

    Parameters
    ----------
    results : Path
        Folder of the study.

    Raises
    ------
    InputError
        If no explanation of the study is complete.
    """

    def __init__(self, results: Path) -> None:
        self.names = data_names(results)
        if not self.names:
            raise InputError(f"{results}: no explanation of this study is complete; run snakemake")
        self._contents = {name: contents_of(results, name) for name in self.names}
        # Requests are answered by threads; one reads an item at a time.
        self._lock = threading.Lock()
        self._read = lru_cache(maxsize=_KEPT)(self._read_item)

    def answer(self, path: str) -> tuple[str, str] | None:
        """Answer a request.

        Parameters
        ----------
        path : str
            `/`, `/DATA.html`, `/DATA/item-NUMBER` (an item's description, by its place in the
            page) or `/DATA/ARRAY` (the text of one of its arrays).

        Returns
        -------
        content, type : str, or None if there is no such page or item.
        """
        if path == "/":
            return self.listed, "text/html"
        match = re.fullmatch(r"/([^/]+?)(?:\.html|/(item-)?(\d+)(?:-(\d+))?)", path)
        if match is None or unquote(match[1]) not in self._contents:
            return None
        name, is_item, number, array = unquote(match[1]), match[2], match[3], match[4]
        contents = self._contents[name]
        if number is None:
            return served_page(contents), "text/html"
        if is_item:
            shown = sorted(contents.chosen(), key=contents.items.number)
            if array is not None or int(number) >= len(shown):
                return None
            with self._lock:
                return self._read(name, shown[int(number)])[0], "application/json"
        if array is None or int(number) >= len(contents.items.names):
            return None
        with self._lock:
            _, arrays = self._read(name, contents.items.names[int(number)])
        text = arrays.get(f"{number}-{array}")
        return None if text is None else (text, "text/plain")

    def _read_item(self, data: str, item: str) -> tuple[str, dict[str, str]]:
        about, arrays = item_of(self._contents[data], item)
        return json.dumps(about, allow_nan=False), arrays

    @cached_property
    def listed(self) -> str:
        """Page that lists the others."""
        links = "\n".join(
            f'<li><a href="{quote(name, safe="")}.html">{html.escape(name)}</a>, '
            f"{_counted(one)}</li>"
            for name, one in self._contents.items()
        )
        return (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{_LIST_POLICY}">\n'
            "<title>preddiff</title>\n</head>\n<body>\n<h1>Pages of this study</h1>\n"
            f"<ul>\n{links}\n</ul>\n</body>\n</html>\n"
        )


def _counted(contents: Contents) -> str:
    things = "subjects" if contents.are_volumes else "images"
    return f"{len(contents.chosen())} {things}, explanations: {len(contents.explanations)}"


def server_of(pages: Pages, port: int) -> ThreadingHTTPServer:
    """Make a server that listens on this computer's own address only.

    Parameters
    ----------
    pages : Pages
    port : int
        0 for any free one.

    Raises
    ------
    InputError
        If the port is taken or reserved.
    """

    class Handler(BaseHTTPRequestHandler):
        """Answers with pages; logs nothing."""

        def do_GET(self) -> None:
            """Answer a request."""
            # A page of another site can give its own name this computer's address.
            host = self.headers.get("Host", "").rpartition(":")[0]
            if host not in (ADDRESS, "localhost"):
                self._send("only this computer is answered\n", "text/plain", HTTPStatus.FORBIDDEN)
                return
            try:
                found = pages.answer(self.path)
            except InputError as error:
                self._send(f"{error}\n", "text/plain", HTTPStatus.INTERNAL_SERVER_ERROR)
                return
            if found is None:
                self._send("there is no such page\n", "text/plain", HTTPStatus.NOT_FOUND)
            else:
                self._send(*found, HTTPStatus.OK)

        def _send(self, content: str, kind: str, status: HTTPStatus) -> None:
            body = content.encode()
            self.send_response(status)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing of requests."""

    try:
        return ThreadingHTTPServer((ADDRESS, port), Handler)
    except OSError as error:
        raise InputError(f"--port {port}: {error.strerror}; choose another one") from None
