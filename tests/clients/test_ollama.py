#!/usr/bin/env python3
"""The `ollama` and `langchain-ollama` packages against a real `freehold serve`.

    python tests/clients/test_ollama.py target/release/freehold [--model smollm2-135m]

As test_openai.py, whose notes hold here too. The server has a home of its own, since models are pulled
and deleted in it.
"""

import datetime
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time

import ollama
from langchain_ollama import ChatOllama, OllamaEmbeddings

import serving
from serving import equal

OPTIONS = {"temperature": 0, "num_predict": 24}
QUESTION = [{"role": "user", "content": "What is 17 + 25?"}]
ANSWER = "17 + 25 = 32."
PULLED = "minilm-l6-v2-q8_0"
HOME = tempfile.TemporaryDirectory(prefix="freehold-home-")


class Server(serving.Server):
    """The server, and the client for it."""

    def client(self):
        return ollama.Client(host=self.url, timeout=300)

    def chat(self, messages=QUESTION, **options):
        options = {"options": OPTIONS, **options}
        return self.client().chat(model=self.model, messages=messages, **options)

    def generate(self, prompt, **options):
        options = {"options": OPTIONS, **options}
        return self.client().generate(model=self.model, prompt=prompt, **options)


def start(binary, model):
    """A server of the model's file in an empty home."""
    path = model
    if not model.endswith(".gguf"):
        path = subprocess.check_output([binary, "pull", model], text=True).strip()
    os.environ["FREEHOLD_HOME"] = HOME.name
    return Server(binary, path, "--allow-model-changes")


def refused(status, message, act, *arguments, **named):
    """The call must raise the client's own error."""
    try:
        act(*arguments, **named)
    except ollama.ResponseError as error:
        equal(error.status_code, status, error)
        assert error.error.startswith(message), error
        return error
    raise AssertionError(f"not refused: {message}")


def check_chat(server):
    answer = server.chat()
    equal(answer.message.content, ANSWER)
    equal((answer.message.role, answer.done, answer.done_reason), ("assistant", True, "stop"))
    assert answer.model == server.model and answer.eval_count > 3
    for duration in [answer.total_duration, answer.prompt_eval_duration, answer.eval_duration]:
        assert 0 < duration < 600 * 10**9, answer
    made = datetime.datetime.fromisoformat(answer.created_at[:19] + "+00:00")
    age = datetime.datetime.now(datetime.timezone.utc) - made
    assert datetime.timedelta(minutes=-1) < age < datetime.timedelta(minutes=10), answer
    short = server.chat(options={**OPTIONS, "num_predict": 2})
    equal((short.eval_count, short.done_reason), (2, "length"))


def check_chat_stream(server):
    parts = list(server.chat(stream=True))
    equal("".join(part.message.content for part in parts), ANSWER)
    equal([part.done for part in parts], [False] * (len(parts) - 1) + [True])
    whole = server.chat()
    equal((parts[-1].eval_count, parts[-1].prompt_eval_count), (whole.eval_count, whole.prompt_eval_count))


def check_generate(server):
    whole = server.generate(QUESTION[0]["content"])
    equal(whole.response, ANSWER)
    parts = list(server.generate(QUESTION[0]["content"], stream=True))
    equal("".join(part.response for part in parts), ANSWER)
    raw = server.generate("Once upon a time", raw=True)
    assert raw.response and raw.prompt_eval_count < 8, raw
    scored = server.generate("Hi", logprobs=True, top_logprobs=2)
    equal("".join(token.token for token in scored.logprobs), scored.response)
    assert all(len(token.top_logprobs) == 2 and token.logprob <= 0 for token in scored.logprobs)
    loaded = server.generate("")
    equal((loaded.done_reason, loaded.response), ("load", ""))
    later = server.generate("And again?", context=list(whole.context))
    assert later.prompt_eval_count > len(whole.context) and later.context[:len(whole.context)] == whole.context, later
    refused(400, "suffix: ", server.generate, "def f(", suffix="return 1")
    refused(400, "images: ", server.generate, "What is this?", images=["aGVsbG8="])


def check_format(server):
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}, "n": {"type": "integer", "maximum": 9}},
        "required": ["city", "n"],
        "additionalProperties": False,
    }
    options = {**OPTIONS, "num_predict": 100}
    answer = json.loads(server.chat(format=schema, options=options).message.content)
    equal(set(answer), {"city", "n"})
    assert isinstance(json.loads(server.chat(format="json", options={"temperature": 0}).message.content), dict)


def check_tools(server):
    def get_weather(city: str) -> str:
        """The weather in a city.

        Args:
          city: The name of the city.
        """
        return f"Sunny in {city}."

    # So small a model calls a tool where it has seen that done.
    messages = []
    for city in ("Rome", "Oslo"):
        call = {"function": {"name": "get_weather", "arguments": {"city": city}}}
        messages += [
            {"role": "user", "content": f"What is the weather in {city}?"},
            ollama.Message(role="assistant", content="", tool_calls=[call]),
        ]
    messages.append({"role": "user", "content": "What is the weather in Paris?"})
    options = {**OPTIONS, "num_predict": 80}
    answer = server.chat(messages, tools=[get_weather], options=options)
    call = answer.message.tool_calls[0]
    equal((call.function.name, set(call.function.arguments)), ("get_weather", {"city"}))
    messages += [answer.message, {"role": "tool", "content": get_weather("Paris"), "tool_name": "get_weather"}]
    assert server.chat(messages, tools=[get_weather], options=options).done


def check_errors(server):
    client = server.client()
    refused(404, "model 'nobody' not found, try pulling it first", client.show, "nobody")
    refused(404, "model 'nobody' not found", client.generate, "nobody", "Hi")
    refused(400, "options.temperature: ", server.chat, options={"temperature": "hot"})
    long = server.chat
    refused(400, "prompt is too long: this model's maximum context length is", long, [{"role": "user", "content": "word " * 9000}])
    try:
        list(client.generate("nobody", "Hi", stream=True))
    except ollama.ResponseError as error:
        equal(error.status_code, 404)
    else:
        raise AssertionError("a stream of no model")
    refused(501, "models are not sent anywhere", client.push, server.model)
    refused(400, "system: ", client.create, "copy", from_=server.model, system="Be brief.")


def check_models(server):
    client = server.client()
    (listed,) = client.list().models
    equal(listed.model, server.model)
    equal((listed.details.family, listed.details.quantization_level), ("llama", "Q4_1"))
    equal(listed.details.parameter_size, "134.52M")
    assert listed.size > 90_000_000 and listed.modified_at, listed
    shown = client.show(server.model)
    equal(shown.capabilities, ["completion", "tools"])
    equal(shown.modelinfo["general.architecture"], "llama")
    equal(shown.modelinfo["llama.context_length"], 8192)
    assert "im_start" in shown.template and "num_ctx" in shown.parameters, shown
    (running,) = client.ps().models
    equal((running.model, running.context_length), (server.model, 8192))
    assert running.expires_at.year == 9999, "it was named, and stays"


def pulled(server, is_enough=lambda line: False):
    """The lines of a pull, as soon as no other is at work on the model."""
    lines = []
    for _ in range(100):
        try:
            for line in server.client().pull(PULLED, stream=True):
                lines.append(line)
                if is_enough(line):
                    break
            return lines
        except ollama.ResponseError as error:
            equal((error.status_code, lines), (503, []), error)
            time.sleep(0.1)
    raise AssertionError("another pull goes on")


def check_pull_ends_with_its_listener(server):
    has_begun = lambda line: bool(line.digest)
    for _ in range(2):
        assert has_begun(pulled(server, has_begun)[-1])
    equal([model.model for model in server.client().list().models], [server.model])


def check_pull_copy_delete(server):
    client = server.client()
    lines = pulled(server)
    statuses = [line.status for line in lines]
    equal((statuses[0], statuses[-1]), ("pulling manifest", "success"))
    assert "verifying sha256 digest" in statuses and "writing manifest" in statuses, statuses
    fetching = [line for line in lines if line.digest]
    assert fetching and all(line.digest.startswith("sha256:") for line in fetching), statuses
    done = [line.completed for line in fetching]
    assert done == sorted(done) and 0 < done[-1] <= fetching[-1].total, fetching
    equal(client.pull(f"{PULLED}:latest").status, "success")
    equal({model.model for model in client.list().models}, {server.model, PULLED})
    equal(client.show(PULLED).capabilities, ["embedding"])

    texts = ["Own your tools.", "Keep what you work with."]
    vectors = client.embed(PULLED, texts).embeddings
    equal([len(vector) for vector in vectors], [384, 384])
    assert all(abs(sum(x * x for x in vector) - 1) < 1e-3 for vector in vectors)
    one = client.embeddings(PULLED, texts[0]).embedding
    equal(list(one), list(vectors[0]))
    equal(OllamaEmbeddings(model=PULLED, base_url=server.url).embed_query(texts[0]), list(one))
    refused(400, "model: ", client.embed, server.model, texts)

    equal(client.copy(PULLED, "mine").status, "success")
    equal(list(client.embed("mine", texts).embeddings[0]), list(vectors[0]))
    equal(client.delete("mine").status, "success")
    lines = [line.status for line in client.create("mine", from_=PULLED, stream=True)]
    equal(lines[-1], "success")
    for name in ["mine", PULLED]:
        equal(client.delete(name).status, "success")
    equal([model.model for model in client.list().models], [server.model])
    refused(404, f"model '{PULLED}' not found", client.delete, PULLED)
    refused(404, "no model named", client.pull, "nobody")
    refused(400, "gemma3-270m comes under the Gemma licence", client.pull, "gemma3-270m")
    refused(403, f"{server.model}: it was named", client.delete, server.model)


def check_langchain(server):
    chat = ChatOllama(model=server.model, base_url=server.url, temperature=0, num_predict=24)
    answer = chat.invoke([("human", QUESTION[0]["content"])])
    equal(answer.content, ANSWER)
    assert answer.usage_metadata["output_tokens"] > 3, answer
    equal("".join(part.content for part in chat.stream(QUESTION[0]["content"])), ANSWER)
    schema = {
        "title": "Place",
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}},
        "required": ["city"],
    }
    place = chat.with_structured_output(schema, method="json_schema").invoke("Name a city.")
    equal(set(place), {"city"})


def main():
    name = f"ollama {importlib.metadata.version('ollama')}"
    return serving.run(name, __doc__.splitlines()[0], start, globals())


if __name__ == "__main__":
    sys.exit(main())
