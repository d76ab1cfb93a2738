#!/usr/bin/env python3
"""Tests of the page of `restkv serve` in a real Chromium.

  page_test.py [--base URL | --serve "COMMAND"] [names of tests]

Without --base and --serve the stand-in mock_server.py answers. Tests that need its failures are
skipped with any other server. --serve reads the address from the output of COMMAND. Needs Chromium
and its driver (Debian: chromium, chromium-driver), selenium (PyPI) and, for the stand-in, cmake.
"""

import argparse
import json
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.request

from selenium.webdriver.common.keys import Keys

from browser import Browser

FOLDER = pathlib.Path(__file__).resolve().parent
PLACES = ["Hamburg", "Oslo", "Lyon", "Porto", "Graz", "Turku"]
SIZES = [(360, 740), (800, 1000), (1400, 900)]


def report(lines=40):
    """A text with headings, figures and enough words that a small budget forgets some."""
    parts = ["# Annual report\n"]
    for i in range(lines):
        if i % 8 == 0:
            parts.append(f"\n## {i // 8 + 1}. {PLACES[i // 8 % len(PLACES)]}\n")
        parts.append(
            f"The plant in {PLACES[i % len(PLACES)]} made {137 + 31 * i} tons and needed {12 + i} people. "
            f"Costs rose by {i % 7 + 1}% to {3 + i / 10:.1f} million euros.\n"
        )
    return "\n".join(parts)


class Server:
    """A server that runs for the tests, or one that was there before."""

    def __init__(self, command=None, base=None):
        self.process = None
        self.base = base
        if base:
            return
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for line in self.process.stdout:
            match = re.search(r"https?://[\w.\[\]:-]+:\d+", line)
            if match:
                self.base = match[0]
                break
        else:
            raise RuntimeError(f"{command} ended without an address")
        # An output that nobody reads would stop the server at some point.
        self.reading = threading.Thread(target=self.process.stdout.read, daemon=True)
        self.reading.start()

    @classmethod
    def mock(cls, *arguments):
        return cls([sys.executable, str(FOLDER / "mock_server.py"), *arguments])

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait()
            self.reading.join()
            self.process.stdout.close()

    def ask(self, path, method="GET"):
        request = urllib.request.Request(self.base + path, method=method)
        with urllib.request.urlopen(request) as response:
            return json.loads(response.read())

    def wait_until_ready(self):
        for _ in range(600):
            try:
                return self.ask("/props")
            except urllib.error.HTTPError as error:
                if error.code != 503:
                    raise
            except urllib.error.URLError:
                pass
            time.sleep(0.2)
        raise RuntimeError("the server does not become ready")


class PageTest(unittest.TestCase):
    arguments: argparse.Namespace
    server: Server
    page: Browser
    is_mock: bool
    expected_problems: tuple = ()

    @classmethod
    def setUpClass(cls):
        if cls is PageTest:
            raise unittest.SkipTest("the base of the others")

    def setUp(self):
        if self.needs_mock and not self.is_mock:
            self.skipTest("needs the stand-in's failures")
        self.expected_problems = ()
        self.page.size(1400, 900)
        self.page.fresh(self.server.base)

    needs_mock = False

    def tearDown(self):
        if getattr(self, "page", None) is None or (self.needs_mock and not self.is_mock):
            return
        self.page.cdp("Network.enable")
        self.page.cdp(
            "Network.emulateNetworkConditions",
            offline=False,
            latency=0,
            downloadThroughput=-1,
            uploadThroughput=-1,
        )
        self.assertEqual(self.page.problems(self.expected_problems), [], "errors in the console")
        own = (self.page.base + "/", "data:", "chrome:", "about:")
        self.assertEqual(
            [url for url in self.page.requests() if not url.startswith(own)],
            [],
            "requests to others",
        )
        self.assertIsNone(
            self.page.run("return window.attacked ?? null;"), "a text ran as a program"
        )

    # --- steps that many tests take ---

    def file(self, text, name="report.md"):
        folder = tempfile.mkdtemp(dir=self.folder.name)
        path = pathlib.Path(folder, name)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    def upload(self, text=None, name="report.md", wait=True):
        self.page.one("#file").send_keys(self.file(report() if text is None else text, name))
        if wait:
            self.page.wait(
                lambda: self.page.has_button("What is kept", "#document"),
                "the document is read",
                120,
            )

    def set_budget(self, budget=128):
        self.page.run(
            """
          const settings = JSON.parse(localStorage.getItem('restkv.settings') ?? '{}');
          localStorage.setItem('restkv.settings', JSON.stringify({...settings, method: settings.method ?? arguments[1], budget: arguments[0]}));
        """,
            budget,
            self.props["restkv"].get("method", "restkv"),
        )

    def start(self, budget=128):
        self.page.load()
        self.set_budget(budget)
        self.page.load()

    def ask(self, question, wait=True):
        self.page.one("#question").click()
        self.page.keys(question, Keys.ENTER)
        if wait:
            self.wait_for_answer()

    def wait_for_answer(self):
        """It may have a thousand tokens, on a machine that has other work."""
        self.page.wait(
            lambda: self.page.has("#messages > .answer:last-child .answer-buttons"),
            "the answer ends",
            300,
        )

    def answer(self):
        return self.page.text("#messages > .answer:last-child .markdown")

    def note(self):
        return self.page.text("#messages > .answer:last-child .notice")

    def documents(self):
        return self.server.ask("/v1/documents")["data"]

    def document(self):
        return self.page.run(
            "const id = location.hash.slice(1); return JSON.parse(localStorage.getItem('restkv.conversation.' + id)).document;"
        )


class Documents(PageTest):
    def test_upload_shows_progress_and_result(self):
        self.start()
        self.upload(name="slow report.md", wait=False)
        self.page.wait(lambda: self.page.has("#document progress"), "a progress bar")
        seen = set()
        for _ in range(2000):
            seen.add(self.page.text("#document .facts"))
            if self.page.has_button("What is kept", "#document"):
                break
            time.sleep(0.02)
        if self.is_mock:
            self.assertTrue(
                any(
                    re.match(
                        r"\d+% of [\d,]+ tokens read, about \d+ seconds? left. \d+% will be kept",
                        text,
                    )
                    for text in seen
                ),
                seen,
            )
        facts = self.page.text("#document .facts")
        state = self.document()
        self.assertIn(f"{state['tokens']:,} tokens", facts)
        self.assertIn("128 kept", facts)
        self.assertEqual(self.documents()[-1]["restkv"]["budget"], 128)
        self.assertEqual(self.page.text("#title"), "slow report.md")

    def test_cancel_deletes_the_document(self):
        self.start()
        before = len(self.documents())
        self.upload(report(120), "slow report.md", wait=False)
        self.page.wait(
            lambda: self.page.has_button("Cancel", "#document") and len(self.documents()) > before,
            "the reading begins",
        )
        self.page.click("Cancel", "#document")
        self.page.wait(lambda: self.page.has("#start .drop-zone"), "the start")
        self.page.wait(lambda: len(self.documents()) == before, "the server deletes it")

    def test_dropped_file(self):
        self.start()
        self.page.run(
            """
          const data = new DataTransfer();
          data.items.add(new File([arguments[0]], 'dropped.txt', {type: 'text/plain'}));
          const send = (name) => document.body.dispatchEvent(new DragEvent(name, {bubbles: true, cancelable: true, dataTransfer: data}));
          send('dragenter');
          window.veil = !document.getElementById('drop').hidden;
          send('dragover');
          send('drop');
        """,
            report(),
        )
        self.assertTrue(self.page.run("return window.veil;"))
        self.page.wait(
            lambda: self.page.has_button("What is kept", "#document"), "the document is read", 120
        )
        self.assertEqual(self.page.text("#document h2"), "dropped.txt")

    def test_file_that_is_no_text_is_refused(self):
        self.start()
        self.page.one("#file").send_keys(self.file(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "photo.png"))
        self.page.wait(lambda: "neither text nor PDF" in self.page.text("#toast"), "a refusal")
        self.page.one("#file").send_keys(self.file(b"", "empty.txt"))
        self.page.wait(lambda: "is empty" in self.page.text("#toast"), "a refusal")
        self.assertTrue(self.page.has("#start .drop-zone"))

    def test_page_of_html_is_read_as_text(self):
        self.start()
        self.upload(
            "<!doctype html><nav>Home</nav><h1>Harbour</h1><p>It opened in <b>1890</b>.", "page.html"
        )
        self.assertEqual(self.page.text("#document h2"), "page.html")
        if not self.is_mock:
            self.page.click("What is kept", "#document")
            self.page.wait(
                lambda: "It opened in 1890." in self.page.text("#kept"), "the text of the page"
            )
            self.assertNotIn("Home", self.page.text("#kept"))

    def test_long_paste_becomes_a_document(self):
        self.start()
        text = report(60)
        self.page.one("#question").click()
        self.page.keys("What is this? ")
        self.page.run(
            """
          const field = document.getElementById('question');
          const data = new DataTransfer();
          data.setData('text/plain', arguments[0]);
          field.dispatchEvent(new ClipboardEvent('paste', {bubbles: true, cancelable: true, clipboardData: data}));
          field.setRangeText(arguments[0], field.value.length, field.value.length, 'end');
          field.dispatchEvent(new Event('input', {bubbles: true}));
        """,
            text,
        )
        self.assertIn("long text", self.page.text("#paste-offer"))
        self.page.click("Make it the document", "#paste-offer")
        self.page.wait(
            lambda: self.page.has_button("What is kept", "#document"), "the document is read", 120
        )
        self.assertEqual(
            self.page.run("return document.getElementById('question').value;"), "What is this?"
        )
        self.assertEqual(self.page.text("#document h2"), "Pasted text.txt")

    def test_memory_slider(self):
        self.start()
        self.upload()
        self.page.click("Memory", "#document")
        state = self.document()
        self.assertFalse(self.page.button("Read again with this", "#document").is_enabled())
        exact = self.page.text("#document .cost dd:nth-of-type(1) .value")
        self.assertNotIn("about", exact)
        slider = self.page.one("#budget")
        self.assertIn("128 tokens", slider.get_attribute("aria-valuetext"))
        self.page.run("arguments[0].focus();", slider)
        self.page.keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
        self.assertIn("256 tokens", slider.get_attribute("aria-valuetext"))
        share = 256 / state["tokens"]
        self.assertIn(
            "All" if share >= 1 else f"{round(100 * share)}% of the document",
            self.page.text("#budget-estimate"),
        )
        self.assertIn("about", self.page.text("#document .cost dd:nth-of-type(1) .value"))
        self.page.click("Read again with this", "#document")
        self.page.wait(
            lambda: (self.document() or {}).get("status") == "ready"
            and self.document()["budget"] == 256,
            "it is read again",
            60,
        )
        self.page.wait(
            lambda: state["id"] not in [one["id"] for one in self.documents()],
            "the first reading is deleted",
        )

    def test_documents_are_read_by_the_servers_own_method(self):
        self.page.load()
        self.upload()
        own = self.props["restkv"]["documents"]
        read = self.documents()[-1]["restkv"]
        self.assertEqual(read["method"], own["method"])
        if isinstance(own["budget"], int):
            self.assertEqual(read["budget"], own["budget"])
        self.page.click("Memory", "#document")
        self.assertEqual(
            self.page.run("return document.getElementById('method').value;"), own["method"]
        )

    def test_everything_needs_no_budget(self):
        if "full" not in self.props["restkv"]["methods"]:
            self.skipTest("the server does not offer it")
        self.start()
        self.page.run(
            "const select = document.getElementById('method'); select.value = 'full'; select.dispatchEvent(new Event('change'));"
        )
        self.assertFalse(self.page.one("#budget").is_enabled())
        self.upload()
        self.assertIn("all kept", self.page.text("#document .facts"))


class Answers(PageTest):
    def test_stream_with_a_document(self):
        self.start()
        self.upload()
        self.ask(
            (
                "slow, please: what is in the report?"
                if self.is_mock
                else "Write a long list of all figures in the report."
            ),
            wait=False,
        )
        lengths = []
        for _ in range(400):
            lengths.append(len(self.answer()))
            if len(set(lengths)) > 4:
                break
            time.sleep(0.03)
        self.assertGreater(len(set(lengths)), 4, "the answer comes in one piece")
        self.assertTrue(self.page.has_button("Stop", "#composer"))
        self.page.click("Stop", "#composer")
        self.page.wait(lambda: self.note() == "Stopped.", "the answer stops")
        stopped = self.answer()
        self.assertGreater(len(stopped), 4)
        time.sleep(0.5)
        self.assertEqual(self.answer(), stopped)
        self.assertTrue(self.page.has_button("Send", "#composer"))

    def test_answer_without_a_document(self):
        self.start()
        self.ask("What costs most?")
        self.assertTrue(self.answer().strip())
        self.assertIn("of memory", self.page.text(".answer-foot .hint"))
        self.assertIn("Questions without a document", self.page.text("#document"))

    def test_try_again_edit_and_copy(self):
        self.start()
        self.ask("First question")
        self.ask("Second question")
        self.assertEqual(len(self.page.all("#messages > li")), 4)
        self.page.click("Try again", "#messages > .answer:last-child")
        self.wait_for_answer()
        self.assertEqual(len(self.page.all("#messages > li")), 4)
        first = self.page.one("#messages > .question")
        self.page.actions().move_to_element(first).perform()
        self.page.click("Edit the question", "#messages > .question:first-child")
        self.page.wait(lambda: self.page.has("#messages textarea"), "a field")
        time.sleep(0.1)
        self.page.run("document.activeElement.select();")
        self.page.keys("Changed question", Keys.ENTER)
        self.page.wait(
            lambda: len(self.page.all("#messages > li")) == 2
            and self.page.has("#messages > .answer .answer-buttons"),
            "a new answer",
            60,
        )
        self.assertEqual(self.page.text(".question-text"), "Changed question")
        self.page.cdp(
            "Browser.grantPermissions",
            permissions=["clipboardReadWrite", "clipboardSanitizedWrite"],
        )
        self.page.click("Copy the answer", "#messages > .answer:last-child")
        self.page.wait(lambda: "Copied" in self.page.text("#announcer"), "it says so")

    def test_question_waits_for_the_document(self):
        self.start()
        self.upload(report(60), "slow report.md", wait=False)
        self.page.wait(lambda: self.page.has("#document progress"), "a progress bar")
        self.ask("What is it about?")
        self.assertTrue(self.answer().strip())

    def test_conversations_survive_a_reload(self):
        self.start()
        self.upload()
        self.ask("First question")
        first = self.answer()
        self.page.click("New conversation", "#sidebar")
        self.ask("Another topic")
        self.page.load(self.page.base + "/")
        self.page.wait(
            lambda: len(self.page.all("#conversation-list .conversation")) == 2,
            "both conversations",
        )
        self.page.run(
            "[...document.querySelectorAll('.conversation')].find((node) => node.textContent === 'First question').click();"
        )
        self.assertEqual(self.answer(), first)
        self.page.wait(
            lambda: self.page.has_button("What is kept", "#document"), "the document is still there"
        )
        self.page.driver.refresh()
        self.page.wait(
            lambda: self.page.has("body.begun") and self.answer() == first, "the same conversation"
        )
        self.page.run("document.querySelector('li.current .button').click();")
        self.page.wait(
            lambda: len(self.page.all("#conversation-list .conversation")) == 1, "one less"
        )
        self.page.click("Undo", "#toast")
        self.page.wait(
            lambda: len(self.page.all("#conversation-list .conversation")) == 2
            and self.answer() == first,
            "it is back",
        )


class Kept(PageTest):
    def open(self):
        self.start()
        self.upload()
        self.page.click("What is kept", "#document")
        self.page.wait(lambda: self.page.has(".kept-text span"), "the shaded text")

    def test_shades_are_the_servers_counts(self):
        self.open()
        data = self.server.ask(f"/v1/documents/{self.document()['id']}/kept")
        pairs = data["layers"] * data["heads"]
        shown = self.page.run(
            """return [...document.querySelectorAll('.kept-text span')].map((node) =>
            [Number(node.dataset.token), node.textContent, node.className.replace(' active', '')]);"""
        )
        self.assertGreater(len(shown), 50)
        for index, text, name in shown:
            self.assertEqual(text, data["tokens"][index])
            share = data["kept"][index] / pairs
            level = sum(share > end + 1e-9 for end in (0, 0.1, 0.25, 0.5, 0.8))
            self.assertEqual(
                name, f"kept{level}", f"token {index}: {data['kept'][index]} of {pairs}"
            )
        # The browser's search must find what is far away, too.
        whole = self.page.run(
            "return [...document.querySelectorAll('.chunk')].map((node) => node.textContent).join('');"
        )
        self.assertEqual(whole, "".join(data["tokens"]))

    def test_pointer_and_arrow_keys_tell_the_count(self):
        self.open()
        data = self.server.ask(f"/v1/documents/{self.document()['id']}/kept")
        pairs = data["layers"] * data["heads"]
        self.page.actions().move_to_element(
            self.page.one(".kept-text span[data-token='5']")
        ).click().perform()
        self.page.wait(
            lambda: f"token 6: {data['kept'][5]} of {pairs} layers"
            in self.page.text(".kept-readout"),
            "the count of the word",
        )
        self.page.run("document.querySelector('.kept-text').focus();")
        self.page.keys(Keys.ARROW_RIGHT)
        self.page.wait(
            lambda: f"token 7: {data['kept'][6]} of {pairs} layers" in self.page.text("#announcer"),
            "it is said",
        )
        self.page.keys(Keys.END)
        last = len(data["tokens"])
        self.page.wait(
            lambda: f"token {last:,}: " in self.page.text("#announcer"), "the last token"
        )
        self.page.wait(
            lambda: self.page.run(
                """const box = document.querySelector('.kept-text').getBoundingClientRect();
            const at = document.querySelector('.active').getBoundingClientRect(); return at.top >= box.top - 1 && at.bottom <= box.bottom + 1;"""
            ),
            "the last token is in view",
        )
        self.page.click("Next passage that is kept most", "#kept")
        self.page.wait(lambda: "Passage 1 of" in self.page.text("#announcer"), "a passage")

    def test_comparison_reads_a_second_time_and_cleans_up(self):
        if len([one for one in self.props["restkv"]["methods"] if one != "full"]) < 2:
            self.skipTest("the server offers one method")
        self.open()
        before = {one["id"] for one in self.documents()}
        self.page.run("document.getElementById('compare').click();")
        self.page.wait(lambda: self.page.has(".modes label"), "the comparison", 60)
        self.assertTrue(self.page.run("return document.getElementById('mode-difference').checked;"))
        classes = set(
            self.page.run(
                "return [...document.querySelectorAll('.kept-text span')].map((node) => node.className.replace(/\\d.*/, ''));"
            )
        )
        self.assertEqual(classes, {"more", "less"})
        self.page.run("document.getElementById('mode-second').click();")
        self.assertTrue(self.page.has(".kept-text .kept5"))
        self.page.wait(
            lambda: {one["id"] for one in self.documents()} == before,
            "the second reading is deleted",
        )
        self.page.run("document.getElementById('compare').click();")
        self.assertFalse(self.page.has(".modes label"))
        self.assertTrue(self.page.has(".kept-text .kept5"))

    def test_memory_of_an_answer(self):
        self.start()
        self.ask("What costs most?")
        self.page.click("What is kept", ".answer")
        self.page.wait(lambda: self.page.has(".kept-text span"), "the shaded text")
        self.assertIn("costs", self.page.text(".kept-text"))
        self.assertFalse(self.page.has("#compare"))

    def test_large_document_does_not_freeze(self):
        if not self.is_mock:
            self.skipTest("takes a real model minutes")
        self.start()
        self.upload(report(4200))
        self.assertGreater(self.document()["tokens"], 100_000)
        self.page.run("""
          window.longest = 0;
          new PerformanceObserver((list) => { for (const entry of list.getEntries()) window.longest = Math.max(window.longest, entry.duration); })
              .observe({entryTypes: ['longtask']});""")
        began = time.monotonic()
        self.page.click("What is kept", "#document")
        self.page.wait(lambda: self.page.has(".kept-text span"), "the shaded text", 30)
        opened = time.monotonic() - began
        self.page.run("document.querySelector('.kept-text').focus();")
        began = time.monotonic()
        self.page.keys(Keys.END)
        self.page.wait(
            lambda: self.page.run(
                "const node = document.querySelector('.active'); return node && node.getBoundingClientRect().bottom <= innerHeight;"
            ),
            "the end",
        )
        jumped = time.monotonic() - began
        spans = len(self.page.all(".kept-text span"))
        longest = self.page.run("return window.longest;")
        print(
            f"\n100,000 tokens: opened in {opened:.1f} s, at the end in {jumped:.1f} s, longest task {longest:.0f} ms, {spans} elements"
        )
        self.assertLess(spans, 12_000)
        self.assertLess(longest, 1500)


class Safety(PageTest):
    def test_texts_are_never_markup(self):
        attack = "<img src=x onerror=window.attacked=1>"
        self.start()
        self.page.one("#file").send_keys(self.file(report(), "plain.txt"))
        self.page.wait(
            lambda: self.page.has_button("What is kept", "#document"), "the document is read", 120
        )
        self.page.click("Remove the document", "#document")
        # A name with a slash cannot be a file of a disk, but it can come with a drop.
        self.page.run(
            """
          const data = new DataTransfer();
          data.items.add(new File([arguments[0]], arguments[1], {type: 'text/plain'}));
          document.body.dispatchEvent(new DragEvent('drop', {bubbles: true, cancelable: true, dataTransfer: data}));
        """,
            attack + "\n" + "<script>window.attacked=1</script>\n" + report(),
            attack + "</script>.txt",
        )
        self.page.wait(
            lambda: self.page.has_button("What is kept", "#document"), "the document is read", 120
        )
        self.assertTrue(self.page.text("#document h2").startswith(attack))
        self.page.click("What is kept", "#document")
        self.page.wait(lambda: self.page.has(".kept-text span"), "the shaded text")
        self.assertIn(attack, self.page.text(".kept-text"))
        self.page.click("Close", "#kept")
        self.ask(f"attack {attack}")
        if self.is_mock:
            self.assertIn("<script>window.attacked=1</script>", self.answer())
        self.page.driver.refresh()
        self.page.wait(lambda: self.page.has("body.begun"), "the page begins")
        time.sleep(0.3)
        links = self.page.run(
            "return [...document.querySelectorAll('#app a')].map((node) => [node.protocol, node.rel, node.target]);"
        )
        for protocol, rel, target in links:
            self.assertIn(protocol, ("http:", "https:", "mailto:"))
            self.assertIn("noopener", rel)
            self.assertEqual(target, "_blank")
        self.assertEqual(
            self.page.run(
                "return document.querySelectorAll('#app img, #app script, #app iframe, #app [onerror], #app [onload]').length;"
            ),
            0,
        )

    def test_policy_forbids_markup_and_foreign_scripts(self):
        with urllib.request.urlopen(self.server.base + "/") as response:
            policy = response.headers["Content-Security-Policy"]
            text = response.read().decode()
        self.assertNotIn("unsafe", policy)
        self.assertIn("require-trusted-types-for 'script'", policy)
        self.assertEqual(re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', text), [])
        self.page.load()
        blocked = self.page.run(
            "try { document.body.insertAdjacentHTML('beforeend', '<b>x</b>'); return false; } catch { return true; }"
        )
        self.assertTrue(blocked)
        self.expected_problems = ("TrustedHTML",)


class Markdown(PageTest):
    CASES = [
        (
            "a **b** *c* `d` ~~e~~",
            "<p>a <strong>b</strong> <em>c</em> <code>d</code> <del>e</del></p>",
        ),
        ("snake_case_name and 2 * 3 * 4", "<p>snake_case_name and 2 * 3 * 4</p>"),
        ("one\ntwo\n\nthree", "<p>one<br>two</p><p>three</p>"),
        ("# A\n## B", '<h4 class="size1">A</h4><h5 class="size2">B</h5>'),
        ("- a\n- b\n  - c\n- d", "<ul><li>a</li><li>b<ul><li>c</li></ul></li><li>d</li></ul>"),
        ("3. a\n4. b", '<ol start="3"><li>a</li><li>b</li></ol>'),
        ("1. a\n\n2. b\n\ntext", "<ol><li>a</li><li>b</li></ol><p>text</p>"),
        ("> a\n> > b", "<blockquote><p>a</p><blockquote><p>b</p></blockquote></blockquote>"),
        ("---", "<hr>"),
        ("\\*a\\* <b>c</b> &amp;", "<p>*a* &lt;b&gt;c&lt;/b&gt; &amp;amp;</p>"),
        ("`` a ` b ``", "<p><code>a ` b</code></p>"),
        ("**never closed", "<p>**never closed</p>"),
        ("**a *b* c**", "<p><strong>a <em>b</em> c</strong></p>"),
        ("[x](javascript:alert(1))", "<p>[x](javascript:alert(1))</p>"),
    ]

    def render(self, text):
        return self.page.run(
            "const root = document.createElement('div'); new MarkdownView(root).update(arguments[0]); return root.innerHTML;",
            text,
        )

    def test_forms(self):
        self.page.load()
        for text, html in self.CASES:
            with self.subTest(text):
                self.assertEqual(self.render(text), html)
        link = self.render('see https://example.com/a_b_(c). And [x](http://example.com/y "t")')
        self.assertIn('href="https://example.com/a_b_(c"', link.replace("(c)", "(c"))
        self.assertIn('href="http://example.com/y"', link)
        table = self.render("| a | b |\n|---|--:|\n| 1 \\| 2 | 3 |")
        self.assertIn('<td>1 | 2</td><td class="end">3</td>', table)
        code = self.render("```py\n**x** <b>\n\n```\nafter")
        self.assertIn("<code>**x** &lt;b&gt;\n</code>", code)
        self.assertIn("<p>after</p>", code)

    def test_growing_text_ends_like_the_whole(self):
        self.page.load()
        text = (
            "\n\n".join(case for case, _ in self.CASES)
            + "\n\n```c\nint x;\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"
        )
        same = self.page.run(
            """
          const text = arguments[0];
          const grown = document.createElement('div');
          const view = new MarkdownView(grown);
          for (let i = 1; i <= text.length; ++i) view.update(text.slice(0, i));
          const whole = document.createElement('div');
          new MarkdownView(whole).update(text);
          return grown.innerHTML === whole.innerHTML;""",
            text,
        )
        self.assertTrue(same)

    def test_hostile_texts_take_no_time(self):
        self.page.load()
        for name, text in {
            "stars": "*" * 30000,
            "stars and letters": "*a " * 10000,
            "brackets": "[" * 30000,
            "links": "[a](" * 8000,
            "ticks": "` `` ``` " * 4000,
            "quotes": ">" * 20000,
            "lists": "\n".join(" " * i + "- a" for i in range(2000)),
            "pipes": "|" * 20000 + "\n" + "|-" * 10000,
            "spaces": "#" + " " * 40000 + "x",
            "mixed": "**_~~`[" * 5000,
            "numbers": "1. " * 10000,
            "underscores": "_a" * 15000,
            "addresses": "http://" * 5000,
        }.items():
            with self.subTest(name):
                took = self.page.run(
                    """const began = performance.now(); new MarkdownView(document.createElement('div')).update(arguments[0]);
                                        return performance.now() - began;""",
                    text,
                )
                self.assertLess(took, 1500)


class Access(PageTest):
    def test_keyboard_alone(self):
        self.start()
        self.page.keys(Keys.TAB)
        self.assertEqual(self.page.focused(), "Go to the question")
        self.page.keys(Keys.ENTER)
        self.assertEqual(self.page.run("return document.activeElement.id;"), "question")
        self.upload()
        self.page.keys("What is it about?", Keys.ENTER)
        self.wait_for_answer()
        self.assertEqual(self.page.run("return document.activeElement.id;"), "question")
        for _ in range(40):
            self.page.keys(Keys.SHIFT + Keys.TAB)
            ring = self.page.run(
                "const style = getComputedStyle(document.activeElement); return [style.outlineStyle, parseFloat(style.outlineWidth)];"
            )
            self.assertTrue(
                ring[0] != "none"
                and ring[1] >= 1
                or self.page.run(
                    "return document.activeElement.matches('#question, body, #scroll');"
                ),
                f"no focus to be seen: {self.page.focused()}",
            )
            if self.page.run(
                "return document.activeElement.closest('#document') && document.activeElement.textContent === 'What is kept';"
            ):
                break
        else:
            self.fail("the button is out of reach")
        self.page.keys(Keys.ENTER)
        self.page.wait(lambda: self.page.has(".kept-text span"), "the shaded text")
        self.assertEqual(self.page.run("return document.activeElement.id;"), "kept-title")
        self.page.keys(Keys.ESCAPE)
        self.page.wait(lambda: not self.page.has("#kept"), "it closes")
        self.assertEqual(self.page.focused(), "What is kept")
        self.page.keys(Keys.TAB, Keys.ENTER)
        self.page.wait(lambda: self.page.has("#budget"), "the memory")
        self.assertEqual(self.page.focused(), "Memory")

    def test_everything_has_a_name(self):
        self.start()
        self.assertEqual(self.page.nameless(), [])
        self.upload()
        self.ask("A table with markdown, please")
        self.page.click("Memory", "#document")
        self.page.click("What is kept", "#document")
        self.page.wait(lambda: self.page.has(".kept-text span"), "the shaded text")
        self.assertEqual(self.page.nameless(), [])
        # What is hidden from screen readers must not get the focus.
        self.assertEqual(
            self.page.run(
                """return [...document.querySelectorAll('[aria-hidden="true"] button, [aria-hidden="true"] a, button[aria-hidden="true"]')]
                                          .map((node) => node.outerHTML);"""
            ),
            [],
        )

    def test_narrow_panels_hold_the_keyboard(self):
        self.page.size(360, 740)
        self.start()
        self.page.click("Conversations", "#topbar")
        self.assertTrue(self.page.run("return document.getElementById('main').inert;"))
        self.page.wait(
            lambda: self.page.run(
                "return document.getElementById('sidebar').getBoundingClientRect().left === 0;"
            ),
            "the panel",
        )
        self.page.keys(Keys.ESCAPE)
        self.assertFalse(self.page.run("return document.getElementById('main').inert;"))
        self.assertEqual(self.page.focused(), "Conversations")

    def test_widths_schemes_and_contrast(self):
        self.start()
        self.upload()
        self.ask("A table with markdown, please")
        for scheme in ("light", "dark"):
            for width, height in SIZES:
                with self.subTest(f"{width} {scheme}"):
                    self.page.size(width, height, scheme)
                    self.page.load()
                    self.page.wait(
                        lambda: self.page.has_button("What is kept", "#document"), "the document"
                    )
                    self.look("the answer")
                    self.page.click("Memory", "#document")
                    self.look("the memory")
                    self.page.click("What is kept", "#document")
                    self.page.wait(lambda: self.page.has(".kept-text span"), "the shaded text")
                    self.look("what is kept")
                    if "snapkv" in self.props["restkv"]["methods"]:
                        self.page.run("document.getElementById('compare').click();")
                        self.page.wait(lambda: self.page.has(".modes label"), "the comparison", 60)
                        self.look("the comparison")
                    self.page.click("Close", "#kept")
                    if width < 1100:
                        self.page.click("Conversations", "#topbar")
                    self.look("the list")
                    self.page.click("New conversation", "#sidebar")
                    self.look("the start")

    def look(self, what):
        self.page.wait_for_rest()
        self.assertEqual(self.page.too_wide(), [], what)
        self.assertEqual(self.page.low_contrast(), [], what)

    def test_reduced_motion(self):
        self.page.size(800, 800, reduced=True)
        self.start()
        moving = self.page.run(
            """return [...document.querySelectorAll('*')].filter((node) => {
            const style = getComputedStyle(node); return style.animationName !== 'none' || !/^0s(, 0s)*$/.test(style.transitionDuration); }).length;"""
        )
        self.assertEqual(moving, 0)


class Storage(PageTest):
    def test_without_storage(self):
        self.page.before_page("""
          for (const name of ['localStorage', 'sessionStorage', 'indexedDB']) {
            Object.defineProperty(window, name, {get() { throw new DOMException('denied', 'SecurityError'); }});
          }""")
        self.page.load()
        self.assertIn("keeps nothing", self.page.text("#storage-note"))
        self.upload()
        self.ask("What costs most?")
        self.assertTrue(self.answer())

    def test_full_storage(self):
        self.start()
        self.ask("First question")
        self.page.run(
            """
          window.setItem = Storage.prototype.setItem;
          Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError'); };"""
        )
        self.ask("Second question")
        self.assertIn("is full", self.page.text("#storage-note"))
        self.page.run("Storage.prototype.setItem = window.setItem;")
        self.ask("Third question")
        self.assertEqual(
            self.page.run("return document.getElementById('storage-note').hidden;"), True
        )

    def test_damaged_entries_are_ignored(self):
        self.page.load()
        self.page.run(
            """localStorage.setItem('restkv.conversation.x', '{broken'); localStorage.setItem('restkv.conversation.y', '[1]');
                         localStorage.setItem('restkv.settings', 'null');"""
        )
        self.page.load()
        self.ask("What costs most?")
        self.assertTrue(self.answer())


class Failures(PageTest):
    needs_mock = True

    def test_full_queue_is_asked_again(self):
        self.expected_problems = ("503",)
        self.start()
        self.ask(f"busy {time.time()}", wait=False)
        self.page.wait(lambda: "The queue is full. Next try in" in self.note(), "a note")
        self.page.wait(lambda: "Energy costs" in self.answer(), "an answer after all", 20)
        self.page.wait(lambda: self.note() == "", "no note any more")

    def test_refused_question(self):
        self.expected_problems = ("400",)
        self.start()
        self.ask("refuse this")
        self.assertEqual(self.note(), "The prompt has 9,000 tokens, but the context has 8,192.")
        self.assertTrue(self.page.has_button("Try again", ".answer"))

    def test_broken_streams_keep_what_came(self):
        self.expected_problems = ("ERR_",)
        self.start()
        self.ask("cut the connection")
        self.assertIn("Energy costs rose", self.answer())
        self.assertEqual(
            self.note(), "The answer ends here. The connection ended before the answer did."
        )
        self.ask("error in the middle")
        self.assertIn("Energy costs rose", self.answer())
        self.assertEqual(self.note(), "The answer ends here. The memory for sequences is used up.")
        self.page.load()
        self.assertIn("The memory for sequences is used up.", self.note())

    def test_reload_in_the_middle(self):
        self.start()
        self.ask("slow", wait=False)
        self.page.wait(lambda: len(self.answer()) > 300, "a part of the answer")
        self.page.driver.refresh()
        self.page.wait(lambda: self.page.has("body.begun"), "the page begins")
        self.assertGreater(len(self.answer()), 50)
        self.assertIn("ended", self.note())

    def test_second_tab_does_not_disturb_an_answer(self):
        self.start()
        self.ask("slow", wait=False)
        self.page.wait(lambda: len(self.answer()) > 200, "a part of the answer")
        first = self.page.driver.current_window_handle
        self.page.driver.switch_to.new_window("tab")
        self.page.load()
        time.sleep(2)
        self.page.driver.close()
        self.page.driver.switch_to.window(first)
        length = len(self.answer())
        self.page.wait(lambda: len(self.answer()) > length, "it goes on")
        self.page.click("Stop", "#composer")
        self.page.wait(lambda: self.note() == "Stopped.", "the answer stops")
        shown = self.answer()
        self.page.load()
        self.assertEqual(self.answer(), shown)

    def test_stop_reaches_the_server(self):
        self.start()
        self.ask("slow", wait=False)
        self.page.wait(lambda: len(self.answer()) > 20, "a part of the answer")
        self.page.click("Stop", "#composer")
        self.page.wait(
            lambda: any(one[0] == "GONE" for one in self.server.ask("/mock/requests")),
            "the server notices",
        )

    def test_thinking(self):
        self.start()
        self.ask("think about it")
        self.assertEqual(self.page.text(".thinking summary"), "How it was thought out")
        self.assertIn("second section", self.page.text(".thinking-text"))

    def test_documents_that_cannot_be_read(self):
        self.expected_problems = ("400",)
        self.start()
        self.upload(name="refused.txt", wait=False)
        self.page.wait(
            lambda: "at most 131,072 can be read" in self.page.text("#document .facts"),
            "the server's words",
        )
        self.assertTrue(self.page.has_button("Try again", "#document"))
        self.page.click("Remove the document", "#document")
        self.upload(name="unreadable.pdf", wait=False)
        self.page.wait(
            lambda: "it may be a scan" in self.page.text("#document .facts"), "the server's words"
        )
        self.assertTrue(self.page.has_button("Try again", "#document"))

    def test_lost_document_is_read_again(self):
        self.expected_problems = ("404",)
        self.start()
        self.upload()
        self.ask("First question")
        self.server.ask("/mock/forget", "DELETE")
        self.page.load()
        self.page.wait(
            lambda: "no longer has this document" in self.page.text("#document .facts"),
            "it says so",
        )
        self.ask("Second question")
        self.assertIn("no longer has", self.note())
        self.page.click("Read it again", "#document")
        self.page.wait(
            lambda: self.page.has_button("What is kept", "#document"), "the document is read", 120
        )
        self.page.click("Try again", "#messages > .answer:last-child")
        self.page.wait(
            lambda: self.page.has("#messages > .answer:last-child .answer-buttons")
            and "Energy costs" in self.answer(),
            "the answer",
        )
        # Without the file there is nothing to read again.
        self.page.run(
            "page.files.memory.clear(); return page.files.remove(location.hash.slice(1));"
        )
        # It can also get lost while the page is open.
        self.server.ask("/mock/forget", "DELETE")
        self.ask("Third question")
        self.assertIn("no longer has", self.note())
        self.page.wait(
            lambda: self.page.has_button("Choose the file again", "#document"), "a way on"
        )
        self.assertFalse(self.page.has_button("Read it again", "#document"))

    def test_server_that_is_gone(self):
        self.expected_problems = ("ERR_INTERNET_DISCONNECTED",)
        self.start()
        self.page.cdp("Network.enable")
        self.page.cdp(
            "Network.emulateNetworkConditions",
            offline=True,
            latency=0,
            downloadThroughput=-1,
            uploadThroughput=-1,
        )
        self.ask("What costs most?")
        self.assertIn("does not answer", self.note())
        self.assertIn("does not answer", self.page.text("#banner"))
        self.page.cdp(
            "Network.emulateNetworkConditions",
            offline=False,
            latency=0,
            downloadThroughput=-1,
            uploadThroughput=-1,
        )
        self.page.wait(lambda: not self.page.has("#banner"), "it is back")
        self.page.click("Try again", "#messages > .answer:last-child")
        self.page.wait(lambda: "Energy costs" in self.answer(), "the answer")

    def test_key(self):
        server = Server.mock("--key", "secret")
        self.addCleanup(server.stop)
        self.expected_problems = ("401",)
        self.page.fresh(server.base)
        self.page.load(begun=False)
        self.page.wait(lambda: self.page.has("#api-key"), "a question for the key")
        self.assertEqual(self.page.nameless(), [])
        self.page.keys("wrong", Keys.ENTER)
        self.page.wait(
            lambda: "does not accept this key" in self.page.text("#key-dialog"),
            "the key is refused",
        )
        self.page.keys(Keys.ESCAPE)
        self.page.wait(
            lambda: "needs an API key" in self.page.text("#banner"), "it says why nothing happens"
        )
        self.page.click("Enter the key", "#banner")
        self.page.wait(lambda: self.page.has("#api-key"), "the question again")
        self.page.keys("secret", Keys.ENTER)
        self.page.wait(lambda: self.page.has("body.begun"), "the page begins")
        self.upload()
        self.ask("What costs most?")
        self.page.driver.refresh()
        self.page.wait(lambda: self.page.has("body.begun"), "the key is known")
        self.assertIsNone(
            self.page.run(
                "return Object.values(localStorage).find((text) => text.includes('secret')) ?? null;"
            )
        )

    def test_operators_share_is_shown(self):
        server = Server.mock("--document-budget", "25%")
        self.addCleanup(server.stop)
        self.page.fresh(server.base)
        self.page.load()
        slider = self.page.one("#budget")
        self.assertIn("25% of the text", slider.get_attribute("aria-valuetext"))
        self.assertIn("25% of a report of 20 pages", self.page.text("#budget-estimate"))
        self.assertIn("A longer text needs more memory", self.page.text("#budget-estimate"))
        self.upload()
        asked = [body for _, path, body in server.ask("/mock/requests") if path == "/v1/documents"]
        self.assertEqual(asked[-1]["restkv"], {}, "the server knows its own")
        state = self.document()
        self.assertEqual(state["kept"], state["tokens"] // 4)
        self.page.click("Memory", "#document")
        slider = self.page.one("#budget")
        self.assertIn("25% of the text", slider.get_attribute("aria-valuetext"))
        self.assertFalse(self.page.button("Read again with this", "#document").is_enabled())
        self.assertNotIn("about", self.page.text("#document .cost dd:nth-of-type(1) .value"))
        self.page.run("arguments[0].focus();", slider)
        self.page.keys(Keys.ARROW_LEFT)  # its neighbours are less and more
        less = int(re.match(r"([\d,]+) tokens", slider.get_attribute("aria-valuetext"))[1].replace(",", ""))
        self.assertLess(less, state["kept"])
        self.page.click("Read again with this", "#document")
        self.page.wait(
            lambda: (self.document() or {}).get("budget") == less
            and self.document()["status"] == "ready",
            "it is read again",
        )

    def test_server_without_pdftotext(self):
        server = Server.mock("--no-pdf")
        self.addCleanup(server.stop)
        self.page.fresh(server.base)
        self.start()
        self.assertIn("cannot read PDF: pdftotext is not installed", self.page.text("#start"))
        self.page.one("#file").send_keys(self.file("%PDF-1.4 ...", "report.pdf"))
        self.page.wait(
            lambda: "pdftotext is not installed" in self.page.text("#toast"), "a refusal"
        )
        self.assertTrue(self.page.has("#start .drop-zone"))

    def test_model_that_is_being_loaded(self):
        server = Server.mock("--loading-seconds", "3")
        self.addCleanup(server.stop)
        self.expected_problems = ("503",)
        self.page.fresh(server.base)
        self.page.load(begun=False)
        self.page.wait(lambda: "still being loaded" in self.page.text("#banner"), "it says so")
        self.page.wait(
            lambda: self.page.has("body.begun") and not self.page.has("#banner"), "the page begins"
        )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base")
    parser.add_argument("--serve")
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--chromedriver", default="/usr/bin/chromedriver")
    arguments, rest = parser.parse_known_args()
    if arguments.base or arguments.serve:
        server = Server(
            shlex.split(arguments.serve) if arguments.serve else None,
            arguments.base and arguments.base.rstrip("/"),
        )
    else:
        server = Server.mock()
    page = None
    try:
        PageTest.server = server
        PageTest.props = server.wait_until_ready()
        PageTest.is_mock = PageTest.props["restkv"].get("version") == "mock"
        PageTest.page = page = Browser(arguments.chromium, arguments.chromedriver)
        with tempfile.TemporaryDirectory() as folder:
            PageTest.folder = argparse.Namespace(name=folder)
            program = unittest.main(argv=[sys.argv[0], *rest], exit=False, verbosity=2)
    finally:
        if page:
            page.quit()
        server.stop()
    return 0 if program.result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
