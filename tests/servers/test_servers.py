"""The servers that other tests rely on do what those tests rely on."""

import http.client
import json
import os
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.request
from urllib.parse import urlsplit

from started import HERE, Started, self_signed

ENVIRONMENT = {
    **os.environ,
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_AUTHOR_NAME": "t",
    "GIT_AUTHOR_EMAIL": "t@example.com",
    "GIT_COMMITTER_NAME": "t",
    "GIT_COMMITTER_EMAIL": "t@example.com",
    "no_proxy": "127.0.0.1",
}


def git(*arguments, check=True, **environment):
    done = subprocess.run(
        ["git", *arguments], env={**ENVIRONMENT, **environment}, capture_output=True, text=True, check=False
    )
    if check and done.returncode:
        raise AssertionError(done.stderr)
    return done


def fetch(url, data=None, headers=None, method=None):
    """Status, headers and body, redirects not followed."""

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_):
            return None

    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), Stay)
    try:
        with opener.open(urllib.request.Request(url, data, headers or {}, method=method), timeout=20) as reply:
            return reply.status, reply.headers, reply.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


class ServerCase(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = directory.name
        self.root = os.path.join(self.directory, "root")
        os.mkdir(self.root)
        self.log = os.path.join(self.directory, "log")

    def start(self, name, *arguments):
        server = Started(name, *arguments)
        self.addCleanup(server.stop)
        return server

    def logged(self):
        with open(self.log, encoding="utf-8") as log:
            return log.read().splitlines()


class GitServer(ServerCase):
    def setUp(self):
        super().setUp()
        self.bare = os.path.join(self.root, "team", "extension.git")
        work = os.path.join(self.directory, "work")
        git("init", "-q", "-b", "main", work)
        for content in ("one", "two"):
            with open(os.path.join(work, "file"), "w", encoding="ascii") as file:
                file.write(content)
            git("-C", work, "add", "file")
            git("-C", work, "commit", "-q", "-m", content)
        git("clone", "-q", "--bare", work, self.bare)
        self.first = git("-C", work, "rev-parse", "HEAD~1").stdout.strip()

    def clone(self, url, name, **environment):
        target = os.path.join(self.directory, name)
        git("clone", "-q", "--depth", "1", url, target, **environment)
        with open(os.path.join(target, "file"), encoding="ascii") as file:
            return file.read()

    def test_a_repository_is_cloned_with_and_without_its_suffix_and_each_request_is_logged(self):
        url = self.start("git-server", "--root", self.root, "--log", self.log).url
        self.assertEqual(self.clone(f"{url}/team/extension.git", "a"), "two")
        self.assertEqual(self.clone(f"{url}/team/extension", "b"), "two")
        refs = [line for line in self.logged() if "/info/refs" in line]
        self.assertEqual(
            refs,
            [
                "GET /team/extension.git/info/refs?service=git-upload-pack 200",
                "GET /team/extension/info/refs?service=git-upload-pack 200",
            ],
        )

    def test_a_commit_is_fetched_by_its_id(self):
        url = self.start("git-server", "--root", self.root).url
        target = os.path.join(self.directory, "c")
        git("init", "-q", target)
        git("-C", target, "fetch", "-q", "--depth", "1", f"{url}/team/extension", self.first)
        self.assertEqual(git("-C", target, "show", "FETCH_HEAD:file").stdout, "one")

    def test_pushing_and_leaving_the_root_are_refused(self):
        url = self.start("git-server", "--root", self.root).url
        pushed = git("-C", self.bare, "push", f"{url}/team/extension.git", "main:other", check=False)
        self.assertIn("403", pushed.stderr)
        for path in ("/../work/info/refs", "/%2e%2e/work/.git/info/refs", "/nothing/info/refs", "/info/refs"):
            self.assertEqual(fetch(f"{url}{path}?service=git-upload-pack")[0], 404, path)

    def test_credentials_are_asked_for(self):
        url = self.start("git-server", "--root", self.root, "--auth", "user:secret", "--log", self.log).url
        self.assertNotEqual(git("ls-remote", f"{url}/team/extension", check=False).returncode, 0)
        self.assertIn(" 401", self.logged()[0])
        self.assertEqual(self.clone(url.replace("://", "://user:secret@") + "/team/extension", "d"), "two")

    def test_it_serves_over_tls(self):
        certificate, key = self_signed(self.directory)
        url = self.start("git-server", "--root", self.root, "--cert", certificate, "--key", key).url
        self.assertTrue(url.startswith("https://"))
        self.assertNotEqual(git("ls-remote", f"{url}/team/extension", check=False).returncode, 0)
        self.assertEqual(self.clone(f"{url}/team/extension", "e", GIT_SSL_CAINFO=certificate), "two")


class ArchiveServer(ServerCase):
    CONTENT = bytes(range(256)) * 100

    def setUp(self):
        super().setUp()
        with open(os.path.join(self.root, "a.tar.gz"), "wb") as file:
            file.write(self.CONTENT)
        self.server = self.start("archive-server", "--root", self.root, "--log", self.log)
        self.url = self.server.url

    def test_a_file_is_sent_once_and_then_not_modified(self):
        status, headers, body = fetch(f"{self.url}/a.tar.gz")
        self.assertEqual((status, body), (200, self.CONTENT))
        self.assertEqual(fetch(f"{self.url}/a.tar.gz", headers={"If-None-Match": headers["ETag"]})[0], 304)
        self.assertEqual(fetch(f"{self.url}/a.tar.gz", headers={"If-Modified-Since": headers["Last-Modified"]})[0], 304)
        stale = {"If-None-Match": '"other"', "If-Modified-Since": headers["Last-Modified"]}
        self.assertEqual(fetch(f"{self.url}/a.tar.gz", headers=stale)[0], 200)
        self.assertEqual(fetch(f"{self.url}/a.tar.gz", method="HEAD")[2], b"")
        statuses = [line.rpartition(" ")[2] for line in self.logged()]
        self.assertEqual(statuses, ["200", "304", "304", "200", "200"])
        self.assertEqual(self.logged()[0], "GET /a.tar.gz 200")

    def test_files_outside_the_root_are_not_found(self):
        self.assertEqual(fetch(f"{self.url}/../log")[0], 404)
        self.assertEqual(fetch(f"{self.url}/%2e%2e/log")[0], 404)

    def test_lengths_are_wrong_where_asked(self):
        with self.assertRaises(http.client.IncompleteRead):
            fetch(f"{self.url}/truncated/a.tar.gz")
        status, headers, body = fetch(f"{self.url}/wrong-length/a.tar.gz")
        self.assertEqual((status, int(headers["Content-Length"])), (200, len(self.CONTENT) // 2))
        self.assertEqual(body, self.CONTENT[: len(self.CONTENT) // 2])

    def test_a_slow_file_takes_its_time_and_an_endless_one_does_not_end(self):
        begin = time.monotonic()
        self.assertEqual(fetch(f"{self.url}/slow/a.tar.gz?seconds=0.6")[2], self.CONTENT)
        self.assertGreaterEqual(time.monotonic() - begin, 0.6)
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=20)
        connection.request("GET", "/endless/a.tar.gz")
        reply = connection.getresponse()
        self.assertEqual(len(reply.read(5_000_000)), 5_000_000)
        reply.close()
        connection.close()

    def test_redirects_statuses_and_credentials(self):
        status, headers, _ = fetch(f"{self.url}/redirect/a.tar.gz?to=http://example.com/b&status=307")
        self.assertEqual((status, headers["Location"]), (307, "http://example.com/b"))
        self.assertEqual(fetch(f"{self.url}/redirect/a.tar.gz")[1]["Location"], "/a.tar.gz")
        self.assertEqual(fetch(f"{self.url}/redirect-loop")[1]["Location"], "/redirect-loop")
        self.assertEqual(fetch(f"{self.url}/status/503/a.tar.gz")[0], 503)
        self.assertEqual(fetch(f"{self.url}/auth/a.tar.gz")[0], 401)
        right = {"Authorization": "Basic dXNlcjpwYXNzd29yZA=="}
        self.assertEqual(fetch(f"{self.url}/auth/a.tar.gz", headers=right)[2], self.CONTENT)


class AppendServer(ServerCase):
    def test_each_post_is_one_line_even_when_many_arrive_at_once(self):
        url = self.start("append-server", "--root", self.root).url
        self.assertEqual(fetch(f"{url}/append/runs")[::2], (200, b""))
        posts = [threading.Thread(target=fetch, args=(f"{url}/append/runs", f"run {n}".encode())) for n in range(20)]
        for post in posts:
            post.start()
        for post in posts:
            post.join()
        lines = fetch(f"{url}/append/runs")[2].decode().splitlines()
        self.assertEqual(sorted(lines), sorted(f"run {n}" for n in range(20)))

    def test_other_paths_and_several_lines_are_refused(self):
        url = self.start("append-server", "--root", self.root).url
        self.assertEqual(fetch(f"{url}/append/../log", b"x")[0], 404)
        self.assertEqual(fetch(f"{url}/append/.hidden", b"x")[0], 404)
        self.assertEqual(fetch(f"{url}/append/runs", b"one\ntwo")[0], 400)
        self.assertEqual(os.listdir(self.root), [])


class Sushy(ServerCase):
    def test_the_emulator_serves_the_systems_asked_for_and_stops_on_sigterm(self):
        server = self.start("sushy", "--system", "one=On", "--system", "two")
        members = json.loads(fetch(f"{server.url}/redfish/v1/Systems")[2])["Members"]
        states = {}
        for member in members:
            system = json.loads(fetch(server.url + member["@odata.id"])[2])
            states[system["Name"]] = system["PowerState"]
        self.assertEqual(states, {"one": "On", "two": "Off"})
        self.assertEqual(server.stop(), 0)
        with self.assertRaises(urllib.error.URLError):
            fetch(f"{server.url}/redfish/v1/")


class Registry(ServerCase):
    def push(self, url, *arguments):
        command = [os.path.join(HERE, "push"), "--auth=user:password", url, *arguments]
        done = subprocess.run(command, cwd=self.directory, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.strip()

    def test_what_is_pushed_is_served_to_whom_it_is_for(self):
        directory = os.path.join(self.directory, "ext")
        os.mkdir(directory)
        with open(os.path.join(directory, "run.sh"), "w", encoding="ascii") as file:
            file.write("#!/bin/sh\n")
        for tokens in ([], ["--tokens"]):
            with self.subTest(tokens=tokens):
                root = os.path.join(self.root, "-".join(["data", *tokens]))
                os.mkdir(root)
                server = self.start("registry", "--root", root, "--auth=user:password", "--log", self.log, *tokens)
                digest = self.push(f"{server.url}/team/ext:v1", "flux", "ext")
                self.assertEqual(digest, self.push(f"{server.url}/team/ext:v2", "flux", "ext"))
                status, headers, _ = fetch(f"{server.url}/v2/team/ext/manifests/v1")
                self.assertEqual(status, 401)
                scheme = headers["WWW-Authenticate"].split()[0]
                self.assertEqual(scheme, "Bearer" if tokens else "Basic")
                self.assertEqual(server.stop(), 0)
                with self.assertRaises(urllib.error.URLError):
                    fetch(f"{server.url}/v2/")
        self.assertTrue(any('"GET /v2/team/ext/manifests/v1 HTTP/1.1" 401' in line for line in self.logged()))


class Stopping(ServerCase):
    def test_every_server_ends_on_sigterm_with_code_0(self):
        for name in ("git-server", "archive-server", "append-server", "registry"):
            with self.subTest(name):
                self.assertEqual(self.start(name, "--root", self.root).stop(), 0)


if __name__ == "__main__":
    unittest.main()
