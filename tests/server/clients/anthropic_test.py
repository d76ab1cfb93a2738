"""The client of Anthropic (package anthropic), unchanged."""

import json
import unittest

import anthropic
from anthropic.types import Message, RawMessageStreamEvent

from server import ServerTest
from strict import events, validate

HELLO = [{"role": "user", "content": "Say hello."}]
WEATHER = {"name": "get_weather", "description": "The weather of a city.",
           "input_schema": {"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}},
                            "required": ["city"], "additionalProperties": False}}


class Messages(ServerTest):
    arguments = ("--api-key", "the-key")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.client = anthropic.Anthropic(base_url=cls.server.url, api_key="the-key", max_retries=0, timeout=60)

    @classmethod
    def tearDownClass(cls):
        cls.client.close()
        super().tearDownClass()

    def setUp(self):
        status, _, text = self.server.request("POST", "/v1/messages", b"{}", {"x-api-key": "the-key"})
        if status in (404, 405) and "there is no" in text:
            self.skipTest("this server has no POST /v1/messages")

    def ask(self, messages=None, temperature=None, **options):
        options.setdefault("max_tokens", 8)
        if temperature is not None:  # which the client no longer has a parameter for
            options["extra_body"] = {"temperature": temperature}
        return self.client.messages.create(model="model", messages=messages or HELLO, **options)

    def raw(self, **more):
        return self.server.request("POST", "/v1/messages",
                                   {"model": "model", "messages": HELLO, "max_tokens": 8, **more},
                                   {"x-api-key": "the-key"})

    def test_answer(self):
        answer = self.ask(system="Be brief.", temperature=0)
        self.assertEqual((answer.type, answer.role, answer.stop_reason), ("message", "assistant", "max_tokens"))
        self.assertEqual(answer.content[0].type, "text")
        self.assertEqual(answer.usage.output_tokens, 8)
        turns = HELLO + [{"role": "assistant", "content": answer.content},
                         {"role": "user", "content": [{"type": "text", "text": "Again."}]}]
        self.assertTrue(self.ask(turns).content[0].text)

    def test_published_types(self):
        status, _, text = self.raw()
        self.assertEqual(status, 200, text)
        answer = json.loads(text)
        answer.pop("restkv", None)
        validate(Message, answer)
        _, _, text = self.raw(stream=True)
        kinds = []
        for name, data in events(text):
            event = json.loads(data)
            self.assertEqual(event["type"], name)
            kinds.append(name)
            event.pop("restkv", None)
            if name != "ping":
                validate(RawMessageStreamEvent, event)
        kinds = [kind for kind in kinds if kind != "ping"]
        self.assertEqual(kinds[:2], ["message_start", "content_block_start"])
        self.assertEqual(kinds[-3:], ["content_block_stop", "message_delta", "message_stop"])

    def test_stream(self):
        whole = self.ask(temperature=0)
        with self.client.messages.stream(model="model", messages=HELLO, max_tokens=8,
                                         extra_body={"temperature": 0}) as stream:
            text = "".join(stream.text_stream)
            final = stream.get_final_message()
        self.assertEqual(text, whole.content[0].text)
        self.assertEqual(final.usage.output_tokens, 8)
        self.assertEqual(final.stop_reason, "max_tokens")

    def test_stop_sequences(self):
        whole = self.ask(temperature=0, max_tokens=16).content[0].text
        word = whole[len(whole) // 2:][:3]
        cut = self.ask(temperature=0, max_tokens=16, stop_sequences=[word])
        self.assertEqual("".join(block.text for block in cut.content), whole[:whole.index(word)])

    def test_which_stop_sequence(self):
        whole = self.ask(temperature=0, max_tokens=16).content[0].text
        word = whole[len(whole) // 2:][:3]
        cut = self.ask(temperature=0, max_tokens=16, stop_sequences=["\u2603", word])
        self.assertEqual((cut.stop_reason, cut.stop_sequence), ("stop_sequence", word))

    def test_count_tokens(self):
        count = self.client.messages.count_tokens(model="model", messages=HELLO).input_tokens
        self.assertEqual(count, self.ask().usage.input_tokens)

    def test_second_turn_is_cached(self):
        first = [{"role": "user", "content": "Remember 4711. " * 10}]
        answer = self.ask(first, temperature=0)
        second = self.ask(first + [{"role": "assistant", "content": answer.content},
                                   {"role": "user", "content": "Which?"}])
        self.assertGreater(second.usage.cache_read_input_tokens, 20)

    def test_tools(self):
        answer = self.ask(tools=[WEATHER], tool_choice={"type": "any"}, max_tokens=100)
        [call] = [block for block in answer.content if block.type == "tool_use"]
        self.assertEqual((call.name, set(call.input)), ("get_weather", {"city"}))
        self.assertEqual(answer.stop_reason, "tool_use")

    def test_errors(self):
        with self.assertRaises(anthropic.AuthenticationError):
            self.client.with_options(api_key="wrong").messages.create(model="model", messages=HELLO, max_tokens=1)
        with self.assertRaises(anthropic.NotFoundError):
            self.client.messages.create(model="other", messages=HELLO, max_tokens=1)
        for options in ({"extra_body": {"temperature": 3}}, {"max_tokens": 0}, {"messages": []}):
            with self.subTest(options), self.assertRaises(anthropic.BadRequestError) as refused:
                self.client.messages.create(model="model", **{"messages": HELLO, "max_tokens": 1, **options})
            self.assertEqual(refused.exception.body["type"], "error")
            self.assertEqual(refused.exception.body["error"]["type"], "invalid_request_error")


if __name__ == "__main__":
    unittest.main()
