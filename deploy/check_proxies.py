"""Runs the API behind nginx, Apache and Caddy with the blocks of this folder: `make proxies`.

Only values of one installation are replaced: ports, certificates, the prefix. What is checked are
the places where a proxy changes what passes: entity tags, addresses, the scheme, large bodies,
live events, redirects. Each check is tried with the proxy's compression off, as the blocks have it,
and on.
"""

import os
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx2
import timberframe_pytest
from timberframe.testing import ALICE, free_port, serving
from timberframe.testing.databases import prepare
from timberframe.testing.servers import valkey

HOST = "api.example.com"
PRODUCTS = "/api/v1/products/"
PREFIX = "/shop"
SIGN_UPS_PER_MINUTE = 3
ROWS = 20_000
FOLDER = Path(__file__).parent


class Proxy(NamedTuple):
    name: str
    command: str
    block: str
    compress: Callable[[str], str]
    move: Callable[[str], str]
    start: Callable[[Path, str], list[str]]


def start_nginx(folder: Path, block: str) -> list[str]:
    (folder / "site.conf").write_text(block)
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"user root; daemon off; pid {folder}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; {temporary} include {folder}/site.conf; }}\n"
    )
    return ["nginx", "-e", "stderr", "-c", f"{folder}/nginx.conf"]


def start_apache(folder: Path, block: str) -> list[str]:
    modules = (
        *("mpm_event", "authz_core", "env", "headers", "setenvif", "filter", "deflate"),
        *("proxy", "proxy_http", "ssl", "http2", "socache_shmcb"),
    )
    load = "\n".join(
        f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so" for name in modules
    )
    port = re.findall(r"<VirtualHost \*:(\d+)>", block)[0]
    (folder / "apache.conf").write_text(
        f"{load}\nServerRoot {folder}\nDefaultRuntimeDir {folder}\nPidFile {folder}/pid\n"
        f"ErrorLog /dev/stderr\nUser www-data\nGroup www-data\nServerName {HOST}\n"
        f"Listen {port}\n{block}"
    )
    return ["apache2", "-f", f"{folder}/apache.conf", "-D", "FOREGROUND"]


def start_caddy(folder: Path, block: str) -> list[str]:
    options = "{\n\tadmin off\n\tauto_https disable_redirects\n\tskip_install_trust\n}\n"
    (folder / "Caddyfile").write_text(options + block)
    return ["caddy", "run", "--config", f"{folder}/Caddyfile", "--adapter", "caddyfile"]


def replacing(*pairs: tuple[str, str]) -> Callable[[str], str]:
    """Changes a block; what is to be replaced must be there, once."""

    def change(block: str) -> str:
        for old, new in pairs:
            if block.count(old) != 1:
                raise SystemExit(f"{old!r} stands {block.count(old)} times in the block")
            block = block.replace(old, new)
        return block

    return change


PROXIES = (
    Proxy(
        "nginx",
        "nginx",
        "nginx.conf",
        replacing(
            (
                "gzip off;",
                "gzip on; gzip_proxied any; gzip_types application/json application/problem+json;",
            )
        ),
        replacing(("location / {", f"location {PREFIX}/ {{")),
        start_nginx,
    ),
    Proxy(
        "Apache",
        "apache2",
        "apache.conf",
        replacing(("SetEnv no-gzip 1", "SetOutputFilter DEFLATE")),
        replacing(
            ("ProxyPass / ", f"ProxyPass {PREFIX}/ "),
            ("8000/", f"8000{PREFIX}/"),
        ),
        start_apache,
    ),
    Proxy(
        "Caddy",
        "caddy",
        "Caddyfile",
        replacing(
            (
                "request_body {",
                "@whole not path /api/v1/*/events\n\t"
                "encode @whole gzip {\n\t\tminimum_length 1\n\t}\n\trequest_body {",
            )
        ),
        replacing(("reverse_proxy ", f"reverse_proxy {PREFIX}/* ")),
        start_caddy,
    ),
)


@contextmanager
def running(proxy: Proxy, block: str, certificate: Path, upstream: str) -> Iterator[int]:
    """The proxy with this block; the port on which it answers."""
    port, upstream_port = free_port(), upstream.rpartition(":")[2]
    block = re.sub(r"127\.0\.0\.1:8000", f"127.0.0.1:{upstream_port}", block)
    block = re.sub(r"(listen |\*:)443", rf"\g<1>{port}", block)
    block = re.sub(r"/etc/letsencrypt\S*/(fullchain|privkey)\.pem", rf"{certificate}/\1.pem", block)
    tls = f"\ttls {certificate}/fullchain.pem {certificate}/privkey.pem\n"
    block = block.replace(f"\n{HOST} {{\n", f"\nhttps://{HOST}:{port} {{\n{tls}")
    with (
        tempfile.TemporaryDirectory(prefix="myapi-proxy-") as name,
        open(f"{name}/log", "w") as log,
    ):
        command = proxy.start(Path(name), block)
        places = {"HOME": name, "XDG_DATA_HOME": name, "XDG_CONFIG_HOME": name}
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env=os.environ | places
        )
        try:
            deadline = time.monotonic() + 30
            while True:
                try:
                    with client_of(port, certificate) as client:
                        client.get("/health/live")
                    break
                except httpx2.TransportError:
                    if process.poll() is not None or time.monotonic() > deadline:
                        raise SystemExit(Path(log.name).read_text()) from None
                    time.sleep(0.1)
            yield port
        finally:
            process.terminate()
            process.wait(timeout=30)


def client_of(port: int, certificate: Path, address: str = "127.0.0.2") -> httpx2.Client:
    """Speaks to the proxy from an address that is not among the trusted ones."""
    trusted = ssl.create_default_context(cafile=certificate / "fullchain.pem")

    def name_host(request: httpx2.Request) -> None:
        request.headers["Host"] = HOST
        request.extensions["sni_hostname"] = HOST

    return httpx2.Client(
        base_url=f"https://127.0.0.1:{port}",
        transport=httpx2.HTTPTransport(verify=trusted, local_address=address),
        event_hooks={"request": [name_host]},
        timeout=120,
    )


class Report:
    def __init__(self) -> None:
        self.failed = 0

    def check(self, what: str, passed: bool, seen: object) -> None:
        self.failed += not passed
        print(f"{'PASS' if passed else 'FAIL'}  {what}  [{seen}]", flush=True)


def check_tags(report: Report, who: str, client: httpx2.Client, prefix: str = "") -> None:
    """Of an answer that the API compresses, and of a short one, which only proxies compress."""
    path, headers = f"{prefix}{PRODUCTS}", ALICE.headers
    for size, description in (("long", "Bright. " * 200), ("short", "Bright.")):
        product = {"sku": f"LAMP-{time.time_ns()}", "name": "Lamp", "price": "19.90"}
        created = client.post(path, json=product | {"description": description}, headers=headers)
        location = created.headers.get("location", "")
        passed = created.status_code == 201 and location.startswith(path)
        report.check(f"{who}: Location of what is created", passed, location)
        for coding in ("gzip", "identity"):
            accepting = headers | {"Accept-Encoding": coding}
            read = client.get(location, headers=accepting)
            tag, sent_as = read.headers["etag"], read.headers.get("content-encoding", "identity")
            name = f"of a {size} answer, {coding} accepted, {sent_as} sent"
            seen = client.get(location, headers=accepting | {"If-None-Match": tag}).status_code
            report.check(f"{who}: If-None-Match {name}", seen == 304, f"{tag} -> {seen}")
            changes = [{"stock": stock} for stock in (time.time_ns() % 1_000_000, 5)]
            conditional = headers | {"If-Match": tag}
            answers = [client.patch(location, json=c, headers=conditional) for c in changes]
            statuses = [answer.status_code for answer in answers]
            report.check(f"{who}: If-Match {name}", statuses == [200, 412], f"{tag} -> {statuses}")


def check_bodies(report: Report, who: str, client: httpx2.Client) -> None:
    lines = (f"BULK-{n},{'x' * 150},1,{n % 7}\n" for n in range(ROWS))
    rows = "sku,name,price,stock\n" + "".join(lines)
    headers = ALICE.headers | {"Content-Type": "text/csv"}
    done = client.post(f"{PRODUCTS}import", content=rows, headers=headers)
    counted = done.json() if done.status_code == 200 else {}
    total = counted.get("created", 0) + counted.get("updated", 0) + counted.get("unchanged", 0)
    report.check(f"{who}: import of {len(rows) / 1e6:.1f} MB", total == ROWS, done.status_code)
    with client.stream("GET", f"{PRODUCTS}export?sku__prefix=BULK-") as export:
        chunks = list(export.iter_text())
    lines_got = "".join(chunks).count("\n") - 1
    passed = lines_got == ROWS and len(chunks) > 1
    report.check(f"{who}: export arrives whole", passed, f"{lines_got} rows, {len(chunks)} pieces")
    large = client.post(PRODUCTS, content=b"x" * 2_000_000, headers=ALICE.headers)
    kind = large.headers.get("content-type")
    passed = (large.status_code, kind) == (413, "application/problem+json")
    report.check(f"{who}: a body that is too large", passed, f"{large.status_code} {kind}")


def check_addresses(report: Report, who: str, port: int, certificate: Path, last: int) -> None:
    """Sign-ups are counted by address: a made-up one is no new address, another client's is."""

    def sign_up(address: str) -> int:
        user = {"username": f"u{time.time_ns()}", "password": "Carol-Pass-1"}
        user["email"] = f"{user['username']}@example.com"
        made_up = {"X-Forwarded-For": f"10.9.8.{time.time_ns() % 250}"}
        with client_of(port, certificate, address) as client:
            return client.post("/api/v1/users/", json=user, headers=made_up).status_code

    statuses = [sign_up(f"127.0.1.{last}") for _ in range(SIGN_UPS_PER_MINUTE + 1)]
    expected = [*[201] * SIGN_UPS_PER_MINUTE, 429]
    report.check(
        f"{who}: a made-up X-Forwarded-For counts for nothing", statuses == expected, statuses
    )
    other = sign_up(f"127.0.2.{last}")
    report.check(f"{who}: another client has a count of its own", other == 201, other)


def check_events(report: Report, who: str, client: httpx2.Client) -> None:
    """A proxy that collects an answer before it sends it would hold events back."""
    product = {"sku": f"LIVE-{time.time_ns()}", "name": "Lamp", "price": "19.90"}
    headers = {"Accept-Encoding": "gzip"}
    with client.stream("GET", f"{PRODUCTS}events", headers=headers, timeout=10) as stream:
        lines = stream.iter_lines()
        seen, began = [], time.monotonic()
        try:
            seen.append(next(lines))  # where the stream begins
            client.post(PRODUCTS, json=product, headers=ALICE.headers)
            seen.append(next(line for line in lines if line.startswith("event: ")))
        except (httpx2.TransportError, StopIteration) as failed:
            seen.append(repr(failed))
        seconds = time.monotonic() - began
    passed = seen[1:] == ["event: product.created"] and seconds < 2
    report.check(f"{who}: an event arrives at once", passed, f"{seen} in {seconds:.2f} s")


def check_scheme(report: Report, who: str, client: httpx2.Client, prefix: str = "") -> None:
    moved = client.get(f"{prefix}{PRODUCTS.rstrip('/')}")
    location = httpx2.URL(moved.headers.get("location", ""))
    passed = (location.scheme, location.host, location.path) == ("https", HOST, prefix + PRODUCTS)
    report.check(f"{who}: a redirect leads to https and the public name", passed, location)
    hsts = moved.headers.get("strict-transport-security")
    report.check(f"{who}: the API knows that the client uses TLS", bool(hsts), hsts)


def check_prefix(report: Report, who: str, client: httpx2.Client) -> None:
    check_scheme(report, who, client, PREFIX)
    check_tags(report, who, client, PREFIX)
    page = client.get(f"{PREFIX}{PRODUCTS}?limit=1")
    link = re.findall(r'<([^>]*)>; rel="next"', page.headers["link"])[0]
    following = client.get(str(page.url.join(link)))
    report.check(f"{who}: Link leads to the next page", following.status_code == 200, link)
    docs = client.get(f"{PREFIX}/api/docs").text
    needed = re.findall(r'(?:src|href|url)[=:] ?["\'](/[^"\']*)', docs)
    statuses = {path: client.get(path).status_code for path in needed}
    passed = len(needed) > 2 and set(statuses.values()) == {200}
    report.check(f"{who}: the documentation page has all that it needs", passed, statuses)


def make_certificate(folder: Path) -> None:
    key, chain = folder / "privkey.pem", folder / "fullchain.pem"
    made = ("-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={HOST}")
    files = ("-keyout", str(key), "-out", str(chain))
    names = ("-addext", f"subjectAltName=DNS:{HOST}")
    command = ["openssl", "req", "-x509", *made, *files, *names]
    subprocess.run(command, check=True, capture_output=True)
    folder.chmod(0o755)


def main() -> None:
    needed = [proxy.command for proxy in PROXIES] + ["openssl"]
    if missing := [command for command in needed if not shutil.which(command)]:
        packages = "on Debian: apt-get install nginx apache2 caddy openssl"
        sys.exit(f"make proxies needs {', '.join(missing)}; {packages}")
    timberframe_pytest.set_environment()
    report = Report()
    with tempfile.TemporaryDirectory() as name, valkey() as redis_url:
        certificate = Path(name)
        make_certificate(certificate)
        database_url = f"sqlite:///{name}/myapi.db"
        prepare(database_url)
        settings = {
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "TRUSTED_PROXIES": "127.0.0.1",
            "ALLOWED_HOSTS": f"{HOST},127.0.0.1",
            "SIGN_UPS_PER_MINUTE": str(SIGN_UPS_PER_MINUTE),
        }
        with serving("--workers", "2", **settings) as server:
            for number, proxy in enumerate(PROXIES):
                block = (FOLDER / proxy.block).read_text()
                for number_of_run, (how, changed) in enumerate(
                    (("as committed", block), ("compressing", proxy.compress(block)))
                ):
                    who = f"{proxy.name}, {how}"
                    with running(proxy, changed, certificate, server.url) as port:
                        with client_of(port, certificate) as client:
                            check_scheme(report, who, client)
                            check_tags(report, who, client)
                            check_bodies(report, who, client)
                            check_events(report, who, client)
                        last = 1 + 2 * number + number_of_run
                        check_addresses(report, who, port, certificate, last)
        with serving("--workers", "2", ROOT_PATH=PREFIX, **settings) as server:
            for proxy in PROXIES:
                block = proxy.move((FOLDER / proxy.block).read_text())
                with (
                    running(proxy, block, certificate, server.url) as port,
                    client_of(port, certificate) as client,
                ):
                    check_prefix(report, f"{proxy.name}, under {PREFIX}", client)
    if report.failed:
        sys.exit(f"{report.failed} checks failed")


if __name__ == "__main__":
    main()
