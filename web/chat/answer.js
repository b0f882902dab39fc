// How an answer grows by the events of its stream, whatever they come from.

/** What an answer is before its first event. */
export function begun(model) {
  return { role: "assistant", model, text: "", reasoning: "", calls: [], state: "running", stats: {} };
}

/** Takes one event in. Returns whether it was the last. */
export function take(node, event, now) {
  if (event.data === "[DONE]") return true;
  const body = JSON.parse(event.data);
  if (body.error) {
    fail(node, body.error.message ?? String(body.error));
    return true;
  }
  node.answerId ??= body.id;
  node.served = body.model ?? node.served;
  if (body.usage) node.stats.usage = body.usage;
  const choice = body.choices?.[0];
  if (choice) {
    takeDelta(node, choice.delta ?? {}, now);
    if (choice.finish_reason) node.finish = choice.finish_reason;
  }
  if (event.id) node.stream = { id: node.answerId, after: event.id };
  return false;
}

function takeDelta(node, delta, now) {
  const reasoning = delta.reasoning_content ?? delta.reasoning ?? "";
  if (delta.content || reasoning || delta.tool_calls) {
    node.stats.first ??= now;
    node.stats.last = now;
  }
  node.text += delta.content ?? "";
  node.reasoning += reasoning;
  for (const piece of delta.tool_calls ?? []) takeCall(node.calls, piece);
}

function takeCall(calls, piece) {
  const call = (calls[piece.index] ??= { id: "", type: "function", function: { name: "", arguments: "" } });
  call.id = piece.id || call.id;
  call.function.name += piece.function?.name ?? "";
  call.function.arguments += piece.function?.arguments ?? "";
}

export function fail(node, message) {
  node.state = "failed";
  node.error = message;
}

/** Time to the first token and tokens a second, as far as this page saw the answer come. */
export function speed(node) {
  const { asked, first, last, usage } = node.stats;
  const n = usage?.completion_tokens;
  const ttft = asked && first ? first - asked : null;
  const rate = n > 1 && last > first ? ((n - 1) / (last - first)) * 1000 : null;
  return { ttft, rate, n };
}
