"""LangChain's client (package langchain-openai), unchanged."""

import asyncio
import os
import unittest
from typing import Annotated

os.environ["LANGSMITH_TRACING"] = "false"

import openai
import pydantic
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI

from server import ServerTest


class Place(pydantic.BaseModel):
    """A place."""
    city: str = pydantic.Field(max_length=20)
    year: int


@tool
def weather(city: Annotated[str, pydantic.Field(max_length=20)]) -> str:
    """The weather of a city."""
    return f"Rain in {city}."


class LangChain(ServerTest):
    def chat(self, **options):
        options.setdefault("max_completion_tokens", 8)
        return ChatOpenAI(base_url=self.server.api, api_key="none", model="model", max_retries=0,
                          stream_usage=True, **options)

    def test_invoke(self):
        answer = self.chat().invoke([SystemMessage("Be brief."), HumanMessage("Hello")])
        self.assertTrue(answer.content)
        self.assertEqual(answer.usage_metadata["output_tokens"], 8)
        self.assertEqual(answer.usage_metadata["input_token_details"]["cache_read"], 0)
        self.assertEqual(answer.response_metadata["finish_reason"], "length")
        self.assertEqual(answer.response_metadata["model_name"], "model")

    def test_stream(self):
        model = self.chat(temperature=0)
        whole = model.invoke("Hello")
        total = None
        for chunk in model.stream("Hello"):
            total = chunk if total is None else total + chunk
        self.assertEqual(total.content, whole.content)
        self.assertEqual(total.usage_metadata["output_tokens"], 8)

        async def together():
            parts = [chunk.content async for chunk in model.astream("Hello")]
            batch = await model.abatch(["Hello", "Hello"])
            return "".join(parts), [message.content for message in batch]
        text, batch = asyncio.run(together())
        self.assertEqual([text, *batch], [whole.content] * 3)

    def test_turns(self):
        model = self.chat(temperature=0)
        turns = [HumanMessage("Remember 4711. " * 10)]
        turns += [model.invoke(turns), HumanMessage("Which number?")]
        second = model.invoke(turns)
        self.assertGreater(second.usage_metadata["input_token_details"]["cache_read"], 20)

    def test_logprobs(self):
        answer = self.chat(logprobs=True, top_logprobs=2).invoke("Hello")
        self.assertEqual(len(answer.response_metadata["logprobs"]["content"]), 8)

    def test_structured_output(self):
        model = self.chat(max_completion_tokens=100)
        self.assertIsInstance(model.with_structured_output(Place, method="json_schema").invoke("A place"), Place)
        loose = model.with_structured_output(None, method="json_mode").invoke("A place as JSON")
        self.assertIsInstance(loose, dict)

    def test_structured_output_by_a_tool(self):
        model = self.chat(max_completion_tokens=100).with_structured_output(Place, method="function_calling")
        self.assertIsInstance(model.invoke("A place"), Place)

    def test_tools(self):
        model = self.chat(max_completion_tokens=100).bind_tools([weather], tool_choice="any")
        answer = model.invoke("How is the weather in Oslo?")
        [call] = answer.tool_calls
        self.assertEqual(call["name"], "weather")
        self.assertEqual(set(call["args"]), {"city"})
        streamed = None
        for chunk in model.stream("How is the weather in Oslo?"):
            streamed = chunk if streamed is None else streamed + chunk
        self.assertEqual(streamed.tool_calls[0]["name"], "weather")

    def test_results_of_tools(self):
        turns = [HumanMessage("Weather in Oslo?"),
                 AIMessage("", tool_calls=[{"name": "weather", "args": {"city": "Oslo"}, "id": "call_1"}]),
                 ToolMessage("Rain.", tool_call_id="call_1")]
        self.assertTrue(self.chat().bind_tools([weather], tool_choice="none").invoke(turns).content)

    def test_completions(self):
        model = OpenAI(base_url=self.server.api, api_key="none", model="model", max_tokens=4, max_retries=0,
                       temperature=0)
        text = model.invoke("Once upon a time")
        self.assertTrue(text)
        self.assertEqual("".join(model.stream("Once upon a time")), text)
        self.assertEqual(model.batch(["Once upon a time"] * 2), [text, text])

    def test_errors(self):
        with self.assertRaises(openai.BadRequestError):
            self.chat().invoke("word " * 20000)
        with self.assertRaises(openai.BadRequestError):
            self.chat(temperature=3).invoke("Hello")


if __name__ == "__main__":
    unittest.main()
