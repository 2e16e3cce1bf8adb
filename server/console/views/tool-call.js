// @ts-check
import { html } from "../html.js";
import { textOf } from "../transcript.js";
import { Value } from "./value.js";

/** @type {Record<string, string>} What the gateway says became of a call. */
const OUTCOMES = {
  refused: "refused", rejected: "rejected", responded: "answered by a person", unknown: "outcome unknown",
};

/**
 * One line for a call, what it was given and what it gave inside.
 * @param {{ call: import("../transcript.js").ToolCall, running: boolean, waiting: boolean }} props
 */
export function ToolCallLine({ call, running, waiting }) {
  const state = stateOf(call, running, waiting);
  return html`<details class=${`call ${state.kind}`}>
    <summary>
      <span class="call-name">${call.name || "tool"}</span>
      <span class="call-brief">${brief(call)}</span>
      <span class="call-state">${state.word}</span>
    </summary>
    <div class="call-inside">
      <h3>Arguments</h3>
      ${call.args ? html`<${Value} value=${call.args} />` : html`<code>${call.argsText || "none yet"}</code>`}
      ${call.result ? html`<h3>Result</h3><${Result} content=${call.result.content} />` : null}
    </div>
  </details>`;
}

/** @param {{ content: unknown }} props */
function Result({ content }) {
  const text = textOf(content);
  const value = structured(text);
  if (value !== null) return html`<${Value} value=${value} />`;
  return html`<pre tabindex="0" role="group" aria-label="Result">${text}</pre>`;
}

/** An object or a list written as JSON, else null. @param {string} text */
function structured(text) {
  if (!/^\s*[[{]/.test(text)) return null;
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** @param {import("../transcript.js").ToolCall} call @param {boolean} running @param {boolean} waiting */
function stateOf(call, running, waiting) {
  if (call.result) {
    const word = OUTCOMES[call.result.additional_kwargs?.interlock?.outcome];
    if (call.result.status === "error") return { kind: "failed", word: word ?? "failed" };
    return { kind: "done", word: word ?? "done" };
  }
  if (waiting) return { kind: "waiting", word: "waiting for you" };
  return running ? { kind: "running", word: "running" } : { kind: "cut", word: "not run" };
}

/** @param {import("../transcript.js").ToolCall} call */
function brief({ args, argsText }) {
  if (!args) return argsText.slice(0, 80);
  return Object.entries(args)
    .map(([name, value]) => `${name} ${typeof value === "string" ? value : JSON.stringify(value)}`)
    .join(" · ").slice(0, 120);
}
