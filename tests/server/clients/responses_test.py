"""OpenAI's responses with OpenAI's client, unchanged."""

import json
import unittest

import openai
import pydantic
from openai.types.responses import Response, ResponseStreamEvent

from server import ServerTest
from strict import events, validate

WEATHER = {"type": "function", "name": "get_weather", "description": "The weather of a city.", "strict": True,
           "parameters": {"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}},
                          "required": ["city"], "additionalProperties": False}}


class Responses(ServerTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.client = openai.OpenAI(base_url=cls.server.api, api_key="none", max_retries=0, timeout=60)

    @classmethod
    def tearDownClass(cls):
        cls.client.close()
        super().tearDownClass()

    def setUp(self):
        self.needs_route("POST", "/v1/responses")

    def ask(self, text="Say hello.", **options):
        options.setdefault("max_output_tokens", 16)
        return self.client.responses.create(model="model", input=text, **options)

    def test_answer(self):
        answer = self.ask(temperature=0)
        self.assertTrue(answer.output_text)
        self.assertEqual(answer.status, "incomplete")
        self.assertEqual(answer.incomplete_details.reason, "max_output_tokens")
        self.assertEqual(answer.usage.output_tokens, 16)
        self.assertEqual(answer.usage.total_tokens, answer.usage.input_tokens + 16)
        turns = [{"role": "user", "content": "Say hello."},
                 {"role": "assistant", "content": answer.output_text},
                 {"role": "user", "content": [{"type": "input_text", "text": "Again."}]}]
        again = self.ask(turns, instructions="Be brief.")
        self.assertTrue(again.output_text)

    def test_second_turn_is_cached(self):
        first = self.ask("Remember 4711. " * 10, temperature=0)
        second = self.ask([{"role": "user", "content": "Remember 4711. " * 10}, *first.output,
                           {"role": "user", "content": "Which?"}], temperature=0)
        self.assertGreater(second.usage.input_tokens_details.cached_tokens, 20)

    def test_published_types(self):
        body = {"model": "model", "input": "Say hello.", "max_output_tokens": 16}
        validate(Response, self.server.json("POST", "/v1/responses", body))

    def test_published_types_of_streams(self):
        body = {"model": "model", "input": "Say hello.", "max_output_tokens": 16, "stream": True}
        _, _, text = self.server.request("POST", "/v1/responses", body)
        kinds, numbers = [], []
        for name, data in events(text):
            if data == "[DONE]":
                continue
            event = json.loads(data)
            self.assertEqual(event["type"], name)
            validate(ResponseStreamEvent, event)
            kinds.append(name)
            numbers.append(event["sequence_number"])
        self.assertEqual(kinds[:4], ["response.created", "response.in_progress", "response.output_item.added",
                                     "response.content_part.added"])
        self.assertEqual(kinds[-4:], ["response.output_text.done", "response.content_part.done",
                                      "response.output_item.done", "response.incomplete"])
        self.assertEqual(numbers, list(range(len(numbers))))

    def test_stream(self):
        whole = self.ask(temperature=0)
        with self.client.responses.stream(model="model", input="Say hello.", temperature=0,
                                          max_output_tokens=16) as stream:
            text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        self.assertEqual(text, whole.output_text)

    def test_structured(self):
        class Place(pydantic.BaseModel):
            city: str = pydantic.Field(max_length=20)
            year: int
        answer = self.client.responses.parse(model="model", input="A place", text_format=Place,
                                             max_output_tokens=100)
        self.assertIsInstance(answer.output_parsed, Place)

    def test_tools(self):
        answer = self.ask("Weather in Oslo?", tools=[WEATHER], tool_choice="required", max_output_tokens=100)
        [call] = [item for item in answer.output if item.type == "function_call"]
        self.assertEqual(call.name, "get_weather")
        self.assertEqual(set(json.loads(call.arguments)), {"city"})

    def test_refusals(self):
        for options in ({"temperature": 3}, {"max_output_tokens": 0}, {"previous_response_id": "resp_1"},
                        {"background": True}, {"tools": [{"type": "web_search"}]}):
            with self.subTest(options), self.assertRaises(openai.APIStatusError) as refused:
                self.ask(**options)
            self.assertIn(refused.exception.status_code, (400, 404))


if __name__ == "__main__":
    unittest.main()
