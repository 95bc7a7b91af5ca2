"""Prints labels for books."""

import http.server
import os
import sys
from pathlib import Path


class Label(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = Path("labels/label.txt").read_text().format(size=sys.argv[1], ink="black").encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Label).serve_forever()
