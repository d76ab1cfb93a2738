"""The client of OpenAI (package openai), unchanged."""

import asyncio
import json
import unittest

import openai
import pydantic
from openai.types import Completion, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from server import Server, ServerTest, fault, first_layers
from strict import events, validate

HELLO = [{"role": "user", "content": "Say hello."}]
PLACE = {"type": "object",
         "properties": {"city": {"type": "string", "maxLength": 20}, "year": {"type": "integer"}},
         "required": ["city", "year"], "additionalProperties": False}
WEATHER = {"type": "function",
           "function": {"name": "get_weather", "description": "The weather of a city.",
                        "parameters": {"type": "object",
                                       "properties": {"city": {"type": "string", "maxLength": 20}},
                                       "required": ["city"], "additionalProperties": False}}}
FORCED = {"type": "function", "function": {"name": "get_weather"}}


class OpenAiTest(ServerTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.client = openai.OpenAI(base_url=cls.server.api, api_key="none", max_retries=0, timeout=60)

    @classmethod
    def tearDownClass(cls):
        cls.client.close()
        super().tearDownClass()

    def chat(self, messages=None, **options):
        options.setdefault("max_tokens", 8)
        return self.client.chat.completions.create(model="model", messages=messages or HELLO, **options)


class Models(OpenAiTest):
    def test_list_and_retrieve(self):
        listed = self.client.models.list()
        self.assertEqual([m.id for m in listed], ["model"])
        self.assertEqual(listed.object, "list")
        for path in ("/v1/models", "/models"):
            for entry in self.server.json("GET", path)["data"]:
                validate(Model, entry)
        self.assertEqual(self.client.models.retrieve("model").owned_by, "restkv")
        with self.assertRaises(openai.NotFoundError):
            self.client.models.retrieve("other")


class Chats(OpenAiTest):
    def test_published_types(self):
        body = {"model": "model", "messages": HELLO, "max_tokens": 4}
        plain = self.server.json("POST", "/v1/chat/completions", body)
        validate(ChatCompletion, plain)
        self.assertIsNone(plain["choices"][0]["logprobs"] if "logprobs" in plain["choices"][0] else None)
        with_all = self.server.json("POST", "/v1/chat/completions",
                                    {**body, "n": 2, "logprobs": True, "top_logprobs": 2})
        validate(ChatCompletion, with_all)
        called = self.server.json("POST", "/v1/chat/completions",
                                  {**body, "tools": [WEATHER], "tool_choice": FORCED, "max_tokens": 60})
        validate(ChatCompletion, called)

    def test_published_types_of_streams(self):
        for more in ({}, {"n": 2, "logprobs": True, "top_logprobs": 2},
                     {"tools": [WEATHER], "tool_choice": FORCED, "max_tokens": 60}):
            body = {"model": "model", "messages": HELLO, "max_tokens": 4, "stream": True,
                    "stream_options": {"include_usage": True}, **more}
            status, headers, text = self.server.request("POST", "/v1/chat/completions", body)
            self.assertEqual(status, 200)
            self.assertTrue(headers["Content-Type"].startswith("text/event-stream"))
            found = list(events(text))
            self.assertEqual(found[-1], (None, "[DONE]"))
            chunks = [validate(ChatCompletionChunk, json.loads(data)) for _, data in found[:-1]]
            self.assertEqual(len({chunk.id for chunk in chunks}), 1)
            self.assertEqual(len({chunk.created for chunk in chunks}), 1)
            self.assertEqual(chunks[0].choices[0].delta.role, "assistant")
            self.assertEqual([c for c in chunks if c.usage is not None], [chunks[-1]])
            self.assertEqual(chunks[-1].choices, [])
            ends = [c.choices[0].finish_reason for c in chunks[:-1] if c.choices[0].finish_reason]
            self.assertEqual(len(ends), body.get("n", 1))

    def test_stream_equals_whole(self):
        whole = self.chat(temperature=0, max_tokens=20)
        stream = self.chat(temperature=0, max_tokens=20, stream=True,
                           stream_options={"include_usage": True})
        text, usage, end = "", None, None
        for chunk in stream:
            if chunk.choices:
                text += chunk.choices[0].delta.content or ""
                end = chunk.choices[0].finish_reason or end
            usage = chunk.usage or usage
        self.assertEqual(text, whole.choices[0].message.content)
        self.assertEqual(end, whole.choices[0].finish_reason)
        self.assertEqual(usage.completion_tokens, whole.usage.completion_tokens)
        self.assertEqual(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens)

    def test_stream_helper_and_leaving_early(self):
        with self.client.chat.completions.stream(model="model", messages=HELLO, max_tokens=8) as stream:
            kinds = {event.type for event in stream}
            with self.assertRaises(openai.LengthFinishReasonError) as cut:  # the client's own choice
                stream.get_final_completion()
        self.assertLessEqual({"chunk", "content.delta", "content.done"}, kinds)
        self.assertTrue(cut.exception.completion.choices[0].message.content)
        with self.chat(stream=True, max_tokens=1000) as stream:
            next(iter(stream))
        self.server.wait_until_idle(10)  # nobody reads the rest

    def test_seed_and_temperature(self):
        answers = [self.chat(seed=7, temperature=1.5, max_tokens=12).choices[0].message.content
                   for _ in range(2)]
        self.assertEqual(*answers)
        others = {self.chat(seed=s, temperature=1.5, max_tokens=12).choices[0].message.content
                  for s in (8, 9, 10)}
        self.assertGreater(len(others | set(answers)), 1)
        free = {self.chat(temperature=1.5, max_tokens=12).choices[0].message.content for _ in range(4)}
        self.assertGreater(len(free), 1)

    def test_n(self):
        answer = self.chat(n=3, temperature=1.5, max_tokens=10, seed=1)
        self.assertEqual([c.index for c in answer.choices], [0, 1, 2])
        self.assertGreater(len({c.message.content for c in answer.choices}), 1)
        self.assertGreater(answer.usage.completion_tokens, 10)
        again = self.chat(n=3, temperature=1.5, max_tokens=10, seed=1)
        self.assertEqual([c.message.content for c in answer.choices],
                         [c.message.content for c in again.choices])

    def test_stop(self):
        counting = [{"role": "user", "content": "Count from 1 to 9, separated by commas."}]
        whole = self.chat(counting, temperature=0, max_tokens=24).choices[0].message.content
        word = whole[len(whole) // 2:][:2]
        for stop in (word, [word, "\u2603"]):
            cut = self.chat(counting, temperature=0, max_tokens=24, stop=stop).choices[0]
            self.assertEqual(cut.message.content, whole[:whole.index(word)])
            self.assertEqual(cut.finish_reason, "stop")
        self.assertEqual(self.chat(max_tokens=1).choices[0].finish_reason, "length")
        self.assertEqual(self.chat(max_completion_tokens=2, max_tokens=openai.NOT_GIVEN)
                         .usage.completion_tokens, 2)

    def test_logprobs(self):
        choice = self.chat(logprobs=True, top_logprobs=3, temperature=0, max_tokens=6).choices[0]
        content = choice.logprobs.content
        self.assertEqual("".join(t.token for t in content), choice.message.content)
        self.assertEqual(len(content), 6)
        for token in content:
            self.assertEqual(len(token.top_logprobs), 3)
            self.assertEqual(token.top_logprobs[0].token, token.token)
            self.assertEqual(token.top_logprobs[0].logprob, token.logprob)
            self.assertLessEqual(token.logprob, 0)
            self.assertEqual(bytes(token.bytes).decode(), token.token)
        streamed = []
        for chunk in self.chat(logprobs=True, top_logprobs=3, temperature=0, max_tokens=6, stream=True):
            if chunk.choices and chunk.choices[0].logprobs:
                streamed += chunk.choices[0].logprobs.content
        self.assertEqual(streamed, content)
        none = self.chat(logprobs=True, max_tokens=2).choices[0].logprobs.content
        self.assertEqual([t.top_logprobs for t in none], [[], []])

    def test_answers_have_request_ids(self):
        self.assertRegex(self.chat(max_tokens=1)._request_id, "^req-[0-9a-f]{32}$")

    def test_a_common_beginning_is_read_once(self):
        beginning = {"role": "system", "content": "You answer questions about ships. " * 30}
        first = self.chat([beginning, {"role": "user", "content": "How many masts?"}], max_tokens=4)
        self.assertEqual(first.usage.prompt_tokens_details.cached_tokens, 0)
        other = self.chat([beginning, {"role": "user", "content": "Which flag?"}], max_tokens=4)
        self.assertGreater(other.usage.prompt_tokens_details.cached_tokens, 150)

    def test_second_turn_is_cached(self):
        first = [{"role": "user", "content": "Remember the number 4711. " * 20}]
        answer = self.chat(first, temperature=0, max_tokens=6)
        self.assertEqual(answer.usage.prompt_tokens_details.cached_tokens, 0)
        second = first + [{"role": "assistant", "content": answer.choices[0].message.content},
                          {"role": "user", "content": "Which number?"}]
        more = self.chat(second, temperature=0, max_tokens=6)
        self.assertGreater(more.usage.prompt_tokens, answer.usage.prompt_tokens)
        self.assertGreaterEqual(more.usage.prompt_tokens_details.cached_tokens,
                                answer.usage.prompt_tokens - 1)
        # Anybody who asks the same again gets the same.
        again = self.chat(second, temperature=0, max_tokens=6)
        self.assertEqual(again.choices[0].message.content, more.choices[0].message.content)

    def test_parts_and_roles(self):
        answer = self.chat([{"role": "developer", "content": "Be brief."},
                            {"role": "user", "name": "ann",
                             "content": [{"type": "text", "text": "Say "}, {"type": "text", "text": "hi."}]}])
        self.assertTrue(answer.choices[0].message.content)
        with self.assertRaises(openai.BadRequestError) as refused:
            self.chat([{"role": "user", "content": [
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}])
        self.assertIn("messages", refused.exception.param)

    def test_bias_and_penalties(self):
        token = self.server.json("POST", "/tokenize", {"content": " yes"})["tokens"][0]
        answer = self.chat(logit_bias={str(token): 100}, temperature=0, max_tokens=3)
        self.assertEqual(answer.choices[0].message.content, " yes yes yes")
        self.chat(presence_penalty=1.5, frequency_penalty=-0.5, top_p=0.5, user="ann")

    def test_other_fields_are_taken(self):
        self.chat(metadata={"a": "b"}, store=False, service_tier="auto", safety_identifier="x",
                  parallel_tool_calls=False, reasoning_effort="low", modalities=["text"],
                  extra_body={"top_k": 5, "min_p": 0.1, "whatever": 1})

    def test_options_of_the_cache(self):
        answer = self.chat([{"role": "user", "content": "word " * 300}],
                           extra_body={"restkv": {"method": "snapkv", "budget": 64}})
        self.assertLess(answer.restkv["kept"], 100)
        self.assertGreater(answer.restkv["dropped"], 200)
        self.assertLess(answer.restkv["kv_bytes"], answer.restkv["full_kv_bytes"] / 2)
        with self.assertRaises(openai.BadRequestError) as refused:
            self.chat(extra_body={"restkv": {"method": "magic"}})
        self.assertIn("magic", refused.exception.message)


class Structured(OpenAiTest):
    def test_json_object(self):
        text = self.chat(response_format={"type": "json_object"}, max_tokens=200,
                         temperature=0).choices[0].message.content
        self.assertIsInstance(json.loads(text), dict)

    def test_json_schema(self):
        wanted = {"type": "json_schema", "json_schema": {"name": "place", "strict": True, "schema": PLACE}}
        answer = self.chat(response_format=wanted, max_tokens=100).choices[0]
        self.assertEqual(set(json.loads(answer.message.content)), {"city", "year"})
        self.assertEqual(answer.finish_reason, "stop")
        text = "".join(chunk.choices[0].delta.content or ""
                       for chunk in self.chat(response_format=wanted, max_tokens=100, stream=True)
                       if chunk.choices)
        self.assertIsInstance(json.loads(text)["year"], int)

    def test_parsed(self):
        class Place(pydantic.BaseModel):
            city: str = pydantic.Field(max_length=20)
            year: int

        answer = self.client.chat.completions.parse(model="model", messages=HELLO, max_tokens=100,
                                                    response_format=Place)
        self.assertIsInstance(answer.choices[0].message.parsed, Place)

    def test_schemas_that_cannot_be(self):
        for schema in ({"type": "nonsense"}, {"$ref": "https://example.org/x"}, {"$ref": "#/$defs/none"}):
            with self.subTest(schema), self.assertRaises(openai.BadRequestError):
                self.chat(response_format={"type": "json_schema",
                                           "json_schema": {"name": "x", "schema": schema}})


class Tools(OpenAiTest):
    def check(self, choice):
        self.assertEqual(choice.finish_reason, "tool_calls")
        [call] = choice.message.tool_calls
        self.assertEqual(call.type, "function")
        self.assertEqual(call.function.name, "get_weather")
        self.assertEqual(set(json.loads(call.function.arguments)), {"city"})
        self.assertTrue(call.id)
        return call

    def test_forced_call_and_its_result(self):
        messages = [{"role": "user", "content": "How is the weather in Oslo?"}]
        for choice in ("required", FORCED):
            answer = self.chat(messages, tools=[WEATHER], tool_choice=choice, max_tokens=100).choices[0]
            call = self.check(answer)
        messages += [answer.message.model_dump(exclude_none=True),
                     {"role": "tool", "tool_call_id": call.id, "content": "Rain, 4 degrees."}]
        final = self.chat(messages, tools=[WEATHER], tool_choice="none", max_tokens=12).choices[0]
        self.assertIsNone(final.message.tool_calls)
        self.assertTrue(final.message.content)

    def test_streamed_call(self):
        arguments, name, call_id, end = "", None, None, None
        for chunk in self.chat(tools=[WEATHER], tool_choice="required", stream=True, max_tokens=100):
            for choice in chunk.choices:
                for call in choice.delta.tool_calls or []:
                    self.assertEqual(call.index, 0)
                    name = call.function.name or name
                    call_id = call.id or call_id
                    arguments += call.function.arguments or ""
                end = choice.finish_reason or end
        self.assertEqual((name, end), ("get_weather", "tool_calls"))
        self.assertTrue(call_id)
        self.assertEqual(set(json.loads(arguments)), {"city"})

    def test_stream_helper(self):
        with self.client.chat.completions.stream(
                model="model", messages=HELLO, tools=[WEATHER], tool_choice="required",
                max_tokens=100) as stream:
            kinds = {event.type for event in stream}
            self.check(stream.get_final_completion().choices[0])
        self.assertIn("tool_calls.function.arguments.delta", kinds)
        self.assertIn("tool_calls.function.arguments.done", kinds)

    def test_auto(self):
        answer = self.chat(tools=[WEATHER], tool_choice="auto", max_tokens=20).choices[0]
        self.assertTrue(answer.message.content or answer.message.tool_calls)
        with self.assertRaises(openai.BadRequestError):
            self.chat(tools=[WEATHER], tool_choice={"type": "function", "function": {"name": "other"}})


class Completions(OpenAiTest):
    def complete(self, prompt="Once upon a time", **options):
        options.setdefault("max_tokens", 4)
        return self.client.completions.create(model="model", prompt=prompt, **options)

    def test_published_types(self):
        body = {"model": "model", "prompt": ["Once upon", "The sky"], "max_tokens": 3, "n": 2, "logprobs": 2}
        validate(Completion, self.server.json("POST", "/v1/completions", body))
        _, _, text = self.server.request("POST", "/v1/completions",
                                         {**body, "stream": True, "stream_options": {"include_usage": True}})
        found = list(events(text))
        self.assertEqual(found[-1][1], "[DONE]")
        chunks = [json.loads(data) for _, data in found[:-1]]
        # A chunk that does not end an answer has the finish_reason null, which the type forgets.
        for chunk in chunks:
            for choice in chunk["choices"]:
                choice["finish_reason"] = choice["finish_reason"] or "stop"
            validate(Completion, chunk)
        self.assertEqual(chunks[-1]["usage"]["completion_tokens"], 12)
        self.assertEqual({c["index"] for chunk in chunks for c in chunk["choices"]}, {0, 1, 2, 3})

    def test_prompts_of_all_kinds(self):
        ids = self.server.json("POST", "/tokenize", {"content": "Once upon a time"})["tokens"]
        texts = [self.complete(prompt, temperature=0).choices[0].text
                 for prompt in ("Once upon a time", ["Once upon a time"], ids, [ids])]
        self.assertEqual(len(set(texts)), 1)
        two = self.complete(["Once upon a time", "The capital of France is"], temperature=0, n=1)
        self.assertEqual([c.index for c in two.choices], [0, 1])
        self.assertEqual(two.choices[0].text, texts[0])
        self.assertEqual(two.usage.completion_tokens, 8)

    def test_default_length_and_stream(self):
        whole = self.complete(temperature=0, max_tokens=openai.NOT_GIVEN)
        self.assertEqual(whole.usage.completion_tokens, 16)
        text = "".join(c.choices[0].text for c in
                       self.complete(temperature=0, max_tokens=16, stream=True) if c.choices)
        self.assertEqual(text, whole.choices[0].text)

    def test_logprobs(self):
        choice = self.complete(logprobs=2, temperature=0).choices[0]
        logprobs = choice.logprobs
        self.assertEqual("".join(logprobs.tokens), choice.text)
        self.assertEqual(logprobs.text_offset[0], 0)
        self.assertEqual(len(logprobs.token_logprobs), 4)
        for value, likely in zip(logprobs.token_logprobs, logprobs.top_logprobs):
            self.assertEqual(value, max(likely.values()))
            self.assertEqual(len(likely), 2)

    def test_echo(self):
        prompt = "Once upon a time"
        choice = self.complete(prompt, echo=True, logprobs=1, temperature=0, max_tokens=1).choices[0]
        self.assertTrue(choice.text.startswith(prompt))
        logprobs = choice.logprobs
        ids = self.server.json("POST", "/tokenize", {"content": prompt})["tokens"]
        self.assertEqual(len(logprobs.tokens), len(ids) + 1)
        self.assertIsNone(logprobs.token_logprobs[0])
        self.assertTrue(all(value <= 0 for value in logprobs.token_logprobs[1:]))
        for offset, token in zip(logprobs.text_offset, logprobs.tokens):
            self.assertEqual(choice.text[offset:offset + len(token)], token)
        # The prompt alone.
        nothing = self.complete(prompt, echo=True, logprobs=1, max_tokens=0).choices[0]
        self.assertEqual(nothing.text, prompt)
        self.assertEqual(nothing.logprobs.token_logprobs, logprobs.token_logprobs[:-1])
        # Another request with the same prompt finds it in the cache, and says the same.
        again = self.complete(prompt, echo=True, logprobs=1, temperature=0, max_tokens=1).choices[0]
        self.assertEqual(again.logprobs, logprobs)

    def test_echo_agrees_with_generating(self):
        """What was generated has, as a prompt, the probabilities that it was generated with."""
        prompt = "Once upon a time"
        ids = self.server.json("POST", "/tokenize", {"content": prompt})["tokens"]
        first = self.complete(ids, logprobs=1, temperature=0, max_tokens=6).choices[0]
        native = self.server.json("POST", "/completion", {
            "prompt": ids, "temperature": 0, "n_predict": 6, "return_tokens": True})
        self.assertEqual(native["content"], first.text)
        echoed = self.complete(ids + native["tokens"], logprobs=1, echo=True,
                               max_tokens=0).choices[0].logprobs
        for a, b in zip(first.logprobs.token_logprobs, echoed.token_logprobs[len(ids):]):
            self.assertAlmostEqual(a, b, delta=0.1)

    def test_refusals(self):
        for options in ({"suffix": "end"}, {"best_of": 3}, {"logprobs": 21}, {"max_tokens": 0}):
            with self.subTest(options), self.assertRaises(openai.BadRequestError) as refused:
                self.complete(**options)
            self.assertEqual(refused.exception.param, next(iter(options)))


class Errors(OpenAiTest):
    arguments = ("--api-key", "first-key", "--api-key", "second-key")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.client = cls.client.with_options(api_key="second-key")

    def test_classes(self):
        with self.assertRaises(openai.AuthenticationError):
            self.client.with_options(api_key="wrong").models.list()
        with self.assertRaises(openai.NotFoundError) as missing:
            self.client.chat.completions.create(model="gpt-9", messages=HELLO)
        self.assertEqual(missing.exception.code, "model_not_found")
        self.assertEqual(missing.exception.param, "model")
        with self.assertRaises(openai.NotFoundError):
            self.client.embeddings.create(model="model", input="x")
        with self.assertRaises(openai.BadRequestError) as long:
            self.chat([{"role": "user", "content": "word " * 20000}])
        self.assertEqual(long.exception.code, "context_length_exceeded")
        self.assertEqual(long.exception.type, "invalid_request_error")

    def test_wrong_values_are_named(self):
        for field, value in (("temperature", 3), ("temperature", "hot"), ("top_p", -1), ("n", 0), ("n", 9),
                             ("max_tokens", 0), ("stop", ["x"] * 17), ("stop", ""), ("seed", "x"),
                             ("presence_penalty", 3), ("top_logprobs", 2), ("logit_bias", {"x": 1}),
                             ("logit_bias", {"1": 101}), ("stream", "yes"), ("messages", []),
                             ("messages", "hi"), ("tools", [{}]), ("tool_choice", "perhaps"),
                             ("response_format", {"type": "xml"}), ("document", 5), ("user", 5)):
            body = {"model": "model", "messages": HELLO, "max_tokens": 4, field: value}
            with self.subTest(field=field, value=value), self.assertRaises(openai.BadRequestError) as refused:
                self.client.chat.completions.create(model="model", messages=HELLO, extra_body=body)
            self.assertTrue((refused.exception.param or "").startswith(field), refused.exception.param)
            self.assertEqual(refused.exception.type, "invalid_request_error")


class Busy(ServerTest):
    arguments = ("--queue", "1", "--parallel", "1")

    def test_full_queue(self):
        async def ask():
            async with openai.AsyncOpenAI(base_url=self.server.api, api_key="none", max_retries=0) as client:
                async def one():
                    return await client.chat.completions.create(
                        model="model", messages=HELLO, max_tokens=50, extra_body={"ignore_eos": True})
                return await asyncio.gather(*(one() for _ in range(8)), return_exceptions=True)
        answers = asyncio.run(ask())
        refused = [a for a in answers if isinstance(a, Exception)]
        self.assertTrue(refused)
        self.assertLess(len(refused), 8)
        for error in refused:
            self.assertIsInstance(error, openai.InternalServerError)
            self.assertEqual(error.status_code, 503)
            self.assertGreaterEqual(int(error.response.headers["Retry-After"]), 1)

    def test_retries_get_through(self):
        async def ask():
            async with openai.AsyncOpenAI(base_url=self.server.api, api_key="none", max_retries=10) as client:
                return await asyncio.gather(*(client.chat.completions.create(
                    model="model", messages=HELLO, max_tokens=10) for _ in range(4)))
        self.assertEqual(len(asyncio.run(ask())), 4)


class Together(OpenAiTest):
    def test_many_at_a_time(self):
        """Each gets, among many, what it gets alone."""
        questions = [[{"role": "user", "content": f"Write about the number {i}."}] for i in range(8)]
        alone = [self.chat(q, temperature=0, max_tokens=12).choices[0].message.content for q in questions]

        async def ask(client, question, stream):
            answer = await client.chat.completions.create(
                model="model", messages=question, max_tokens=12, temperature=0, stream=stream)
            if not stream:
                return answer.choices[0].message.content
            text = ""
            async for chunk in answer:
                text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
            return text

        async def all_of_them():
            async with openai.AsyncOpenAI(base_url=self.server.api, api_key="none", max_retries=0) as client:
                return await asyncio.gather(*(ask(client, q, i % 2 == 0) for i, q in enumerate(questions)))
        self.assertEqual(asyncio.run(all_of_them()), alone)


class Stopping(unittest.TestCase):
    def test_a_running_stream_ends_properly(self):
        server = Server("--no-log", "--grace", "1s", model=first_layers())
        client = openai.OpenAI(base_url=server.api, api_key="none", max_retries=0)
        stream = client.chat.completions.create(model="model", messages=HELLO, max_tokens=5000, stream=True,
                                                extra_body={"ignore_eos": True})
        next(iter(stream))
        server.process.terminate()
        try:
            last = None
            for chunk in stream:
                last = chunk
            self.assertEqual(last.choices[0].finish_reason, "length")
        except openai.APIError:
            pass  # an error event, which is as proper
        self.assertEqual(server.stop(None), 0)
        client.close()


if __name__ == "__main__":
    unittest.main()
