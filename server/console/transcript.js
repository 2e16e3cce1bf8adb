// @ts-check
/** Messages as they are shown: chunks joined, tool calls paired with their results. Pure. */

/** @typedef {Record<string, any>} Message A message of the API: `type`, `id`, `content`, … */
/** @typedef {{ id: string, name: string, args: any, argsText: string, result: Message | null }} ToolCall */
/** @typedef {{ key: string, kind: "human" | "ai" | "other", text: string, calls: ToolCall[], open: boolean }} Entry */

/**
 * Text of a message's content, whether it is a string or a list of blocks.
 * @param {unknown} content @returns {string}
 */
export function textOf(content) {
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) return content === null || content === undefined ? "" : JSON.stringify(content);
  return content.map((block) => (typeof block === "string" ? block : blockText(block))).join("");
}

/** @param {any} block */
function blockText(block) {
  if (typeof block?.text === "string") return block.text;
  if (["tool_call", "tool_use", "tool_call_chunk", "reasoning", "thinking"].includes(block?.type)) return "";
  return block?.type ? ` [${String(block.type).replace("_url", "")}] ` : "";
}

/**
 * A message with one more chunk of it.
 * @param {Message | undefined} message @param {Message} chunk @returns {Message}
 */
export function withChunk(message, chunk) {
  if (chunk.type !== "AIMessageChunk" || message === undefined) return { ...chunk, content: textOf(chunk.content) };
  return {
    ...message,
    content: message.content + textOf(chunk.content),
    tool_call_chunks: joinCalls(message.tool_call_chunks ?? [], chunk.tool_call_chunks ?? []),
    tool_calls: chunk.tool_calls?.length ? chunk.tool_calls : message.tool_calls,
  };
}

/** @param {any[]} calls @param {any[]} chunks */
function joinCalls(calls, chunks) {
  const joined = [...calls];
  for (const chunk of chunks) {
    const at = joined.findIndex((call) => call.index === chunk.index && chunk.index !== null);
    if (at < 0) joined.push(chunk);
    else {
      const call = joined[at];
      joined[at] = {
        ...call, id: call.id ?? chunk.id, name: call.name ?? chunk.name,
        args: (call.args ?? "") + (chunk.args ?? ""),
      };
    }
  }
  return joined;
}

/**
 * @param {Message[]} messages Those of the state, in its order.
 * @param {Map<string, Message>} partials Those still streamed, by id; the state's word counts where it has one.
 * @param {Message | null} asked The question that was just sent and is in no state yet.
 * @returns {Entry[]}
 */
export function entries(messages, partials, asked) {
  const known = new Set(messages.map((message) => message.id));
  const all = [...messages];
  if (asked && !known.has(asked.id)) all.push(asked);
  const open = [...partials.values()].filter((message) => !known.has(message.id));
  all.push(...open);
  const results = new Map();
  for (const message of all) if (message.type === "tool") results.set(message.tool_call_id, message);
  const calls = new Set();
  /** @type {Entry[]} */
  const shown = [];
  all.forEach((message, position) => {
    const entry = entryOf(message, position, results, open.includes(message));
    entry.calls.forEach((call) => calls.add(call.id));
    shown.push(entry);
  });
  return shown.filter((entry, position) => {
    const message = all[position];
    return message.type === "tool" ? !calls.has(message.tool_call_id) : message.type !== "remove";
  });
}

/**
 * @param {Message} message @param {number} position @param {Map<string, Message>} results @param {boolean} open
 * @returns {Entry}
 */
function entryOf(message, position, results, open) {
  const kind = message.type === "human" ? "human" : isAi(message) ? "ai" : "other";
  return {
    key: message.id ?? `at-${position}`, kind, open,
    text: textOf(message.content),
    calls: kind === "ai" ? callsOf(message, results) : [],
  };
}

/** @param {Message} message */
export function isAi(message) {
  return message.type === "ai" || message.type === "AIMessageChunk";
}

/** @param {Message} message @param {Map<string, Message>} results @returns {ToolCall[]} */
function callsOf(message, results) {
  const whole = (message.tool_calls ?? []).filter((/** @type {any} */ call) => call.name);
  const calls = whole.length ? whole : (message.tool_call_chunks ?? []);
  return calls.map((/** @type {any} */ call, /** @type {number} */ at) => ({
    id: call.id ?? `${message.id}-${at}`,
    name: call.name ?? "",
    args: typeof call.args === "object" ? call.args : null,
    argsText: typeof call.args === "string" ? call.args : "",
    result: results.get(call.id) ?? null,
  }));
}
